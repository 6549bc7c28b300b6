"""`citywatch score`: what the alarms in the store told of what really happened in the simulated city."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from commands.output import UsageError, option_json, print_json, table, teach, tell
from commands.reach import ask
from models.base import micros
from rules.score import Happened, Span, Told, score

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from models.base import Micros
    from rules.score import Score
    from settings import Settings
    from sinks.contract import Record, Store

ABOUT = """\
Compare the alarms in the store with the truth that `citywatch simulate` wrote beside it: which incidents were found and
after how long, which were missed and which rules should have told of them, and how many alarms belong to nothing that
happened. Everyday things that look like incidents are in no truth: alarms of them are false."""

EXAMPLES = """\
  citywatch simulate --own --for 86400 --data /tmp/day
  citywatch score --data /tmp/day
  citywatch score --data /tmp/day --min 0.8 --json"""

TRUTH = "truth.jsonl"


def add(parser: argparse.ArgumentParser) -> None:
    teach(parser, ABOUT, EXAMPLES)
    parser.add_argument(
        "--min",
        type=float,
        default=0.8,
        metavar="SHARE",
        help="a lower detection rate is a finding (default: 0.8)",
    )
    option_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings) -> int:
    if not 0 <= args.min <= 1:
        raise UsageError(f"--min {args.min:g}: write a share from 0 to 1")

    async def answer(store: Store) -> list[Record]:
        return await store.kept("alarm")

    alarms = [r.body for r in ask(settings, answer) if not r.body["retracted"]]
    told = [_told(body) for body in alarms if _calls(body)]
    happened, spans = read(settings.data.dir / TRUTH, max((t.raised_at for t in told), default=0))
    found = score(happened, told, spans)
    silent = {
        "advisories": sum(body["priority"] == "advisory" for body in alarms),
        "suppressed": sum(bool(body.get("suppressed")) for body in alarms),
    }
    if args.json:
        print_json({**found.json(), **silent, "min": args.min})
    else:
        _print(found)
        print(
            f"beside them, for nobody to be called: {', '.join(f'{n} {what}' for what, n in silent.items())}"
        )
    return 1 if found.rate is None or found.rate < args.min else 0


def read(path: Path, latest: Micros) -> tuple[list[Happened], list[Span]]:
    """The truth in a file. A run that was killed and wrote no end is taken to end with the last that is known of it."""
    if not path.is_file():
        raise UsageError(f"{path} is not there: `citywatch simulate` writes it")
    happened: list[Happened] = []
    spans: list[Span] = []
    begin: Micros | None = None
    last: Micros = 0
    for n, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        row = _row(path, n, line)
        match row["what"]:
            case "run":
                if begin is not None:
                    spans.append(Span(begin, last))
                begin = last = _at(row["start"])
            case "end":
                if begin is not None:
                    spans.append(Span(begin, _at(row["at"])))
                begin = None
            case _:
                found = _happened(row)
                happened.append(found)
                last = max(last, found.start)
    if begin is not None:
        spans.append(Span(begin, max(last, latest)))
    return happened, spans


def _row(path: Path, n: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict) or row.get("what") not in ("run", "end", "incident", "fault"):
        raise UsageError(f"{path}:{n}: no line of a truth")
    return row


def _happened(row: dict[str, Any]) -> Happened:
    return Happened(
        row["what"],
        row["id"],
        row["kind"],
        _at(row["start"]),
        _at(row["end"]),
        frozenset(row["subjects"]),
        tuple(row["rules"]),
    )


def _calls(body: dict[str, Any]) -> bool:
    """Whether it called an operator: an advisory does not, nor does what was suppressed by design."""
    return body["priority"] != "advisory" and not body.get("suppressed")


def _told(body: dict[str, Any]) -> Told:
    """An alarm of a rule over signals is on the subjects of all that it was made of."""
    members = (e.get("values", {}).get("labels") for e in body.get("evidence", ()))
    subjects = {*body["labels"].values(), *(v for m in members if isinstance(m, dict) for v in m.values())}
    return Told(
        body["alarm_id"],
        body["rule"],
        frozenset(subjects),
        _at(body["start"]),
        None if body.get("end") is None else _at(body["end"]),
        _at(body["raised_at"]),
    )


def _at(text: str) -> Micros:
    return micros(datetime.fromisoformat(text))


def _print(found: Score) -> None:
    said = found.json()
    print(
        table(
            ("kind", "incidents", "found", "median s to detect"),
            [(kind, k["incidents"], k["found"], k["median_seconds"]) for kind, k in said["kinds"].items()],
        )
    )
    for missed in said["missed"]:
        print(f"missed: {missed['id']}, no alarm of {', '.join(missed['expected'])} on it")
    rate = "nothing happened" if found.rate is None else f"detection rate {found.rate:.2f}"
    times = said["seconds_to_detect"]
    print(
        f"{rate}: {said['found']} of {said['incidents']} found"
        + (f", after {times['median']:.0f} s (median), {times['max']:.0f} s at most" if times else "")
    )
    print(
        f"{said['false']} false alarms in {said['hours']:.1f} h: {found.false_per_hour:.2f} an hour", end=""
    )
    print("".join(f"; {rule} {n}" for rule, n in said["false_by_rule"].items()))
    print(f"{said['faults_told']} of {said['faults']} faults that last long enough were told")
    if said["unfinished"]:
        tell(f"{said['unfinished']} incidents were not over when the truth ends, and count for nothing")
