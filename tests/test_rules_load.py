"""Loading rules: every problem of every file is told at its line, and nothing is guessed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.load import RulesError, default, load, read
from rules.spec import KINDS

GOOD = """\
rules:
- id: road-jammed
  kind: threshold
  on: city.traffic.flow.v1
  by: [segment_id]
  levels:
  - {priority: P3, raise: "speed_kmh < 10", for: 5m}
"""


@pytest.fixture
def write(tmp_path):
    def write(text, name="a.yaml"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def problems(path, *more):
    with pytest.raises(RulesError) as error:
        load([path, *more])
    return [p.removeprefix(f"{path.parent}/") for p in error.value.problems]


def test_a_file_and_its_folder_load_alike(write):
    path = write(GOOD)
    assert load(path) == load(str(path)) == load(path.parent) == load([path])
    assert load(path).rules[0].id == "road-jammed"


def test_each_rule_knows_its_line(write):
    path = write("# a comment\n\n" + GOOD)
    assert str(read(path).where["road-jammed"]) == f"{path}:4"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD.replace("segment_id", "segment"), ["a.yaml:5: by: identity labels must follow from the key segment_id"]),
        (GOOD.replace("< 10", "< 'x'"), ["a.yaml:7: raise: column 13: speed_kmh is a number and 'x' is a word"]),
        (GOOD.replace("for:", "forr:"), ["a.yaml:7: unknown key forr here; did you mean for?"]),
        (GOOD.replace("threshold", "treshold"), [
            "a.yaml:3: there is no kind 'treshold'; there are " + ", ".join(KINDS)]),
        (GOOD.replace("  kind: threshold\n", ""), ["a.yaml:2: kind is missing: one of " + ", ".join(KINDS)]),
        (GOOD.replace("  by: [segment_id]\n", ""), ["a.yaml:2: by is missing"]),
        (GOOD + "  id: again\n", ["a.yaml:8: id is said twice"]),
        (GOOD + "rule: []\n", ["a.yaml:8: unknown key rule; a file has rules, tests, calendars, sensors"]),
        ("rules: {id: x}\n", ["a.yaml:1: rules is a list"]),
        ("- id: x\n", ["a.yaml:1: a rules file has the keys rules, tests, calendars, sensors"]),
        ("rules:\n- [}\n", ["a.yaml:2: expected the node content, but found '}'"]),
        ("rules:\n- !!python/object:os.system {}\n", ["a.yaml:2: kind is missing: one of " + ", ".join(KINDS)]),
        ("rules:\n- &a {id: x}\n- *a\n", ["a.yaml:2: an alias (*) has no place here"]),
        ("[" * 3000, ["a.yaml:1: nested too deeply"]),
        ("sensors:\n- topic: city.traffic.flow.v1\n  key: a\n  every: 60\n", [
            "a.yaml:4: every: 60 has no unit: write 60s or 60m"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_at_its_line(write, text, expected):
    assert problems(write(text)) == expected


def test_all_problems_of_all_files_are_told_at_once(write):
    one = write(GOOD.replace("segment_id", "segment").replace("< 10", "<"))
    other = write(GOOD.replace("P3", "P9"), "b.yaml")
    assert [p.split(" ")[0] for p in problems(one, other)] == ["a.yaml:5:", "a.yaml:7:", "b.yaml:7:"]


def test_one_id_in_two_files_is_refused_with_both_places(write):
    one, other = write(GOOD), write(GOOD, "b.yaml")
    assert problems(one, other) == [f"b.yaml:2: there is already a rule road-jammed at {one}:2"]


def test_one_sensor_in_two_files_is_refused(write):
    text = "sensors:\n- {topic: city.traffic.flow.v1, key: a, every: 1m}\n"
    assert problems(write(text), write(text, "b.yaml")) == [
        "b.yaml:2: a of city.traffic.flow.v1 is registered twice"
    ]


def test_on_is_a_word_and_a_clock_time_is_no_number(write):
    assert load(write(GOOD)).rules[0].on == "city.traffic.flow.v1"
    assert "a.yaml:7: for: '1:30' is no duration" in problems(write(GOOD.replace("5m", "1:30")))[0]


def test_what_cannot_be_read_is_told(write, tmp_path):
    assert "a.yaml:1: cannot be read" in problems(write(b"\xff\xfe\x00"))[0]
    assert "none.yaml:1: cannot be read" in problems(tmp_path / "none.yaml")[0]
    (tmp_path / "empty").mkdir()
    with pytest.raises(RulesError, match=r"no \*\.yaml in this folder"):
        load(tmp_path / "empty")


def test_the_order_of_files_changes_nothing(write):
    one, other = write(GOOD), write(GOOD.replace("road-jammed", "another"), "b.yaml")
    assert load([one, other]).canonical() == load([other, one]).canonical()


def test_the_shipped_rules_load():
    assert len(default().rules) >= 20


@given(text=st.text(alphabet="rules: -id\n[]{}'\"&*!|>#,x0\t%@`", max_size=80))
def test_any_text_loads_or_is_refused(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("any") / "a.yaml"
    path.write_text(text)
    try:
        load(path)
    except RulesError as error:
        assert all(p.startswith(f"{path}:") for p in error.problems)
