"""How commands speak: tables and JSON on stdout, messages on stderr, the nearest name for one that is wrong."""

from __future__ import annotations

import argparse
import difflib
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Cell = str | int | float | None

#: What would move a terminal's cursor, or turn its text around: data comes from anywhere.
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


class UsageError(ValueError):
    """What was asked makes no sense; the message says what would."""


def clean(text: str) -> str:
    """One line that is safe to show."""
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def table(head: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Columns under their names; numbers to the right, with their thousands apart. What is None is a dash."""
    body = [[_shown(cell) for cell in row] for row in rows]
    rights = [all(right for _, right in column) for column in zip(*body, strict=True)] or [False] * len(head)
    lines = [[clean(name) for name in head], *([text for text, _ in row] for row in body)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, rights, strict=True)
        ).rstrip()
        for line in lines
    )


def _shown(cell: Cell) -> tuple[str, bool]:
    """The text of a cell, and whether it may stand to the right."""
    if cell is None:
        return "-", True
    if isinstance(cell, bool):
        return ("yes" if cell else "no"), False
    if isinstance(cell, int):
        return f"{cell:,}", True
    if isinstance(cell, float):
        return f"{cell!r}", True
    return clean(cell), False


def print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False), flush=True)  # whoever reads a pipe reads it as it comes


def tell(message: str) -> None:
    """A message: not part of the result."""
    print(f"citywatch: {message}", file=sys.stderr)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about a name that is wrong: the nearest right one, or all of them."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(names) or 'none'}"


# --- what argparse is told --------------------------------------------------------------------------------------------


def option_data() -> argparse.ArgumentParser:
    """`--data`, for every command and every part of one; what is not said is not there."""
    parent = argparse.ArgumentParser(add_help=False)
    parent.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        default=argparse.SUPPRESS,
        help="folder of the store and of what runs (default: CITYWATCH_DATA__DIR, else var)",
    )
    return parent


def teach(parser: argparse.ArgumentParser, about: str, examples: str) -> None:
    """What a command does and why, before its options, and examples after them."""
    parser.description = about
    parser.epilog = f"examples:\n{examples}" if examples else None
    parser.formatter_class = argparse.RawDescriptionHelpFormatter


def parts(parser: argparse.ArgumentParser, *, required: bool = True) -> Any:
    """Where the parts of a command (`rules lint`) are added with `part`."""
    return parser.add_subparsers(metavar="WHAT" if required else "[WHAT]", dest="what", required=required)


def part(where: Any, name: str, about: str, run: Any, examples: str = "") -> argparse.ArgumentParser:
    """One part of a command, with its own help. `about` begins with the line that the command's help shows."""
    parser: argparse.ArgumentParser = where.add_parser(
        name, help=about.splitlines()[0].rstrip("."), parents=[option_data()], allow_abbrev=False
    )
    teach(parser, about, examples)
    parser.set_defaults(run=run)
    return parser


def option_json(
    parser: argparse.ArgumentParser, about: str = "for programs: one JSON value on stdout"
) -> None:
    parser.add_argument("--json", action="store_true", help=about)
