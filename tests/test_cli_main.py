"""The command line itself: what it loads, how it helps, and what an error means to the shell."""

import importlib
import subprocess
import sys

import pytest
from cli_world import city  # noqa: F401 - a fixture

import cli
from bus.clients import UnreachableError
from commands import ledger
from commands.output import table
from sinks.contract import Unavailable


def loaded_by(*words):
    """The modules that a fresh process has after a command."""
    script = f"import sys, cli; cli.main({list(words)!r}); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stderr.splitlines()[-1].split())


def test_help_loads_nothing_that_takes_time():
    assert not {"pydantic", "kafka", "aiokafka", "faust", "confluent_kafka", "settings"} & loaded_by("--help")


def test_a_query_loads_neither_faust_nor_a_kafka_client(tmp_path):
    modules = loaded_by("query", "traffic_flow", "--data", str(tmp_path))
    assert "sinks.sqlite" in modules
    assert not {"faust", "kafka", "aiokafka", "confluent_kafka"} & modules


@pytest.mark.parametrize("name", [n for n, (m, _) in cli.COMMANDS.items() if importlib.util.find_spec(m)])
def test_every_command_explains_itself_and_takes_a_data_folder(name, capsys):
    assert cli.main([name, "--help"]) == 0
    said = capsys.readouterr().out
    assert "--data DIR" in said
    assert len(said.split("options:")[0].splitlines()) > 2, "a sentence on what and why"


@pytest.mark.parametrize("name", cli.CODES)
def test_an_error_that_has_a_number_exists(name):
    module, _, kind = name.rpartition(".")
    assert issubclass(getattr(importlib.import_module(module), kind), Exception)


def test_without_a_command_the_help_is_shown_and_the_use_was_wrong(capsys):
    assert cli.main([]) == 2
    assert "citywatch up" in capsys.readouterr().err


def test_a_misspelt_command_is_answered_with_the_right_one(city):  # noqa: F811
    done = city("quary", "traffic_flow")
    assert (done.code, done.out) == (2, "")
    assert done.err == "citywatch: there is no command quary; did you mean query?\n"


def test_a_wrong_option_is_wrong_use(city):  # noqa: F811
    done = city("ledger", "--jsn")
    assert done.code == 2
    assert "--jsn" in done.err


def test_a_wrong_setting_is_wrong_use_with_its_name(city, monkeypatch):  # noqa: F811
    monkeypatch.setenv("CITYWATCH_KAFKA__BOOTSTRAP", "nowhere")
    done = city("ledger")
    assert done.code == 2
    assert "CITYWATCH_KAFKA__BOOTSTRAP=nowhere" in done.err


@pytest.mark.parametrize("command", [["ledger"], ["alarms"], ["query", "traffic_flow"], ["rejected", "list"]])
def test_a_store_that_is_not_there_cannot_be_reached(city, command):  # noqa: F811
    done = city(*command)
    assert (done.code, done.out) == (3, "")
    assert done.err.startswith(f"citywatch: {city.folder}/store.sqlite: there is no store here")


@pytest.mark.parametrize("command", [["topics", "plan"], ["tail", "city.traffic.flow.v1"]])
def test_where_nothing_runs_the_message_says_how_to_start_it(city, command):  # noqa: F811
    done = city(*command)
    assert (done.code, done.out) == (3, "")
    assert "`citywatch up`" in done.err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UnreachableError("no Kafka answers"), 3, "citywatch: no Kafka answers\n"),
        (Unavailable("locked", 1.0), 3, "citywatch: locked\n"),
        (LookupError("no log id"), 3, "citywatch: no log id\n"),
        (PermissionError(13, "denied", "x"), 2, "citywatch: [Errno 13] denied: 'x'\n"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 130, ""),
    ],
)
def test_an_error_ends_with_its_number_and_one_line(city, monkeypatch, error, code, said):  # noqa: F811
    def fails(*_):
        raise error

    monkeypatch.setattr(ledger, "run", fails)
    done = city("ledger")
    assert (done.code, done.out, done.err) == (code, "", said)


@pytest.mark.parametrize(
    "error", [KeyError("x"), AssertionError("x"), UnicodeDecodeError("utf-8", b"", 0, 1, "x")]
)
def test_a_fault_of_ours_shows_where_it_is(city, monkeypatch, error):  # noqa: F811
    def fails(*_):
        raise error

    monkeypatch.setattr(ledger, "run", fails)
    with pytest.raises(type(error)):
        city("ledger")


def test_a_reader_that_leaves_ends_a_command_quietly(tmp_path):
    done = subprocess.run(
        f"{sys.executable} -m cli rules list --data {tmp_path} | true; echo ${{PIPESTATUS[0]}}",
        shell=True, executable="/bin/bash", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.strip() in ("0", "130")  # it may have been faster than its reader


def test_a_table_sets_numbers_to_the_right_and_shows_no_control_characters():
    assert table(("name", "n", "x"), [("a\x1b[31m", 1234, None), ("Hạ Long", 5, 0.5)]) == (
        "name         n    x\n"
        "a\\x1b[31m  1,234    -\n"
        "Hạ Long        5  0.5"
    ).replace("name         n    x", "name           n    x")  # fmt: skip
    assert table(("a", "b"), []) == "a  b"
