"""The image's steps without an engine: COPY and RUN of the stage that makes the wheels, done in a folder with this machine's Python.

What is not tried: the base images, `useradd`, and the page's stage, which is `npm ci` and `npm run build` as `make web` runs them.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.slow


def stages():
    """The instructions of each stage of the Dockerfile, as (word, rest), by the stage's name (the last has none)."""
    text = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    found, name = {}, None
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            name = rest.partition(" AS ")[2]
            found[name] = []
        elif word.isupper():
            found[name].append((word, rest))
    return found


def tracked(path):
    """The files of the project below a path, new ones too: what a clone gives to the build once they are committed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", path],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


class Build:
    """A folder that stands for the root of the image: `/src` in the Dockerfile is `src` in it."""

    def __init__(self, root):
        self.root = root
        subprocess.run([sys.executable, "-m", "venv", root / "python"], check=True)
        self.environ = {
            "PATH": f"{root / 'python' / 'bin'}:{os.environ['PATH']}",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "HOME": os.environ.get("HOME", "/"),
        } | {
            name: value
            for name, value in os.environ.items()
            if name.startswith(("PIP_", "SSL_", "HTTP", "http"))
        }
        self.here = root

    def do(self, word, rest):
        getattr(self, word.lower())(rest)

    def workdir(self, rest):
        self.here = self.root / rest.lstrip("/")
        self.here.mkdir(parents=True, exist_ok=True)

    def copy(self, rest):
        words = shlex.split(rest)
        if words[0] == "--from=page":
            assert words[1:] == ["/src/dist", "console/web/dist"]
            built = ROOT / "console" / "web" / "dist"
            if not (built / "index.html").exists():
                pytest.fail("the page is not built: make web")
            shutil.copytree(built, self.here / words[2])
            return
        *sources, target = words
        for source in sources:
            for name in tracked(source):
                inner = Path(name).relative_to(source) if name != source else Path(name).name
                to = (
                    self.here / target / inner
                    if name != source or target.endswith("/")
                    else self.here / target
                )
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, to)

    def run(self, rest):
        # Caches are of no use to an image, and of much to a test.
        command = re.sub(r"(?<=[\s=])/(wheels|opt)\b", rf"{self.root}/\1", rest).replace("--no-cache-dir", "")
        done = subprocess.run(
            ["/bin/sh", "-ec", command],
            cwd=self.here,
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Where the image's third stage finds /opt/citywatch."""
    build = Build(tmp_path_factory.mktemp("image"))
    for word, rest in stages()["wheels"]:
        build.do(word, rest)
    return build.root / "opt" / "citywatch"


def citywatch(installed, folder, *words):
    environ = {
        "PATH": f"{installed / 'bin'}:/usr/bin:/bin",
        "HOME": str(folder),
        "CITYWATCH_LOG__FORMAT": "json",
    }
    return subprocess.run(
        [installed / "bin" / "citywatch", *words],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_is_installed_runs_and_has_its_rules_and_its_page(installed, tmp_path):
    said = citywatch(installed, tmp_path, "--help")
    assert said.returncode == 0, said.stderr
    assert "worker" in said.stdout
    said = citywatch(installed, tmp_path, "rules", "lint")
    assert said.returncode == 0, said.stdout + said.stderr
    (packages,) = installed.glob("lib/python3*/site-packages")
    assert (packages / "console" / "web" / "dist" / "index.html").stat().st_size > 0
    assert not (packages / "console" / "web" / "src").exists()
    assert not (packages / "pytest").exists()


def test_what_is_installed_is_the_code_of_this_repository_and_no_test(installed):
    (packages,) = installed.glob("lib/python3*/site-packages")
    for folder in ("models", "rules", "bus", "sinks", "streams", "sources", "console", "audit", "commands"):
        names = [name for name in tracked(folder) if not name.startswith("console/web/")]
        assert names
        for name in names:
            assert (packages / name).read_bytes() == (ROOT / name).read_bytes(), name
    assert not (packages / "tests").exists()


def test_every_role_and_one_shot_of_compose_starts_far_enough_to_look_for_its_broker(installed, tmp_path):
    token = tmp_path / "token"
    token.write_text("t")
    token.chmod(0o600)
    for words in (
        ["worker", "--role", "judge"],
        ["worker", "--role", "ledger"],
        ["topics", "apply"],
        ["console"],
    ):
        environ = {
            "PATH": "/usr/bin:/bin",
            "CITYWATCH_KAFKA__BOOTSTRAP": "127.0.0.1:9",
            "CITYWATCH_INFLUX__URL": "http://127.0.0.1:9",
            "CITYWATCH_INFLUX__TOKEN_FILE": str(token),
            "CITYWATCH_CONSOLE__PORT": "18089",
        }
        with subprocess.Popen(
            [installed / "bin" / "citywatch", *words],
            cwd=tmp_path,
            env=environ,
            stderr=subprocess.PIPE,
            text=True,
        ) as started:
            try:
                _, said = started.communicate(timeout=4)
            except subprocess.TimeoutExpired:  # it waits for its broker
                started.kill()
                _, said = started.communicate()
            assert "Traceback" not in said, said[-2000:]
            assert "No module named" not in said


def test_the_page_s_stage_does_what_make_web_does():
    (run,) = [rest for word, rest in stages()["page"] if word == "RUN"]
    make = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.findall(r"npm (ci|run)", run) == ["ci", "run"]
    assert "$(NPM) ci" in make
    assert "$(NPM) run --silent build" in make
