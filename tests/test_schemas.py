"""The contracts for subscribers: as committed, true to the decoder, and a check that names what would break them."""

import copy
import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from models.catalogue import PLATFORM, events, topics
from models.contracts import breaks
from models.decode import Rejection, decode
from models.hospital import PatientMovement
from models.schemas import RELEASED, asyncapi, check, release, schemas, write
from models.traffic import TrafficFlow

DOCS = Path(__file__).parent.parent / "docs"
FLOW = "city.traffic.flow.v1"
MADE = schemas()


def flow(**change):
    return {
        "event_id": "e",
        "source_id": "s",
        "observed_at": "2026-01-01T00:00:00Z",
        "segment_id": "x",
    } | change


def test_the_committed_contracts_are_those_of_the_models():
    assert check(DOCS) == []


def test_every_schema_is_valid_json_schema():
    for schema in MADE.values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_every_source_topic_has_a_schema_and_its_promise_in_it():
    for name, topic in topics().items():
        assert MADE[name]["x-topic"]["key"] == list(topic.key)
        assert MADE[name]["x-topic"]["access"] == topic.access


def test_personal_fields_are_marked_for_whoever_may_read_them():
    fields = MADE[PatientMovement.topic.name]["properties"]
    assert {name for name, field in fields.items() if field.get("x-personal")} == {"patient", "visit"}


def test_computed_fields_are_not_in_the_contract_because_they_are_not_on_the_wire():
    assert "vn_aqi" not in MADE["city.environment.air.v1"]["properties"]


@pytest.mark.parametrize(
    "value",
    [
        flow(),
        flow(speed_kmh=42.5),
        flow(speed_kmh=None),
        flow(place={"lat": 20.9, "ward": "Bãi Cháy"}),
        flow(speed_kmh=301),
        flow(speed_kmh=-1),
        flow(speed_kmh="42"),
        flow(segment_id="a/b"),
        flow(segment_id="a\u200bb"),
        flow(segment_id=" a"),
        flow(segment_id=""),
        flow(lane=1),
        flow(quality="bad"),
        flow(revision=-1),
        flow(place={"lat": 91}),
        flow(place={"street": "1"}),
        {"event_id": "e"},
        [],
        "x",
        None,
    ],
    ids=repr,
)
def test_a_subscriber_with_the_schema_and_the_decoder_agree(value):
    by_schema = jsonschema.Draft202012Validator(MADE[FLOW]).is_valid(value)
    by_decoder = not isinstance(decode(TrafficFlow, json.dumps(value).encode(), 10**17), Rejection)
    assert by_schema == by_decoder


# AsyncAPI


def test_the_document_has_each_topic_of_the_catalogue_with_who_may_read_it_and_how_long():
    channels = asyncapi()["channels"]
    assert set(channels) == {*topics(), *(t.name for t in PLATFORM)}
    adt = channels["city.hospital.adt.v1"]
    assert adt["x-access"] == "restricted"
    assert adt["bindings"]["kafka"]["topicConfiguration"]["retention.ms"] == 7 * 86_400_000
    assert channels["city.alarm.state.v1"]["bindings"]["kafka"]["topicConfiguration"]["cleanup.policy"] == [
        "compact"
    ]


def test_each_message_has_its_key_its_cloudevents_headers_and_a_schema_that_is_there():
    document = asyncapi()
    messages = document["components"]["messages"]
    assert set(messages) == {*(e.__name__ for e in events()), "Alarm", "AlarmEvent"}
    for message in messages.values():
        assert (DOCS / message["payload"]["schema"]["$ref"]).is_file()
        assert message["traits"] == [{"$ref": "#/components/messageTraits/cloudEvent"}]
    assert messages["Occupancy"]["bindings"]["kafka"]["key"]["description"] == "facility_id/unit"
    required = document["components"]["messageTraits"]["cloudEvent"]["headers"]["required"]
    assert {"ce_id", "ce_source", "ce_type", "ce_specversion", "ce_time", "content-type"} == set(required)


def test_no_reference_in_the_document_leads_nowhere():
    document = asyncapi()

    def references(part):
        for name, inner in (
            part.items() if isinstance(part, dict) else enumerate(part if isinstance(part, list) else ())
        ):
            if name == "$ref":
                yield inner
            yield from references(inner)

    for reference in references(document):
        if reference.startswith("#/"):
            found = document
            for step in reference[2:].split("/"):
                found = found[step]


# What breaks a contract


def changed(edit):
    """The schema of a small topic before and after `edit`."""
    old = {
        "type": "object",
        "additionalProperties": False,
        "required": ["id"],
        "$defs": {"Place": {"type": "object", "properties": {"lat": {"type": "number", "maximum": 90}}}},
        "properties": {
            "id": {"type": "string", "maxLength": 100, "pattern": "^a"},
            "speed": {"anyOf": [{"type": "number", "minimum": 0, "maximum": 300}, {"type": "null"}]},
            "age": {"type": "number", "exclusiveMinimum": 0},
            "kind": {"type": "string", "enum": ["car", "bus"]},
            "place": {"$ref": "#/$defs/Place"},
            "marks": {"type": "array", "items": {"type": "integer", "minimum": 0}, "maxItems": 3},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "any": {},
        },
        "x-topic": {"kind": "samples", "access": "public", "key": ["id"], "series": ["id"], "partitions": 4},
    }
    new = copy.deepcopy(old)
    edit(new)
    return breaks(old, new)


def fields(edit):
    return lambda schema: edit(schema["properties"])


BREAKING = [
    (fields(lambda p: p.pop("speed")), "speed: the field is gone"),
    (lambda s: s["required"].append("kind"), "kind: is required now, and was optional"),
    (lambda s: (s["properties"].update(lane={"type": "integer"}), s["required"].append("lane")), "lane: is required now, and is new"),
    (fields(lambda p: p["speed"]["anyOf"].pop()), "speed: null is allowed no more, only number"),
    (fields(lambda p: p["speed"]["anyOf"][0].update(type="string")), "speed: number is allowed no more, only null or string"),
    (fields(lambda p: p.update(age={"type": "integer", "exclusiveMinimum": 0})), "age: number is allowed no more, only integer"),
    (fields(lambda p: p.update(any={"type": "string"})), "any: any is allowed no more, only string"),
    (fields(lambda p: p["speed"]["anyOf"][0].update(maximum=250)), "speed: greatest was 300, is 250"),
    (fields(lambda p: p["speed"]["anyOf"][0].update(minimum=1)), "speed: least was 0, is 1"),
    (fields(lambda p: p["speed"].update(anyOf=[{"type": "number", "exclusiveMinimum": 0}, {"type": "null"}])), "speed: least was 0, is 0 exclusive"),
    (fields(lambda p: p["id"].update(maxLength=50)), "id: longest was 100, is 50"),
    (fields(lambda p: p["id"].update(minLength=1)), "id: shortest was unbounded, is 1"),
    (fields(lambda p: p["id"].update(pattern="^b")), "id: pattern was ^a, is ^b"),
    (fields(lambda p: p["id"].update(format="uri")), "id: format was free, is uri"),
    (fields(lambda p: p["kind"].update(enum=["car"])), "kind: bus is allowed no more"),
    (fields(lambda p: p.update(kind={"type": "string", "const": "bus"})), "kind: car is allowed no more"),
    (fields(lambda p: p["id"].update(enum=["a1"])), "id: only a1 are allowed now"),
    (lambda s: s["$defs"]["Place"]["properties"]["lat"].update(maximum=80), "place.lat: greatest was 90, is 80"),
    (lambda s: s["$defs"]["Place"].update(additionalProperties=False), "place: other fields are allowed no more"),
    (fields(lambda p: p["marks"].update(maxItems=2)), "marks: most items was 3, is 2"),
    (fields(lambda p: p["marks"]["items"].update(minimum=1)), "marks[]: least was 0, is 1"),
    (fields(lambda p: p["labels"].update(additionalProperties={"type": "number"})), "labels.*: string is allowed no more, only number"),
    (lambda s: s["x-topic"].update(key=["other"]), "key of the topic was ['id'], is ['other']"),
    (lambda s: s["x-topic"].update(partitions=8), "partitions of the topic was 4, is 8"),
    (lambda s: s["x-topic"].update(access="restricted"), "access of the topic was public, is restricted"),
]  # fmt: skip

HARMLESS = [
    lambda s: None,
    fields(lambda p: p.update(lane={"type": "integer"})),
    lambda s: s["required"].remove("id"),
    fields(lambda p: p["kind"]["enum"].append("tram")),
    fields(lambda p: p["speed"]["anyOf"][0].update(maximum=400, minimum=-1)),
    fields(lambda p: p["speed"]["anyOf"][0].pop("maximum")),
    fields(lambda p: p.update(age={"type": "number", "minimum": 0})),  # was exclusive
    fields(lambda p: p["marks"].update(items={"type": "number", "minimum": 0})),  # each integer is a number
    fields(lambda p: p["id"].pop("pattern")),
    fields(lambda p: p["id"].update(description="a name")),
    fields(lambda p: p.update(speed={})),
    fields(lambda p: p.update(place={"anyOf": [{"$ref": "#/$defs/Place"}, {"type": "null"}]})),
]


@pytest.mark.parametrize(("edit", "message"), BREAKING, ids=[m for _, m in BREAKING])
def test_a_change_that_takes_something_from_subscribers_is_named(edit, message):
    assert changed(edit) == [message]


@pytest.mark.parametrize("edit", HARMLESS, ids=range(len(HARMLESS)))
def test_a_change_that_only_gives_is_no_break(edit):
    assert changed(edit) == []


# The files


@pytest.fixture
def folder(tmp_path):
    """Contracts as the models say, and released as they are."""
    release(tmp_path)
    assert write(tmp_path) == []
    return tmp_path


def edited(path, edit):
    """As if the model had changed the other way round since."""
    found = json.loads(path.read_text())
    edit(found)
    path.write_text(json.dumps(found))


def test_what_is_written_passes_the_check_and_is_written_the_same_again(folder):
    assert check(folder) == []
    first = {path: path.read_bytes() for path in folder.rglob("*.*")}
    write(folder)
    release(folder)
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == first
    assert yaml.safe_load((folder / "asyncapi.yaml").read_text()) == asyncapi()


def test_drift_that_breaks_nobody_is_told_once(folder):
    edited(folder / "schemas" / f"{FLOW}.json", lambda s: s["properties"].pop("speed_kmh"))
    [only] = check(folder)
    assert "differs from the models" in only
    assert FLOW in only


def test_a_field_that_came_since_the_release_breaks_nobody(folder):
    edited(folder / RELEASED, lambda s: s[FLOW]["properties"].pop("speed_kmh"))
    assert check(folder) == []


def test_what_breaks_the_release_is_told_until_it_is_taken_back_whatever_is_written(folder):
    edited(folder / RELEASED, lambda s: s[FLOW]["properties"].update(lane={"type": "integer"}))
    broken = [f"{FLOW}: breaking: lane: the field is gone"]
    promised = (folder / RELEASED).read_bytes()
    assert check(folder) == write(folder) == check(folder) == release(folder) == broken
    assert (folder / RELEASED).read_bytes() == promised
    assert release(folder, breaking=True) == broken
    assert check(folder) == []


def test_a_record_of_alarms_promises_its_key_and_that_it_is_compacted(folder):
    edited(
        folder / RELEASED,
        lambda s: s["city.alarm.state.v1"]["x-topic"].update(key=["place"], cleanup="delete"),
    )
    assert check(folder) == [
        "city.alarm.state.v1: breaking: key of the topic was ['place'], is ['alarm_id']",
        "city.alarm.state.v1: breaking: cleanup of the topic was delete, is compact",
    ]


def test_a_missing_file_a_topic_that_is_gone_and_a_broken_file_are_told(folder):
    (folder / "asyncapi.yaml").unlink()
    (folder / "schemas" / "city.noise.level.v1.json").write_text("{}")
    edited(folder / RELEASED, lambda s: s.update({"city.noise.level.v1": {}}))
    told = "\n".join(check(folder))
    assert "asyncapi.yaml: is missing" in told
    assert "city.noise.level.v1: breaking: the topic is gone" in told
    assert "city.noise.level.v1.json: there is no such topic" in told
    (folder / RELEASED).write_text("{")
    assert "released.json: is no JSON" in "\n".join(check(folder))
    release(folder, breaking=True)
    assert write(folder) == check(folder) == []


def test_a_folder_without_contracts_lacks_all_of_them_and_the_release(tmp_path):
    assert len(check(tmp_path)) == len(MADE) + 2


def test_the_release_says_what_is_promised_and_nothing_else():
    released = json.loads((DOCS / RELEASED).read_text())
    flow_now = released[FLOW]
    assert flow_now["properties"]["speed_kmh"]["anyOf"][0]["maximum"] == 300
    assert flow_now["x-topic"]["key"] == ["segment_id"]
    assert not re.search(
        r'"(description|examples|title|default)": "', json.dumps(flow_now["properties"]["speed_kmh"])
    )
