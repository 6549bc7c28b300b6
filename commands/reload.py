"""`citywatch rules apply | versions | rollback | watch`: other rules in force, without a restart and without a gap."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands import publish
from commands.output import UsageError, option_json, part, print_json, table, tell
from commands.reach import broker
from commands.tied import option_tied, tie
from models.base import FIRST, micros
from rules.changes import changes, in_words
from rules.load import RulesError
from sinks.query import format_time, parse_time

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from bus.topics import Published
    from commands.reach import Broker
    from models.base import Micros
    from rules.changes import Changes
    from rules.spec import RuleSet
    from settings import Settings

#: How often files are looked at. They are read when they have been the same twice, so that nobody's half-written one is.
LOOK_S = 1.0

APPLY = """\
Put the rules in these files in force on the city that runs, without a restart.
They are the whole set. It is checked first, its tests too: of a set with anything wrong nothing is published. Rules that
are the same as before go on, and their alarms under their handles; what is gone or changed ends at the effective time."""

VERSIONS = """\
Print every set of rules that was put in force: from when on, and what it changed."""

ROLLBACK = """\
Put an earlier version in force again, as a new version; without VERSION, the one before.
Whoever watches files is not told: put those right as well, or the next change brings the same rules again."""

WATCH = """\
Put rules in force whenever their files change; what a service manager runs beside the workers.
A set with anything wrong in it changes nothing: the old one stays in force, file, line and reason are said here, and the
console has an alarm of it until the files are good again."""


def add(where: Any) -> None:
    applied = part(
        where,
        "apply",
        APPLY,
        apply,
        "  citywatch rules apply my-rules/\n  citywatch rules apply my.yaml --effective 2026-12-01T00:00:00+07:00",
    )
    _files(applied)
    applied.add_argument(
        "--effective", metavar="TIME", help="from when on (default: now; what is past is now)"
    )
    option_json(applied)
    option_json(part(where, "versions", VERSIONS, versions, "  citywatch rules versions"))
    back = part(
        where, "rollback", ROLLBACK, rollback, "  citywatch rules rollback\n  citywatch rules rollback 17"
    )
    back.add_argument("version", nargs="?", type=int, metavar="VERSION", help="`rules versions` has them")
    option_json(back)
    watched = part(where, "watch", WATCH, watch, "  citywatch rules watch /etc/citywatch/rules")
    _files(watched)
    option_tied(watched)


def _files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a file, or a folder with *.yaml")


# --- once ---------------------------------------------------------------------------------------------------------------


def apply(args: argparse.Namespace, settings: Settings) -> int:
    from commands.world import now_us  # noqa: PLC0415 - Kafka's clients take half a second to import

    effective = None if args.effective is None else parse_time(args.effective)
    found = publish.checked(args.files)
    for finding in found.findings:
        tell(str(finding))
    place = broker(settings)
    publish.may_publish(place)
    return _published(args, place, found.rules, now_us() if effective is None else effective)


def rollback(args: argparse.Namespace, settings: Settings) -> int:
    from bus import topics  # noqa: PLC0415 - as above
    from commands.world import now_us  # noqa: PLC0415

    place = broker(settings)
    publish.may_publish(place)
    now = now_us()
    one = _earlier(topics.history(place.bootstrap, place.prefix), args.version, now)
    return _published(args, place, publish.published(one.version, one.canonical), now)


def _earlier(published: Sequence[Published], version: int | None, now: Micros) -> Published:
    """The version asked for, else the last one before that in force which says something else. Raises UsageError."""
    from bus.topics import in_force  # noqa: PLC0415 - as above

    if version is not None:
        for one in published:
            if one.version == version:
                return one
        known = ", ".join(str(one.version) for one in published) or "none"
        raise UsageError(f"there is no version {version} of the rules; there are {known}")
    current = in_force(published, now)
    if current is not None:
        for one in reversed(published):
            if one.version < current.version and one.canonical != current.canonical:
                return one
    raise UsageError("there is no earlier version of the rules: `citywatch rules versions` has them all")


def _published(args: argparse.Namespace, place: Broker, rules: RuleSet, effective: Micros) -> int:
    """Publish, and say what became of it."""
    from bus import topics  # noqa: PLC0415 - as above

    before = topics.history(place.bootstrap, place.prefix)
    version = topics.publish_rules(place.bootstrap, place.prefix, rules.canonical(), effective)
    new = all(one.version != version for one in before)
    found = _changed(before[-1] if before else None, rules) if new else {}
    if args.json:
        said = {name: change.json() for name, change in found.items()}
        print_json(
            {"version": version, "new": new, "effective_from": format_time(effective), "changed": said}
        )
    elif new:
        print(f"version {version} from {format_time(effective)} on: {in_words(found)}")
    else:
        print(f"version {version} is these rules already")
    return 0


def _changed(old: Published | None, new: RuleSet) -> dict[str, Changes]:
    try:
        return changes(None if old is None else publish.published(old.version, old.canonical), new)
    except RulesError:
        return changes(None, new)  # the old one is of another citywatch: then everything is new


def versions(args: argparse.Namespace, settings: Settings) -> int:
    from bus import topics  # noqa: PLC0415 - as above
    from commands.world import now_us  # noqa: PLC0415

    place = broker(settings)
    published = topics.history(place.bootstrap, place.prefix)
    current = topics.in_force(published, now_us())
    found = list(_rows(published, current))
    if args.json:
        print_json(found)
        return 0
    rows = [
        (row["version"], row["state"], row["from"], row["rules"], row["sensors"], row["words"])
        for row in found
    ]
    print(table(("version", "state", "from", "rules", "sensors", "changed"), rows))
    return 0


def _rows(published: Sequence[Published], current: Published | None) -> Iterator[dict[str, Any]]:
    before: RuleSet | None = None
    for one in published:
        row: dict[str, Any] = {"version": one.version, "from": _begin(one), "state": _state(one, current)}
        try:
            rules = publish.published(one.version, one.canonical)
        except RulesError as error:
            yield row | {"rules": None, "sensors": None, "changed": None, "words": str(error)}
            continue
        found = changes(before, rules)
        yield row | {
            "rules": len(rules.rules) + len(rules.wide),
            "sensors": len(rules.registry.sensors),
            "changed": {name: change.json() for name, change in found.items()},
            "words": in_words(found) if before is not None else "the first",
        }
        before = rules


def _begin(one: Published) -> str:
    return "the beginning" if one.effective_from <= micros(FIRST) else format_time(one.since)


def _state(one: Published, current: Published | None) -> str:
    if not one.announced:
        return "not told everywhere"  # whoever publishes the same bytes finishes it
    if current is not None and one.version == current.version:
        return "in force"
    return "to come" if current is None or one.version > current.version else "past"


# --- for as long as it runs -----------------------------------------------------------------------------------------------


def watch(args: argparse.Namespace, settings: Settings) -> int:
    place = broker(settings)
    publish.may_publish(place)
    tie(args)
    tell(f"watching {', '.join(map(str, args.files))}")
    watcher = Watcher(place, args.files)
    while True:
        watcher.look()
        time.sleep(LOOK_S)


class Watcher:
    """Files that are put in force when they change. `look` at them every now and then."""

    def __init__(self, place: Broker, files: Sequence[Path]) -> None:
        self.place, self.files = place, files
        self._seen: Any = None  # the files as they were at the last look
        self._read: Any = None  # and as they were when they were last read

    def look(self) -> bool:
        """Whether there was something to do. Raises UnreachableError."""
        seen, before = _signature(self.files), self._seen
        self._seen = seen
        if seen == self._read or (seen != before and self._read is not None):
            return False
        self._take()
        self._read = seen
        return True

    def _take(self) -> None:
        from bus import topics  # noqa: PLC0415 - Kafka's clients take half a second to import
        from commands.world import now_us  # noqa: PLC0415

        now = now_us()
        try:
            found = publish.checked(self.files)
        except RulesError as error:
            for problem in error.problems:
                tell(problem)
            more = f" (and {len(error.problems) - 1} more)" if len(error.problems) > 1 else ""
            tell("the rules in force stay as they are")
            publish.say(self.place, "rules_refused", error.problems[0] + more, now)
            return
        for finding in found.findings:
            tell(str(finding))
        version = topics.publish_rules(self.place.bootstrap, self.place.prefix, found.rules.canonical(), now)
        said = f"version {version}: {len(found.rules.rules) + len(found.rules.wide)} rules"
        tell(f"in force is {said}")
        publish.say(self.place, "rules_loaded", said, now)


def _signature(files: Sequence[Path]) -> tuple[Any, ...]:
    """What changes when a file does. What is not there is none of it, and is told when it is read."""
    found: list[tuple[Any, ...]] = []
    for path in files:
        for file in sorted(path.glob("*.yaml")) if path.is_dir() else [path]:
            try:
                said = file.stat()
            except OSError:
                found.append((str(file),))
            else:
                found.append((str(file), said.st_ino, said.st_mtime_ns, said.st_size))
    return tuple(found)
