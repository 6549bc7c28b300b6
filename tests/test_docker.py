"""docker/ is true to the repository, and keeps what it promises: limits, no root, nothing writable, no secret, pinned versions."""

import re
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

import settings
from cli import COMMANDS
from commands.worker import LEDGER
from streams import launch

ROOT = Path(__file__).parent.parent
DOCKER = ROOT / "docker"
ROLES = [*launch.ROLES, LEDGER]
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
DOCKERFILE = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
OURS = {name: s for name, s in SERVICES.items() if s["image"].startswith("citywatch:")}
#: They do their work and end.
ONCE = {"topics", "influxdb-setup"}
#: They end with the city that they play, or have nobody who waits for them.
UNWATCHED = ONCE | {"simulator"}

each = pytest.mark.parametrize("name", SERVICES)


# --- what every container keeps to --------------------------------------------------------------------------------


@each
def test_a_service_may_do_no_more_than_it_must(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "pid", "ipc", "devices", "network_mode"} & service.keys()
    user = str(service["user"])
    assert re.fullmatch(r"[1-9]\d*:\d+", user), user


@each
def test_a_service_has_bounds_and_a_log_that_ends(name):
    limits = SERVICES[name]["deploy"]["resources"]["limits"]
    assert set(limits) == {"cpus", "memory", "pids"}
    assert SERVICES[name]["logging"]["options"].keys() == {"max-size", "max-file"}
    assert all(re.search(r":size=\d+m", place) for place in SERVICES[name].get("tmpfs", ()))


@each
def test_a_service_comes_back_and_says_whether_it_is_well(name):
    service = SERVICES[name]
    assert service["restart"] == ("on-failure:10" if name in ONCE else "unless-stopped")
    assert ("healthcheck" in service) == (name not in UNWATCHED)


@each
def test_an_image_is_pinned_to_a_version(name):
    assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+\.\d+", SERVICES[name]["image"])


def test_our_image_has_the_version_of_the_project_and_is_built_once():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {service["image"] for service in OURS.values()} == {f"citywatch:{project['version']}"}
    assert [name for name, s in SERVICES.items() if "build" in s] == ["influxdb-setup"]
    assert all(s.get("pull_policy") == "never" for name, s in OURS.items() if name != "influxdb-setup")


def test_only_console_and_grafana_can_be_reached_and_from_this_machine_alone():
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert ports == {"console": ["127.0.0.1:8080:8080"], "grafana": ["127.0.0.1:3000:3000"]}
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    outside = {name for name, service in SERVICES.items() if "outside" in service["networks"]}
    assert outside == {"console", "grafana", "alertmanager"}


@pytest.mark.slow
def test_compose_itself_takes_the_file_and_would_not_take_a_wrong_one(tmp_path):
    def taken(file):
        command = ["go", "run", ".", str(file)]
        where = ROOT / "tools" / "compose"
        return subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=200, check=False)

    done = taken(DOCKER / "compose.yaml")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{len(SERVICES)} services\n"
    for right, wrong in (
        ("read_only: true", "readonly: true"),
        ("condition: service_healthy", "condition: healthy"),
    ):
        text = (DOCKER / "compose.yaml").read_text(encoding="utf-8")
        assert right in text
        (tmp_path / "compose.yaml").write_text(text.replace(right, wrong, 1))
        assert taken(tmp_path / "compose.yaml").returncode != 0


# --- files, volumes, secrets --------------------------------------------------------------------------------------


@each
def test_what_is_mounted_is_a_named_volume_or_a_file_of_the_project_that_cannot_be_written(name):
    for mount in SERVICES[name].get("volumes", ()):
        source, _, rest = mount.partition(":")
        if source.startswith("."):
            assert rest.endswith(":ro")
            assert (DOCKER / source).exists(), source
        else:
            assert source in COMPOSE["volumes"]
    used = {m.partition(":")[0] for s in SERVICES.values() for m in s.get("volumes", ())}
    assert used >= COMPOSE["volumes"].keys()


def test_no_secret_is_in_the_file_and_each_is_read_from_one():
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|TOKEN|SECRET|KEY", variable):
                assert variable.endswith(("_FILE", "__FILE")), (name, variable)
                assert str(value).startswith(("/run/secrets/", "/run/citywatch/"))
        for path in re.findall(r"/run/secrets/(\w+)", str(service)):
            assert path in service["secrets"], (name, path)
    files = {secret["file"] for secret in COMPOSE["secrets"].values()}
    assert files == {f"./secrets/{name}" for name in COMPOSE["secrets"]}
    assert "docker/secrets/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert "docker/secrets" in (DOCKER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()


def test_only_what_sets_the_store_up_knows_its_admin():
    assert {n for n, s in SERVICES.items() if "influxdb_admin_token" in s.get("secrets", ())} == {
        "influxdb",
        "influxdb-setup",
    }


def test_secrets_are_made_once_each_another_and_one_can_be_made_anew(tmp_path):
    def made(*words):
        return subprocess.run([DOCKER / "secrets.sh", *words], capture_output=True, text=True, check=False)

    assert made(tmp_path / "s").returncode == 0
    found = {path.name: path.read_text() for path in (tmp_path / "s").iterdir()}
    assert found.keys() == COMPOSE["secrets"].keys()
    assert len(set(found.values())) == len(found)
    assert all(re.fullmatch(r"[\w-]{43}", value) for value in found.values())
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "s").iterdir()} == {0o444}
    again = made(tmp_path / "s")
    assert (again.returncode, again.stdout) == (0, "")
    assert found == {path.name: path.read_text() for path in (tmp_path / "s").iterdir()}
    assert made("--renew", "grafana_admin_password", tmp_path / "s").returncode == 0
    now = {path.name: path.read_text() for path in (tmp_path / "s").iterdir()}
    assert {name for name in now if now[name] != found[name]} == {"grafana_admin_password"}
    assert made("--renew", "nonsense", tmp_path / "s").returncode == 2


# --- our own services ---------------------------------------------------------------------------------------------


def test_every_role_has_its_service_and_every_command_exists():
    said = {name: service["command"] for name, service in OURS.items() if "command" in service}
    roles = {words[2]: name for name, words in said.items() if words[0] == "worker"}
    assert roles == {role: role for role in ROLES}
    assert all(words[0] in COMMANDS for words in said.values())


def test_a_role_is_asked_for_its_health_at_its_own_port():
    base = int(SERVICES["judge"]["environment"]["CITYWATCH_METRICS__PORT"])
    for n, role in enumerate(ROLES):
        assert f":{base + n}/health" in str(SERVICES[role]["healthcheck"]["test"])


@pytest.mark.parametrize("name", [name for name in OURS if name != "influxdb-setup"])
def test_the_settings_of_a_service_are_settings_and_can_be_read(name, tmp_path):
    given = dict(SERVICES[name]["environment"])
    assert given.keys() <= settings.names().keys()
    given = {variable: re.sub(r"\$\{[^}]*\}", "", value) for variable, value in given.items()}
    token = tmp_path / "token"
    token.write_text("t")
    token.chmod(0o600)
    read = settings.read(given | {"CITYWATCH_INFLUX__TOKEN_FILE": str(token)})
    assert read.kafka.bootstrap == "kafka:9092"
    assert read.influx.url == "http://influxdb:8086"


@pytest.mark.parametrize("name", OURS)
def test_ours_wait_for_what_they_cannot_do_without(name):
    wanted = {
        "influxdb-setup": {"influxdb": "service_healthy"},
        "topics": {"kafka": "service_healthy", "influxdb-setup": "service_completed_successfully"},
    }.get(
        name, {"topics": "service_completed_successfully", "influxdb-setup": "service_completed_successfully"}
    )
    assert {on: how["condition"] for on, how in SERVICES[name]["depends_on"].items()} == wanted


@each
def test_what_is_waited_for_can_come_about(name):
    for on, how in SERVICES[name].get("depends_on", {}).items():
        if how["condition"] == "service_healthy":
            assert "healthcheck" in SERVICES[on]
        else:
            assert (how["condition"], on in ONCE) == ("service_completed_successfully", True)


# --- Grafana's data sources ---------------------------------------------------------------------------------------


def test_dashboards_ask_sources_that_are_provisioned_and_are_there():
    sources = yaml.safe_load((DOCKER / "grafana/provisioning/datasources/citywatch.yaml").read_text())[
        "datasources"
    ]
    of = {(source["type"], source["uid"]) for source in sources}
    for path in (DOCKER / "grafana" / "dashboards").glob("*.json"):
        asked = re.findall(
            r'"type": "(influxdb|prometheus)",\s+"uid": "([\w-]+)"', path.read_text(encoding="utf-8")
        )
        assert asked
        assert set(asked) <= of
    for source in sources:
        host, port = re.fullmatch(r"http://(\w+):(\d+)", source["url"]).groups()
        assert f":{port}/" in str(SERVICES[host]["healthcheck"]["test"])
    store = next(source for source in sources if source["type"] == "influxdb")
    assert store["jsonData"]["dbName"] == SERVICES["judge"]["environment"]["CITYWATCH_INFLUX__BUCKET"]
    assert store["secureJsonData"]["password"] == "$__file{/run/secrets/grafana_influxdb_password}"
    assert "grafana_influxdb_password" in SERVICES["grafana"]["secrets"]
    provider = yaml.safe_load((DOCKER / "grafana/provisioning/dashboards/citywatch.yaml").read_text())[
        "providers"
    ][0]
    mounts = dict(reversed(m.removesuffix(":ro").split(":")) for m in SERVICES["grafana"]["volumes"])
    assert mounts[provider["options"]["path"]] == "./grafana/dashboards"


# --- the Dockerfile -----------------------------------------------------------------------------------------------


def test_every_stage_is_pinned_to_a_version_and_runs_as_nobody_in_particular():
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert len(bases) == 3
    assert all(re.fullmatch(r"[a-z]+:\d+\.\d+\.\d+-[\w-]+", base) for base in bases)
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    user = re.search(r"^USER (\d+)$", last, re.MULTILINE)[1]
    assert {service["user"].partition(":")[0] for service in OURS.values()} == {user}
    assert f"--uid {user} " in last


def test_what_is_mounted_into_our_image_is_there_with_the_right_owner():
    made = re.search(r"install -d -o citywatch -g citywatch (.+)$", DOCKERFILE, re.MULTILINE)[1].split()
    for name, service in OURS.items():
        for mount in service.get("volumes", ()):
            source, target = mount.split(":")[:2]
            if source in COMPOSE["volumes"]:
                assert target in made, (name, target)
