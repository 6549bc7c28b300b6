"""A table that long runs append to, a row a piece: what is there already is not done again."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def rows(table: Path) -> Iterator[dict[str, str]]:
    """Every row by its columns' names; a table that is not there has none."""
    if table.exists():
        with table.open(newline="") as lines:
            yield from csv.DictReader(lines)


def append(table: Path, row: NamedTuple | Any) -> None:
    """Add a row, whose fields are the columns."""
    table.parent.mkdir(parents=True, exist_ok=True)
    new = not table.exists()
    with table.open("a", newline="") as lines:
        out = csv.writer(lines)
        if new:
            out.writerow(row._fields)
        out.writerow(row)
