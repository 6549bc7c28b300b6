"""The house: the lock is in step, the documents tell the truth, and no file names a machine."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import settings
from cli import COMMANDS

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "docker" / "README.md",
]
_PIN = re.compile(r"^([a-z0-9][a-z0-9-]*)==(\S+) \\$", re.MULTILINE)


def _project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _named(requirement):
    """Name and version of "a[b]==1.0"; the version is empty where none is said."""
    name, _, version = re.sub(r"\[.*?\]", "", requirement).partition("==")
    return re.sub(r"[-_.]+", "-", name).lower(), version


# --- the lock -----------------------------------------------------------------------------------------------------


def test_what_pyproject_asks_for_is_in_the_lock_with_the_same_version():
    lock = dict(_PIN.findall((ROOT / "requirements.lock").read_text(encoding="utf-8")))
    project = _project()
    asked = (
        project["project"]["dependencies"]
        + project["project"]["optional-dependencies"]["dev"]
        + project["build-system"]["requires"]
    )
    for name, version in map(_named, asked):
        assert name in lock, f"{name}: make the lock again (CONTRIBUTING, change a dependency)"
        assert version in ("", lock[name]), (
            f"{name} is {version} in pyproject.toml and {lock[name]} in the lock"
        )


def test_every_pin_has_hashes_and_the_lock_names_no_place():
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    parts = re.split(r"^(?=\S)", text, flags=re.MULTILINE)[1:]
    assert len(parts) > 50
    for part in parts:
        head, *hashes = part.rstrip("\n").split(" \\\n")
        assert _PIN.match(part), head
        assert hashes, head
        assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}", line) for line in hashes), head


# --- what no file may hold ----------------------------------------------------------------------------------------

#: In two halves, so that this file holds none of them.
_MACHINES = [
    "/ro" + "ot/",
    "/ho" + "me/",
    "/Us" + "ers/",
    "/wo" + "rk/",
    "py" + "pi.org",
    "python" + "hosted.org",
    "npm" + "js.org",
    "repo.ma" + "ven",
    "repo1.ma" + "ven",
]


def test_no_tracked_file_names_a_folder_of_a_machine_or_a_registry():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    found = []
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            text = (ROOT / name).read_text(encoding="utf-8", errors="replace")
            found += [f"{name}: {word}" for word in _MACHINES if word in text]
    assert not found


# --- make and the one run of all checks ---------------------------------------------------------------------------


def test_make_without_a_target_tells_each_target_in_one_line():
    said = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = [line.split()[1] for line in said.splitlines()]
    assert targets == [
        "help",
        "setup",
        "run",
        "run-real",
        "web",
        "web-test",
        "test",
        "test-slow",
        "check",
        "bench",
        "prove",
        "chaos",
        "generate",
        "wheelhouse",
        "clean",
    ]


@pytest.mark.parametrize(
    ("python", "why"),
    [("no-such-python", "There is no no-such-python"), ("./old", "needs Python 3.11 or newer")],
)
def test_setup_without_a_python_that_will_do_says_what_would(tmp_path, python, why):
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    old = tmp_path / "old"
    old.write_text("#!/bin/sh\n[ $1 = -V ] && echo Python 3.9.1\nexit 1\n")
    old.chmod(0o755)
    done = subprocess.run(
        ["make", "setup", f"PYTHON={python}"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert why in done.stderr
    assert "make setup PYTHON=" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_the_run_of_all_checks_counts_both_suites_and_fails_with_any_stage(tmp_path):
    """In a copy where `make` is a fake: the fast suite passes, the halves of the slow one leave no report, the checks fail."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    for tool in ("java", "mvn", "chromium", "promtool", "amtool"):
        _script(tmp_path / "bin" / tool, "exit 0")
    for tool in ("build_influxd.sh", "get_kafka.sh"):
        _script(tmp_path / "tools" / tool, "exit 0")
    report = '<testsuites><testsuite tests="5" failures="0" errors="0" skipped="2"/></testsuites>'
    _script(
        tmp_path / "bin" / "make",
        'case "$*" in\n'
        '"-k check") echo "a finding"; exit 2;;\n'
        f"*fast.xml*) echo '{report}' > \"${{2##*--junitxml=}}\";;\n"
        "*slow-*.xml*) exit 3;;\n"
        "esac",
    )
    environ = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(
        [tmp_path / ".ci" / "run"], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "3 passed, 2 failed, 2 skipped"
    assert [line for line in lines if line.startswith("FAILED")] == ["FAILED: check", "FAILED: test-slow"]


def _script(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


# --- documents ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: str(d.relative_to(ROOT)))
def test_every_link_within_the_project_leads_somewhere(document):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text(encoding="utf-8"))
    dead = [link for link in links if "://" not in link and not (document.parent / link).exists()]
    assert not dead


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: str(d.relative_to(ROOT)))
def test_every_command_that_a_document_shows_exists(document):
    text = document.read_text(encoding="utf-8")
    shown = re.findall(r"^\s*(?:\$ )?citywatch ([a-z-]+)", text, re.MULTILINE)
    shown += re.findall(r"`citywatch ([a-z-]+)", text)
    assert not [word for word in shown if word not in COMMANDS]


def test_no_two_decisions_have_one_number_and_each_shows_its_figures():
    notes = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert len({note.name[:4] for note in notes}) == len(notes) > 0
    for note in notes:
        text = note.read_text(encoding="utf-8")
        assert text.startswith(f"# {note.name[:4]} "), note.name
        assert "**Decision.**" in text, note.name
        assert re.search(r"\d", text.partition("\n")[2]), note.name


def _settings_table():
    """The table of docs/operations.md as settings.py would have it."""
    rows = ["| variable | default | is |", "|---|---|---|"]
    for variable, (part, name) in settings.names().items():
        field = type(getattr(settings.Settings(), part)).model_fields[name]
        default = str(field.default).lower() if isinstance(field.default, bool) else field.default
        shown = "" if default in (None, "") else f"`{default}`"
        about = field.description or " or ".join(field.annotation.__args__)
        rows.append(f"| `{variable}` | {shown} | {about} |")
    return "\n".join(rows) + "\n"


def test_every_setting_is_in_the_table_of_operations():
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    table = text.partition("<!-- settings:")[2].partition("-->\n")[2]
    assert table == _settings_table(), f"the table should be\n{_settings_table()}"


# --- the image ----------------------------------------------------------------------------------------------------


def test_the_image_takes_all_that_the_wheel_is_made_of_and_runs_without_root():
    text = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
    page, rest = text.split("AS wheels", 1)
    assert "\nCOPY console/web ./\nRUN npm ci " in page
    assert "\nCOPY --from=page /src/dist console/web/dist\n" in rest
    copied = {
        word for line in re.findall(r"^COPY (?!--from)(.*)", rest, re.MULTILINE) for word in line.split()[:-1]
    }
    project = _project()
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
    assert copied == {*wheel, "pyproject.toml", "requirements.lock", project["project"]["readme"]} | {
        *project["project"]["license-files"]
    }
    users = re.findall(r"^USER (.*)", text, re.MULTILINE)
    assert users
    assert all(user not in ("root", "0") for user in users)
    assert not re.search(r"^FROM \S+:latest|^FROM [^:\s]+$|^ADD ", text, re.MULTILINE)


# --- the walk of the README ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_stranger_can_follow_the_readme(tmp_path):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    files = re.findall(r"^```\w+ (\S+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert {name for name, _ in files} == {"gauges.csv", "gauges.yaml", "high-water.yaml"}
    for name, content in files:
        (tmp_path / name).write_text(content, encoding="utf-8")
    walk = re.search(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[1]
    commands = re.findall(r"^\$ citywatch (.*)\n((?:(?!\$).*\n)*)", walk, re.MULTILINE)
    assert len(commands) > 5
    for words, shown in commands:
        words, _, remark = words.partition("#")
        said = _run(words, tmp_path, expect=int("exit code 1" in remark))
        missing = [line for line in _steady(shown) if line not in _steady(said)]
        assert not missing, f"citywatch {words}\nis said to print {missing} and printed\n{said}"


def _run(words, folder, expect):
    environ = {k: v for k, v in os.environ.items() if not k.startswith("CITYWATCH_")}
    done = subprocess.run(
        [sys.executable, "-m", "cli", *words.split()],
        cwd=folder, env=environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == expect, f"citywatch {words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _steady(said):
    """Lines without what differs from run to run, or with the width of a column: ids made in a log of that run."""
    lines = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", said).splitlines()
    return [" ".join(line.split()) for line in lines]
