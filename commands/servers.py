"""Servers that are not ours as processes of ours: started, waited for, ended, and never left behind."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

#: How long a server may take until it answers, and until it has stopped cleanly.
START_S, STOP_S = 60.0, 30.0

#: One that was left behind is stopping, or is ended after this long.
LEFTOVER_S = 10.0

_PID = "pid"

#: Below the ports that connections are given when they go out: while a server is away, a client that tries again and again
#: would sooner or later be given its port, and be connected with itself.
PORTS = range(20_000, 32_000)

#: Before its size at a start, a log goes on.
_LOG_BYTES = 16 * 1024 * 1024

#: Has the kernel send SIGTERM when who started it is gone, and becomes the server. No code of ours between fork and exec:
#: this process has threads.
_TIED = """\
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execvp(sys.argv[2], sys.argv[2:])
"""


class ServerError(RuntimeError):
    """A server does not start; the text says what it said."""


class Described(Protocol):
    """A server as its own module knows it."""

    @property
    def name(self) -> str: ...
    @property
    def folder(self) -> Path: ...
    def prepare(self) -> None:
        """Make what it needs in its folder."""

    def command(self) -> list[str]: ...
    def answers(self) -> bool: ...


class Server:
    """A server's process. `kill` and `start` keep what is in its folder; its log is `server.log` there.

    `tied`: it ends with the *thread* that started it, whatever that dies of.
    """

    def __init__(self, what: Described, *, tied: bool = False) -> None:
        self.what, self._tied = what, tied
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers. Raises ServerError."""
        self.spawn()
        self.wait()

    def spawn(self) -> None:
        """Start it. One of an earlier life that still has the folder is ended first."""
        self.what.prepare()
        end_leftover(self.what.folder)
        command = self.what.command()
        if self._tied:
            command = [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid()), *command]
        if self.log_file.exists() and self.log_file.stat().st_size > _LOG_BYTES:
            self.log_file.replace(self.log_file.with_suffix(".log.1"))
        with self.log_file.open("ab") as out:
            self.process = subprocess.Popen(  # noqa: S603 - as its module says
                command,
                cwd=self.what.folder,  # some look for a configuration where they are started
                env={
                    k: v
                    for k, v in os.environ.items()
                    if not k.startswith(("CITYWATCH_", "INFLUXD_", "KAFKA_"))
                },
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        (self.what.folder / _PID).write_text(str(self.process.pid))

    def wait(self, stop: threading.Event | None = None) -> None:
        """Until it answers. Raises ServerError, and KeyboardInterrupt when somebody says stop."""
        deadline = time.monotonic() + START_S
        while not self.what.answers():
            ended = self.process is None or self.process.poll() is not None
            if ended or time.monotonic() > deadline:
                why = "it ended" if ended else f"no answer within {START_S:g} s"
                said = " | ".join(self.log().splitlines()[-3:])[-600:]
                raise ServerError(
                    f"{self.what.name} does not start ({why}); {self.log_file} ends with: {said}"
                )
            if stop is not None and stop.is_set():
                raise KeyboardInterrupt
            time.sleep(0.05)

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End it, with SIGKILL as a crash does, and wait until it is gone."""
        if self.process is None:
            return
        self.process.send_signal(how)
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None
        (self.what.folder / _PID).unlink(missing_ok=True)

    def log(self) -> str:
        """All it said."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    @property
    def log_file(self) -> Path:
        return self.what.folder / "server.log"


def end_leftover(folder: Path) -> None:
    """End what still runs on a server's folder from before; only a process that names the folder is taken for it."""
    with contextlib.suppress(OSError, ValueError):  # there is none, or it is gone
        pid = int((folder / _PID).read_text())
        began, how = time.monotonic(), signal.SIGTERM
        while os.fsencode(folder.absolute()) in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, how)
            time.sleep(0.05)
            if time.monotonic() - began > LEFTOVER_S:
                how = signal.SIGKILL


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens at, in a row."""
    return next(found for found in _rows(count) if all(map(is_free, found)))


def _rows(count: int) -> Iterator[list[int]]:
    while True:
        first = random.choice(PORTS)  # noqa: S311 - no secret
        yield list(range(first, first + count))


def is_free(port: int) -> bool:
    with socket.socket() as asked:
        asked.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            asked.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
