"""`citywatch topics`: the catalogue of topics, what differs on the broker, and how it is put right."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from commands.output import UsageError, option_json, part, parts, print_json, table, teach, tell
from commands.reach import broker
from models import catalogue
from rules.terms import duration_text

if TYPE_CHECKING:
    import argparse
    from datetime import timedelta

    from settings import Settings

ABOUT = """\
The topics that this version of citywatch reads and writes. They are said in code (models/), so that what is on the
broker can be compared with it and put right."""

LIST = """\
Print the catalogue. Needs no broker.
L is how long after it was observed an event may arrive and still be judged; later ones are stored as late."""

PLAN = """\
Print what differs between the catalogue and the broker; change nothing: partitions, replicas, retention, who sets the
time of records, compaction, sizes, and topics of the city that the catalogue does not have.
Exit code 1 when there is a problem that `apply` would leave to a person."""

APPLY = """\
Create the topics that are missing, put configurations right, and put the rules in force.
May be run again at any time: what is right already is left alone, and what the catalogue says nothing of stays as
somebody set it. No topic is deleted. Partitions are never added, since keys would move away from their own history, and
what would have the broker delete records (shorter retention, another way of cleaning up) is not done unless asked for:
these are told as problems (exit code 1), and then the rules are left as they are."""

ACLS = """\
Print what each role must be let do on the broker, and nothing more, as the commands that say so to it. Needs no broker.
Each role is a user of its own; its name is the role's with citywatch- before it, unless --user says otherwise."""


def add(parser: argparse.ArgumentParser) -> None:
    teach(
        parser,
        ABOUT,
        "  citywatch topics list\n  CITYWATCH_KAFKA__BOOTSTRAP=kafka:9092 citywatch topics plan",
    )
    where = parts(parser)
    option_json(part(where, "list", LIST, show, "  citywatch topics list"))
    planned = part(where, "plan", PLAN, plan, "  citywatch topics plan")
    option_json(planned)
    applied = part(
        where, "apply", APPLY, apply, "  citywatch topics apply\n  citywatch topics apply --rules my/*.yaml"
    )
    applied.add_argument(
        "--rules",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="put these in force, and not the ones that are shipped",
    )
    option_json(applied)
    told = part(
        where,
        "acls",
        ACLS,
        acls,
        "  citywatch topics acls --user judge=CN=judge.city.vn\n  citywatch topics acls --json",
    )
    told.add_argument(
        "--user",
        action="append",
        default=[],
        metavar="ROLE=NAME",
        help="as the broker knows that role's user",
    )
    option_json(told)
    for one in (planned, applied):
        one.add_argument(
            "--allow-deleting",
            action="store_true",
            help="also do what has the broker delete records: shorter retention, another cleanup.policy",
        )


def show(args: argparse.Namespace, _: Settings) -> int:
    found = [_source(name) for name in catalogue.topics()] + [_own(topic) for topic in catalogue.PLATFORM]
    if args.json:
        print_json(found)
    else:
        print(table(list(found[0]), [list(row.values()) for row in found]))
    return 0


def _source(name: str) -> dict[str, Any]:
    topic = catalogue.topics()[name]
    return {
        "topic": name,
        "access": topic.access,
        "kind": topic.kind,
        "key": "/".join(topic.key),
        "L": _duration(topic.lateness),
        "partitions": topic.partitions,
        "retention": _duration(topic.retention),
    }


def _own(topic: catalogue.PlatformTopic) -> dict[str, Any]:
    keep = "for ever" if topic.retention_ms < 0 else duration_text(topic.retention_ms * 1000)
    return {
        "topic": topic.name,
        "access": topic.access,
        "kind": "compacted" if topic.cleanup == "compact" else "log",
        "key": None,
        "L": None,
        "partitions": topic.partitions,
        "retention": keep,
    }


def _duration(span: timedelta) -> str:
    return duration_text(round(span.total_seconds() * 1_000_000))


def plan(args: argparse.Namespace, settings: Settings) -> int:
    from bus import topics  # noqa: PLC0415 - `list` needs no Kafka client

    place = broker(settings)
    changes = topics.plan(
        place.bootstrap, place.prefix, settings.kafka.replication, deleting=args.allow_deleting
    )
    return _told(changes, as_json=args.json)


def apply(args: argparse.Namespace, settings: Settings) -> int:
    from bus import topics  # noqa: PLC0415 - as above
    from commands import publish  # noqa: PLC0415
    from commands.world import now_us  # noqa: PLC0415
    from rules import load  # noqa: PLC0415

    rules = publish.read(args.rules) if args.rules else load.default()
    place = broker(settings)
    publish.may_publish(place)
    changes = topics.apply(
        place.bootstrap, place.prefix, settings.kafka.replication, deleting=args.allow_deleting
    )
    code = _told(changes, as_json=args.json)
    if code:
        tell("the rules are left as they are until the topics are right")
        return code
    version = topics.publish_rules(place.bootstrap, place.prefix, rules.canonical(), now_us())
    tell(
        f"in force: version {version}, {len(rules.rules)} rules, {len(rules.registry.sensors)} sensors registered"
    )
    return 0


def _told(changes: list[Any], *, as_json: bool) -> int:
    if as_json:
        print_json([{"topic": c.topic, "action": c.action, "detail": c.detail} for c in changes])
    for change in [] if as_json else changes:
        print(change)
    if all(change.action == "note" for change in changes):
        tell("the broker has every topic as it should be")
    return 1 if any(change.action == "problem" for change in changes) else 0


def acls(args: argparse.Namespace, settings: Settings) -> int:
    from bus.rights import ROLES, rights  # noqa: PLC0415 - as above

    users: dict[str, str] = {role: f"citywatch-{role}" for role in ROLES}
    for said in args.user:
        role, equals, user = said.partition("=")
        if role not in users or not (equals and user):
            raise UsageError(f"--user {said}: say ROLE=NAME, where ROLE is {', '.join(users)}")
        users[role] = user
    found = [{**right._asdict(), "user": users[right.role]} for right in rights(settings.kafka.prefix)]
    if args.json:
        print_json(found)
        return 0
    where = settings.kafka.bootstrap or "HOST:PORT"
    for right in found:
        operations = " ".join(f"--operation {operation}" for operation in right["operations"])
        names = " ".join(f"--{right['kind']} {name.rstrip('*')}" for name in right["names"])
        pattern = "prefixed" if right["names"][0].endswith("*") else "literal"
        print(
            f"kafka-acls --bootstrap-server {where} --add --allow-principal {quote('User:' + right['user'])} "
            f"{operations} {names} --resource-pattern-type {pattern}"
        )
    return 0
