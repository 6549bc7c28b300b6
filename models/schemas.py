"""Contracts for subscribers, made from the models: a JSON Schema a topic, one AsyncAPI document, and what was promised."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Any

import yaml
from pydantic.json_schema import GenerateJsonSchema

from models.alarm import Alarm, AlarmEvent
from models.catalogue import ALARM_EVENT, ALARM_STATE, PLATFORM, PlatformTopic, event_of, events
from models.contracts import breaks, shape

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import BaseModel

    from models.base import Event
    from models.contracts import Schema

DIALECT = "https://json-schema.org/draft/2020-12/schema"
FORMAT = "application/schema+json;version=draft-2020-12"

#: What the last release promises. It is written by `release` alone, so that no change can hide what it breaks.
RELEASED = "released.json"

#: What citywatch itself publishes for others to read: the record's class and the field that is its key. The other
#: topics of the platform are its own affair.
RECORDS: dict[str, tuple[type[BaseModel], str]] = {
    ALARM_EVENT: (AlarmEvent, "fingerprint"),
    ALARM_STATE: (Alarm, "alarm_id"),
}

#: CloudEvents 1.0, Kafka binding, binary content mode (3.2): attributes are headers, the value is the data.
HEADERS: Schema = {
    "type": "object",
    "required": ["ce_id", "ce_source", "ce_type", "ce_specversion", "ce_time", "content-type"],
    "properties": {
        "ce_id": {"type": "string", "description": "event_id of the value"},
        "ce_source": {"type": "string", "format": "uri-reference"},
        "ce_type": {
            "type": "string",
            "description": "the topic's name; a record with another type (city.clock.v1, city.canary.v1) is no event: skip it",
        },
        "ce_specversion": {"const": "1.0"},
        "ce_time": {"type": "string", "format": "date-time"},
        "content-type": {"const": "application/json"},
        "traceparent": {"type": "string", "description": "W3C Trace Context, where the source had one"},
    },
}


class _Untitled(GenerateJsonSchema):
    """Fields without the titles pydantic makes of their names: the names hold the units and are enough."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's signature
        return False


def _schema(name: str, record: type[BaseModel]) -> Schema:
    made = record.model_json_schema(schema_generator=_Untitled)
    made["description"] = inspect.cleandoc(record.__doc__ or "")
    return {"$schema": DIALECT, "$id": f"urn:citywatch:{name}", "title": record.__name__, **made}


def _promise(event: type[Event]) -> Schema:
    """What a topic promises beside the form of its values."""
    topic = event.topic
    return {
        "kind": topic.kind,
        "access": topic.access,
        "key": list(topic.key),
        "series": list(topic.series),
        "partitions": topic.partitions,
        "lateness_s": topic.lateness.total_seconds(),
    }


def _source_schema(event: type[Event]) -> Schema:
    made = _schema(event.topic.name, event)
    for name in sorted(event.personal() & made["properties"].keys()):
        made["properties"][name]["x-personal"] = True
    return {**made, "x-topic": _promise(event)}


def _record_schema(name: str) -> Schema:
    record, key = RECORDS[name]
    topic = next(topic for topic in PLATFORM if topic.name == name)
    promise = {"access": topic.access, "key": [key], "partitions": topic.partitions, "cleanup": topic.cleanup}
    return {**_schema(name, record), "x-topic": promise}


def schemas() -> dict[str, Schema]:
    """JSON Schema 2020-12 of the value of every topic that others write or read, by topic name."""
    made = {event.topic.name: _source_schema(event) for event in events()}
    return made | {name: _record_schema(name) for name in RECORDS}


def asyncapi() -> Schema:
    """AsyncAPI 3.0 of the whole catalogue: channels, who may read, how long, what key, which value."""
    published = schemas()
    channels = {e.topic.name: _source_channel(e) for e in events()}
    channels |= {topic.name: _platform_channel(topic) for topic in PLATFORM}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "citywatch",
            "version": "1",
            "description": "Events of a city and the alarms made of them. A topic's contract changes only so that old "
            "values stay valid and no field goes; anything else is a new topic with the next version in its name.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": dict(sorted(channels.items())),
        "operations": {name: _operation(name) for name in sorted(published)},
        "components": {
            "messages": {
                schema["title"]: _message(name, schema) for name, schema in sorted(published.items())
            },
            "messageTraits": {"cloudEvent": {"headers": HEADERS}},
        },
    }


def _source_channel(event: type[Event]) -> Schema:
    topic = event.topic
    keep = int(topic.retention.total_seconds() * 1000)
    about = inspect.cleandoc(event.__doc__ or "").splitlines()[0]
    return _channel(topic.name, about, topic.access, topic.partitions, "delete", keep, event.__name__)


def _platform_channel(topic: PlatformTopic) -> Schema:
    record = RECORDS.get(topic.name)
    name = record[0].__name__ if record else None
    about = topic.about[0].upper() + topic.about[1:] + "."
    return _channel(
        topic.name, about, topic.access, topic.partitions, topic.cleanup, topic.retention_ms, name
    )


def _channel(
    name: str, about: str, access: str, partitions: int, cleanup: str, retention_ms: int, message: str | None
) -> Schema:
    return {
        "address": name,
        "description": about,
        "messages": {message: {"$ref": f"#/components/messages/{message}"}} if message else {},
        "x-access": access,
        "bindings": {
            "kafka": {
                "topic": name,
                "partitions": partitions,
                "topicConfiguration": {"cleanup.policy": [cleanup], "retention.ms": retention_ms},
                "bindingVersion": "0.5.0",
            }
        },
    }


def _operation(name: str) -> Schema:
    """Seen from citywatch: sources' events come in, alarms go out. Whoever may read a topic may subscribe to it."""
    return {"action": "send" if name in RECORDS else "receive", "channel": {"$ref": f"#/channels/{name}"}}


def _message(name: str, schema: Schema) -> Schema:
    key = RECORDS[name][1] if name in RECORDS else "/".join(event_of(name).topic.key)
    return {
        "name": schema["title"],
        "summary": schema["description"].splitlines()[0],
        "contentType": "application/json",
        "traits": [{"$ref": "#/components/messageTraits/cloudEvent"}],
        "payload": {"schemaFormat": FORMAT, "schema": {"$ref": f"./schemas/{name}.json"}},
        "bindings": {"kafka": {"key": {"type": "string", "description": key}, "bindingVersion": "0.5.0"}},
    }


def _files() -> dict[str, str]:
    made = {
        f"schemas/{name}.json": json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        for name, schema in schemas().items()
    }
    made["asyncapi.yaml"] = yaml.safe_dump(asyncapi(), sort_keys=False, allow_unicode=True, width=110)
    return made


def write(folder: Path) -> list[str]:
    """Write `asyncapi.yaml` and `schemas/<topic>.json` into `folder`; what breaks the last release comes back.

    Schemas of topics that are no more are removed.
    """
    (folder / "schemas").mkdir(parents=True, exist_ok=True)
    made = _files()
    for name in _stale(folder, made):
        (folder / name).unlink()
    for name, text in made.items():
        (folder / name).write_text(text, encoding="utf-8")
    return _broken(folder)


def check(folder: Path) -> list[str]:
    """What is wrong with the contracts in `folder`, a sentence each: what breaks the last release, then files that drifted."""
    made = _files()
    again = "run `citywatch schemas write` and commit it"
    drift = [
        f"{folder / name}: {'differs from the models' if (folder / name).exists() else 'is missing'}; {again}"
        for name, text in sorted(made.items())
        if not (folder / name).exists() or (folder / name).read_text(encoding="utf-8") != text
    ]
    stale = [
        f"{folder / name}: there is no such topic in the catalogue; {again}" for name in _stale(folder, made)
    ]
    return _broken(folder) + drift + stale


def release(folder: Path, *, breaking: bool = False) -> list[str]:
    """Write down what is promised from now on; what this takes from those who keep to the last release comes back.

    Unless `breaking` nothing is written then.
    """
    broken = _broken(folder) if (folder / RELEASED).exists() else []
    if breaking or not broken:
        folder.mkdir(parents=True, exist_ok=True)
        lines = (
            f"{json.dumps(name)}: {json.dumps(shape(schema), sort_keys=True, ensure_ascii=False)}"
            for name, schema in sorted(schemas().items())
        )
        (folder / RELEASED).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    return broken


def _stale(folder: Path, made: dict[str, str]) -> list[str]:
    found = (f"schemas/{path.name}" for path in sorted((folder / "schemas").glob("*.json")))
    return [name for name in found if name not in made]


def _broken(folder: Path) -> list[str]:
    """What the models take from those who keep to the last release."""
    path = folder / RELEASED
    try:
        released = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return [
            f"{path}: is missing, so nothing is compared with what was promised; `citywatch schemas release` writes it"
        ]
    except ValueError as error:
        return [f"{path}: is no JSON ({error}), so nothing can be compared with it"]
    now = schemas()
    return [
        f"{topic}: breaking: {change}"
        for topic, old in sorted(released.items())
        for change in (breaks(old, now[topic]) if topic in now else ["the topic is gone"])
    ]
