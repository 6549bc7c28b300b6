"""What a worker says of itself: metrics, health and readiness over HTTP, and logs that repeat nothing."""

import asyncio
import io
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace

import pytest
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from bus import topics
from bus.embedded import EmbeddedBroker
from bus.latency import Hop
from models import catalogue
from rules.spec import RuleSet
from settings import Metrics, Settings, SettingsError
from sinks.contract import Unavailable
from streams import health, launch, logs
from streams.logs import FOLD_S, MOST_FOLDED, Folding
from streams.metrics import Places, oldest
from streams.store import StoreWork

ROOT = Path(__file__).parent.parent
OPEN = "application/openmetrics-text; version=1.0.0"


def get(port, path, accept=OPEN):
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path, headers={"Accept": accept})
    answer = connection.getresponse()
    found = SimpleNamespace(
        status=answer.status, kind=answer.headers["Content-Type"], text=answer.read().decode()
    )
    connection.close()
    return found


# --- over HTTP ----------------------------------------------------------------------------------------------------


@pytest.fixture
def loop():
    """An event loop that turns in a thread of its own, as a worker's does."""
    found = asyncio.new_event_loop()
    turning = threading.Thread(target=found.run_forever)
    turning.start()
    yield found
    found.call_soon_threadsafe(found.stop)
    turning.join()
    found.close()


@pytest.fixture
def served():
    """`served(watch)` gives the port where a watch answers."""
    servers = []

    def serve(watch):
        servers.append(health.serve("127.0.0.1", 0, watch))
        return servers[-1].server_address[1]

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


async def well():
    return None


def test_a_worker_whose_loop_turns_is_alive_and_says_why_it_is_not_ready(loop, served):
    why = ["partitions that came with the last rebalance are being restored"]

    async def unready():
        return why[0]

    port = served(health.Watch(loop, unready))
    assert get(port, "/health").status == 200
    answer = get(port, "/ready")
    assert (answer.status, answer.text) == (503, f"{why[0]}\n")
    why[0] = None
    assert get(port, "/ready").status == 200
    assert get(port, "/").status == 404


def test_a_blocked_event_loop_is_not_alive_and_its_metrics_are_still_there(loop, served):
    port = served(health.Watch(loop, well, wait_s=0.2))
    free = threading.Event()
    loop.call_soon_threadsafe(free.wait)
    try:
        answer = get(port, "/health")
        assert (answer.status, answer.text) == (503, "no answer within 0.2 s\n")
        assert "citywatch_store_paused" in get(port, "/metrics").text
    finally:
        free.set()
    assert get(port, "/health").status == 200


def test_a_question_that_fails_is_answered(loop, served):
    async def unready():
        raise KeyError("broken")

    answer = get(served(health.Watch(loop, unready)), "/ready")
    assert (answer.status, answer.text) == (503, "KeyError: 'broken'\n")


def test_a_loop_that_has_not_begun_is_not_alive():
    begun = asyncio.new_event_loop()
    try:
        assert health.Watch(begun, well)("/health", "").status == 503
    finally:
        begun.close()


def test_metrics_come_as_openmetrics_to_who_asks_for_it_and_as_text_to_others(loop, served):
    port = served(health.Watch(loop, well))
    answer = get(port, "/metrics?x=1")
    assert answer.kind.startswith("application/openmetrics-text")
    families = {f.name: f for f in text_string_to_metric_families(answer.text)}
    assert families["citywatch_events_rejected"].type == "counter"
    assert get(port, "/metrics", "*/*").kind.startswith("text/plain")


def test_metrics_are_named_by_unit_and_labelled_by_what_is_bounded():
    ours = [f for f in REGISTRY.collect() if f.name.startswith("citywatch_")]
    assert len(ours) > 12
    bounded = {"role", "topic", "partition", "verdict", "reason", "op", "type", "hop", "le"}
    for family in ours:
        assert family.documentation, family.name
        assert re.fullmatch(r"citywatch_[a-z_]+", family.name)
        assert not re.search(r"_(ms|millis|mb|kb|minutes)(_|$)", family.name), family.name
        assert {name for s in family.samples for name in s.labels} <= bounded, family.name


def test_a_taken_port_is_told_with_what_to_set():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SettingsError, match=r"Address already in use; set CITYWATCH_METRICS__PORT"):
            health.serve("127.0.0.1", taken.getsockname()[1], None)


# --- the figures --------------------------------------------------------------------------------------------------

FLOW = "city.traffic.flow.v1"


def value(name, **labels):
    return REGISTRY.get_sample_value(name, labels)


def test_lag_and_checkpoint_of_each_partition_are_shown_and_go_with_it():
    held = SimpleNamespace(offset=10, is_saved=False, complete=100.0, sizes={0: 30, 3: 12})
    one, other = TP(f"r.{FLOW}", 0), TP(f"r.{FLOW}", 1)
    app = SimpleNamespace(held={one: held}, position=lambda tp: 11 if tp == one else 5)
    places = Places("judge", "r.", app)
    places.show({one, other}, {one: 15, other: 5}, 107.0)
    here = {"role": "judge", "topic": FLOW, "partition": "0"}
    there = here | {"partition": "1"}
    assert value("citywatch_consumer_lag_records", **here) == 4
    assert value("citywatch_consumer_lag_records", **there) == 0
    assert value("citywatch_checkpoint_age_seconds", **here) == 7
    assert value("citywatch_checkpoint_age_seconds", **there) is None
    assert value("citywatch_checkpoint_size_bytes", **here) == 42
    held.is_saved = True
    places.show({one}, {}, 500.0)
    assert value("citywatch_checkpoint_age_seconds", **here) == 0, "all is saved: nothing grows old"
    assert value("citywatch_consumer_lag_records", **here) == 4, "a broker that is away changes nothing"
    assert value("citywatch_consumer_lag_records", **there) is None
    places.show(set(), {}, 500.0)
    assert value("citywatch_consumer_lag_records", **here) is None


def test_a_hop_is_observed_by_the_wall_clock_and_not_in_a_replay():
    def seen(n):
        return value("citywatch_latency_seconds_count", hop="h") or 0, value(
            "citywatch_latency_seconds_sum", hop="h"
        )

    live = Hop("h", Settings())
    live.done((time.time() - 3) * 1000)
    live.done((time.time() + 3) * 1000)  # the broker's clock is ahead of ours
    count, total = seen("h")
    assert count == 2
    assert total == pytest.approx(3, abs=0.5)
    Hop("h", Settings.model_validate({"kafka": {"clock": "writer"}})).done(0)
    live.done(None)
    assert seen("h") == (count, total)


def test_nobody_waits_for_clock_records():
    records = [
        SimpleNamespace(key=key, timestamp=stamp) for key, stamp in ((None, 1), (b"s1", 2), (b"s2", 3))
    ]
    assert oldest(records) == 2
    assert oldest(records[:1]) is None


def test_the_store_worker_is_ready_when_it_has_joined_and_the_store_answers():
    class Store:
        answer = None

        async def read(self, query):
            if self.answer is not None:
                raise self.answer
            return []

    async def go():
        said = ["the group has not yet given this worker its partitions"]

        async def not_joined():
            return said[0]

        target = Store()
        work = StoreWork(SimpleNamespace(not_joined=not_joined), Settings(), "127.0.0.1:1", "log", target)
        assert await work.unready() == said[0]
        said[0] = None
        assert await work.unready() is None
        target.answer = Unavailable("no route", 1)
        assert await work.unready() == "the store does not answer: no route"
        target.answer, work.outage = None, "disk full"
        assert await work.unready() == "the store does not answer: disk full"

    asyncio.run(go())


# --- logs ---------------------------------------------------------------------------------------------------------


class Speaker:
    """A logger whose handler's clock is moved by hand."""

    def __init__(self, name="citywatch", formatter=None):
        self.now = 0.0
        self.stream = io.StringIO()
        self.handler = Folding(self.stream, lambda: self.now)
        if formatter is not None:
            self.handler.setFormatter(formatter)
        self.logger = logging.Logger(name)  # noqa: LOG001 - one of its own, that nobody else has
        self.logger.addHandler(self.handler)

    @property
    def lines(self):
        return self.stream.getvalue().splitlines()


def test_what_is_repeated_within_a_minute_is_written_once_and_counted_at_its_end():
    s = Speaker("aiokafka")
    for n in range(1350):
        s.now = n / 1350 * (FOLD_S - 1)
        s.logger.error("Unable connect to node with id %s", n)
    assert s.lines == ["Unable connect to node with id 0"]
    s.now = FOLD_S
    s.handler.tick()
    assert s.lines[1:] == ["Unable connect to node with id 1349 ... repeated 1349 times"]
    s.logger.error("Unable connect to node with id %s", 7)
    assert s.lines[2:] == ["Unable connect to node with id 7"], "a new minute begins"
    s.now += FOLD_S
    s.handler.tick()
    assert len(s.lines) == 3, "what was said once is not counted"


def test_errors_of_our_own_that_differ_are_all_written():
    s = Speaker()
    for n in (1, 2, 1):
        s.logger.error("checkpoint of %s cannot be used", n)
    assert s.lines == ["checkpoint of 1 cannot be used", "checkpoint of 2 cannot be used"]
    for why in ("a", "b"):
        s.logger.error("it broke", exc_info=ValueError(why))
    assert s.lines.count("it broke") == 2
    for n in (1, 2):
        s.logger.warning("waiting %s s", n)
    assert s.lines[-1] == "waiting 1 s", "a warning is folded by its template"


def test_what_was_repeated_is_told_when_the_process_ends_and_in_json_with_its_count():
    s = Speaker(formatter=logs._Json())
    for _ in range(3):
        s.logger.warning("the store does not answer")
    s.handler.close()
    said = [json.loads(line) for line in s.lines]
    assert [(one["message"], one.get("repeated")) for one in said] == [
        ("the store does not answer", None),
        ("the store does not answer ... repeated 2 times", 2),
    ]


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 30)), max_size=60))
def test_every_message_is_written_or_counted(said):
    s = Speaker("faust")
    for template, later in said:
        s.now += later
        text = f"message {template}"
        s.logger.error(text)
    s.handler.close()
    repeated = [int(m[1]) for line in s.lines if (m := re.search(r"repeated (\d+) times$", line))]
    assert len(s.lines) - len(repeated) + sum(repeated) == len(said)


def test_more_different_messages_than_are_remembered_are_all_written():
    s = Speaker("faust")
    s.logger.error("again")
    s.logger.error("again")
    for n in range(MOST_FOLDED + 5):
        text = f"message {n}"
        s.logger.error(text)
    assert len(s.handler._folds) == MOST_FOLDED
    assert len(s.lines) == 1 + 1 + MOST_FOLDED + 5
    assert "again ... repeated 1 times" in s.lines


# --- a real worker ------------------------------------------------------------------------------------------------


def free_ports():
    """The first of three ports in a row that were free a moment ago."""
    for first in range(20_000 + os.getpid() % 20_000, 60_000, 3):
        try:
            for port in range(first, first + 3):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise AssertionError("no three free ports in a row")


def worker(broker, tmp_path, role, port):
    environ = {k: v for k, v in os.environ.items() if not k.startswith("CITYWATCH_")} | {
        "CITYWATCH_KAFKA__BOOTSTRAP": broker.bootstrap,
        "CITYWATCH_KAFKA__LOG_ID": broker.log_id,
        "CITYWATCH_KAFKA__EMBEDDED": "true",
        "CITYWATCH_DATA__DIR": str(tmp_path),
        "CITYWATCH_METRICS__PORT": str(port),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "cli", "worker", "--role", role]
    return subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True)


def test_a_worker_serves_its_figures_and_one_that_finds_its_port_taken_ends_with_2(tmp_path):
    with EmbeddedBroker() as broker:
        now = round(time.time() * 1e6)
        rules = RuleSet.model_validate({"rules": []})
        topics.publish_rules(broker.bootstrap, "", rules.canonical(), now, now)
        port = free_ports()
        place = port + launch.ROLES.index("store")
        running = worker(broker, tmp_path, "store", port)
        try:
            deadline = time.monotonic() + 60
            while True:
                assert running.poll() is None, running.stderr.read()
                assert time.monotonic() < deadline
                try:
                    if get(place, "/ready").status == 200 and "lag_records{" in get(place, "/metrics").text:
                        break
                except OSError:
                    pass
                time.sleep(0.2)
            assert get(place, "/health").status == 200
            text = get(place, "/metrics").text
            assert f'lag_records{{partition="0",role="store",topic="{catalogue.ALARM_EVENT}"}} 0' in text
            assert 'citywatch_worker_started_timestamp_seconds{role="store"}' in text
            second = worker(broker, tmp_path, "store", port)
            _, said = second.communicate(timeout=60)
            assert second.returncode == 2, said
            assert len(said.splitlines()) == 1
            assert f"127.0.0.1:{place}: Address already in use" in said
        finally:
            running.send_signal(signal.SIGTERM)
            running.communicate(timeout=30)


def test_nothing_is_served_unless_a_port_is_set():
    assert Settings().metrics == Metrics(host="127.0.0.1", port=0)
