"""`citywatch mapping`: feeds without code, shown before they run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from commands.output import clean, option_json, part, parts, print_json, table, teach
from sources import mapping

if TYPE_CHECKING:
    import argparse

    from settings import Settings

ABOUT = """\
A mapping file (YAML, docs/mapping.md) says how the rows of a CSV, JSON, JSON lines or XML file become events: which
column is what, in which unit and time zone, and what stands for "no value"."""

LIST = """\
Print the mappings that come with citywatch; `replay --mapping` takes their names."""

TRY = """\
Read INPUT as the mapping says, and show the first events, every problem, and counts.
Nothing is sent anywhere. Exit code 1 when a row was refused or there was no event, 2 when the mapping is wrong."""


def add(parser: argparse.ArgumentParser) -> None:
    teach(parser, ABOUT, "  citywatch mapping list\n  citywatch mapping try my-feed.yaml sensors.csv")
    where = parts(parser)
    option_json(part(where, "list", LIST, show, "  citywatch mapping list"))
    one = part(
        where,
        "try",
        TRY,
        try_,
        "  citywatch mapping try metr-la los_speed.csv\n  citywatch mapping try my-feed.yaml a.csv b.csv --first 20",
    )
    one.add_argument("mapping", metavar="NAME|FILE", help="a shipped mapping, or a file of yours")
    one.add_argument("input", nargs="+", type=Path, metavar="INPUT", help="recorded input")
    one.add_argument(
        "--first", type=int, default=5, metavar="N", help="how many events are shown (default: 5)"
    )
    option_json(one)


def show(args: argparse.Namespace, _: Settings) -> int:
    found = [mapping.load(name) for name in mapping.shipped()]
    if args.json:
        print_json(
            [{"name": m.name, "description": m.description, "topics": sorted(m.topics())} for m in found]
        )
    else:
        print(
            table(
                ("mapping", "topics", "is"),
                [(m.name, " ".join(sorted(m.topics())), m.description) for m in found],
            )
        )
    return 0


def try_(args: argparse.Namespace, _: Settings) -> int:
    report = mapping.try_(mapping.load(args.mapping), args.input, args.first)
    if args.json:
        print_json(report.json())
    else:
        print("\n".join(map(clean, report.text().splitlines())))
    return 0 if report.well else 1
