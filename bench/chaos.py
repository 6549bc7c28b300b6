"""`python -m bench.chaos`: nothing lost, nothing doubled, on Apache Kafka and InfluxDB as processes, while workers and brokers are killed.

Runs pieces of the scenarios of tests/chaos.py until the plan is done or the time is over; each piece is a row of a table, so that the next
call goes on where this one stopped.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import chaos  # noqa: E402 - it lives with the tests

from bench import table  # noqa: E402 - as above

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLE = ROOT / "var" / "chaos.csv"
#: How many pieces of each scenario are the whole of it.
PLAN = {
    "aimed": 4,
    "kills": 10,
    "sleepers": 2,
    "guests": 1,
    "brokers": 2,
    "three brokers": 1,
    "without order": 1,
}


class Row(NamedTuple):
    """One piece, on the code of that commit. `kills` by kind; `wrong` is what the truth found, empty where all is well."""

    code: str
    scenario: str
    seed: int
    events: int
    transitions: int
    kills: str
    seconds: float
    wrong: str

    @property
    def as_it_should(self) -> bool:
        """A scenario without a mechanism must be found out."""
        return bool(self.wrong) == bool(chaos.SCENARIOS[self.scenario].without)


def code() -> str:
    """The commit, with a mark where the checkout differs from it."""
    said = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    return subprocess.run(said, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def rows(path: Path) -> Iterator[Row]:
    for r in table.rows(path):
        numbers = int(r["seed"]), int(r["events"]), int(r["transitions"])
        yield Row(r["code"], r["scenario"], *numbers, r["kills"], float(r["seconds"]), r["wrong"])


def piece(scenario: str, seed: int, events: int | None = None) -> Row:
    """Run one and tell it."""
    done = chaos.run(scenario, seed, events=events)
    wrong = "; ".join(str(v) for v in done.verdicts if not v.ok)
    kills = " ".join(f"{name}:{n}" for name, n in sorted(done.kills.items()))
    fed = sum(done.fed.values())
    row = Row(code(), scenario, seed, fed, done.transitions, kills, round(done.seconds, 1), wrong)
    print(f"{'ok' if row.as_it_should else 'WRONG':<6}{scenario} {seed}: {fed} events, {done.transitions} transitions, {kills}, "
          f"{row.seconds} s{': ' + wrong if wrong else ''}", flush=True)  # fmt: skip
    return row


def told(found: list[Row]) -> None:
    """What all pieces come to, a line a scenario."""
    print(f"{'scenario':<16}{'pieces':>8}{'events':>10}{'transitions':>13}{'wrong':>7}  kills")
    for scenario in chaos.SCENARIOS:
        mine = [r for r in found if r.scenario == scenario]
        if mine:
            kills = Counter[str]()
            for name, n in (word.split(":") for r in mine for word in r.kills.split()):
                kills[name] += int(n)
            said = ", ".join(f"{n} {name}" for name, n in sorted(kills.items()))
            wrong = sum(not r.as_it_should for r in mine)
            events, transitions = sum(r.events for r in mine), sum(r.transitions for r in mine)
            print(f"{scenario:<16}{len(mine):>8}{events:>10}{transitions:>13}{wrong:>7}  {said}")


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m bench.chaos", description=__doc__)
    options.add_argument("--minutes", type=float, default=9.0, help="begin no piece after this long (9)")
    options.add_argument(
        "--scenario", choices=chaos.SCENARIOS, action="append", help="only this one; may be repeated"
    )
    options.add_argument("--seed", type=int, help="only the piece of this seed, and nothing is written")
    options.add_argument("--events", type=int, help="of a piece, instead of the scenario's own number")
    options.add_argument("--table", type=Path, default=TABLE, help="where rows are kept (var/chaos.csv)")
    said = options.parse_args()
    plan = {name: n for name, n in PLAN.items() if not said.scenario or name in said.scenario}
    if said.seed is not None:
        tried = [piece(name, said.seed, said.events) for name in plan]
        return int(not all(row.as_it_should for row in tried))
    began, version, left = time.monotonic(), code(), 0
    found = [r for r in rows(said.table) if r.code == version]
    for seed in range(1, max(plan.values()) + 1):
        for scenario in (name for name, n in plan.items() if seed <= n):
            if any((r.scenario, r.seed) == (scenario, seed) for r in found):
                continue
            if time.monotonic() - began > said.minutes * 60:
                left += 1
                continue
            row = piece(scenario, seed, said.events)
            table.append(said.table, row)
            found.append(row)
    told(found)
    if left:
        print(f"{left} pieces are left: run it again")
    return int(not all(r.as_it_should for r in found))


if __name__ == "__main__":
    sys.exit(main())
