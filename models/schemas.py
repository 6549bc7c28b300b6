"""Contracts for subscribers, made from the models: a JSON Schema a topic, one AsyncAPI document, and what broke them."""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any

import yaml
from pydantic.json_schema import GenerateJsonSchema

from models.alarm import Alarm, AlarmEvent
from models.catalogue import ALARM_EVENT, ALARM_STATE, PLATFORM, PlatformTopic, event_of, events

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pydantic import BaseModel

    from models.base import Event

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
FORMAT = "application/schema+json;version=draft-2020-12"

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


def schemas() -> dict[str, Schema]:
    """JSON Schema 2020-12 of the value of every topic that others write or read, by topic name."""
    made = {event.topic.name: _source_schema(event) for event in events()}
    return made | {name: _schema(name, record) for name, (record, _) in RECORDS.items()}


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
    """Write `asyncapi.yaml` and `schemas/<topic>.json` into `folder`; what this breaks for subscribers comes back.

    Schemas of topics that are no more are removed.
    """
    broken = _broken(folder)
    (folder / "schemas").mkdir(parents=True, exist_ok=True)
    made = _files()
    for name in _stale(folder, made):
        (folder / name).unlink()
    for name, text in made.items():
        (folder / name).write_text(text, encoding="utf-8")
    return broken


def check(folder: Path) -> list[str]:
    """What is wrong with the contracts in `folder`, a sentence each: breaking changes first, then files that drifted."""
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


def _stale(folder: Path, made: dict[str, str]) -> list[str]:
    found = (f"schemas/{path.name}" for path in sorted((folder / "schemas").glob("*.json")))
    return [name for name in found if name not in made]


def _broken(folder: Path) -> list[str]:
    """Breaking changes from the schemas committed in `folder` to those of the models."""
    now = schemas()
    found: list[str] = []
    for path in sorted((folder / "schemas").glob("*.json")):
        topic = path.stem
        try:
            old = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            found.append(f"{path}: is no JSON ({error}), so nothing can be compared with it")
            continue
        changes = breaks(old, now[topic]) if topic in now else ["the topic is gone"]
        found += [f"{topic}: breaking: {change}" for change in changes]
    return found


def breaks(old: Schema, new: Schema) -> list[str]:
    """What `new` takes from those who keep to `old`: a field, a value that was valid, or the topic's promise."""
    before, after = old.get("x-topic", {}), new.get("x-topic", {})
    promise = [
        f"{name} of the topic was {before[name]}, is {after.get(name)}"
        for name in ("kind", "access", "key", "series", "partitions")
        if name in before and before[name] != after.get(name)
    ]
    return promise + list(_narrower(_Seen(old, old), _Seen(new, new), ""))


@dataclass(frozen=True, slots=True)
class _Seen:
    """A part of a schema, with the whole in which its references are found."""

    part: Schema
    whole: Schema

    def at(self, part: Any) -> _Seen:
        return _Seen(part if isinstance(part, dict) else {}, self.whole)

    def variants(self) -> dict[str, _Seen]:
        """The part by JSON type: `X | null` is two. What has no type allows any."""
        part = self.part
        if "$ref" in part:
            return self.at(self.whole["$defs"][part["$ref"].rpartition("/")[2]]).variants()
        if "anyOf" in part:
            return {
                kind: seen for choice in part["anyOf"] for kind, seen in self.at(choice).variants().items()
            }
        return {part.get("type", "any"): self}

    def allowed(self) -> list[Any] | None:
        return [self.part["const"]] if "const" in self.part else self.part.get("enum")


def _narrower(old: _Seen, new: _Seen, where: str) -> Iterator[str]:
    """Each value that `old` allowed and `new` does not, by place."""
    after = new.variants()
    for kind, was in old.variants().items():
        now = after.get(kind) or (after.get("number") if kind == "integer" else None)
        if now is not None:
            yield from _narrower_values(was, now, where)
            yield from _narrower_object(was, now, where)
            if "items" in was.part or "items" in now.part:
                yield from _narrower(
                    was.at(was.part.get("items")), now.at(now.part.get("items")), f"{where}[]"
                )
        elif "any" not in after:
            yield f"{where or 'value'}: {kind} is allowed no more, only {' or '.join(sorted(after))}"


#: Bounds by words: how to read the bound (greater is narrower), and its name in the message.
_BOUNDS = (
    ("least", "minimum", "exclusiveMinimum", 1),
    ("greatest", "maximum", "exclusiveMaximum", -1),
    ("shortest", "minLength", "", 1),
    ("longest", "maxLength", "", -1),
    ("fewest items", "minItems", "", 1),
    ("most items", "maxItems", "", -1),
)


def _bound(part: Schema, inclusive: str, exclusive: str, sign: int) -> tuple[float, bool]:
    """The tightest bound; of two at one value the exclusive one is tighter."""
    found = [(sign * part[name], name == exclusive) for name in (inclusive, exclusive) if name in part]
    return max(found, default=(-inf, False))


def _narrower_values(old: _Seen, new: _Seen, where: str) -> Iterator[str]:
    was, now = old.allowed(), new.allowed()
    if now is not None and was is None:
        yield f"{where}: only {', '.join(map(str, now))} are allowed now"
    elif now is not None and was is not None and (gone := [v for v in was if v not in now]):
        yield f"{where}: {', '.join(map(str, gone))} is allowed no more"
    for name, inclusive, exclusive, sign in _BOUNDS:
        before = _bound(old.part, inclusive, exclusive, sign)
        after = _bound(new.part, inclusive, exclusive, sign)
        if after > before:
            said = "unbounded" if before[0] == -inf else f"{sign * before[0]:g}{' exclusive' * before[1]}"
            yield f"{where}: {name} was {said}, is {sign * after[0]:g}{' exclusive' * after[1]}"
    for name in ("pattern", "format"):
        if name in new.part and new.part[name] != old.part.get(name):
            yield f"{where}: {name} was {old.part.get(name, 'free')}, is {new.part[name]}"


def _narrower_object(old: _Seen, new: _Seen, where: str) -> Iterator[str]:
    was, now = old.part.get("properties", {}), new.part.get("properties", {})
    dot = f"{where}." if where else ""
    for name in was:
        if name in now:
            yield from _narrower(old.at(was[name]), new.at(now[name]), dot + name)
        else:
            yield f"{dot}{name}: the field is gone"
    for name in new.part.get("required", ()):
        if name not in old.part.get("required", ()):
            yield f"{dot}{name}: is required now, and {'was optional' if name in was else 'is new'}"
    rest = old.part.get("additionalProperties", True), new.part.get("additionalProperties", True)
    if rest[0] is not False and rest[1] is False:
        yield f"{where or 'value'}: other fields are allowed no more"
    elif isinstance(rest[0], dict) and isinstance(rest[1], dict):
        yield from _narrower(old.at(rest[0]), new.at(rest[1]), f"{dot}*")
