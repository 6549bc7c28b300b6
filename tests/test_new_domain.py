"""A new domain is three hand-written files and a case: CONTRIBUTING's walk, done in a copy of the repository.

The blocks of CONTRIBUTING.md that name a file are what is written, so that what it says is what works.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOPIC = "city.environment.noise.v1"
BY_HAND = {"models/noise.py", "streams/noise.py", "rules/noise.yaml"}
CASE = {
    "tests/cases/noise/party-at-the-hospital.jsonl",
    "tests/cases/noise/party-at-the-hospital.expected.json",
}
_BLOCK = re.compile(r"^```\w+ (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _repository():
    """The files of the project: tracked, or new and not ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("this is no git checkout, so its own files cannot be told from others")
    return [name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def _digests(folder):
    files = (f for f in folder.rglob("*") if f.is_file() and not {".hypothesis", "__pycache__"} & {*f.parts})
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


@pytest.fixture(scope="module")
def city(tmp_path_factory):
    """The copy with the new domain in it, its contracts generated, and the files as they were before."""
    folder = tmp_path_factory.mktemp("copy")
    for name in _repository():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    before = _digests(folder)
    for name, text in _BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")):
        assert not (folder / name).exists(), f"CONTRIBUTING would write over {name}"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    _in(folder, "-m", "cli", "schemas", "write")
    return folder, before


def _in(folder, *words):
    """Run Python on the copy; what it printed. Fails with all that it said."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("CITYWATCH_")}
    environ |= {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, *words]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_three_files_and_a_case_are_written_by_hand_and_nothing_else_changes_but_the_contracts(city):
    folder, before = city
    after = _digests(folder)
    assert before.keys() <= after.keys()
    assert after.keys() - before.keys() == BY_HAND | CASE | {f"docs/schemas/{TOPIC}.json"}
    assert {name for name in before if before[name] != after[name]} == {"docs/asyncapi.yaml"}


def test_the_catalogue_the_store_and_the_topics_to_create_know_the_new_domain(city):
    said = _in(
        city[0],
        "-c",
        "import models, bus.topics, streams.domain, models.catalogue\n"
        "print(models.__path__[0])\n"
        f"print(models.catalogue.event_of({TOPIC!r}).__name__)\n"
        f"print(streams.domain.domains()[{TOPIC!r}].fields)\n"
        f"print({TOPIC!r} in bus.topics.wanted())",
    ).splitlines()
    assert said == [str(city[0] / "models"), "NoiseLevel", "('level_dba',)", "True"]


def test_the_contracts_the_rules_and_their_tests_pass(city):
    _in(city[0], "-m", "cli", "schemas", "check")
    assert "noise" not in _in(city[0], "-m", "cli", "rules", "lint")
    _in(city[0], "-m", "cli", "rules", "test", "rules/noise.yaml")


def test_the_case_passes_and_every_domain_still_has_one(city):
    _in(city[0], "-m", "pytest", "-p", "no:cacheprovider", "tests/test_cases.py")


def test_the_code_in_contributing_is_as_clean_as_ours(city):
    python = sorted(name for name in BY_HAND if name.endswith(".py"))
    _in(city[0], "-m", "ruff", "check", "--no-cache", *python)
    _in(city[0], "-m", "ruff", "format", "--no-cache", "--check", *python)
