"""Recorded input of real cities through the whole line: the figures of independent oracles, to the last event."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from real import CASES, ROOT, alarms, citywatch, command, data, environ, line, oracle, query, replay, story
from real_kafka import KafkaMissingError, RealKafka

pytestmark = pytest.mark.slow

MPH = 1.609344
SLOW_ROADS = CASES / "rules" / "slow-roads.yaml"


@pytest.fixture(scope="module")
def metr_la(tmp_path_factory):
    """METR-LA replayed without a cut: (folder, summary)."""
    folder = tmp_path_factory.mktemp("metr-la")
    file = data("traffic", "metr-la", "los_speed_2012-03-01_to_04.csv")
    return folder, replay([file], "metr-la", folder, "--rules", SLOW_ROADS)


def test_metr_la_stores_every_cell_and_its_speeds_add_up(metr_la):
    folder, said = metr_la
    assert line(said, "city.traffic.flow.v1") == {"accepted": 238464, "stored": 238464, "exact": True}
    (total,) = query(folder, "traffic_flow", "--agg", "sum", "--fields", "speed_kmh")
    assert total["fields"]["speed_kmh"] / MPH == pytest.approx(14204702.806, rel=1e-9)
    (count,) = query(folder, "traffic_flow", "--agg", "count", "--fields", "speed_kmh")
    assert count["fields"]["speed_kmh"] == 238464


def test_metr_la_hourly_means_are_those_of_the_oracle(metr_la):
    folder, _ = metr_la
    rows = query(folder, "traffic_flow", "--every", "1h", "--agg", "mean", "--fields", "speed_kmh")
    found = {datetime.fromisoformat(r["time"]): r["fields"]["speed_kmh"] / MPH for r in rows}
    zone = ZoneInfo("America/Los_Angeles")
    with data("oracle_metr_la_hourly.csv").open() as file:
        wanted = {
            datetime.fromisoformat(r["hour_start"]).replace(tzinfo=zone).astimezone(ZoneInfo("UTC")): float(
                r["mean_speed_nonzero"]
            )
            for r in csv.DictReader(file)
        }
    assert found.keys() == wanted.keys()
    assert found == pytest.approx(wanted, abs=1e-6)


def worker(parent: int, role: str) -> int | None:
    """Process id of the worker of a role that a replay started."""
    found = subprocess.run(
        ["pgrep", "-P", str(parent), "-f", f"worker --role {role}"],
        capture_output=True,
        text=True,
        check=False,
    )
    return int(found.stdout.split()[0]) if found.stdout.split() else None


def test_workers_killed_and_put_to_sleep_in_turn_change_neither_history_nor_alarms(metr_la, tmp_path):
    uncut, _ = metr_la
    file = data("traffic", "metr-la", "los_speed_2012-03-01_to_04.csv")
    words = ("replay", file, "--mapping", "metr-la", "--rules", SLOW_ROADS, "--data", tmp_path, "--json")
    log = (tmp_path / "messages.txt").open("w")
    running = subprocess.Popen(command(*words), cwd=ROOT, env=environ(), stdout=subprocess.PIPE, stderr=log)
    done = []
    try:
        while worker(running.pid, "alarms") is None:
            time.sleep(0.2)
        time.sleep(6)
        for number, role in enumerate(
            ("judge", "store", "alarms", "judge", "ledger", "alarms", "store", "judge")
        ):
            if running.poll() is not None:
                break
            pid = worker(running.pid, role)
            if pid is None:
                continue
            if number == 3:  # asleep for longer than its group waits, then awake again, then gone
                os.kill(pid, signal.SIGSTOP)
                time.sleep(8)
                os.kill(pid, signal.SIGCONT)
                time.sleep(1)
            os.kill(pid, signal.SIGKILL)
            done.append(role)
            time.sleep(2.5)
        out, _ = running.communicate(timeout=400)
    finally:
        running.kill()
    assert running.returncode == 0, (tmp_path / "messages.txt").read_text()[-3000:]
    assert b'"exact": true' in out
    assert {"judge", "store", "alarms", "ledger"} <= set(done), (
        "the replay ended before each worker was killed"
    )
    whole, cut = (query(f, "traffic_flow", "--every", "1h", "--agg", "sum") for f in (uncut, tmp_path))
    assert whole == cut
    assert len(story(uncut)) > 500
    assert story(uncut) == story(tmp_path)


def test_two_judges_on_apache_kafka_put_to_sleep_and_killed_by_turns_say_what_one_says(metr_la, tmp_path):
    """Rebalances with a sleeping owner: it wakes when another has gone on, and is refused."""
    uncut, _ = metr_la
    try:
        kafka = RealKafka()
    except KafkaMissingError as missing:
        pytest.skip(f"needs Apache Kafka as a process: {missing}")
    file = data("traffic", "metr-la", "los_speed_2012-03-01_to_04.csv")
    words = ("replay", file, "--mapping", "metr-la", "--rules", SLOW_ROADS, "--data", tmp_path, "--json")
    words = (*words, "--speed", "9000x")  # 4 days in 40 s: the feed must outlast what happens below
    log = (tmp_path / "messages.txt").open("w")
    env = {**environ(), "CITYWATCH_KAFKA__BOOTSTRAP": kafka.bootstrap}
    running = subprocess.Popen(command(*words), cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=log)
    seconds = []

    def another() -> subprocess.Popen:
        first = worker(running.pid, "alarms")
        raw = Path(f"/proc/{first}/environ").read_bytes().split(b"\0")
        theirs = dict(e.decode().split("=", 1) for e in raw if b"=" in e)
        seconds.append(
            subprocess.Popen(command("worker", "--role", "judge"), cwd=ROOT, env=theirs, stderr=log)
        )
        return seconds[-1]

    try:
        while worker(running.pid, "alarms") is None:
            assert running.poll() is None
            time.sleep(0.2)
        time.sleep(4)
        second = another()
        time.sleep(7)
        second.send_signal(signal.SIGSTOP)
        time.sleep(9)  # its group waits 6 s
        second.send_signal(signal.SIGCONT)
        time.sleep(3)
        os.kill(worker(running.pid, "judge"), signal.SIGKILL)
        time.sleep(7)
        second.kill()
        third = another()
        time.sleep(5)
        third.send_signal(signal.SIGTERM)
        out, _ = running.communicate(timeout=400)
    finally:
        running.kill()
        for one in seconds:
            one.kill()
        kafka.close()
    assert running.returncode == 0, (tmp_path / "messages.txt").read_text()[-3000:]
    assert b'"exact": true' in out
    assert story(uncut) == story(tmp_path)


@pytest.mark.parametrize(("grace", "late"), [("10", 0), ("1", 21)])
def test_deepstream_events_are_late_by_what_the_grace_allows(tmp_path, grace, late):
    file = data("cameras", "deepstream", "demo-1.part1.jsonl")
    said = replay([file], "deepstream", tmp_path, "--grace", grace)
    found = line(said, "city.camera.event.v1")
    assert found.pop("late", 0) == late
    assert found == {"accepted": 1514, "stored": 1514 - late, "exact": True}


@pytest.mark.parametrize(("name", "episodes"), [("datatraining.txt", 11), ("datatest.txt", 4)])
def test_room_co2_above_1000_ppm_without_hysteresis_gives_the_oracle_s_episodes(tmp_path, name, episodes):
    file = data("schools", "room_co2_occupancy", name)
    said = replay([file], "room-air", tmp_path, "--rules", CASES / "rules" / "co2-1000.yaml")
    assert line(said, "city.school.room_air.v1")["stored"] == oracle("room_co2")[name]["rows"]
    found = [a for a in alarms(tmp_path) if not a["retracted"]]
    assert len(found) == episodes
    assert {a["rule"] for a in found} == {"co2-above-1000"}


def test_chicago_tracker_minus_one_is_no_value_and_never_a_speed(tmp_path):
    file = data("traffic", "chicago", "realtime_traffic_data.csv")
    said = replay([file], "chicago-tracker", tmp_path)
    assert line(said, "city.traffic.flow.v1")["stored"] == 1257
    rows = query(tmp_path, "traffic_flow")
    speeds = [r["fields"]["speed_kmh"] for r in rows if "speed_kmh" in r["fields"]]
    assert len(rows) == 1257
    assert len(speeds) == 1257 - 703
    assert min(speeds) >= 0
    assert sum(r["fields"].get("quality") == "no_value" for r in rows) == 703
    assert sum(speeds) / len(speeds) / MPH == pytest.approx(
        oracle("chicago")["realtime_traffic_data.csv"]["mean_valid"], abs=1e-3
    )


def test_italian_hospitals_add_up_to_the_national_day(tmp_path):
    files = sorted(data("hospitals", "pcm_dpc", "regioni").glob("*.csv"))
    said = replay(files, "pcm-dpc", tmp_path)
    assert line(said, "city.hospital.occupancy.v1")["stored"] == 2 * oracle("pcm_dpc")["region_rows"]
    rows = query(tmp_path, "hospital_occupancy", "--fields", "beds_occupied")
    rome = ZoneInfo("Europe/Rome")
    found: Counter = Counter()
    for r in rows:
        day = datetime.fromisoformat(r["time"]).astimezone(rome).strftime("%Y%m%d")
        found[day, r["tags"]["unit"]] += r["fields"]["beds_occupied"]
    with data("oracle_pcm_daily.csv").open() as file:
        for r in csv.DictReader(file):
            ward, icu = found[r["day"], "ward"], found[r["day"], "icu"]
            assert (ward, icu) == (float(r["ricoverati_con_sintomi"]), float(r["terapia_intensiva"])), r[
                "day"
            ]
            assert ward + icu == float(r["totale_ospedalizzati"])


def test_mimic_admissions_all_go_home_and_their_times_of_the_far_future_harm_nothing(tmp_path):
    said = replay([data("hospitals", "mimic3demo", "ADMISSIONS.csv")], "mimic-admissions", tmp_path)
    assert line(said, "city.hospital.adt.v1")["stored"] == 258
    rows = query(tmp_path, "hospital_adt")
    counts = Counter(r["tags"].get("movement") or r["fields"].get("movement") for r in rows)
    assert counts == {"admit": 129, "discharge": 129}
    assert not any("patient" in r["fields"] or "patient" in r["tags"] for r in rows)


@pytest.mark.parametrize(
    ("path", "mapping", "topic", "measurement", "events"),
    [
        (("traffic", "nypd_collisions", "collisions_rows_1_5424.csv"), "nypd-collisions", "city.traffic.incident.v1", "traffic_incident", 5424),
        (("environment", "sf_311", "sf311_a.csv"), "sf-311", "city.citizen.report.v1", "citizen_report", 3000),
    ],
)  # fmt: skip
def test_distinct_events_of_one_moment_do_not_overwrite_each_other(
    tmp_path, path, mapping, topic, measurement, events
):
    said = replay([data(*path)], mapping, tmp_path)
    assert line(said, topic) == {"accepted": events, "stored": events, "exact": True}
    rows = query(tmp_path, measurement)
    assert len({r["fields"]["event_id"] for r in rows}) == events
    moments = len({r["time"] for r in rows})
    assert moments == (5155 if mapping == "nypd-collisions" else events), (
        "accidents of New York share their minutes"
    )


def test_nab_traffic_sums_are_the_oracle_s(tmp_path):
    names = ("speed_6005", "speed_7578", "occupancy_6005", "TravelTime_387")
    files = [data("traffic", "nab", "data", "realTraffic", f"{n}.csv") for n in names]
    said = replay(files, "nab", tmp_path)
    facts = {n: oracle("nab")["files"][f"realTraffic/{n}.csv"] for n in names}
    late = sum(x.get("late", 0) + x.get("conflict", 0) for x in said["ledger"]["topics"].values())
    assert sum(x["accepted"] for x in said["ledger"]["topics"].values()) == sum(
        f["rows"] for f in facts.values()
    )
    assert late == sum(f["duplicate_timestamps"] for f in facts.values())


def test_a_second_replay_on_a_folder_in_use_is_told_so_in_one_line(tmp_path):
    running = subprocess.Popen(
        command("up", "--data", tmp_path), cwd=ROOT, env=environ(), stderr=subprocess.PIPE, text=True
    )
    try:
        while "store" not in running.stderr.readline():
            assert running.poll() is None
        file = data("schools", "room_co2_occupancy", "datatest.txt")
        words = ("replay", file, "--mapping", "room-air", "--data", tmp_path)
        second = subprocess.run(
            command(*words), cwd=ROOT, env=environ(), capture_output=True, text=True, check=False
        )
        assert second.returncode == 2
        assert "is used by a citywatch that runs" in second.stderr
        assert "Traceback" not in second.stderr
    finally:
        running.send_signal(signal.SIGINT)
        assert running.wait(20) == 0
    assert "topics" in citywatch("ledger", "--data", tmp_path, "--json")
