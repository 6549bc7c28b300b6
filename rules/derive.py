"""What an occurrence was derived from, as little of it as will do; and the same way back, from that alone.

A detector's outcome is its rule's state at some moment and the samples since. Of the samples only those are carried
without any one of which the outcome would be another, where the kind of rule has such a least set; where every sample
counts (a ratio, a baseline) the last few are carried, and the state is that before them. Either way the outcome is
folded again from what is carried, and all that was used is sealed by a hash.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from models.alarm import Proof
from models.base import micros, moment
from models.catalogue import event_of
from rules.calendar import INF
from rules.least import Search
from rules.machine import DIGEST, ID, REVISION, VALUES, Episode, T
from rules.program import compile_program
from rules.spec import RuleSet
from rules.terms import names_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pydantic import BaseModel

    from models.base import Micros
    from rules.machine import Kind, Sample
    from rules.spec import AnyRule

#: Kinds of which every sample counts.
NO_MINIMUM = frozenset({"ratio", "baseline"})
#: Where there is no least set, so many samples are carried.
FEW = 40
#: So many samples may be folded in search of the least set: some milliseconds. Whoever needs more has a count of hundreds.
MOST_FOLDED = 5_000


#: What folding a state raises that is none.
DAMAGE = (ValueError, TypeError, KeyError, IndexError, AttributeError)


class NotDerivableError(ValueError):
    """This proof cannot be folded here: it is for another version of citywatch, or it is damaged."""


class Given(NamedTuple):
    """What one rule was given: its state, the samples since, and until when time passed.

    `until`: from then on the rule was in force no more. `version` is that of the rules.
    """

    kind: Kind
    state: Any
    since: Micros
    samples: Sequence[Sample]
    clock: Micros
    until: Micros = INF
    version: int = -1


def episodes(given: Given, samples: Iterable[Sample] | None = None) -> list[Episode]:
    """Those that ended since the state and the one that is open, of these samples (else of all that were given)."""
    kind, state, upto = given.kind, given.state, min(given.clock, given.until)
    closed: list[Episode] = []
    for sample in given.samples if samples is None else samples:
        state = fed(kind, state, sample, closed)
    if kind.due(state) <= upto:
        state = kind.expire(state, upto, closed)
    standing = kind.open(state)
    if standing is not None:
        closed.append(standing if given.until > upto else standing._replace(end=upto))
    return closed


def fed(kind: Kind, state: Any, sample: Sample, closed: list[Episode]) -> Any:
    """The state after a sample, and after whatever was due before it."""
    if kind.due(state) <= sample[T]:
        state = kind.expire(state, sample[T], closed)
    if state is None and not kind.wakes(sample[VALUES]):
        return None
    return kind.feed(state, sample, closed)


def same(one: Episode, other: Episode) -> bool:
    """Whether an operator would be told the same of both."""
    return one[:4] == other[:4] and one.held == other.held


# --- the least set ------------------------------------------------------------------------------------------------------


def least(given: Given, wanted: Episode) -> list[Sample] | None:
    """Samples without any one of which the episode is another; None where they take too long to find."""

    def gives(samples: Sequence[Sample]) -> bool:
        return any(same(e, wanted) for e in episodes(given, samples))

    named = {s[:2] for s in wanted.evidence}
    search = Search(gives, MOST_FOLDED)
    tries: tuple[Callable[[], list[Sample]], ...] = (
        list,
        lambda: [s for s in given.samples if s[:2] in named],  # mostly enough
        lambda: _moving(given),
    )
    found = next((few for look in tries if search.gives(few := look())), None)
    return None if found is None else search.least(found)


def _moving(given: Given) -> list[Sample]:
    """The samples that make the state another: the others say nothing of this rule."""
    kind, state, closed = given.kind, given.state, list[Episode]()
    found = []
    for sample in given.samples:
        if kind.due(state) <= sample[T]:
            state = kind.expire(state, sample[T], closed)
        before, ended = state, len(closed)
        state = fed(kind, state, sample, closed)
        if state is not before and (state != before or len(closed) > ended):
            found.append(sample)
    return found


def _last(given: Given, upto: Micros) -> Given:
    """The same with the last few samples up to a moment, from the state before the first of them."""
    samples = [s for s in given.samples if s[T] <= upto]
    cut = max(0, len(samples) - FEW)
    while cut and samples[cut - 1][T] == samples[cut][T]:
        cut -= 1  # the state is that of a moment
    if not cut:
        return given._replace(samples=samples)
    kind, state, closed = given.kind, given.state, list[Episode]()
    for sample in samples[:cut]:
        state = fed(kind, state, sample, closed)
    since = samples[cut][T]
    if kind.due(state) < since:
        state = kind.expire(state, since - 1, closed)
    return given._replace(state=state, since=since, samples=samples[cut:])


# --- proving ------------------------------------------------------------------------------------------------------------


class Facts(NamedTuple):
    """What a proof says beside what was given: of which log, what its samples' values are called, the rule of a version."""

    log: str
    partition: int
    names: tuple[str, ...]
    rules_of: Callable[[int], Any]


def prove(facts: Facts, choices: Sequence[Given], episode: Episode, *, gone: bool = False) -> Proof:
    """The proof of an episode, of what the versions of its rule were given, in the order of time.

    The last version that gives the episode is the one that it belongs to. `gone`: of what was told of it, nothing begins at
    its start any more.
    """
    used = [s for given in choices for s in given.samples]
    if gone:
        given = next((g for g in reversed(choices) if g.since <= episode.start), choices[0])
        return _sealed(
            facts, _last(given._replace(clock=episode.start, until=INF), episode.start), used, gone=True
        )
    given = choices[-1]
    if len(choices) > 1:
        given = next((g for g in reversed(choices) if any(same(e, episode) for e in episodes(g))), given)
    if given.until < INF and episode.end != given.until:
        given = given._replace(clock=min(given.clock, given.until - 1), until=INF)
    kind = facts.rules_of(given.version)["rules"][0]["kind"]
    fewest = None if kind in NO_MINIMUM else least(given, episode)
    if fewest is None:
        few = _last(given, given.clock if episode.end is None else episode.end)
    else:
        few = given._replace(samples=fewest)
    return _sealed(facts, few, used, minimal=fewest is not None, cited=episode.evidence)


def _sealed(
    facts: Facts,
    given: Given,
    used: Sequence[Sample],
    *,
    cited: Sequence[Sample] = (),
    minimal: bool = False,
    gone: bool = False,
) -> Proof:
    state, samples = msgspec.to_builtins(given.state), msgspec.to_builtins(given.samples)
    there = {(s[T], s[ID]) for s in (*samples_in(state), *samples)} if cited else set()
    beside = [s for s in cited if s[:2] not in there]
    proof = Proof(
        log=facts.log,
        partition=facts.partition,
        rules=facts.rules_of(given.version),
        version=given.version,
        names=facts.names,
        since=moment(given.since),
        clock=moment(min(given.clock, given.until)),
        until=None if given.until == INF else moment(given.until),
        state=state,
        samples=tuple(samples),
        beside=tuple(msgspec.to_builtins(beside)),
        used=len(used),
        minimal=minimal,
        gone=gone,
        over=digest_of(used),
    )
    return proof.model_copy(update={"seal": seal_of(proof)})


def digest_of(samples: Iterable[Sample]) -> str:
    """A hash over samples: which they were, and that they were these."""
    return hash_of(f"{s[T]}/{s[ID]}/{s[REVISION]}/{s[DIGEST]}" for s in samples)


def hash_of(lines: Iterable[str]) -> str:
    found = blake2b(digest_size=16)
    for line in lines:
        found.update(f"{line}\n".encode())
    return found.hexdigest()


def seal_of(proof: Proof) -> str:
    """A hash over all that a proof says, whether it has just been made or was read back from JSON."""
    said = [
        proof.log, proof.partition, proof.rules, proof.version, proof.names, micros(proof.since), micros(proof.clock),
        None if proof.until is None else micros(proof.until), proof.state, proof.samples, proof.beside,
        proof.used, proof.minimal, proof.gone, proof.over,
    ]  # fmt: skip
    text = json.dumps(said, sort_keys=True, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=16).hexdigest()


def plain(model: BaseModel) -> Any:
    """A rule, a sensor or a set of them as JSON has it."""
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


# --- the way back -------------------------------------------------------------------------------------------------------


def rule_of(proof: Proof) -> AnyRule:
    """The rule that a proof carries. Raises NotDerivableError."""
    try:
        return RuleSet.model_validate(proof.rules).rules[0]
    except (ValueError, TypeError, IndexError) as error:
        raise NotDerivableError(f"the proof carries no rule: {error}") from error


def given_of(proof: Proof, key: str) -> Given:
    """What the rule was given, of a proof that was read back. Raises NotDerivableError."""
    try:
        rules = RuleSet.model_validate(proof.rules)
        event = event_of(rules.rules[0].on)
        program = compile_program(rules, proof.version, event).of(key)
        move = _renamed(proof.names, names_of(event))
        return Given(
            kind=program.kinds[0],
            state=_moved(_tuples(proof.state), move),
            since=micros(proof.since),
            samples=[_moved(s, move) for s in _tuples(proof.samples)],
            clock=micros(proof.clock),
            until=INF if proof.until is None else micros(proof.until),
            version=proof.version,
        )
    except DAMAGE as error:
        raise NotDerivableError(f"the proof cannot be read: {error}") from error


def fold(given: Given) -> list[Episode]:
    """As `episodes`, of what came from outside. Raises NotDerivableError."""
    try:
        return episodes(given)
    except DAMAGE as error:
        raise NotDerivableError(f"the proof cannot be folded: {type(error).__name__}: {error}") from error


def cited(proof: Proof) -> list[Sample]:
    """Every sample that a proof carries, each once, in the order of the fold. Raises NotDerivableError."""
    try:
        found = {
            (s[T], s[ID], s[REVISION], s[DIGEST]): _tuples(s)
            for s in (*samples_in(proof.state), *proof.samples, *proof.beside)
        }
        return [found[key] for key in sorted(found)]
    except DAMAGE as error:
        raise NotDerivableError(f"the samples of the proof cannot be read: {error}") from error


def samples_in(state: Any) -> Iterator[Any]:
    """The samples within a state, however deep."""
    if isinstance(state, list | tuple):
        if _is_sample(state):
            yield state
        else:
            for part in state:
                yield from samples_in(part)


def _is_sample(x: Any) -> bool:
    return (
        len(x) == 7
        and isinstance(x[ID], str)
        and isinstance(x[2], str)
        and isinstance(x[VALUES], list | tuple)
    )


def _tuples(x: Any) -> Any:
    """JSON has one kind of array; states and samples are tuples all the way down."""
    return tuple([_tuples(i) for i in x]) if isinstance(x, list | tuple) else x


def _renamed(old: Sequence[str], new: Sequence[str]) -> list[int | None] | None:
    """Where each value of an event is found among those of an older citywatch; None: they are the same."""
    if tuple(old) == tuple(new):
        return None
    return [old.index(name) if name in old else None for name in new]


def _moved(state: Any, move: list[int | None] | None) -> Any:
    """A state or a sample with its values in the order of today."""
    if move is None or not isinstance(state, tuple):
        return state
    if _is_sample(state):
        values = tuple([None if at is None else state[VALUES][at] for at in move])
        return (*state[:VALUES], values)
    return tuple([_moved(part, move) for part in state])
