"""The comparer of contracts keeps its word: after a change it lets pass, whatever was valid is valid."""

import copy

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.catalogue import events
from models.contracts import breaks, shape
from models.schemas import schemas

WORDS = ["", "x", "ab", "bus"]
NUMBERS = st.integers(-2, 3)


# --- schemas as pydantic makes them, and documents for them ------------------------------------------------------------


def some(**words):
    """A schema with some of these words."""
    return st.fixed_dictionaries({}, optional=words)


def of(kind, words):
    return words.map(lambda found: {"type": kind} | found)


BOUNDS = some(minimum=NUMBERS, maximum=NUMBERS, exclusiveMinimum=NUMBERS, exclusiveMaximum=NUMBERS)
INTEGERS = of(
    "integer", st.one_of(BOUNDS, some(minimum=NUMBERS, multipleOf=st.integers(1, 3), enum=st.just([1, 2, 3])))
)
TEXTS = of(
    "string",
    st.one_of(
        some(minLength=st.integers(0, 2), maxLength=st.integers(1, 3)),
        some(pattern=st.sampled_from(["^a", "b", "^[a-z]*$"])),
        some(enum=st.lists(st.sampled_from(WORDS), min_size=1, unique=True)),
        some(const=st.sampled_from(WORDS)),
    ),
)
LEAVES = st.one_of(INTEGERS, of("number", BOUNDS), TEXTS, st.just({"type": "boolean"}), st.just({}))
LISTS = of(
    "array",
    st.fixed_dictionaries(
        {"items": LEAVES}, optional={"minItems": st.integers(0, 2), "maxItems": st.integers(0, 2)}
    ),
)
OBJECTS = of(
    "object",
    st.fixed_dictionaries(
        {"properties": st.dictionaries(st.sampled_from("ab"), LEAVES, min_size=1)},
        optional={
            "required": st.lists(st.sampled_from("ab"), unique=True),
            "additionalProperties": st.one_of(st.booleans(), TEXTS),
        },
    ),
)
CHOICES = st.lists(st.one_of(LEAVES, TEXTS), min_size=1, max_size=3).map(lambda found: {"anyOf": found})
FEW = st.integers(0, 1)
#: A part is compared with another one of its kind; some are narrow, so that little differs.
KINDS = (
    INTEGERS,
    of("number", BOUNDS),
    of("number", some(minimum=FEW, exclusiveMinimum=FEW)),
    TEXTS,
    LISTS,
    of("array", some(items=TEXTS)),
    OBJECTS,
    of("object", some(additionalProperties=st.one_of(st.just(False), st.just(True), TEXTS))),
    CHOICES,
    st.one_of(LEAVES, LISTS, OBJECTS, CHOICES),
)

#: Where a part stands in a contract.
PLACES = (
    lambda part: {"type": "object", "properties": {"f": part}},
    lambda part: {"type": "object", "properties": {"f": {"anyOf": [part, {"type": "null"}]}}},
    lambda part: {"type": "object", "properties": {"f": {"$ref": "#/$defs/P"}}, "$defs": {"P": part}},
    lambda part: {"type": "object", "properties": {"f": {"type": "array", "items": part}}},
    lambda part: {"type": "object", "properties": {}, "additionalProperties": part},
)


@st.composite
def pairs(draw):
    """Two contracts that differ in one part: it is another one, or one of its words is."""
    kind, place = draw(st.sampled_from(KINDS)), draw(st.sampled_from(PLACES))
    old, new = draw(kind), draw(kind)
    if draw(st.booleans()):
        word = draw(st.sampled_from(sorted({*old, *new}) or ["type"]))
        new = {name: part for name, part in old.items() if name != word} | {
            name: part for name, part in new.items() if name == word
        }
    return place(old), place(new)


def documents(part, whole):
    """Values that may be valid; of fields only those that the schema names, or gives a type."""
    if "$ref" in part:
        return documents(whole["$defs"]["P"], whole)
    if "anyOf" in part:
        return st.one_of(*(documents(choice, whole) for choice in part["anyOf"]))
    if "enum" in part or "const" in part:
        return st.sampled_from(part.get("enum") or [part["const"]])
    kind = part.get("type")
    if kind == "object":
        fields = {name: documents(inner, whole) for name, inner in part.get("properties", {}).items()}
        rest = part.get("additionalProperties", False)
        if rest is not False:
            fields["z"] = documents({} if rest is True else rest, whole)
        return st.fixed_dictionaries({}, optional=fields)
    if kind == "array":
        return st.lists(documents(part.get("items", {}), whole), max_size=3)
    plain = {
        "string": st.sampled_from(WORDS),
        "integer": NUMBERS,
        "number": st.one_of(NUMBERS, st.sampled_from([-0.5, 0.5])),
        "boolean": st.booleans(),
        "null": st.none(),
    }
    return plain[kind] if kind in plain else st.one_of(*plain.values())


@settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_what_was_valid_stays_valid_after_every_change_that_is_let_pass(data):
    old, new = data.draw(pairs())
    if breaks(old, new):
        return
    before, after = map(jsonschema.Draft202012Validator, (old, new))
    for document in data.draw(st.lists(documents(old, old), min_size=15, max_size=15)):
        assert after.is_valid(document) or not before.is_valid(document)


@settings(max_examples=200, deadline=None)
@given(pairs())
def test_a_contract_takes_nothing_from_itself_and_its_shape_is_the_same_contract(pair):
    schema = {**pair[0], "description": "a"}
    assert breaks(schema, schema) == breaks(schema, shape(schema)) == breaks(shape(schema), schema) == []


@pytest.mark.parametrize("event", events(), ids=lambda e: e.topic.name)
def test_on_the_real_contracts_an_optional_field_more_is_let_pass_and_one_less_is_not(event):
    old = schemas()[event.topic.name]
    new = copy.deepcopy(old)
    new["properties"]["lane"] = {"anyOf": [{"type": "integer"}, {"type": "null"}]}
    assert breaks(old, new) == []
    assert breaks(new, old) == ["lane: the field is gone"]
    new["required"] = [*new["required"], "lane"]
    assert breaks(old, new) == ["lane: is required now, and is new"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ({"type": "integer"}, {"type": "integer", "multipleOf": 5}, "multipleOf changed, which is not compared"),
        ({"anyOf": [{"type": "string", "const": "a"}, {"type": "string", "maxLength": 3}]}, {"anyOf": [{"type": "string", "const": "a"}]}, "only a are allowed now"),
        ({"anyOf": [{"type": "string"}], "minLength": 1}, {"anyOf": [{"type": "string"}], "minLength": 2}, "changed in a way that is not compared"),
        ({"type": "string"}, {"enum": ["a"]}, "only a are allowed now"),
        ({"type": "object"}, {"type": "object", "additionalProperties": {"type": "string"}}, "any is allowed no more, only string"),
        ({"oneOf": [{"type": "string"}]}, {"oneOf": [{"type": "integer"}]}, "oneOf changed, which is not compared"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_not_let_pass(old, new, said):
    [only] = breaks(old, new)
    assert said in only
