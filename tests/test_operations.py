"""What operators are given: units that start what there is, bundles without a secret or a person, and what is erased is gone."""

import base64
import json
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from cli_world import alarm, city, flows, reject, reject_of_file  # noqa: F401 - city is a fixture

import cli
from commands import bundle, rewind
from models import catalogue
from settings import names, read
from sources.tokens import load_tokens

ROOT = Path(__file__).parents[1]
UNITS = ROOT / "deploy" / "systemd"
SECRET = 's3cret/of"the city'
PERSON = "Trần Thị Bình"


# --- units ----------------------------------------------------------------------------------------------------------


def unit(name):
    """The lines of a unit: (key, value), comments left out."""
    lines = [line for line in (UNITS / name).read_text(encoding="utf-8").splitlines() if "=" in line]
    return [tuple(line.split("=", 1)) for line in lines if not line.startswith("#")]


SERVICES = sorted(path.name for path in UNITS.glob("*.service"))


@pytest.mark.parametrize("name", SERVICES)
def test_a_unit_runs_a_command_that_there_is(name, capsys):
    (said,) = [value for key, value in unit(name) if key == "ExecStart"]
    program, *words = said.replace("%i", "judge").split()
    assert program.endswith("/bin/citywatch")
    parser = cli._parser(words[0])
    assert callable(parser.parse_args(words).run), capsys.readouterr().err


@pytest.mark.parametrize("name", [*SERVICES, "secrets.conf", "citywatch.env"])
def test_whatever_a_unit_sets_is_a_setting(name):
    text = (UNITS / name).read_text(encoding="utf-8")
    assert set(re.findall(r"CITYWATCH_\w+", text)) <= set(names())


def test_the_example_of_settings_is_one(tmp_path):
    given = dict(unit("citywatch.env"))
    assert read(given).metrics.port == 9101
    commented = re.findall(r"^#(CITYWATCH_\w+)=(\S+)$", (UNITS / "citywatch.env").read_text(), re.MULTILINE)
    assert len(commented) >= 6
    for number, name in enumerate(("PASSWORD_FILE", "CA_FILE")):
        (tmp_path / name).write_text(f"secret {number}")
        (tmp_path / name).chmod(0o600)
    more = {
        "CITYWATCH_KAFKA__PASSWORD_FILE": str(tmp_path / "PASSWORD_FILE"),
        "CITYWATCH_KAFKA__CA_FILE": str(tmp_path / "CA_FILE"),
        "CITYWATCH_INFLUX__TOKEN_FILE": str(tmp_path / "PASSWORD_FILE"),
    }
    assert read(given | dict(commented) | more).kafka.has_sasl


@pytest.mark.parametrize("name", [n for n in SERVICES if "topics" not in n])
def test_what_serves_is_started_again_but_not_with_a_wrong_configuration(name):
    has = dict(unit(name))
    assert (has["Restart"], has["RestartPreventExitStatus"]) == ("always", "2")
    assert (has["User"], has["NoNewPrivileges"], has["ProtectSystem"]) == ("citywatch", "yes", "strict")
    assert int(has["TimeoutStopSec"]) > 4  # a worker leaves within four seconds by itself


def test_systemd_has_nothing_to_say_about_the_units(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    for name in SERVICES:
        text = (
            (UNITS / name)
            .read_text(encoding="utf-8")
            .replace("/opt/citywatch/bin/citywatch", shutil.which("true"))
        )
        target = tmp_path / name.replace("@", "@judge")
        target.write_text(text, encoding="utf-8")
        dropin = target.with_name(f"{target.name}.d")
        dropin.mkdir()
        shutil.copy(UNITS / "secrets.conf", dropin)
    done = subprocess.run(
        ["systemd-analyze", "verify", *sorted(tmp_path.glob("*.service"))],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


# --- bundles --------------------------------------------------------------------------------------------------------


def contents(path):
    with tarfile.open(path) as tar:
        return {m.name.partition("/")[2]: tar.extractfile(m).read().decode() for m in tar.getmembers()}


def test_a_bundle_says_what_is_there_and_what_could_not_be_asked(city, monkeypatch, tmp_path):  # noqa: F811
    """A store that is there, and a Kafka and processes that are not."""
    monkeypatch.setenv("CITYWATCH_KAFKA__BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setenv("CITYWATCH_METRICS__PORT", "1")
    monkeypatch.setattr("bus.clients.BOOTSTRAP_MS", 200)
    city.hold(flows(), [alarm("a1"), alarm("a2", state="ACKED"), reject("r1", b"raw")])
    target = tmp_path / "city.tar.gz"
    done = city("doctor", "--bundle", str(target))
    assert done.code == 3
    assert target.stat().st_mode & 0o077 == 0
    found = contents(target)
    assert "out of reach" in found["doctor.json"]
    assert {a["state"]: a["count"] for a in json.loads(found["alarms.json"])} == {"UNACK": 1, "ACKED": 1}
    assert json.loads(found["rejects.json"])[0]["count"] == 1
    assert json.loads(found["machine.json"])["data_bytes"]["store.sqlite"] > 0
    for name in ("topics.json", "groups.json"):
        assert json.loads(found[name])["error"] == "not asked: the broker is out of reach, see doctor.json"
        assert name in done.err
    assert "refused" in json.loads(found["metrics/judge.txt"])["error"]
    again = city("doctor", "--bundle", str(target))
    assert (again.code, "is there already" in again.err) == (2, True)


def test_no_secret_no_person_and_no_reject_is_in_a_bundle(city, monkeypatch, tmp_path):  # noqa: F811
    monkeypatch.setattr("bus.clients.BOOTSTRAP_MS", 200)
    token = "tok_" + "0123456789abcdef" * 2
    key = "c0ffee" * 11
    (city.folder / "token.key").write_text(key)
    raw = f"{PERSON} {token}".encode()
    note = {"notes": [{"by": "operator Hạnh", "text": PERSON}], "acked_by": "operator Hạnh"}
    city.hold(
        flows(), [alarm("a1", **note), reject("r1", raw, key=PERSON.encode(), detail=f"value: {PERSON}")]
    )
    logs = tmp_path / "logs"
    logs.mkdir()
    said = [f"password {SECRET}", json.dumps({"password": SECRET}), f"key {key} of {token}", "a last line"]
    (logs / "judge.log").write_text("\n".join(said))
    for name, value in (
        ("BOOTSTRAP", "127.0.0.1:1"),
        ("SECURITY", "SASL_SSL"),
        ("USER", "u"),
        ("PASSWORD", SECRET),
    ):
        monkeypatch.setenv(f"CITYWATCH_KAFKA__{name}", value)
    settings = read({k: v for k, v in os.environ.items() if k.startswith("CITYWATCH_")})
    settings = settings.model_copy(update={"data": settings.data.model_copy(update={"dir": city.folder})})
    checks = [{"part": "broker", "state": "out of reach", "said": f"{SECRET} is refused", "do": ""}]
    bundle.pack(tmp_path / "b.tar.gz", settings, checks, logs)
    found = contents(tmp_path / "b.tar.gz")
    assert json.loads(found["settings.json"])["kafka"]["password"] == "(set)"
    assert "a last line" in found["logs/judge.log"]
    whole = "\n".join(found.values())
    for hidden in (
        SECRET,
        json.dumps(SECRET)[1:-1],
        key,
        token,
        PERSON,
        "Hạnh",
        base64.b64encode(raw).decode(),
    ):
        assert hidden not in whole
    assert whole.count("(secret)") == 4


# --- erasing --------------------------------------------------------------------------------------------------------


def on_disk(folder):
    return b"".join(path.read_bytes() for path in folder.glob("store.sqlite*"))


def test_a_person_is_found_in_what_was_refused_and_overwritten_on_the_disk(city):  # noqa: F811
    raw = json.dumps({"name": PERSON}).encode() * 400  # so large that it has pages of its own
    city.hold(
        [],
        [
            reject("plain", PERSON.encode(), detail="value: no JSON"),
            reject("escaped", raw),
            reject("key", b"{}", key=PERSON.encode()),
            reject("detail", b"{}", detail=f"name: {PERSON} is no number"),
            reject_of_file("file", PERSON.encode()),
            reject("other", "Nguyễn Văn An".encode()),
        ],
    )
    before = city("ledger", "--json").json()
    assert base64.b64encode(raw)[:2000] in on_disk(city.folder)
    asked = city("erase", "--text", PERSON, "--json")
    assert asked.code == 1
    assert set(asked.json()["found"]) == {"plain", "escaped", "key", "detail", "file"}
    assert base64.b64encode(raw)[:2000] in on_disk(city.folder)  # nothing was done yet
    done = city("erase", "--text", PERSON, "--yes", "--json")
    assert (done.code, len(done.json()["erased"])) == (0, 5)
    left = on_disk(city.folder)
    for form in (base64.b64encode(PERSON.encode()), PERSON.encode(), json.dumps(PERSON)[1:-1].encode()):
        assert form not in left
    assert base64.b64encode(raw)[:100] not in left
    assert base64.b64encode("Nguyễn Văn An".encode()) in left
    assert city("ledger", "--json").json() == before
    assert city("rejected", "show", "escaped", "--raw").out == ""
    assert city("rejected", "redrive", "escaped").code == 1
    assert city("erase", "--text", PERSON, "--json").json() == {
        "found": [],
        "left": {"alarm": 0, "alarm_event": 0},
    }


def test_a_reject_is_found_by_the_token_of_the_person(city):  # noqa: F811
    token = load_tokens(city.folder).token("HN-4711")
    city.hold([], [reject("r1", json.dumps({"patient": token}).encode()), reject("r2", b"HN-4712")])
    assert city("erase", "--text", "HN-4711", "--json").json()["found"] == ["r1"]


def test_what_says_who_did_what_is_told_and_left(city):  # noqa: F811
    city.hold([], [alarm("a1", acked_by=PERSON), reject("r1", b"{}")])
    done = city("erase", "--text", PERSON, "--yes", "--json")
    assert (done.code, done.json()) == (1, {"erased": [], "left": {"alarm": 1, "alarm_event": 0}})
    assert "are left: they say who did what" in done.err
    assert city("erase", "nobody").code == 2
    assert city("erase").code == 2


# --- rewinding and backups, without a broker ----------------------------------------------------------------------------


def test_only_a_store_is_rewound_in_part(city):  # noqa: F811
    done = city("rewind", "--role", "judge", "--to", "2026-01-01T00:00Z")
    assert (done.code, "can only be rewound --to beginning" in done.err) == (2, True)
    assert city("rewind", "--role", "store").code == 3  # there is no broker


def test_what_a_store_has_let_go_is_not_counted_twice(city, monkeypatch):  # noqa: F811
    monkeypatch.setenv("CITYWATCH_KAFKA__BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setenv("CITYWATCH_STORE__RETENTION_DAYS", "3")
    city.hold(flows())
    done = city("rewind", "--role", "store")
    assert (done.code, "the store keeps 3 days" in done.err) == (2, True)


def test_the_topics_that_keep_what_is_saved_are_restricted():
    kept = {topic.name: topic for topic in catalogue.PLATFORM}
    assert all(
        kept[name].cleanup == "compact" and kept[name].access == "restricted"
        for name in rewind.SAVED.values()
    )


def test_a_backup_of_a_city_without_a_log_brings_its_store_back(city, tmp_path):  # noqa: F811
    city.hold(flows(), [alarm("a1"), reject("r1", b"raw")])
    (city.folder / "token.key").write_text("ab" * 32)
    folder, other = tmp_path / "backup", tmp_path / "other"
    done = city("backup", str(folder), "--json")
    assert set(done.json()["files"]) == {"store.sqlite", "token.key"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir())
    assert city("restore", str(folder), "--data", str(other)).code == 0
    assert (
        city("query", "traffic_flow", "--json", "--data", str(other)).out
        == city("query", "traffic_flow", "--json").out
    )
    assert city("restore", str(folder), "--data", str(other)).code == 2
    (folder / "backup.json").unlink()
    done = city("restore", str(folder), "--data", str(tmp_path / "third"))
    assert (done.code, "cut short" in done.err) == (2, True)


# --- what the documents say -----------------------------------------------------------------------------------------


def test_every_service_level_has_an_alert_that_there_is():
    text = (ROOT / "docs" / "running.md").read_text(encoding="utf-8")
    table = text.partition("## Service levels")[2].partition("\n## ")[0]
    rules = (ROOT / "docker" / "prometheus" / "rules.yml").read_text(encoding="utf-8")
    alerts = set(re.findall(r"`(Citywatch\w+)`", table))
    assert len(alerts) > 10
    assert alerts <= set(re.findall(r"alert: (\w+)", rules))
    for metric in set(re.findall(r"`((?:citywatch|node)_\w+)", table)):
        assert metric in rules, metric
    for name, bound in re.findall(r"`(Citywatch\w+)`: above (\d+) s", table):
        assert re.search(rf"alert: {name}\n.*?> {bound}\n", rules, re.DOTALL), (name, bound)
