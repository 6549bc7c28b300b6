"""Topics as code: every difference is shown, what is safe is put right, and nothing is ever deleted unasked."""

import os
import time
from contextlib import closing
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from real_kafka import RealKafka

from bus import clients, topics
from bus.topics import Wanted, plan
from cli import main
from models import catalogue

FLOW = "city.traffic.flow.v1"
DAY = 86_400_000
WANT = Wanted(
    FLOW,
    4,
    "public",
    {"cleanup.policy": "delete", "retention.ms": str(7 * DAY), "message.timestamp.type": "LogAppendTime"},
)


def differs(want=WANT, *, replicas=1, partitions=4, deleting=False, **have):
    """Each difference of a topic that is as wanted but for what is said, with what would be set."""
    configs = dict(want.configs) | {name.replace("_", "."): value for name, value in have.items()}
    found = topics._drifted(want, configs, replicas, deleting=deleting)
    found += topics._shaped(want, partitions, replicas, embedded=False)
    return [(change.action, change.detail, entries) for change, entries in found]


def test_a_topic_that_is_as_wanted_differs_in_nothing():
    assert differs() == []


def test_a_longer_retention_is_set_and_a_shorter_one_only_when_asked_for():
    longer = {"retention.ms": str(7 * DAY)}
    assert differs(retention_ms="1000") == [("alter", f"retention.ms 1000 -> {7 * DAY}", longer)]
    [(action, detail, entries)] = differs(retention_ms="-1")
    assert (action, entries) == ("problem", {})
    assert detail.startswith(f"retention.ms -1 -> {7 * DAY} has the broker delete records")
    assert "--allow-deleting" in detail
    assert [(a, e) for a, _, e in differs(retention_ms="-1", deleting=True)] == [("alter", longer)]


@given(st.integers(-1, 10 * DAY), st.integers(-1, 10 * DAY))
def test_apply_never_shortens_by_itself_what_the_broker_keeps(have, wanted):
    want = Wanted(FLOW, 4, "public", {"cleanup.policy": "delete", "retention.ms": str(wanted)})
    sets = {k: v for _, _, entries in differs(want, retention_ms=str(have)) for k, v in entries.items()}
    kept = float(sets.get("retention.ms", have))
    assert (kept if kept >= 0 else float("inf")) >= (have if have >= 0 else float("inf"))


@pytest.mark.parametrize(
    ("have", "wanted"), [("delete", "compact"), ("compact", "delete"), ("compact,delete", "delete")]
)
def test_another_way_of_cleaning_up_is_left_to_a_person(have, wanted):
    want = Wanted(FLOW, 4, "public", {"cleanup.policy": wanted, "retention.ms": str(DAY)})
    [(action, detail, entries)] = differs(want, cleanup_policy=have)
    assert (action, entries) == ("problem", {})
    assert f"cleanup.policy {have} -> {wanted}" in detail


def test_a_topic_that_is_to_keep_everything_is_freed_of_compaction_at_once():
    want = Wanted(FLOW, 4, "public", {"cleanup.policy": "delete", "retention.ms": "-1"})
    assert [(a, e) for a, _, e in differs(want, cleanup_policy="compact")] == [
        ("alter", {"cleanup.policy": "delete"})
    ]


def test_what_is_safe_is_put_right_beside_what_is_not():
    found = differs(retention_ms="-1", message_timestamp_type="CreateTime", partitions=3)
    assert [(action, entries) for action, _, entries in found] == [
        ("alter", {"message.timestamp.type": "LogAppendTime"}),
        ("problem", {}),
        ("problem", {}),
    ]
    assert "what is in it keeps the times that producers gave it" in found[0][1]
    assert "has 3 partitions, the catalogue says 4" in found[2][1]


def test_replicas_are_compared_and_never_moved():
    safe = Wanted(FLOW, 4, "public", {**WANT.configs, "min.insync.replicas": "2"}, replication=3)
    [(action, detail, entries)] = differs(safe, replicas=1, min_insync_replicas="1")
    assert (action, entries) == ("problem", {})  # two in step of one replica: nobody could write
    assert "has 1 replicas, CITYWATCH_KAFKA__REPLICATION says 3" in detail
    assert differs(safe, replicas=3, min_insync_replicas="1") == [
        ("alter", "min.insync.replicas 1 -> 2", {"min.insync.replicas": "2"})
    ]
    [(action, detail, _)] = differs(replicas=3)
    assert (action, detail) == ("note", "has 3 replicas, CITYWATCH_KAFKA__REPLICATION says 1")


def test_every_topic_says_all_that_its_records_depend_on():
    for prefix in ("", "replay-1."):
        for want in topics.wanted(prefix, 3).values():
            assert want.configs.keys() >= {
                "cleanup.policy", "retention.ms", "message.timestamp.type", "max.message.bytes", "min.insync.replicas",
            }, want.name  # fmt: skip


def test_compacted_topics_are_cut_so_small_that_compaction_comes():
    for own in catalogue.PLATFORM:
        configs = topics.wanted()[own.name].configs
        assert ("segment.bytes" in configs) == (own.cleanup == "compact")


# --- on Kafka -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kafka():
    broker = RealKafka({"log.cleaner.backoff.ms": "1000"})
    yield broker
    broker.close()


@pytest.mark.slow
def test_what_somebody_changed_is_put_right_and_no_record_goes(kafka, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("CITYWATCH_KAFKA__BOOTSTRAP", kafka.bootstrap)
    monkeypatch.setenv("CITYWATCH_DATA__DIR", str(tmp_path))
    strange = "city.traffic.noise.v1"
    old = round((time.time() - timedelta(days=30).total_seconds()) * 1000)
    made = {
        FLOW: (4, {"message.timestamp.type": "CreateTime", "retention.ms": str(400 * DAY)}),
        catalogue.RULES: (1, {"retention.ms": "1000", "retention.bytes": "123456789"}),
        strange: (1, {}),
    }
    with closing(clients.admin(kafka.bootstrap)) as client:
        client.create_topics(
            {t: {"num_partitions": n, "replication_factor": 1, "configs": c} for t, (n, c) in made.items()},
            wait_for_metadata=True,
        )
    with closing(clients.producer(kafka.bootstrap)) as producer:
        for n in range(4):
            producer.send(FLOW, b"{}", b"k", [], n, old).get(30)
    assert main(["topics", "plan"]) == 1
    planned = capsys.readouterr().out
    assert main(["topics", "apply"]) == 1
    assert capsys.readouterr().out == planned
    lines = dict(line.split(": ", 1) for line in planned.splitlines())
    assert "CreateTime -> LogAppendTime; what is in it keeps the times" in lines[f"alter {FLOW}"]
    assert "retention.ms 34560000000 -> 604800000 has the broker delete" in lines[f"problem {FLOW}"]
    assert "retention.ms 1000 -> -1" in lines[f"alter {catalogue.RULES}"]
    assert f"note {strange}" in lines
    assert [c.action for c in plan(kafka.bootstrap)] == ["problem", "note"]
    assert strange in clients.partitions_of(kafka.bootstrap, [strange])
    kept = [r for n in range(4) for r in clients.records(kafka.bootstrap, (FLOW, n))]
    assert [record.timestamp for record in kept] == [old] * 4
    assert main(["topics", "apply", "--allow-deleting"]) == 0
    assert [c.action for c in plan(kafka.bootstrap)] == ["note"]
    capsys.readouterr()
    assert main(["topics", "plan"]) == 0
    with closing(clients.admin(kafka.bootstrap)) as client:
        configs = topics._configs(client, [FLOW, catalogue.RULES])
    assert configs[FLOW]["retention.ms"] == str(7 * DAY)
    assert configs[catalogue.RULES]["retention.bytes"] == "123456789"  # what we say nothing of stays


@pytest.mark.slow
def test_a_topic_with_too_few_replicas_can_still_be_written_after_apply(kafka):
    prefix = "few."
    topics.apply(kafka.bootstrap, prefix)
    found = topics.apply(kafka.bootstrap, prefix, 3)
    assert {change.action for change in found} == {"problem"}
    assert len(found) == len(topics.partitions())
    with closing(clients.producer(kafka.bootstrap)) as producer:
        assert producer.send(prefix + FLOW, b"{}", b"k", [], 0, 1_000).get(30).offset == 0


@pytest.mark.slow
def test_what_is_written_again_and_again_is_compacted_while_it_is_written(kafka):
    """160 MB of 2.5 MB that live: with the broker's own settings all of it would be read when a worker starts."""
    topics.apply(kafka.bootstrap)
    blob, place = os.urandom(256 * 1024), (catalogue.JUDGE_STATE, 0)
    with closing(clients.producer(kafka.bootstrap)) as producer:
        for n in range(640):
            producer.send(place[0], blob, b"%d" % (n % 10), [], 0)
        producer.flush(60)
        deadline = time.monotonic() + 60
        while True:  # what is written to is never compacted: a little more comes, as it would
            time.sleep(1)
            producer.send(place[0], blob, b"0", [], 0).get(30)
            left = sum(1 for _ in clients.records(kafka.bootstrap, place))
            if left * len(blob) < 64e6 or time.monotonic() > deadline:
                break
    assert left * len(blob) < 64e6
