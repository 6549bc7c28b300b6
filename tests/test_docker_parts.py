"""What docker/ brings beside the image is tried on the real servers: Kafka's start, and the users of InfluxDB."""

import importlib.util
import os
import re
import signal
import socket
import stat
import subprocess
import time
import urllib.error
from pathlib import Path

import grafana
import pytest
from real_influx import ORG, TOKEN, InfluxMissingError, RealInflux
from real_kafka import jars

from bus.apache import java
from bus.clients import UnreachableError, log_id

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.slow


# --- Kafka --------------------------------------------------------------------------------------------------------


def free():
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


class Started:
    """docker/kafka/start.sh with the image's commands stood in for, on ports and a folder of this test."""

    def __init__(self, folder):
        (folder / "bin").mkdir(parents=True)
        for name, main in (
            ("kafka-storage", "kafka.tools.StorageTool"),
            ("kafka-server-start", "kafka.Kafka"),
        ):
            script = folder / "bin" / f"{name}.sh"
            run = f"{java()} -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp '{jars()}/*'"
            script.write_text(f'#!/bin/bash\nexec {run} {main} "$@"\n')
            script.chmod(0o755)
        self.folder, self.port = folder, free()
        text = (ROOT / "docker" / "kafka" / "server.properties").read_text(encoding="utf-8")
        text = text.replace("://:9092", f"://127.0.0.1:{self.port}").replace(
            "//kafka:9092", f"//127.0.0.1:{self.port}"
        )
        text = text.replace("localhost:9093", f"localhost:{free()}")
        text = text.replace("/var/lib/kafka/data", str(folder / "data"))
        text += "log.cleaner.dedupe.buffer.size=4194304\n"  # for the small heap of this test
        (folder / "server.properties").write_text(text)
        self.process = None

    def start(self):
        """Until it answers; the id of its log."""
        environ = os.environ | {
            "KAFKA_HOME": str(self.folder),
            "KAFKA_CONFIG": str(self.folder / "server.properties"),
        }
        with (self.folder / "log.txt").open("ab") as out:
            self.process = subprocess.Popen(
                ["/bin/bash", ROOT / "docker" / "kafka" / "start.sh"],
                env=environ, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                return log_id(f"127.0.0.1:{self.port}")
            except UnreachableError:
                time.sleep(0.3)
        pytest.fail((self.folder / "log.txt").read_text()[-2000:])

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)


def test_a_log_has_an_id_of_its_own_keeps_it_over_a_restart_and_loses_it_with_its_volume(tmp_path):
    one, other = Started(tmp_path / "one"), Started(tmp_path / "other")
    try:
        first = one.start()
        one.stop()
        assert one.process.returncode in (0, 143)  # what it gets from `docker stop` reaches Java
        again = one.start()
        one.stop()
        second = other.start()
    finally:
        one.stop()
        other.stop()
    assert re.fullmatch(r"[\w-]{22}", first)
    assert again == first
    assert second != first


# --- InfluxDB -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def influx():
    try:
        server = RealInflux()
    except InfluxMissingError as missing:
        pytest.fail(str(missing))
    server.make_bucket("citywatch")
    server.make_bucket("other")
    yield server
    server.close()


@pytest.fixture(scope="module")
def setup():
    spec = importlib.util.spec_from_file_location(
        "setup_of_influxdb", ROOT / "docker" / "influxdb" / "setup.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(setup, influx, folder, password="password-of-grafana", token=TOKEN):
    """As compose runs it."""
    for name, value in (("admin", token), ("grafana", password)):
        (folder / name).write_text(value + "\n")
    environ = {
        "INFLUXDB_URL": influx.url,
        "INFLUXDB_ORG": ORG,
        "INFLUXDB_BUCKET": "citywatch",
        "INFLUXDB_ADMIN_TOKEN_FILE": str(folder / "admin"),
        "GRAFANA_PASSWORD_FILE": str(folder / "grafana"),
        "WORKERS_TOKEN_FILE": str(folder / "token"),
    }
    command = [os.sys.executable, setup.__file__]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)


def write(setup, influx, token, bucket):
    """The status with which the server takes a point."""
    server = setup.Server(influx.url, token)
    request = setup.urllib.request.Request(
        f"{influx.url}/api/v2/write?org={ORG}&bucket={bucket}",
        data=b"m x=1 1795600000000000000",
        headers={"Authorization": f"Token {server.token}"},
    )
    try:
        with setup.urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_workers_may_use_their_bucket_alone_and_grafana_may_only_read_it(setup, influx, tmp_path):
    done = run(setup, influx, tmp_path)
    assert done.returncode == 0, done.stderr
    token = (tmp_path / "token").read_text().strip()
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600
    assert token not in done.stdout + done.stderr
    assert token != TOKEN
    assert write(setup, influx, token, "citywatch") == 204
    assert write(setup, influx, token, "other") in (403, 404)
    with pytest.raises(urllib.error.HTTPError):
        setup.Server(influx.url, token).call(
            "POST", "/api/v2/buckets", {"name": "mine", "orgID": influx.org_id}
        )

    ask = grafana.ask(influx.url, "citywatch", "grafana", "password-of-grafana", "SELECT x FROM m")
    assert ask[0][2] == [[1795600000000, 1]]
    with pytest.raises(AssertionError, match="insufficient permissions"):
        grafana.ask(influx.url, "citywatch", "grafana", "password-of-grafana", "DROP MEASUREMENT m")
    with pytest.raises(urllib.error.HTTPError):
        grafana.ask(influx.url, "citywatch", "grafana", "another-password", "SELECT x FROM m")


def test_run_again_it_changes_nothing_but_a_password_that_is_new_or_a_token_that_is_gone(
    setup, influx, tmp_path
):
    assert run(setup, influx, tmp_path).returncode == 0
    token = (tmp_path / "token").read_text()
    assert run(setup, influx, tmp_path, password="a-new-password").returncode == 0
    assert (tmp_path / "token").read_text() == token
    grafana.ask(influx.url, "citywatch", "grafana", "a-new-password", "SHOW MEASUREMENTS")
    (tmp_path / "token").write_text("one that was revoked\n")
    assert run(setup, influx, tmp_path).returncode == 0
    assert write(setup, influx, (tmp_path / "token").read_text().strip(), "citywatch") == 204


def test_a_token_that_may_not_is_said_in_one_line(setup, influx, tmp_path):
    done = run(setup, influx, tmp_path, token="nobody-s-token")
    assert done.returncode == 1
    assert "InfluxDB answers 401" in done.stderr
    assert "Traceback" not in done.stderr
