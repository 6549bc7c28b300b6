"""Prints one JSON Schema of all that the console tells and is told: the page's types are made from it."""

import json

from pydantic.json_schema import models_json_schema

from console import wire

TOLD = (
    wire.City, wire.Alarms, wire.Detail, wire.Chart, wire.Health, wire.Snapshot, wire.SeenChanges, wire.NewEntry,
    wire.CityChanged, wire.Done, wire.Problem, wire.Explanation,
)  # fmt: skip
_, schema = models_json_schema(
    [*((model, "serialization") for model in TOLD), (wire.Ask, "validation")], ref_template="#/$defs/{model}"
)
print(json.dumps({"title": "Wire", "type": "object", "additionalProperties": False, **schema}))
