"""`citywatch schemas`: the contracts that subscribers build on, made from the models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from commands.output import part, parts, teach, tell

if TYPE_CHECKING:
    import argparse

    from settings import Settings

ABOUT = """\
Subscribers get no package of ours but a JSON Schema for each topic and one AsyncAPI document. Both are made from the
models and committed, so that a change of a contract is seen in review."""

WRITE = """\
Write asyncapi.yaml and schemas/<topic>.json.
Exit code 1 when the new ones break what the last release promised: give the topic a new version, or take the change
back."""

CHECK = """\
Say which files differ from the models, and what would break subscribers.
What they have is in released.json, which only `release` writes. Changes nothing. Exit code 1 when there is something to
say."""

RELEASE = """\
Write down in released.json what is promised from now on; part of every release.
What takes something from those who keep to the last one is told, and then nothing is written (exit code 1)."""


def add(parser: argparse.ArgumentParser) -> None:
    teach(parser, ABOUT, "  citywatch schemas check\n  citywatch schemas write --folder docs")
    where = parts(parser)
    for name, about, run in (("write", WRITE, write), ("check", CHECK, check), ("release", RELEASE, release)):
        one = part(where, name, about, run, f"  citywatch schemas {name}")
        if run is release:
            one.add_argument(
                "--breaking",
                action="store_true",
                help="write it all the same; CHANGELOG.md must say what breaks",
            )
        one.add_argument("--folder", type=Path, default=Path("docs"), metavar="DIR", help="default: docs")


def write(args: argparse.Namespace, _: Settings) -> int:
    from models import schemas  # noqa: PLC0415 - `--help` needs no models

    return _told(
        schemas.write(args.folder), f"{args.folder}: asyncapi.yaml and schemas/ are as the models say"
    )


def check(args: argparse.Namespace, _: Settings) -> int:
    from models import schemas  # noqa: PLC0415 - as above

    return _told(schemas.check(args.folder), f"{args.folder}: as the models say")


def release(args: argparse.Namespace, _: Settings) -> int:
    from models import schemas  # noqa: PLC0415 - as above

    broken = schemas.release(args.folder, breaking=args.breaking)
    code = _told(broken, f"{args.folder / schemas.RELEASED}: what is promised from now on")
    return 0 if args.breaking else code


def _told(problems: list[str], well: str) -> int:
    for problem in problems:
        print(problem)
    if not problems:
        tell(well)
    return 1 if problems else 0
