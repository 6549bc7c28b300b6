"""How a worker speaks: on stderr, readable or as JSON, and what it says again within a minute only once."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from settings import Settings

#: What Faust says at every start and rebalance is of interest to Faust's own developers.
_QUIET = ("faust", "mode", "aiokafka", "kafka", "asyncio", "streams.consumer", "uvicorn")

#: Our own errors are folded only with what reads the same: each names a partition or a record of its own.
_OURS = "citywatch"

FOLD_S = 60.0
#: More different messages a minute than this, and the oldest is told early.
MOST_FOLDED = 256


class _Json(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (repeated := getattr(record, "repeated", None)) is not None:
            said["repeated"] = repeated
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=False)


@dataclass(slots=True)
class _Fold:
    """A message that was written, and what came after it within its minute."""

    until: float
    last: logging.LogRecord
    repeated: int = 0


class Folding(logging.StreamHandler[IO[str]]):
    """Writes a message, counts the same one for a minute, and then writes the last of them with the count.

    The same is what has logger, level, template and kinds of errors in common; at level error of our own logger, the
    text. Nothing is held back but repetitions; `tick` tells those whose minute is over, `flush` all of them.
    """

    def __init__(self, stream: IO[str], clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self._clock = clock
        self._folds: dict[Hashable, _Fold] = {}  # oldest first

    def emit(self, record: logging.LogRecord) -> None:
        self.tick()
        key = _same(record)
        fold = self._folds.get(key)
        if fold is not None:
            fold.repeated += 1
            fold.last = record
            return
        if len(self._folds) >= MOST_FOLDED:
            self._tell(self._folds.pop(next(iter(self._folds))))
        self._folds[key] = _Fold(self._clock() + FOLD_S, record)
        super().emit(record)

    def tick(self) -> None:
        """Tell what was repeated in the minutes that are over."""
        with self._held():
            now = self._clock()
            for key in [k for k, fold in self._folds.items() if fold.until <= now]:
                self._tell(self._folds.pop(key))

    def close(self) -> None:
        """Tell what was repeated and not yet told; `logging.shutdown` calls it when the process ends."""
        with self._held():
            for fold in self._folds.values():
                self._tell(fold)
            self._folds.clear()
        super().close()

    def _held(self) -> threading.RLock:
        assert self.lock is not None
        return self.lock

    def _tell(self, fold: _Fold) -> None:
        if not fold.repeated:
            return
        last = fold.last
        text = f"{last.getMessage()} ... repeated {fold.repeated} times"
        told = logging.makeLogRecord(
            {
                **last.__dict__,
                "msg": text,
                "args": (),
                "exc_info": None,
                "exc_text": None,
                "repeated": fold.repeated,
            }
        )
        super().emit(told)


def _same(record: logging.LogRecord) -> Hashable:
    ours = record.name.split(".", 1)[0] == _OURS and record.levelno >= logging.ERROR
    if not ours:
        # That a broker is away and that its certificate is over have one template, and not one cure.
        args = record.args if isinstance(record.args, tuple) else ()
        errors = tuple(type(arg).__name__ for arg in args if isinstance(arg, BaseException))
        return record.name, record.levelno, record.msg, errors
    why = record.exc_info[1] if record.exc_info else None
    return record.name, record.levelno, record.getMessage(), repr(why)


def _tell_every(handler: Folding, seconds: float) -> None:
    while True:
        time.sleep(seconds)
        handler.tick()


def set_up_logging(settings: Settings) -> None:
    """Logs go to stderr; stdout is for what programs read."""
    handler = Folding(sys.stderr)
    if settings.log.format == "json":
        handler.setFormatter(_Json())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=settings.log.level.upper(), handlers=[handler], force=True)
    threading.Thread(target=_tell_every, args=(handler, 1.0), name="log-folding", daemon=True).start()
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)
