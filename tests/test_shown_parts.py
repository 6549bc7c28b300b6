"""The recorded city again, on Apache Kafka and InfluxDB, with workers killed in the middle of each replay: the same tests, the same figures."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
import real
from real_influx import ORG, TOKEN, InfluxMissingError, RealInflux
from real_kafka import KafkaMissingError, RealKafka
from test_shown_real import (  # noqa: F401 - collected here, too
    metr_la,
    test_chicago_tracker_minus_one_is_no_value_and_never_a_speed,
    test_deepstream_events_are_late_by_what_the_grace_allows,
    test_distinct_events_of_one_moment_do_not_overwrite_each_other,
    test_italian_hospitals_add_up_to_the_national_day,
    test_metr_la_hourly_means_are_those_of_the_oracle,
    test_metr_la_stores_every_cell_and_its_speeds_add_up,
    test_mimic_admissions_all_go_home_and_their_times_of_the_far_future_harm_nothing,
    test_nab_traffic_sums_are_the_oracle_s,
    test_room_co2_above_1000_ppm_without_hysteresis_gives_the_oracle_s_episodes,
    worker,
)

pytestmark = pytest.mark.slow

_numbers = itertools.count()
_killed: list[list[str]] = []


def _kill(parent: int) -> None:
    """Of a replay: the store's worker and the judge, soon after they have begun, one after the other."""
    mine: list[str] = []
    _killed.append(mine)
    deadline = time.monotonic() + 60
    for role, wait in (("judge", 3.0), ("store", 1.0)):
        while (pid := worker(parent, role)) is None and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(wait)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            mine.append(role)


def _replay(words: tuple[object, ...], seconds: float = 400) -> str:
    running = subprocess.Popen(
        real.command(*words), cwd=real.ROOT, env=real.environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )  # fmt: skip
    killer = threading.Thread(target=_kill, args=(running.pid,))
    killer.start()
    try:
        out, said = running.communicate(timeout=seconds)
    finally:
        running.kill()
        killer.join()
    assert running.returncode == 0, said[-3000:]
    return out


@pytest.fixture(scope="module", autouse=True)
def _parts():
    """Commands of these tests find the servers in their environment; a data folder has a bucket of its own."""
    try:
        store = RealInflux()
    except InfluxMissingError as missing:
        pytest.fail(str(missing))
    try:
        kafka = RealKafka()
    except KafkaMissingError as missing:
        store.close()
        pytest.skip(f"needs Apache Kafka as a process: {missing}")
    plain, run = real.environ, real.citywatch
    buckets: dict[str, str] = {}

    def citywatch(*words, **how):
        folder = str(words[words.index("--data") + 1])
        bucket = buckets.setdefault(folder, f"b{next(_numbers)}")
        settings = {"URL": store.url, "TOKEN": TOKEN, "ORG": ORG, "BUCKET": bucket}
        mine = {f"CITYWATCH_INFLUX__{name}": value for name, value in settings.items()}
        if words[0] == "replay":
            mine["CITYWATCH_KAFKA__BOOTSTRAP"] = kafka.bootstrap
        real.environ = lambda: plain() | mine
        return _replay(words) if words[0] == "replay" else run(*words, **how)

    real.citywatch = citywatch
    yield
    real.environ, real.citywatch = plain, run
    kafka.close()
    store.close()
    assert buckets, "no command was given the server"
    assert not any(Path(folder, "store.sqlite").exists() for folder in buckets)
    assert all(killed == ["judge", "store"] for killed in _killed), _killed
    assert _killed, "no replay was cut"


def test_the_commands_say_which_store_they_use(tmp_path):
    assert "127.0.0.1" in real.citywatch("doctor", "--data", tmp_path)
