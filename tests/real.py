"""Real input and real processes for the slow tests: where the data is, and how a command is run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CASES = Path(__file__).parent / "cases"


def data(*parts: str) -> Path:
    """A file of the real input; skips where there is none."""
    base = Path(os.environ.get("CITYWATCH_DATA") or ROOT.parent / "shared" / "data")
    path = base.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs the real input: no {'/'.join(parts)} in CITYWATCH_DATA or ../shared/data")
    return path


def oracle(name: str) -> dict:
    return json.loads(data("ORACLES.json").read_text())[name]


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "cli", *map(str, words)]


def environ() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("CITYWATCH_")}


def citywatch(*words: object, expect: int = 0, seconds: float = 400) -> str:
    """Run a command to its end; what it printed. Its messages are shown when the exit code is another."""
    done = subprocess.run(
        command(*words), cwd=ROOT, env=environ(), capture_output=True, text=True, timeout=seconds, check=False
    )
    assert done.returncode == expect, (
        f"{words}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    )
    return done.stdout


def replay(files: list[Path], mapping: object, folder: Path, *more: object) -> dict:
    """Replay into a fresh folder; the summary. Every ledger must be exact."""
    said = json.loads(citywatch("replay", *files, "--mapping", mapping, "--data", folder, "--json", *more))
    assert said["exact"]
    for topic, line in said["ledger"]["topics"].items():
        assert line["exact"], (topic, line)
    return said


def line(said: dict, topic: str) -> dict:
    found = said["ledger"]["topics"][topic]
    return {k: v for k, v in found.items() if v}


def query(folder: Path, *words: object) -> list[dict]:
    return json.loads(citywatch("query", *words, "--data", folder, "--json"))


def alarms(folder: Path) -> list[dict]:
    return json.loads(citywatch("alarms", "--all", "--data", folder, "--json"))


def story(folder: Path) -> list[tuple]:
    """What the alarms of a folder say, without what names the log."""
    said = ("rule", "fingerprint", "start", "end", "state", "priority", "peak", "revised", "retracted")
    return sorted(
        (*tuple(str(a.get(name)) for name in said), tuple(e["event_id"] for e in a["evidence"]))
        for a in alarms(folder)
    )
