"""What commands tell from the store alone: alarms, history, the ledger, rejects."""

import csv
import io
import sys

import pytest
from cli_world import AIR, FLOW, MINUTE, T0, alarm, city, counted, flows, reject, reject_of_file  # noqa: F401

# --- alarms


@pytest.fixture
def alarmed(city):  # noqa: F811
    city.hold(
        records=[
            alarm("young", priority="P2", start="2026-01-01T02:00:00Z"),
            alarm("old", priority="P2", start="2026-01-01T01:00:00Z", state="ACKED", acked_by="Lan", acked_at="2026-01-01T01:05:00Z"),
            alarm("worst", priority="P1", rule="incident-grave", start="2026-01-01T03:00:00Z"),
            alarm("over", priority="P1", state="NORM", start="2025-12-31T00:00:00Z", end="2025-12-31T01:00:00Z"),
            alarm("gone", state="NORM", retracted=True),
        ]
    )  # fmt: skip
    return city


def ids(done):
    return [a["alarm_id"] for a in done.json()]


def test_those_that_ask_for_somebody_come_by_priority_and_age(alarmed):
    assert ids(alarmed("alarms", "--json")) == ["worst", "old", "young"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--all"], ["worst", "old", "young", "over", "gone"]),
        (["--state", "ACKED"], ["old"]),
        (["--state", "NORM"], ["over", "gone"]),
        (["--rule", "road-jammed"], ["old", "young"]),
        (["--rule", "nothing-like-it"], []),
        (["--all", "--limit", "2"], ["worst", "old"]),
    ],
)
def test_alarms_are_chosen_by_state_and_rule(alarmed, words, found):
    assert ids(alarmed("alarms", "--json", *words)) == found


def test_a_program_finds_every_field_and_none_of_the_judges_own(alarmed):
    first = alarmed("alarms", "--json").json()[0]
    assert {"alarm_id", "rule", "fingerprint", "start", "end", "state", "priority", "revised", "labels", "title", "peak", "place"} <= first.keys()  # fmt: skip
    assert first["end"] is None
    assert "proof" not in first


def test_a_person_reads_a_line_an_alarm(alarmed):
    done = alarmed("alarms", "--all")
    assert done.rows[0].split()[:3] == ["prio", "state", "rule"]
    assert done.rows[1].startswith("P1    UNACK")
    assert "segment_id=s1" in done.rows[1]
    assert "goes on, " in done.rows[1]
    assert "2025-12-31T01:00:00Z" in done.rows[4]
    assert "retracted" in done.rows[5]
    assert "nothing runs on" in done.err


def test_no_alarm_says_how_many_are_over(city):  # noqa: F811
    city.hold(records=[alarm("over", state="NORM")])
    done = city("alarms")
    assert (done.code, done.out) == (0, "")
    assert "no alarm asks for anybody (1 are over or suppressed: --all)" in done.err


def test_an_unknown_state_is_wrong_use(alarmed):
    assert alarmed("alarms", "--state", "ANGRY").code == 2


@pytest.mark.parametrize(
    ("id_", "code", "said"),
    [
        ("nobody", 2, "there is no alarm nobody"),
        ("old", 0, "already acknowledged by Lan at 2026-01-01T01:05:00Z"),
        ("young", 3, "nothing runs on"),
    ],
)
def test_an_acknowledgement_that_cannot_be_given_says_why(alarmed, id_, code, said):
    done = alarmed("alarms", "ack", id_, "--by", "Minh")
    assert (done.code, done.out) == (code, "")
    assert said in done.err


def test_a_retracted_alarm_and_one_whose_log_ended_are_not_acknowledged(city):  # noqa: F811
    city.hold(records=[alarm("gone", retracted=True), alarm("ended", closed_by="log-ended")])
    for id_, why in (("gone", "was taken back"), ("ended", "ended with its log")):
        done = city("alarms", "ack", id_, "--by", "Minh")
        assert done.code == 2
        assert why in done.err


@pytest.mark.parametrize(("option", "text"), [("--by", ""), ("--by", "x" * 101), ("--note", "x" * 2001)])
def test_a_name_or_note_that_no_command_holds_is_wrong_use(alarmed, option, text):
    done = alarmed("alarms", "ack", "young", "--by", "Minh", option, text)
    assert done.code == 2
    assert done.err.startswith(f"citywatch: {option}: String should have at ")


# --- query


def test_history_comes_as_a_table_as_json_and_as_csv(city):  # noqa: F811
    city.hold(flows())
    assert city("query", "traffic_flow").rows == [
        "time                  segment_id  speed_kmh",
        "2026-01-01T00:00:00Z  s0                0.0",
        "2026-01-01T00:01:00Z  s1               10.0",
        "2026-01-01T00:02:00Z  s0               20.0",
    ]
    assert city("query", "traffic_flow", "--limit", "1", "--json").json() == [
        {
            "time": "2026-01-01T00:00:00Z",
            "measurement": "traffic_flow",
            "tags": {"segment_id": "s0"},
            "fields": {"speed_kmh": 0.0},
        }
    ]
    table = list(csv.reader(io.StringIO(city("query", "traffic_flow", "--csv").out)))
    assert table[0] == ["time", "measurement", "segment_id", "speed_kmh"]
    assert len(table) == 4


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (["--where", "segment_id=s0"], [0.0, 20.0]),
        (["--from", "2026-01-01T00:01:00Z", "--to", "2026-01-01T07:02:00+07:00"], [10.0]),
        (["--every", "1h", "--agg", "mean"], [10.0]),
        (["--agg", "sum", "--by", "segment_id"], [20.0, 10.0]),
        (["--late", "yes"], [99.0]),
        (["--late", "no", "--agg", "max"], [20.0]),
    ],
)
def test_history_is_asked_in_the_words_of_a_query(city, words, values):  # noqa: F811
    late = flows(1)[0]._replace(time=T0 + 9 * MINUTE, fields=(("speed_kmh", 99.0),), late=True)
    city.hold([*flows(), late])
    if words[0] == "--every":
        words = [*words, "--late", "no"]
    if words[:2] == ["--agg", "sum"]:
        words = [*words, "--late", "no"]
    if words[0] == "--where":
        words = [*words, "--to", "2026-01-01T00:05:00Z"]
    assert [
        row["fields"]["speed_kmh"] for row in city("query", "traffic_flow", "--json", *words).json()
    ] == values


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("trafic_flow", "did you mean traffic_flow?"),
        ("zzz", "there are traffic_flow"),
        (FLOW, "is a topic, ask for traffic_flow"),
    ],
)
def test_an_unknown_measurement_is_answered_with_those_there_are(city, name, said):  # noqa: F811
    city.hold(flows())
    done = city("query", name)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_a_measurement_of_which_nothing_came_yet_has_no_rows_and_is_no_mistake(city):  # noqa: F811
    city.hold(flows())
    done = city("query", "environment_air", "--json")
    assert (done.code, done.json()) == (0, [])
    assert "nothing of environment_air has been stored yet" in done.err


def test_an_empty_answer_says_which_tags_and_fields_there_are(city):  # noqa: F811
    city.hold(flows())
    done = city("query", "traffic_flow", "--where", "segment=s0")
    assert (done.code, done.out) == (0, "")
    assert "has the tags segment_id and the fields speed_kmh" in done.err


@pytest.mark.parametrize(
    "words",
    [["--every", "1h"], ["--agg", "median"], ["--from", "yesterday"], ["--where", "s0"], ["--csv", "--json"], ["--limit", "-1"]],
)  # fmt: skip
def test_a_query_that_makes_no_sense_is_wrong_use(city, words):  # noqa: F811
    city.hold(flows())
    done = city("query", "traffic_flow", *words)
    assert (done.code, done.out) == (2, "")
    assert done.err


# --- ledger


def test_a_ledger_that_adds_up_is_well(city):  # noqa: F811
    city.hold(flows(3), [counted(stored=3, late=1, rejected=1), reject("a", b"{")])
    done = city("ledger", "--json")
    assert done.code == 0
    assert done.json() == {
        "topics": {
            FLOW: {
                "accepted": 5,
                "stored": 3,
                "late": 1,
                "duplicate": 0,
                "conflict": 0,
                "rejected": 1,
                "exact": True,
            }
        }
    }
    assert city("ledger").rows[1].split() == [FLOW, "5", "3", "1", "0", "0", "1", "yes"]


def test_a_ledger_that_does_not_is_a_finding_and_names_the_topic(city):  # noqa: F811
    city.hold(flows(2), [counted(stored=3), counted(AIR, late=1)])
    done = city("ledger", "--json")
    assert done.code == 1
    assert {name: line["exact"] for name, line in done.json()["topics"].items()} == {AIR: True, FLOW: False}
    assert f"{FLOW}: 1 accepted and found nowhere" in done.err


def test_an_empty_store_has_an_empty_ledger(city):  # noqa: F811
    city.hold()
    done = city("ledger")
    assert (done.code, done.out) == (0, "")
    assert "nothing has come in yet" in done.err


# --- rejected


SECRET = b'{"patient": "Nguy\xe1\xbb\x85n"}'


@pytest.fixture
def refused(city):  # noqa: F811
    city.hold(
        records=[
            reject("one", SECRET, time=T0 + 1, reason="schema"),
            reject("two", b"\xff\x00\x1b[31m", time=T0 + 2, reason="not_utf8", topic=AIR, key=b"\xfe"),
            reject_of_file("three", b"a,b\n"),
        ]
    )
    return city


def test_the_list_shows_reason_and_place_and_no_bytes(refused):
    done = refused("rejected", "list")
    assert [row.split()[1:3] for row in done.rows[1:]] == [
        ["bad_time", "a.csv:3"],
        ["schema", f"{FLOW}/0/7"],
        ["not_utf8", f"{AIR}/0/7"],
    ]
    assert "Nguyễn" not in done.out
    assert "3 of 3 rejects" in done.err
    for body in refused("rejected", "list", "--json").json():
        assert not {"bytes", "key"} & body.keys()
        assert {"id", "time", "reason", "detail", "topic"} <= body.keys()


@pytest.mark.parametrize(
    ("words", "found", "said"),
    [
        (["--topic", AIR], ["two"], "1 of 1"),
        (["--reason", "schema"], ["one"], "1 of 1"),
        (["--topic", AIR, "--reason", "schema"], [], "nothing like that was rejected"),
        (["--limit", "1"], ["two"], "1 of 3"),
    ],
)
def test_rejects_are_chosen_by_topic_and_reason(refused, words, found, said):
    done = refused("rejected", "list", "--json", *words)
    assert [body["id"] for body in done.json()] == found
    assert said in done.err


@pytest.mark.parametrize(
    ("words", "right"), [(["--topic", "city.traffic.flo.v1"], FLOW), (["--reason", "scheme"], "schema")]
)
def test_a_misspelt_topic_or_reason_is_answered_with_the_right_one(refused, words, right):
    done = refused("rejected", "list", *words)
    assert done.code == 2
    assert f"did you mean {right}?" in done.err


def test_show_gives_text_as_text(refused):
    done = refused("rejected", "show", "one")
    assert done.code == 0
    assert done.rows[-1] == SECRET.decode()
    assert "key     s1" in done.rows


def test_show_gives_what_is_no_text_as_a_dump_that_moves_no_cursor(refused):
    done = refused("rejected", "show", "two")
    assert done.rows[-1].startswith("00000000  ff 00 1b 5b 33 31 6d")
    assert done.rows[-1].endswith("|...[31m|")
    assert "\x1b" not in done.out
    assert "key     \\xfe" in done.rows


def test_raw_gives_the_bytes_themselves(refused, monkeypatch):
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out))
    assert refused("rejected", "show", "two", "--raw").code == 0
    assert out.getvalue() == b"\xff\x00\x1b[31m"


def test_show_of_an_unknown_id_is_wrong_use(refused):
    assert refused("rejected", "show", "four").code == 2


def test_show_says_when_only_the_beginning_was_kept(city):  # noqa: F811
    city.hold(records=[reject("big", b"{", length=5000)])
    assert "only the first 1 of its 5,000 bytes" in city("rejected", "show", "big").err


def test_a_redrive_of_everything_must_be_meant(refused):
    done = refused("rejected", "redrive")
    assert done.code == 2
    assert "--topic" in done.err


def test_a_line_of_a_file_is_not_sent_again_and_what_is_right_is_said(refused):
    done = refused("rejected", "redrive", "three", "--json")
    assert done.code == 1
    assert done.json()["sent"] == {}
    assert "mend the mapping" in done.err


def test_a_redrive_without_a_broker_sends_nothing(refused):
    done = refused("rejected", "redrive", "one")
    assert (done.code, done.out) == (3, "")
