"""`python -m bench.prove`: same events, same alarms, over thousands of drawn episodes of every kind of rule; goes on where it was stopped."""

from __future__ import annotations

import argparse
import sys
import time
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import proving  # noqa: E402 - it lives with the tests
from episodes import KINDS, episode  # noqa: E402

from bench import table  # noqa: E402 - as above

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLE = ROOT / "var" / "prove.csv"
#: So many episodes are one row of the table: what is lost when a run is stopped.
CHUNK = 100
#: What the outcome depends on. A row is good for these files alone.
FILES = ("models/*.py", "rules/*.py", "tests/oracle.py", "tests/episodes.py", "tests/proving.py")


class Row(NamedTuple):
    """Episodes first to last of a kind, judged by the code of that digest. `failed` names the seeds."""

    code: str
    kind: str
    first: int
    last: int
    failures: int
    seconds: float
    failed: str


def digest() -> str:
    found = blake2b(digest_size=6)
    for path in sorted(p for pattern in FILES for p in ROOT.glob(pattern)):
        found.update(path.name.encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


def rows(path: Path) -> Iterator[Row]:
    for r in table.rows(path):
        numbers = int(r["first"]), int(r["last"]), int(r["failures"]), float(r["seconds"])
        yield Row(r["code"], r["kind"], *numbers, r["failed"])


def proved(kind: str, seed: int) -> bool:
    """Whether all holds of one episode; what does not is told."""
    try:
        proving.check(episode(kind, seed))
    except proving.Failed as failed:
        print(failed, file=sys.stderr, flush=True)
    except Exception as error:  # noqa: BLE001 - a core that gives up has failed, and the next episode is tried
        print(f"{kind} seed {seed}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    else:
        return True
    return False


def chunk(code: str, kind: str, first: int, last: int) -> Row:
    began = time.perf_counter()
    failed = [seed for seed in range(first, last + 1) if not proved(kind, seed)]
    seconds = round(time.perf_counter() - began, 2)
    return Row(code, kind, first, last, len(failed), seconds, " ".join(map(str, failed)))


def told(found: list[Row]) -> None:
    """The table, one line a kind."""
    print(f"{'kind':<12}{'episodes':>10}{'failures':>10}{'seconds':>10}")
    for kind in KINDS:
        mine = [r for r in found if r.kind == kind]
        if mine:
            episodes = sum(r.last - r.first + 1 for r in mine)
            failures, seconds = sum(r.failures for r in mine), sum(r.seconds for r in mine)
            print(f"{kind:<12}{episodes:>10}{failures:>10}{seconds:>10.1f}")
    for r in found:
        for seed in r.failed.split():
            print(f"fails: python -m bench.prove --kind {r.kind} --seed {seed}")


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m bench.prove", description=__doc__)
    options.add_argument("--episodes", type=int, default=2000, help="of each kind (2000)")
    options.add_argument("--kind", choices=KINDS, action="append", help="only this kind; may be repeated")
    options.add_argument("--seed", type=int, help="only the episode of this seed, and nothing is written")
    options.add_argument("--table", type=Path, default=TABLE, help="where rows are kept (var/prove.csv)")
    said = options.parse_args()
    kinds = said.kind or list(KINDS)
    if said.seed is not None:
        return sum(not proved(kind, said.seed) for kind in kinds) and 1
    code = digest()
    done = {(r.kind, r.first, r.last): r for r in rows(said.table) if r.code == code and not r.failures}
    found = []
    for kind in kinds:
        for first in range(0, said.episodes, CHUNK):
            last = min(first + CHUNK, said.episodes) - 1
            row = done.get((kind, first, last))
            if row is None:
                row = chunk(code, kind, first, last)
                table.append(said.table, row)
            found.append(row)
    told(found)
    return 1 if any(r.failures for r in found) else 0


if __name__ == "__main__":
    sys.exit(main())
