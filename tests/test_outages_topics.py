"""Topics that are missing are waited for; those that would give other results, or another clock, are refused with one line."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from kafka.admin import ConfigResource, ConfigResourceType
from outage_world import FLOW, ROOT, RULES, Feed, Workers, faults, finish, until
from real_kafka import running

from bus import clients, topics
from models import catalogue

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


@pytest.fixture
def kafka():
    with running() as broker:
        yield broker


def test_a_worker_waits_for_topics_and_refuses_those_that_are_not_what_they_must_be(kafka, tmp_path):
    workers = Workers(kafka.bootstrap, tmp_path)
    admin = clients.admin(kafka.bootstrap)
    feed = None
    try:
        # None is there: all wait, and say for what.
        workers.start()
        for role in ("judge", "store", "alarms"):
            until(
                lambda role=role: "waiting: the broker has no city." in workers.log(role),
                f"{role} says it",
                30,
            )

        # One has another number of partitions: the same events would give other alarms.
        admin.create_topics({FLOW.name: {"num_partitions": FLOW.partitions + 1, "replication_factor": 1}})
        until(lambda: len(workers.ended()) == 2, "who reads it refuses", 30)
        assert workers.ended() == {"judge": 2, "store": 2}
        for role in ("judge", "store"):
            (said,) = [line for line in workers.log(role).splitlines() if "partitions" in line]
            assert (
                f"{FLOW.name} has {FLOW.partitions + 1} partitions, the catalogue says {FLOW.partitions}"
                in said
            )
            assert "Traceback" not in workers.log(role)
            del workers.running[role]
        admin.delete_topics([FLOW.name])

        # And one whose time a producer would set: among the living that would be everybody's clock.
        until(lambda: FLOW.name not in admin.list_topics(), "it is gone")
        topics.apply(kafka.bootstrap)
        topics.publish_rules(kafka.bootstrap, "", RULES.canonical(), time.time_ns() // 1000)
        until(lambda: "rules version 0" in workers.log("alarms"), "the alarm plane goes on by itself", 30)
        stamped(admin, catalogue.ALARM_INPUT, "CreateTime")
        stamped(admin, FLOW.name, "CreateTime")
        workers.kill("alarms")
        workers.start()
        until(lambda: len(workers.ended()) == 3, "all refuse", 30)
        assert workers.ended() == {"judge": 2, "store": 2, "alarms": 2}
        assert f"{FLOW.name} has message.timestamp.type=CreateTime, not LogAppendTime" in workers.log("judge")
        assert "`citywatch topics apply` puts it right" in workers.log("alarms")

        # Put right, as they are told, there is a city.
        workers.running.clear()
        topics.apply(kafka.bootstrap)
        workers.start()
        feed = Feed(kafka.bootstrap, 100)
        feed.start()
        until(
            lambda: clients.end_offsets(kafka.bootstrap, [(catalogue.ALARM_EVENT, 0)]).popitem()[1] > 50,
            "alarms",
            60,
        )
        bad_rules(workers, tmp_path)
        feed.end()
        assert faults(finish(workers)) == []
    finally:
        if feed is not None:
            feed.close()
        admin.close()
        workers.close()


def bad_rules(workers: Workers, folder: Path) -> None:
    """A file of rules that is wrong changes nothing in the city, and is an alarm of our own until it is right again."""
    path = folder / "rules.yaml"
    words = [sys.executable, "-m", "cli", "rules"]
    good = RULES.model_dump_json(by_alias=True, exclude_none=True, include={"rules"})
    path.write_text(good)
    subprocess.run(
        [*words, "apply", str(path)], cwd=ROOT, env=workers.environ(), check=True, capture_output=True
    )
    version = topics.latest_rules(workers.bootstrap)
    watching = subprocess.Popen(
        [*words, "watch", str(path)], cwd=ROOT, env=workers.environ(), stderr=subprocess.DEVNULL
    )

    def ours() -> list[bool]:
        found = clients.records(workers.bootstrap, (catalogue.ALARM_STATE, 0))
        alarms = {
            a["alarm_id"]: a
            for a in map(json.loads, (r.value for r in found))
            if a["rule"] == "rules-refused"
        }
        return [a["active"] for a in alarms.values()]

    try:
        time.sleep(2)
        path.write_text(good.replace("speed_kmh < 10", "speed_kmh <"))
        until(lambda: ours() == [True], "it is an alarm of ours", 30, 0.5)
        assert topics.latest_rules(workers.bootstrap) == version
        before = clients.end_offsets(workers.bootstrap, [(catalogue.ALARM_EVENT, 0)])
        until(lambda: clients.end_offsets(workers.bootstrap, [*before]) != before, "the old rules go on", 15)
        path.write_text(good)
        until(lambda: ours() == [False], "it ends when the file is right", 30, 0.5)
    finally:
        watching.terminate()
        watching.wait(20)


def stamped(admin: object, topic: str, by: str) -> None:
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {topics.STAMPED: by})])
    until(lambda: topics_stamp(admin, topic) == by, f"{topic} has {by}")


def topics_stamp(admin: object, topic: str) -> str:
    asked = [ConfigResource(ConfigResourceType.TOPIC, topic, [topics.STAMPED])]
    return admin.describe_configs(asked, config_filter="all")["topic"][topic][topics.STAMPED]["value"]
