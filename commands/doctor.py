"""`citywatch doctor`: a look at every part, what is wrong with it, and what to do."""

from __future__ import annotations

import shutil
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from commands import bundle
from commands.output import clean, option_json, print_json, teach, tell
from commands.reach import ask, broker, broker_if_any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from settings import Settings

ABOUT = """\
Look at every part, and for each say ok, warn or fail, and what to do. Changes nothing. Exit code 3 when a part cannot
be reached, else 1 when something failed, else 0. Whether events are lost is another question: `citywatch ledger`.

With --bundle it is written into a file for whoever helps from afar, with versions, settings, lags, the ledger, metrics and
the ends of logs; without a secret, an event, or a person. What could not be asked is said, and the rest is in it."""

EXAMPLES = """\
  citywatch doctor
  citywatch doctor --json --data /srv/city | jq '.[] | select(.state != "ok")'
  citywatch doctor --bundle city.tar.gz --logs /var/log/citywatch"""


class Check(NamedTuple):
    """What was found of one part. `out of reach` is a failure, too."""

    part: str
    state: Literal["ok", "warn", "fail", "out of reach"]
    said: str
    do: str = ""


def add(parser: argparse.ArgumentParser) -> None:
    teach(parser, ABOUT, EXAMPLES)
    option_json(parser, "for programs: a list of {part, state, said, do}")
    parser.add_argument(
        "--bundle", type=Path, metavar="FILE.tar.gz", help="write what was found into a new file"
    )
    parser.add_argument(
        "--logs", type=Path, metavar="DIR", help="with the last lines of the logs in this folder"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings) -> int:
    bundle.check(args.bundle, args.logs)
    found = []
    for check in CHECKS:
        found.append(check(settings))
        if not args.json:
            _print(found[-1])
    if args.json:
        print_json([check._asdict() for check in found])
    if args.bundle is not None:
        missing = bundle.pack(args.bundle, settings, [check._asdict() for check in found], args.logs)
        tell(f"{args.bundle} is written" + (f", without {', '.join(missing)}" if missing else ""))
    states = {check.state for check in found}
    return 3 if "out of reach" in states else 1 if "fail" in states else 0


def _print(check: Check) -> None:
    state = "fail" if check.state == "out of reach" else check.state
    print(f"{state:<5} {check.part:<9} {clean(check.said)}")
    if check.do:
        print(f"{'':<16}{clean(check.do)}")
    sys.stdout.flush()


# --- the checks -------------------------------------------------------------------------------------------------------


def _python(_: Settings) -> Check:
    has = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < (3, 11):  # noqa: UP036 - a checkout may be run by any Python
        return Check("python", "fail", f"{has} at {sys.executable}", "citywatch needs Python 3.11 or later")
    return Check("python", "ok", f"{has}, citywatch {metadata.version('citywatch')}")


def _packages(_: Settings) -> Check:
    """Those that are pinned are pinned because another version was not tried; Faust's private parts are ours."""
    wrong = []
    for wanted in metadata.requires("citywatch") or ():
        name, pinned, version = wanted.partition("==")
        if not pinned or ";" in wanted:
            continue
        name = name.partition("[")[0]
        try:
            has = metadata.version(name)
        except metadata.PackageNotFoundError:
            has = "missing"
        if has != version:
            wrong.append(f"{name} is {has}, not {version}")
    if wrong:
        return Check(
            "packages", "fail", "; ".join(wrong), "install again what pyproject.toml pins: `make setup`"
        )
    return Check("packages", "ok", f"as pinned, Faust {metadata.version('faust-streaming')}")


def _rules(_: Settings) -> Check:
    import rules  # noqa: PLC0415 - the models take their time, and the lines above can be said at once
    from rules.lint import lint  # noqa: PLC0415
    from rules.load import RulesError, read  # noqa: PLC0415
    from rules.testing import parse_tests  # noqa: PLC0415

    folder = Path(rules.__file__).parent
    try:
        loaded = read(folder)
        findings = [f for f in lint(loaded.rules, parse_tests(folder), loaded.where) if not f.note]
    except RulesError as error:
        return Check("rules", "fail", error.problems[0], "`citywatch rules lint` shows everything")
    if findings:
        return Check(
            "rules", "fail", f"{len(findings)} findings, the first: {findings[0]}", "`citywatch rules lint`"
        )
    return Check("rules", "ok", f"{len(loaded.rules.rules)} that come with citywatch, nothing to find")


def _data(settings: Settings) -> Check:
    folder = settings.data.dir
    there = _nearest(folder)
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        return Check(
            "data",
            "fail",
            f"{there}: {error.strerror}",
            "let it be written, or name another folder with --data",
        )
    if there != folder:
        return Check("data", "ok", f"{folder} will be made when something runs")
    return Check("data", "ok", f"{folder} can be written")


def _nearest(folder: Path) -> Path:
    """The folder, or where it will be made."""
    return next(p for p in (folder, *folder.absolute().parents) if p.exists())


#: A city of 10,000 sensors writes about a gigabyte a day.
_LOW_BYTES, _LEAST_BYTES = 5 * 10**9, 500 * 10**6


def _disk(settings: Settings) -> Check:
    there = _nearest(settings.store_path.parent)
    free = shutil.disk_usage(there).free
    said = f"{free / 1e9:.1f} GB free at {there}"
    if free < _LOW_BYTES:
        state: Literal["warn", "fail"] = "fail" if free < _LEAST_BYTES else "warn"
        return Check(
            "disk", state, said, "the store pauses, and loses nothing, when the disk is full: make room"
        )
    return Check("disk", "ok", said)


def _store(settings: Settings) -> Check:
    from sinks.contract import StoreError, Unavailable  # noqa: PLC0415

    if settings.influx.url is not None:
        return _influx(settings)
    path = settings.store_path
    if not path.exists():
        return Check(
            "store",
            "warn",
            f"{path} is not there",
            "the first worker makes it: `citywatch up`, or --data for another folder",
        )
    try:
        held = ask(settings, lambda store: store.measurements())
    except (StoreError, Unavailable) as error:
        return Check(
            "store", "out of reach", getattr(error, "reason", str(error)), "name another folder with --data"
        )
    size = sum(p.stat().st_size for p in (path, path.with_name(f"{path.name}-wal")) if p.exists())
    return Check("store", "ok", f"{path}, {size / 1e6:.1f} MB, {len(held)} measurements")


def _influx(settings: Settings) -> Check:
    from sinks.contract import StoreError, Unavailable  # noqa: PLC0415
    from sinks.influx_server import NoBucketError  # noqa: PLC0415
    from sinks.open import store_name  # noqa: PLC0415

    try:
        held = ask(settings, lambda store: store.measurements())
    except NoBucketError as error:
        return Check("store", "warn", str(error), "the first worker makes it, where the token may")
    except (StoreError, Unavailable) as error:
        said = getattr(error, "reason", str(error))
        return Check("store", "out of reach", said, "is it running, and are CITYWATCH_INFLUX__* right?")
    return Check("store", "ok", f"{store_name(settings)}, {len(held)} measurements")


def _broker(settings: Settings) -> Check:
    if broker_if_any(settings) is None:
        return Check(
            "broker",
            "warn",
            f"nothing runs on {settings.data.dir}",
            "`citywatch up`, or set CITYWATCH_KAFKA__BOOTSTRAP",
        )
    place = broker(settings)
    from bus import clients  # noqa: PLC0415

    try:
        embedded = clients.is_embedded(place.bootstrap)
    except clients.UnreachableError as error:
        return Check(
            "broker", "out of reach", str(error), "is it running, and is CITYWATCH_KAFKA__BOOTSTRAP right?"
        )
    kind = "embedded: its log ends with its process" if embedded else "Kafka"
    return Check("broker", "ok", f"{place.bootstrap} ({kind})")


def _topics(settings: Settings) -> Check:
    if broker_if_any(settings) is None:
        return Check("topics", "warn", "not looked at, without a broker")
    place = broker(settings)
    from kafka.errors import KafkaError  # noqa: PLC0415

    from bus import clients, topics  # noqa: PLC0415

    try:
        changes = topics.plan(place.bootstrap, place.prefix, settings.kafka.replication)
        changes = [change for change in changes if change.action != "note"]
        latest = None if changes else topics.latest_rules(place.bootstrap, place.prefix)
    except (clients.UnreachableError, KafkaError) as error:
        return Check("topics", "out of reach", str(error), "see the broker")
    if changes:
        return Check(
            "topics",
            "fail",
            f"{len(changes)} differ, the first: {changes[0]}",
            "`citywatch topics plan`, then `citywatch topics apply`",
        )
    if latest is None:
        return Check("topics", "fail", "no rules are in force: nothing is judged", "`citywatch topics apply`")
    return Check("topics", "ok", f"as the catalogue says; rules version {latest[0]} in force")


CHECKS: tuple[Callable[[Settings], Check], ...] = (
    _python,
    _packages,
    _data,
    _disk,
    _store,
    _rules,
    _broker,
    _topics,
)
