"""`citywatch query`: history, from whichever store there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from commands.output import UsageError, did_you_mean, print_json, table, teach, tell
from commands.reach import ask
from models import catalogue
from sinks.contract import AGGREGATES, Query
from sinks.query import format_time, parse_query, rows_csv, rows_json

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from settings import Settings
    from sinks.contract import Row, Store

ABOUT = """\
Ask the store what was observed. A measurement is its topic without `city.` and version: city.traffic.flow.v1 is
traffic_flow. Without --agg the points themselves come, oldest first; with it one row a window, over all series or,
with --by, for each value of a tag. Times are UTC unless they say otherwise; windows begin at whole multiples of
--every since 1970. What arrived too late to be judged is in the answer, unless --late says otherwise."""

EXAMPLES = """\
  citywatch query traffic_flow --limit 10
  citywatch query traffic_flow --every 1h --agg mean --fields speed_kmh
  citywatch query environment_air --where station_id=hl-3 --from 2026-01-05 --to 2026-01-06T12:00+07:00 --csv
  citywatch query hospital_occupancy --every 1d --agg max --by facility_id --json"""


def add(parser: argparse.ArgumentParser) -> None:
    teach(parser, ABOUT, EXAMPLES)
    parser.add_argument("measurement", metavar="MEASUREMENT")
    parser.add_argument(
        "--where", action="append", default=[], metavar="TAG=VALUE", help="only these; may be repeated"
    )
    parser.add_argument(
        "--from",
        dest="from_",
        metavar="TIME",
        help="this time and later: 2026-01-05T07:00:00+07:00, 2026-01-05",
    )
    parser.add_argument("--to", metavar="TIME", help="before this time")
    parser.add_argument("--every", metavar="SPAN", help="a row for each 30s, 15m, 1h, 1d; needs --agg")
    parser.add_argument("--agg", metavar="|".join(AGGREGATES), help="what becomes of the values in a window")
    parser.add_argument("--by", metavar="TAG,...", help="a row for each value of these tags; needs --agg")
    parser.add_argument("--fields", metavar="FIELD,...", help="only these")
    parser.add_argument("--late", choices=("yes", "no"), help="yes: only what was late; no: nothing that was")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N rows")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="for spreadsheets")
    form.add_argument(
        "--json", action="store_true", help="for programs: a list of {time, measurement, tags, fields}"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings) -> int:
    query = _query(args)

    async def answer(store: Store) -> tuple[list[Row], list[Row]]:
        known = await store.measurements()
        if query.measurement not in known:
            _expected(query.measurement, known)
        rows = await store.read(query)
        return rows, [] if rows else await store.read(Query(query.measurement, limit=1))

    rows, other = ask(settings, answer)
    if args.csv:
        print(rows_csv(rows), end="")
    elif args.json:
        print_json(rows_json(rows))
    elif rows:
        print(_table(rows))
    if not rows:
        tell(_nothing(query.measurement, other))
    return 0


def _query(args: argparse.Namespace) -> Query:
    late = {"yes": ["late=1"], "no": ["late=0"], None: []}[args.late]
    try:
        return parse_query(
            args.measurement,
            where=[*args.where, *late],
            from_=args.from_,
            to=args.to,
            every=args.every,
            agg=args.agg,
            by=args.by,
            fields=args.fields,
            limit=args.limit,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None


def _expected(name: str, known: Sequence[str]) -> None:
    """Nothing has come in of it yet; raises UsageError where nothing ever could."""
    topics = catalogue.topics().values()
    if name in {topic.measurement for topic in topics}:
        return
    right = next((topic.measurement for topic in topics if topic.name == name), None)
    hint = f"; {name} is a topic, ask for {right}" if right else did_you_mean(name, known)
    held = f" (the store has {', '.join(known)})" if known and "there are" not in hint else ""
    raise UsageError(f"there is no measurement {name}{hint}{held}")


def _nothing(measurement: str, other: Sequence[Row]) -> str:
    """Why an answer may be empty: a name that no point has is the usual mistake."""
    if not other:
        return f"nothing of {measurement} has been stored yet"
    tags, fields = ", ".join(other[0].tags) or "none", ", ".join(other[0].fields)
    return f"no point of {measurement} is like that; one from {format_time(other[0].time)} has the tags {tags} and the fields {fields}"


def _table(rows: Sequence[Row]) -> str:
    tags = sorted({name for row in rows for name in row.tags})
    fields = list(dict.fromkeys(name for row in rows for name in row.fields))
    cells = (
        (format_time(row.time), *(row.tags.get(n) for n in tags), *(row.fields.get(n) for n in fields))
        for row in rows
    )
    return table(("time", *tags, *fields), cells)
