"""The same for a rule over signals: what it found, from as few alarms as will do, and the way back from them alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import TypeAdapter

from models.alarm import Proof
from models.base import moment
from rules.defined import Defined
from rules.derive import NotDerivableError, hash_of, plain, seal_of
from rules.gather import Member
from rules.least import Search
from rules.situations import Correlate, Root, WideRule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.base import Micros
    from rules.gather import Found, Labels

#: So many alarms may be looked at in search of the fewest: some tens of milliseconds, for a gateway of a hundred sensors.
MOST_LOOKED_AT = 20_000

_WIDE: TypeAdapter[Any] = TypeAdapter(WideRule)


class Situation(NamedTuple):
    """What was told of a situation: an end that lies ahead is not told yet."""

    labels: Labels
    start: Micros
    end: Micros | None
    peak: int
    held: bool


def situations(rule: Defined, members: Sequence[Member], clock: Micros) -> list[Situation]:
    """What a rule finds in these alarms once the clock has come to `clock`."""
    return [_told(rule, found, clock) for found in rule.found(members)]


def _told(rule: Defined, found: Found, clock: Micros) -> Situation:
    end = None if found.end is None or found.end > clock else found.end
    wait = rule.rule.wait_us if isinstance(rule.rule, Root) else 0
    held = (clock if end is None else end) - found.start < wait
    return Situation(found.labels, found.start, end, found.peak, held)


def prove(
    log: str, rule: Defined, version: int, members: Sequence[Member], found: Found, clock: Micros
) -> Proof:
    """The proof of what a rule found among the alarms that it looked at."""
    wanted = _told(rule, found, clock)
    mine = sorted(m for m in members if m.rule in rule.rule.members)

    def gives(some: Sequence[Member]) -> bool:
        return wanted in situations(rule, some, clock)

    search = Search(gives, MOST_LOOKED_AT)
    near = [m for m in mine if _near(rule, found, m)]
    tries = (list(found.evidence), near, mine)
    start = next((few for few in tries if search.gives(few)), mine)
    fewest = search.least(start)
    carried = start if fewest is None else fewest
    beside = [m for m in found.evidence if m not in carried]
    proof = Proof(
        log=log,
        rules=_plain(rule, [*carried, *beside]),
        version=version,
        names=Member._fields,
        since=moment(found.anchor),
        clock=moment(clock),
        samples=tuple(_row(m) for m in sorted(carried)),
        beside=tuple(_row(m) for m in beside),
        used=len(near),
        minimal=fewest is not None,
        over=hash_of(f"{m.fingerprint}/{m.start}/{m.end}" for m in near),
    )
    return proof.model_copy(update={"seal": seal_of(proof)})


def _near(rule: Defined, found: Found, member: Member) -> bool:
    """Whether an alarm was there when the situation was, or began when its anchor did."""
    if isinstance(rule.rule, Correlate):
        return abs(member.start - found.anchor) <= rule.rule.window_us
    return (member.end is None or member.end >= found.anchor) and (
        found.end is None or member.start <= found.end
    )


def _plain(rule: Defined, members: Sequence[Member]) -> dict[str, Any]:
    """The rule as JSON, with what it knows of the other rules and of the registry that has to do with these alarms."""
    keys = {(m.topic, "/".join(v for _, v in m.labels)) for m in members}
    groups = {(by, rule.group(by, m)) for m in members for by in _groups(rule)}
    return {
        "wide": [plain(rule.rule)],
        "topics": dict(sorted(rule.topics.items())),
        "classes": dict(sorted(rule.classes.items())),
        "gateways": sorted([*key, gateway] for key, gateway in rule.gateways.items() if key in keys),
        "registered": sorted([*group, n] for group, n in rule.registered.items() if group in groups),
    }


def _groups(rule: Defined) -> tuple[Any, ...]:
    by = getattr(rule.rule, "by", ())
    return (by,) if isinstance(by, str) else tuple(by)


def _row(member: Member) -> list[Any]:
    return [*member[:6], [list(pair) for pair in member.labels], *member[7:]]


# --- the way back -------------------------------------------------------------------------------------------------------


def is_wide(proof: Proof) -> bool:
    """Whether the proof is of a rule over signals."""
    return isinstance(proof.rules, dict) and bool(proof.rules.get("wide"))


def rule_of(proof: Proof) -> Defined:
    """The rule that a proof carries. Raises NotDerivableError."""
    try:
        said = proof.rules
        return Defined(
            _WIDE.validate_python(said["wide"][0]),
            b"",
            said["topics"],
            said["classes"],
            {(topic, key): gateway for topic, key, gateway in said["gateways"]},
            {(by, group): n for by, group, n in said["registered"]},
            {},
        )
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise NotDerivableError(f"the proof carries no rule over signals: {error}") from error


def members_of(proof: Proof, *, beside: bool = False) -> list[Member]:
    """The alarms that a proof carries; `beside`: and those that are only cited. Raises NotDerivableError."""
    try:
        rows = [
            dict(zip(proof.names, row, strict=True))
            for row in (*proof.samples, *(proof.beside if beside else ()))
        ]
        return sorted(Member(**row | {"labels": tuple((n, v) for n, v in row["labels"])}) for row in rows)
    except (ValueError, TypeError, KeyError) as error:
        raise NotDerivableError(f"the alarms of the proof cannot be read: {error}") from error
