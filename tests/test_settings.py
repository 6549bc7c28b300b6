"""Settings: nonsense is refused at start, by name."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from settings import Settings, SettingsError, names, read


def refused(**environ: str) -> str:
    with pytest.raises(SettingsError) as caught:
        read(environ)
    return str(caught.value)


def test_without_variables_everything_is_embedded():
    found = read({"PATH": "/bin"})
    assert found == Settings()
    assert found.kafka.bootstrap is None
    assert (found.checkpoint.seconds, found.checkpoint.bytes) == (15, 5_000_000)
    assert found.store_path == Path("var/store.sqlite")


def test_values_arrive_typed():
    found = read({
        "CITYWATCH_KAFKA__BOOTSTRAP": "a:9092,b:9092",
        "CITYWATCH_KAFKA__PREFIX": "replay-7.",
        "CITYWATCH_CHECKPOINT__SECONDS": "2.5",
        "CITYWATCH_DATA__DIR": "/srv/city",
    })  # fmt: skip
    assert found.kafka.bootstrap == "a:9092,b:9092"
    assert found.checkpoint.seconds == 2.5
    assert found.store_path == Path("/srv/city/store.sqlite")


def test_a_misspelt_variable_is_refused_with_the_right_one():
    assert refused(CITYWATCH_KAFKA__BOOTSTRP="a:1") == (
        "CITYWATCH_KAFKA__BOOTSTRP is no setting; did you mean CITYWATCH_KAFKA__BOOTSTRAP?"
    )
    assert "did you mean CITYWATCH_KAFKA__CLOCK?" in refused(citywatch_kafka__clock="log")


def test_a_variable_like_no_other_is_refused_with_the_list():
    assert "CITYWATCH_LOG__LEVEL" in refused(CITYWATCH_QQQQ="1")


@pytest.mark.parametrize(
    ("variable", "value", "right"),
    [
        ("CITYWATCH_KAFKA__BOOTSTRAP", "localhost", "host:port"),
        ("CITYWATCH_KAFKA__CLOCK", "wall", "'log' or 'writer'"),
        ("CITYWATCH_KAFKA__PREFIX", "no-dot", "ends with a dot"),
        ("CITYWATCH_KAFKA__REPLICATION", "0", "greater than or equal to 1"),
        ("CITYWATCH_CHECKPOINT__SECONDS", "soon", "valid number"),
        ("CITYWATCH_CHECKPOINT__SECONDS", "nan", "less than or equal to 3600"),
        ("CITYWATCH_LOG__LEVEL", "loud", "'debug'"),
    ],
)
def test_a_bad_value_is_refused_with_name_value_and_what_is_right(variable, value, right):
    said = refused(**{variable: value})
    assert said.startswith(f"{variable}={value}: ")
    assert right in said


def test_all_problems_are_told_at_once():
    assert (
        len(refused(CITYWATCH_X__Y="1", CITYWATCH_LOG__LEVEL="loud", CITYWATCH_KAFKA__CLOCK="w").splitlines())
        == 3
    )


def test_an_empty_value_is_not_set():
    assert read(dict.fromkeys(names(), "")) == Settings()


def test_the_folder_of_recorded_input_is_no_setting():
    assert read({"CITYWATCH_DATA": "/srv/recorded"}) == Settings()


def test_settings_are_frozen():
    with pytest.raises(ValidationError):
        read({}).kafka.prefix = "x."


def test_influxdb_needs_a_token_which_is_never_shown():
    url = {"CITYWATCH_INFLUX__URL": "http://127.0.0.1:8086"}
    assert refused(**url).startswith("CITYWATCH_INFLUX__TOKEN: ")
    found = read({**url, "CITYWATCH_INFLUX__TOKEN": "geheim"}).influx
    assert (found.org, found.bucket, found.retention_days) == ("citywatch", "citywatch", 0)
    assert "geheim" not in repr(found)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("URL", "influxdb:8086"),
        ("URL", "http://me:secret@influxdb"),
        ("BUCKET", "a/b"),
        ("RETENTION_DAYS", "-1"),
    ],
)
def test_an_influxdb_that_cannot_be_is_refused_by_name(name, value):
    assert refused(**{f"CITYWATCH_INFLUX__{name}": value}).startswith(f"CITYWATCH_INFLUX__{name}=")
