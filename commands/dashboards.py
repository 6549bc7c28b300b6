"""`citywatch dashboards`: Grafana's pages, made from the models and the domains."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from commands.output import part, parts, teach, tell

if TYPE_CHECKING:
    import argparse

    from settings import Settings

_ABOUT = """\
Grafana gets one dashboard a domain of the city, one of the alarms and one of the platform's own health. They are made
from the models (names, units, what is a number and what is not) and committed, so that a change is seen in review."""

_FOLDER = Path("docker/grafana/dashboards")


def add(parser: argparse.ArgumentParser) -> None:
    teach(parser, _ABOUT, "  citywatch dashboards check\n  citywatch dashboards write --folder /tmp/boards")
    where = parts(parser)
    for name, about, run in (
        ("write", "Write a file for each dashboard, and remove those that are none any more.", write),
        ("check", "Say which files differ from the models.\nExit code 1 when there are any.", check),
    ):
        one = part(where, name, about, run, f"  citywatch dashboards {name}")
        one.add_argument("--folder", type=Path, default=_FOLDER, metavar="DIR", help=f"default: {_FOLDER}")


def write(args: argparse.Namespace, _: Settings) -> int:
    folder: Path = args.folder
    made = files()
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.json"):
        if path.name not in made:
            path.unlink()
    for name, text in made.items():
        (folder / name).write_text(text, encoding="utf-8")
    tell(f"{folder}: {len(made)} dashboards are as the models say")
    return 0


def check(args: argparse.Namespace, _: Settings) -> int:
    problems = drift(args.folder)
    for problem in problems:
        print(problem)
    if not problems:
        tell(f"{args.folder}: as the models say")
    return 1 if problems else 0


def files() -> dict[str, str]:
    """The files by name, as they should be."""
    from commands.boards import all_boards  # noqa: PLC0415 - `--help` needs no models
    from commands.grafana import text_of  # noqa: PLC0415 - as above

    return {f"{board.uid}.json": text_of(board) for board in all_boards()}


def drift(folder: Path) -> list[str]:
    """What is wrong with the dashboards in `folder`, a sentence each."""
    made = files()
    there = {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.json"))}
    again = "run `citywatch dashboards write` and commit it"
    found = [
        f"{folder / name}: {'differs from the models' if name in there else 'is missing'}; {again}"
        for name, text in made.items()
        if there.get(name) != text
    ]
    return found + [
        f"{folder / name}: there is no such dashboard; {again}" for name in there if name not in made
    ]
