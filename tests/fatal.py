"""A worker that kills itself as it comes to a line of our code for the nth time, or one without a mechanism.

CUT_AT=streams/checkpoint.py:278:3 fatal.py worker --role judge
WITHOUT=order fatal.py worker --role judge
"""

from __future__ import annotations

import asyncio
import dis
import os
import signal
import sys
import threading
import types
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

#: Where a cut could lose or double something: what saves, restores, sends and commits.
AIMED = {
    "judge": {
        "streams/checkpoint.py": {"taking", "save", "_save", "_bury", "_keep", "_take_over", "_restore", "_read", "_on_shutdown"},
        "streams/judge.py": {"take"},
    },
    "alarms": {
        "streams/checkpoint.py": {"taking", "save", "_save", "_bury", "_keep", "_take_over", "_restore", "_read", "_on_shutdown"},
        "streams/alarms.py": {"take", "_conclude", "_tell", "_pass_on"},
    },
    "store": {"streams/store.py": {"take", "run", "_write", "_insist"}},
}  # fmt: skip


@cache
def lines(role: str, only: tuple[str, ...] = ()) -> list[tuple[str, int]]:
    """(file, line) of all that can be cut in a role, or in these functions of it."""
    return [
        (file, line)
        for file, names in AIMED[role].items()
        for line in _lines_of(ROOT / file, frozenset(names & set(only) if only else names))
    ]


def _lines_of(path: Path, names: frozenset[str]) -> list[int]:
    found: set[int] = set()
    waiting: list[types.CodeType] = [compile(path.read_text(), str(path), "exec")]
    while waiting:
        code = waiting.pop()
        waiting += [c for c in code.co_consts if isinstance(c, types.CodeType)]
        if code.co_name in names:
            found |= {line for _, line in dis.findlinestarts(code) if line and line > code.co_firstlineno}
    return sorted(found)


def _arm(file: str, line: int, nth: int) -> None:
    wanted, left = str(ROOT / file), [nth]

    def local(frame: Any, event: str, _arg: Any) -> Any:
        if event == "line" and frame.f_lineno == line:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return local

    def calls(frame: Any, _event: str, _arg: Any) -> Any:
        return local if frame.f_code.co_filename == wanted else None

    threading.settrace(calls)
    sys.settrace(calls)


def _without_order() -> None:
    """Commits what was taken at once, though it is saved and sent in its own time: the fault that the checkpoint's order is there against."""
    from streams.checkpoint import Checkpoints  # noqa: PLC0415 - this file is read by tests that need none of it

    save_in_time = Checkpoints._keep

    async def ahead(self: Any, held: Any) -> None:
        while True:
            await asyncio.sleep(0.05)
            if held.committed:  # from the first checkpoint on: without one, a judge is built anew
                self.app.positions[held.tp] = max(held.committed, held.offset + 1)

    async def keep(self: Any, held: Any) -> None:
        async with asyncio.TaskGroup() as both:
            both.create_task(save_in_time(self, held))
            both.create_task(ahead(self, held))

    Checkpoints._keep = keep


if __name__ == "__main__":
    sys.path[0] = str(ROOT)
    if os.environ.pop("WITHOUT", "") == "order":
        _without_order()
    if cut := os.environ.pop("CUT_AT", ""):
        file, line, nth = cut.split(":")
        _arm(file, int(line), int(nth))
    from cli import main

    sys.exit(main())
