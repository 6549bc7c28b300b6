"""What the browser tests share: a city without a simulator, events for it, a line that can be cut, and Chromium."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from real import ROOT, command, environ

from bus import clients, headers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser

    from models.base import Event

#: Chromium as Debian calls it, without what would ask other hosts.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def chromium() -> Iterator[Browser]:
    """The machine's Chromium; the test fails where there is none, since a suite that skips itself shows nothing."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - not needed to collect the tests

    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.fail("needs Chromium: apt-get install chromium")
    with sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=found, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def until(holds: Callable[[], Any], what: str, seconds: float = 30) -> Any:
    """Wait until it holds; what it then says."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)
    return found


def free_port() -> int:
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class City:
    """A running `citywatch up` whose only events are those of the test."""

    def __init__(self, folder: Path, rules: str, *more: str) -> None:
        self.folder, self.port = folder, free_port()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "rules.yaml").write_text(rules, encoding="utf-8")
        self.log = (folder / "log").open("wb")
        words = ["--no-simulator", "--data", folder, "--port", self.port, "--rules", folder / "rules.yaml"]
        self.process = subprocess.Popen(
            command("up", *words, *more), cwd=ROOT, env=environ(), stdout=self.log, stderr=self.log
        )
        until(self._answers, f"the console at {self.address} (see {folder}/log)", 60)
        self.producer = clients.producer(json.loads((folder / "up.json").read_text())["bootstrap"])

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            pytest.fail(f"up ended: {(self.folder / 'log').read_text(errors='replace')[-3000:]}")
        try:
            return bool(self.get("/api/city")["rules"])
        except (OSError, KeyError):
            return False

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.address + path, timeout=10) as answer:
            return json.load(answer)

    def say(self, *events: Event) -> None:
        """Into the log, as a sensor would; acknowledged when this returns."""
        sent = []
        for event in events:
            topic = event.topic
            said = headers.headers(event.event_id, topic.name, "/test", event.at)
            key, stamp_ms = topic.key_of(event).encode(), time.time_ns() // 1_000_000
            sent.append(self.producer.send(topic.name, event.wire(), key, said, timestamp_ms=stamp_ms))
        for future in sent:
            future.get(30)

    def store(self, *words: object) -> list[dict[str, Any]]:
        done = subprocess.run(
            command("query", *words, "--data", self.folder, "--json"),
            cwd=ROOT, env=environ(), capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found

    def console_pid(self) -> int:
        """The process that listens on the console's port, among the children of `up`."""
        for status in Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(OSError):
                parent = next(s.split()[1] for s in status.read_text().splitlines() if s.startswith("PPid"))
                words = (status.parent / "cmdline").read_bytes().split(b"\0")
                if int(parent) == self.process.pid and b"console" in words:
                    return int(status.parent.name)
        pytest.fail("up has no console")

    def kill_console(self) -> None:
        os.kill(self.console_pid(), signal.SIGKILL)

    def close(self) -> None:
        self.producer.close()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        finally:
            self.process.kill()
            self.log.close()


def ago(seconds: float) -> datetime:
    """Some seconds ago, to the millisecond."""
    at = datetime.now(UTC) - timedelta(seconds=seconds)
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


class Wire:
    """A TCP line between a browser and the console, which a test can cut."""

    def __init__(self, port: int) -> None:
        self.to = port
        self.cuts = 0
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._started.wait(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._carry, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        self._loop.run_forever()
        server.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.to)
        except OSError:  # the console is away, as it is without a line between
            writer.close()
            return
        self._open |= {writer, back}
        try:
            await asyncio.gather(_pour(reader, back), _pour(there, writer))
        finally:
            self._open -= {writer, back}

    def cut(self) -> None:
        """End every connection, at once and without a word."""
        done = threading.Event()

        def cut() -> None:
            for writer in self._open:
                writer.transport.abort()
            done.set()

        self._loop.call_soon_threadsafe(cut)
        assert done.wait(10)
        self.cuts += 1

    def close(self) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
    writer.close()
