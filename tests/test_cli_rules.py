"""Commands that need neither store nor broker: rules, mappings, contracts, the list of topics."""

import json
import shutil
from pathlib import Path

import pytest
from cli_world import FLOW, city  # noqa: F401 - a fixture

import rules
from models.catalogue import PLATFORM, topics

SHIPPED = Path(rules.__file__).parent
CASES = Path(__file__).parent / "cases" / "mapping"

RULES = """\
rules:
- id: road-jammed
  kind: threshold
  on: city.traffic.flow.v1
  by: [segment_id]
  title: {vi: "Ùn tắc", en: "Jam"}
  levels:
  - {priority: P3, raise: "speed_kmh < 10", clear: "speed_kmh > 20", for: 5m}
tests:
- {name: slow for long, series: {speed_kmh: "5x9 @1m"}, expect: [{start: 5m}]}
- {name: slow for a moment, series: {speed_kmh: "5x4 60x5 @1m"}, expect: []}
"""


@pytest.fixture
def written(city):  # noqa: F811
    def written(text):
        path = city.folder / "my.yaml"
        path.write_text(text)
        return str(path)

    return written


# --- rules


def test_the_shipped_rules_are_listed_and_have_no_finding(city):  # noqa: F811
    assert city("rules", "lint").code == 0
    listed = city("rules", "list", "--json").json()
    assert {r["on"] for r in listed} <= {*topics(), None}  # None: over signals
    for rule in listed:
        assert f"id: {rule['rule']}" in Path(rule["file"]).read_text().splitlines()[rule["line"] - 1]
    assert len(city("rules", "list").rows) == len(listed) + 1


def test_the_shipped_tests_of_a_domain_pass(city):  # noqa: F811
    done = city("rules", "test", str(SHIPPED / "environment.yaml"), "--json")
    assert done.code == 0
    assert done.json()["failed"] == []
    assert done.json()["tests"] >= 5


def test_rules_whose_tests_pass_are_well(city, written):  # noqa: F811
    done = city("rules", "test", written(RULES))
    assert (done.code, done.out) == (0, "2 tests, 0 failed\n")


def test_a_test_that_fails_is_a_finding_at_its_file_and_line(city, written):  # noqa: F811
    path = written(RULES.replace("start: 5m", "start: 6m"))
    done = city("rules", "test", path)
    assert done.code == 1
    assert done.rows == [
        f"{path}:10: road-jammed: slow for long",
        "  expected 6m to still raised, found 5m to still raised P3 peak 5 segment_id=segment-1",
        "2 tests, 1 failed",
    ]
    failed = city("rules", "test", path, "--json").json()["failed"]
    assert [(f["file"], f["line"], f["rule"]) for f in failed] == [(path, 10, "road-jammed")]


def test_what_lint_finds_is_a_finding_at_its_file_and_line(city, written):  # noqa: F811
    path = written(RULES.replace(', clear: "speed_kmh > 20"', ""))
    done = city("rules", "lint", path)
    assert done.code == 1
    assert done.rows[0].startswith(f"{path}:2: road-jammed: P3: neither clear nor keep")
    assert city("rules", "lint", path, "--json").json()[0]["line"] == 2


@pytest.mark.parametrize("what", ["list", "lint", "test"])
def test_a_file_that_is_wrong_is_bad_configuration_with_every_problem_at_its_line(city, written, what):  # noqa: F811
    path = written(
        RULES.replace("speed_kmh < 10", "sped_kmh < 10").replace("kind: threshold", "kind: threshhold")
    )
    done = city("rules", what, path)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"{path}:3: there is no kind 'threshhold'")


# --- mapping


def test_the_shipped_mappings_are_listed(city):  # noqa: F811
    listed = city("mapping", "list", "--json").json()
    assert {"metr-la", "nab", "sf-311"} <= {m["name"] for m in listed}
    assert len(city("mapping", "list").rows) == len(listed) + 1


def test_a_mapping_is_tried_and_its_problems_are_a_finding(city):  # noqa: F811
    feed, data = (str(CASES / "stays" / name) for name in ("feed.yaml", "input.csv"))
    done = city("mapping", "try", feed, data, "--first", "1", "--json")
    report = done.json()
    assert done.code == 1
    assert report["events"] == {"city.hospital.adt.v1": 3}
    assert report["rejected"] == {"bad_time": 1, "schema": 1}
    assert len(report["shown"]) == 1
    plain = city("mapping", "try", feed, data)
    assert plain.code == 1
    assert f"{data}:4: bad_time: came: not a time as the mapping says (%d/%m/%Y %H:%M)" in plain.rows


def test_input_of_which_every_row_is_an_event_is_well(city):  # noqa: F811
    good = city.folder / "input.csv"
    good.write_text("An,02/01/2026 08:00,03/01/2026 09:30\n")
    assert city("mapping", "try", str(CASES / "stays" / "feed.yaml"), str(good)).code == 0


@pytest.mark.parametrize(
    ("feed", "said"),
    [("no-such-feed", "neither a file nor one of"), ("metr-la", "takes no file of this name")],
)
def test_a_mapping_or_input_that_cannot_be_used_is_bad_configuration(city, feed, said):  # noqa: F811
    done = city("mapping", "try", feed, str(city.folder / "missing.xml"))
    assert (done.code, done.out) == (2, "")
    assert said in done.err or "cannot be read" in done.err


# --- schemas


def test_the_contracts_are_written_and_then_are_as_the_models_say(city):  # noqa: F811
    folder = str(city.folder / "docs")
    assert city("schemas", "release", "--folder", folder).code == 0
    assert city("schemas", "write", "--folder", folder).code == 0
    assert city("schemas", "check", "--folder", folder).code == 0


def test_a_contract_that_would_break_subscribers_is_a_finding(city):  # noqa: F811
    folder = city.folder / "docs"
    city("schemas", "release", "--folder", str(folder))
    city("schemas", "write", "--folder", str(folder))
    path = folder / "released.json"
    promised = json.loads(path.read_text())
    promised[FLOW]["properties"]["colour"] = {"type": "string"}
    path.write_text(json.dumps(promised))
    for what in ("check", "write"):
        done = city("schemas", what, "--folder", str(folder))
        assert done.code == 1
        assert any(row.startswith(f"{FLOW}: ") and "colour" in row for row in done.rows), done.out


def test_a_missing_contract_is_a_finding(city):  # noqa: F811
    folder = city.folder / "docs"
    city("schemas", "write", "--folder", str(folder))
    shutil.rmtree(folder / "schemas")
    done = city("schemas", "check", "--folder", str(folder))
    assert done.code == 1
    assert "is missing; run `citywatch schemas write`" in done.out


# --- topics


def test_the_catalogue_is_listed_without_a_broker(city):  # noqa: F811
    listed = {row["topic"]: row for row in city("topics", "list", "--json").json()}
    assert set(listed) == {*topics(), *(t.name for t in PLATFORM)}
    assert listed[FLOW] == {
        "topic": FLOW, "access": "public", "kind": "samples", "key": "segment_id", "L": "2m", "partitions": 4, "retention": "7d",
    }  # fmt: skip
    assert listed["city.alarm.state.v1"]["retention"] == "for ever"
    assert city("topics", "list").rows[0].split() == list(listed[FLOW])
