"""The recorded city again, with a real InfluxDB as the store: the same tests, the same figures."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import real
from real_influx import ORG, TOKEN, InfluxMissingError, RealInflux
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
)

pytestmark = pytest.mark.slow

_numbers = itertools.count()


@pytest.fixture(scope="module", autouse=True)
def _store():
    """Commands of these tests find the server in their environment; a data folder has a bucket of its own."""
    try:
        server = RealInflux()
    except InfluxMissingError as missing:
        pytest.fail(str(missing))
    plain, run = real.environ, real.citywatch
    buckets: dict[str, str] = {}

    def citywatch(*words, **how):
        folder = str(words[words.index("--data") + 1])
        bucket = buckets.setdefault(folder, f"b{next(_numbers)}")
        settings = {"URL": server.url, "TOKEN": TOKEN, "ORG": ORG, "BUCKET": bucket}
        real.environ = lambda: plain() | {f"CITYWATCH_INFLUX__{name}": v for name, v in settings.items()}
        return run(*words, **how)

    real.citywatch = citywatch
    yield
    real.environ, real.citywatch = plain, run
    server.close()
    assert buckets, "no command was given the server"
    assert not any(Path(folder, "store.sqlite").exists() for folder in buckets)


def test_the_commands_say_which_store_they_use(tmp_path):
    assert "127.0.0.1" in real.citywatch("doctor", "--data", tmp_path)
