"""The bench's parts do their whole job on a small input; how long they take is not asked here."""

from __future__ import annotations

from collections import Counter

import pytest

from bench import __main__ as bench
from bench import core, load, report
from models.decode import Rejection, decode
from models.keys import partition_of
from models.traffic import TrafficFlow


@pytest.fixture(scope="module")
def typical():
    return load.typical()


def test_the_input_is_the_same_every_time_in_order_of_arrival_and_one_in_a_hundred_is_bad():
    fed = list(load.records(6_000, 500))
    assert fed == list(load.records(6_000, 500))
    assert [r.stamp_ms for r in fed] == sorted(r.stamp_ms for r in fed)
    assert all(r.partition == partition_of(r.key, load.TOPIC.partitions) for r in fed)
    read = [decode(TrafficFlow, r.value, r.stamp_ms * 1000, r.key) for r in fed]
    bad = sum(isinstance(r, Rejection) for r in read)
    assert 40 <= bad <= 80
    assert 290 <= sum(len(r.value) for r in fed) / len(fed) <= 320


def test_some_of_the_input_is_out_of_order_and_none_of_it_late(typical):
    judge = core.judge_of(typical)
    newest: dict[str, int] = {}
    behind = 0
    for offset, r in enumerate(load.records(4_000, 100), 1):
        event = decode(TrafficFlow, r.value, r.stamp_ms * 1000)
        if isinstance(event, Rejection):
            continue
        behind += event.at < newest.get(event.segment_id, 0)
        newest[event.segment_id] = max(event.at, newest.get(event.segment_id, 0))
        judge.event(offset, r.stamp_ms * 1000, event, offset)
    assert 20 <= behind <= 60
    assert set(judge.counts()) == {"stored"}


def test_the_input_raises_alarms_and_most_of_the_city_is_quiet(typical):
    judge = core.judge_of(typical)
    signals = []
    for offset, r in enumerate(load.records(4_000, 100), 1):
        event = decode(TrafficFlow, r.value, r.stamp_ms * 1000)
        if not isinstance(event, Rejection):
            signals += judge.event(offset, r.stamp_ms * 1000, event, offset)
    jammed = {s.labels["segment_id"] for s in signals}
    assert jammed == {f"hl-seg-{n:06d}" for n in range(0, 100, load.JAMMED)}


def test_quiet_steps_move_no_rule_and_every_variant_is_timed():
    variants = {"one": load.ruleset([load.threshold(0)]), "silent": load.ruleset([load.absence()], 5)}
    found = core.steps_us(variants, core.STRETCH * 2)
    assert set(found) == set(variants)
    assert all(us > 0 for us in found.values())


def test_a_refold_takes_in_a_sample_for_each_series(typical):
    assert core.refold_us(4, typical, series=3) > 0


def test_a_series_is_weighed_with_the_samples_it_holds(typical):
    found = core.memory(90, typical)
    assert found["samples"] == 8
    assert found["held_bytes"] > found["snapshot_bytes"] > 500


def test_ratios_are_of_events_per_second_pair_by_pair_and_their_median():
    rounds = [
        {
            "ours": {"events": 100, "cpu_s": 2.0, "wall_s": 4.0},
            "bare": {"events": 100, "cpu_s": 1.0, "wall_s": 1.0},
        },
        {
            "ours": {"events": 100, "cpu_s": 1.0, "wall_s": 1.0},
            "bare": {"events": 100, "cpu_s": 0.8, "wall_s": 1.0},
        },
        {
            "ours": {"events": 200, "cpu_s": 2.0, "wall_s": 4.0},
            "bare": {"events": 100, "cpu_s": 0.6, "wall_s": 1.0},
        },
    ]
    assert report.ratios(rounds, "ours", "bare") == {"cpu": pytest.approx(0.6), "wall": pytest.approx(0.5)}
    assert report.ratios(rounds, "other", "bare") is None


def test_a_pair_that_did_not_do_the_same_work_is_no_measurement():
    whole = {"events": 10, "stored": 9}
    done = {name: dict(whole) for pair in bench.PAIRS for name in pair}
    bench._same(done)
    done["store ours"]["stored"] = 8
    with pytest.raises(AssertionError, match="store ours: stored"):
        bench._same(done)


@pytest.mark.slow
def test_the_whole_bench_runs_on_the_embedded_broker(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["bench", "--quick", "--embedded", "--events", "3000", "--rounds", "1"])
    monkeypatch.setattr(bench.os, "sched_setaffinity", lambda *_: None)
    bench.main()
    said = capsys.readouterr().out
    for job in ("fetch", "decode", "judge bare", "judge ours", "store bare", "store ours", "held_bytes"):
        assert job in said
    assert Counter(said)["\n"] > 20


def test_the_backtest_bench_judges_everything_twice_and_its_candidate_tells_the_jams_sooner():
    from bench import backtest  # noqa: PLC0415 - the name is a common one

    found = backtest.measure(minutes=12, sensors=100)
    assert (found["records"], found["recorded_s"]) == (7_200, 720)
    assert found["moved"] == 2  # of a hundred detectors two stand in a jam
    assert found["times_real_time"] > 0
