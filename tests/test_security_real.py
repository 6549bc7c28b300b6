"""The whole line over SASL_SSL and TLS, each role a user with its own rights: what is let in, what is not, and what is seen."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from aiokafka.conn import create_conn
from aiokafka.errors import NoError, TopicAuthorizationFailedError, for_code
from aiokafka.protocol.fetch import FetchRequest
from certificates import Authority
from kafka.errors import GroupAuthorizationFailedError, NoOffsetForPartitionError
from outage_world import FLOW, ROOT, RULES, SEGMENTS, Workers, flow, until
from secure_parts import SecureInflux, SecureKafka

from bus import clients, headers, security
from bus.rights import ROLES
from commands.servers import free_ports
from models import catalogue
from models.keys import partition_of
from settings import Kafka, read

pytestmark = pytest.mark.slow

WORKERS = ("judge", "store", "alarms", "ledger")


class City:
    """A Kafka and a store that let nobody in without a name, and a folder with what each role needs."""

    def __init__(self, folder):
        self.folder, self.authority, self.other = (
            folder,
            Authority(folder / "authority"),
            Authority(folder / "other"),
        )
        self.kafka, self.influx = SecureKafka(self.authority), None
        try:
            self._set_up()
        except BaseException:
            self.close()
            raise

    def _set_up(self):
        self.influx = SecureInflux(self.authority)
        self.secrets = {role: f"geheim-{role}-{os.urandom(8).hex()}" for role in ROLES}
        self.secrets["token"] = self.influx.token
        for role, secret in self.secrets.items():
            self.write(role, secret)
        rules = {"rules": json.loads(RULES.canonical())["rules"]}
        (self.folder / "rules.yaml").write_text(json.dumps(rules))
        self.metrics = free_ports(4)[0]
        done = self.run("judge", "topics", "acls", "--json")
        assert done.returncode == 0, done.stderr
        self.kafka.allow(json.loads(done.stdout))
        self.kafka.give_passwords({f"citywatch-{role}": self.secrets[role] for role in ROLES})

    def write(self, name, secret):
        path = self.folder / f"{name}.secret"
        path.write_text(f"{secret}\n")
        path.chmod(0o600)
        return path

    def environ(self, role, **changed):
        return {
            "CITYWATCH_KAFKA__BOOTSTRAP": self.kafka.secured,
            "CITYWATCH_KAFKA__SECURITY": "SASL_SSL",
            "CITYWATCH_KAFKA__USER": f"citywatch-{role}",
            "CITYWATCH_KAFKA__PASSWORD_FILE": str(self.folder / f"{role}.secret"),
            "CITYWATCH_KAFKA__CA_FILE": str(self.authority.ca),
            "CITYWATCH_INFLUX__URL": self.influx.url,
            "CITYWATCH_INFLUX__ORG": self.influx.ORG,
            "CITYWATCH_INFLUX__TOKEN_FILE": str(self.folder / "token.secret"),
            "CITYWATCH_INFLUX__CA_FILE": str(self.authority.ca),
            "CITYWATCH_DATA__DIR": str(self.folder / "data"),
            "CITYWATCH_LOG__LEVEL": "debug",
            "CITYWATCH_LOG__FORMAT": "json" if role in ("judge", "ledger") else "text",
        } | {f"CITYWATCH_{name}": value for name, value in changed.items()}

    def run(self, role, *words, **changed):
        """One command, as the user of a role."""
        environ = {k: v for k, v in os.environ.items() if not k.startswith("CITYWATCH_")}
        return subprocess.run(
            [sys.executable, "-m", "cli", *words], cwd=ROOT, env=environ | self.environ(role, **changed),
            capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip

    def begin(self, workers, *roles):
        for role in roles:
            port = str(self.metrics)
            workers.start(role, environ=self.environ(role, METRICS__PORT=port))

    def close(self):
        self.kafka.close()
        if self.influx is not None:
            self.influx.close()


@pytest.fixture(scope="module")
def city(tmp_path_factory):
    found = City(tmp_path_factory.mktemp("city"))
    try:
        done = found.run("admin", "topics", "apply", "--rules", str(found.folder / "rules.yaml"))
        assert done.returncode == 0, done.stderr
        yield found
    finally:
        found.close()


@pytest.fixture(scope="module")
def workers(city):
    found = Workers(city.kafka.secured, city.folder)
    city.begin(found, *WORKERS)
    yield found
    found.close()


@pytest.fixture(autouse=True)
def plain_again():
    yield
    security.use(Kafka())


class Fed:
    """How many samples of each segment were sent, by the user that sources have."""

    numbers = dict.fromkeys(SEGMENTS, 0)
    simulated = 0


def feed(city, count):
    security.use(read(city.environ("source")).kafka)
    with closing(clients.producer(city.kafka.secured)) as producer:
        sent = []
        for n in range(count):
            key = SEGMENTS[n % len(SEGMENTS)]
            now = time.time_ns() // 1000
            event = flow(key, Fed.numbers[key], now)
            Fed.numbers[key] += 1
            said = headers.headers(event.event_id, FLOW.name, "/t", now)
            sent.append(
                producer.send(
                    FLOW.name, event.wire(), key.encode(), said, partition_of(key.encode(), FLOW.partitions)
                )
            )
        for one in sent:
            one.get(60)


def exact(city):
    """Whether the ledger has all that was fed, and it adds up."""
    done = city.run("ledger", "ledger", "--json")
    if done.returncode:
        return False
    line = json.loads(done.stdout)["topics"].get(FLOW.name, {})
    return (
        line.get("exact")
        and line.get("accepted") == line.get("stored") == sum(Fed.numbers.values()) + Fed.simulated
    )


def alarms(city):
    """The rules of the alarms that the store has."""
    done = city.run("console", "alarms", "--all", "--json")
    assert done.returncode == 0, done.stderr
    return {alarm["rule"] for alarm in json.loads(done.stdout)}


def test_everything_goes_through_with_each_role_as_a_user_of_its_own(city, workers):
    feed(city, 400)
    until(lambda: exact(city), "the ledger is exact", within=180, every=1)
    until(lambda: "slow" in alarms(city), "an alarm is in the store", within=40, every=1)
    assert workers.ended() == {}
    done = city.run("ledger", "doctor", "--json")
    found = {check["part"]: check["state"] for check in json.loads(done.stdout)}
    assert (found["broker"], found["topics"], found["store"]) == ("ok", "ok", "ok"), done.stdout


def test_the_console_and_the_simulator_need_no_more_than_their_rights(city, workers):
    port = free_ports(1)[0]
    console = subprocess.Popen(
        [sys.executable, "-m", "cli", "console"], cwd=ROOT,
        env={**os.environ, **city.environ("console", CONSOLE__PORT=str(port))},
        stdout=subprocess.DEVNULL, stderr=(city.folder / "console.log").open("wb"),
    )  # fmt: skip
    try:
        until(lambda: answer(f"http://127.0.0.1:{port}/ready"), "the console is ready", within=40)
        simulated = city.run("source", "simulate", "--for", "5", "--no-stage", "--json")
        assert simulated.returncode == 0, simulated.stderr
        Fed.simulated = json.loads(simulated.stdout)["fed"].get(FLOW.name, 0)
        assert Fed.simulated > 0
    finally:
        console.terminate()
        console.wait(30)


def answer(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answered:
            return answered.read().decode()
    except OSError:
        return None


def test_no_secret_is_in_a_log_a_metric_a_report_or_on_a_command_line(city, workers):
    seen = {path.name: path.read_text(errors="replace") for path in city.folder.glob("*.log")}
    assert len(seen) == len(WORKERS) + 1
    assert any(seen.values())
    for n, role in enumerate(WORKERS):
        seen[f"metrics of {role}"] = until(
            lambda n=n: answer(f"http://127.0.0.1:{city.metrics + n}/metrics"), role
        )
    done = city.run("ledger", "doctor", "--json")
    seen["doctor"] = done.stdout + done.stderr
    for role, process in workers.running.items():
        seen[f"command line of {role}"] = Path(f"/proc/{process.pid}/cmdline").read_text()
    for path in (city.folder / "data").rglob("*.json"):
        seen[path.name] = path.read_text()
    told = [
        (where, who) for where, text in seen.items() for who, secret in city.secrets.items() if secret in text
    ]
    assert told == []


def as_user(city, role):
    security.use(read(city.environ(role)).kafka)


def test_a_subscriber_reads_what_is_public_and_nothing_that_is_restricted(city, workers):
    as_user(city, "subscriber")
    assert sum(1 for n in range(FLOW.partitions) for _ in clients.records(city.kafka.secured, (FLOW.name, n)))
    for topic in (catalogue.REJECTED, "city.hospital.adt.v1", catalogue.ALARM_INPUT):
        assert clients.partitions_of(city.kafka.secured, [topic]) == {}  # it is not even told of
        assert asyncio.run(fetched(city, topic)) is TopicAuthorizationFailedError
    assert asyncio.run(fetched(city, FLOW.name)) is NoError
    assert joins(city, "subscriber-of-air")
    with pytest.raises(GroupAuthorizationFailedError):
        joins(city, "citywatch-store")  # it would take the store's share


async def fetched(city, topic):
    """What the broker answers who fetches a partition whose place he knows without being told."""
    host, port = city.kafka.secured.split(":")
    connection = await create_conn(host, int(port), **security.options())
    try:
        answered = await connection.send(FetchRequest(100, 0, 2**20, 0, [(topic, [(0, 0, 2**20)])]))
        [(_, [(_, code, *_)])] = answered.topics
        return for_code(code)
    finally:
        connection.close()


def joins(city, group):
    """Whether the user is given a share as a member of the group."""
    with closing(clients.consumer(city.kafka.secured, group)) as reader:
        reader.subscribe([FLOW.name])
        deadline = time.monotonic() + 20
        try:
            while not reader.assignment() and time.monotonic() < deadline:
                reader.poll(500)
        except NoOffsetForPartitionError:
            return True  # it has its share, of which the group has committed nothing
        return bool(reader.assignment())


@pytest.mark.parametrize(
    ("role", "topic"),
    [
        ("source", catalogue.ALARM_EVENT),
        ("source", catalogue.ALARM_INPUT),
        ("source", catalogue.RULES),
        ("subscriber", FLOW.name),
        ("store", catalogue.ALARM_STATE),
        ("console", catalogue.ALARM_EVENT),
        ("ledger", FLOW.name),
    ],
)
def test_who_may_not_write_a_topic_does_not(city, role, topic):
    as_user(city, role)
    producer = clients.producer(city.kafka.secured, max_block_ms=5000)
    with closing(producer), pytest.raises(Exception, match="Authorization"):
        producer.send(topic, b"{}", b"k", [], 0).get(20)


LOCKED_OUT = [
    (
        {"KAFKA__PASSWORD_FILE": "wrong.secret"},
        r"does not let the user citywatch-ledger in .*CITYWATCH_KAFKA__USER, its password",
    ),
    (
        {"KAFKA__CA_FILE": "other/ca.pem"},
        r"a certificate that is not trusted .*CITYWATCH_KAFKA__CA_FILE",
    ),
    (
        {"KAFKA__SECURITY": "SASL_PLAINTEXT", "KAFKA__CA_FILE": ""},
        r"CITYWATCH_KAFKA__SECURITY=SASL_PLAINTEXT what its listener speaks",
    ),
]


def test_who_is_not_let_in_is_told_why_in_one_line(city):
    city.write("wrong", "no-such-password")

    def plan(changed):
        return city.run(
            "ledger",
            "topics",
            "plan",
            **{k: str(city.folder / v) if "FILE" in k and v else v for k, v in changed.items()},
        )

    with ThreadPoolExecutor() as beside:  # each tries for ten seconds
        found = list(beside.map(plan, [changed for changed, _ in LOCKED_OUT]))
    for done, (_, right) in zip(found, LOCKED_OUT, strict=True):
        assert done.returncode == 3, done.stderr
        [said] = done.stderr.splitlines()
        assert re.search(right, said)


def test_a_store_that_is_not_trusted_or_knows_no_such_token_is_told_in_one_line(city):
    city.write("wrong", "no-such-token")
    for changed, right in (
        (
            {"INFLUX__CA_FILE": str(city.other.ca)},
            "certificate that is not trusted .*CITYWATCH_INFLUX__CA_FILE",
        ),
        (
            {"INFLUX__TOKEN_FILE": str(city.folder / "wrong.secret")},
            "does not know the token: set CITYWATCH_INFLUX__TOKEN",
        ),
    ):
        done = city.run("ledger", "query", "traffic_flow", **changed)
        assert done.returncode == 3, done.stderr
        [said] = done.stderr.splitlines()
        assert re.search(right, said)


def test_a_worker_with_the_wrong_password_says_so_and_waits_until_it_is_the_right_one(city, workers):
    wrong, port = city.write("wrong", "no-such-password"), free_ports(4)[0]
    settings = {"KAFKA__PASSWORD_FILE": str(wrong), "METRICS__PORT": str(port), "LOG__FORMAT": "text"}
    workers.start("judge-2", environ=city.environ("judge", **settings))
    try:
        until(
            lambda: "does not let the user citywatch-judge in" in workers.log("judge-2"),
            "it says so",
            within=60,
        )
        city.kafka.give_passwords({"citywatch-judge": "no-such-password"})
        until(lambda: answer(f"http://127.0.0.1:{port}/ready"), "it does its work", within=60)
    finally:
        city.kafka.give_passwords({"citywatch-judge": city.secrets["judge"]})
        workers.kill("judge-2", signal.SIGTERM)


def test_workers_wait_for_a_broker_whose_certificate_is_over_and_go_on_when_it_is_renewed(city, workers):
    city.kafka.show(*city.authority.sign("expired", days=-1))
    city.kafka.kill()
    city.kafka.servers[0].spawn()
    for role in WORKERS:
        until(
            lambda role=role: "certificate has expired" in workers.log(role),
            f"{role} says why it waits",
            within=60,
        )
    assert "certificate has expired" in city.run("ledger", "topics", "plan").stderr
    city.kafka.kill(signal.SIGTERM)
    city.kafka.show(*city.authority.sign("renewed"))
    city.kafka.start()
    again(city, workers)
    feed(city, 200)
    until(lambda: again(city, workers) or exact(city), "the ledger is exact again", within=180, every=1)


def again(city, workers):
    """Start what ended again, as whoever runs them does."""
    for role in list(workers.ended()):
        workers.running.pop(role)
        city.begin(workers, role)


def test_a_token_that_is_revoked_stops_the_store_alone_and_loses_nothing(city, workers):
    before = city.influx.token
    city.influx.revoke_and_replace()
    feed(city, 100)
    until(
        lambda: "does not know the token" in workers.log("store"),
        "the store's worker says why it waits",
        within=40,
    )
    city.secrets["token-2"] = city.influx.token
    city.write("token", city.influx.token)
    workers.kill("store", signal.SIGTERM)
    workers.kill("ledger", signal.SIGTERM)
    city.begin(workers, "store", "ledger")  # a secret is read at the start
    until(lambda: exact(city), "the ledger is exact again", within=180, every=1)
    assert before != city.influx.token
