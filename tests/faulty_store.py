"""The store's worker with a fault in its sink, for tests: `python tests/faulty_store.py` is `citywatch worker --role store`.

The file named by FAULTS holds lines like `drop s7` or `double s7`: points of that segment are said to be written and are
not, or are written a second time under another identity.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import cli
from sinks import open as opening
from streams import launch

FAULTS = Path(os.environ.pop("FAULTS"))


def faulty(settings, **options):
    store = opening.open_store(settings, **options)
    write = store.write

    async def written(points):
        faults = {tuple(line.split()) for line in FAULTS.read_text().splitlines()}  # noqa: ASYNC240 - a few bytes
        done = []
        for point in points:
            segment = dict(point.tags).get("segment_id")
            if ("drop", segment) not in faults:
                done.append(point)
            if ("double", segment) in faults:
                done.append(point._replace(tags=(*point.tags, ("ward", "elsewhere"))))
        await write(done)

    store.write = written
    return store


launch.open_store = faulty
sys.exit(cli.main(["worker", "--role", "store", *sys.argv[1:]]))
