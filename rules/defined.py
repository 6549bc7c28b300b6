"""Rules over signals, compiled: each with what it must know of the other rules and of the registry of its version."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from json import dumps
from typing import TYPE_CHECKING

from models.base import Place
from models.catalogue import topics
from rules.gather import (
    Cover,
    Found,
    Member,
    Nearby,
    Span,
    clusters,
    covered,
    crowded,
    needed,
    situation,
    without,
)
from rules.situations import Area, Correlate, Inhibit, Root
from rules.spec import Baseline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from models.base import Micros
    from rules.gather import Labels
    from rules.situations import AnyWide, Group
    from rules.spec import RuleSet, Sensor

#: All baselines are one class: each says only that a value is strange, and one event makes many values strange.
_BASELINE = "baseline"


@dataclass(frozen=True, eq=False)
class Defined:
    """One rule over signals as one version has it. `digest`: versions in which nothing of this differs are the same."""

    rule: AnyWide
    digest: bytes
    topics: Mapping[str, str]  # of the member rules
    classes: Mapping[str, str]
    gateways: Mapping[tuple[str, str], str]  # by (topic, key)
    registered: Mapping[tuple[Group, str], int]  # subjects, by group
    places: Mapping[tuple[Group, str], Place]
    _gateway_of: dict[tuple[str, Labels], str | None] = field(default_factory=dict)

    def group(self, by: Group, member: Member) -> str | None:
        """What the member is gathered under; None: it belongs to nothing of this kind."""
        if by == "feed":
            return member.topic
        if by == "ward":
            return member.ward
        if by == "site":
            return member.site
        subject = (member.topic, member.labels)
        if subject not in self._gateway_of:  # asked for every member at every change
            labels = dict(member.labels)
            key = topics()[member.topic].key if member.topic in topics() else ()
            place = (member.topic, "/".join(labels.get(name, "") for name in key))
            self._gateway_of[subject] = self.gateways.get(place)
        return self._gateway_of[subject]

    @property
    def by(self) -> tuple[Group, ...]:
        """What it gathers by; nothing, where it gathers by nearness."""
        return _gathers_by(self.rule)

    def belongs(self, member: Member, labels: Labels) -> bool:
        """Whether the member is of the group that a situation with these labels is of."""
        return any(_labels(by, self.group(by, member)) == labels for by in self.by)

    # --- what there is, of members in any order -------------------------------------------------------------------

    def found(self, members: Sequence[Member]) -> list[Found]:
        """The situations among these members; `inhibit` makes none."""
        rule = self.rule
        if isinstance(rule, Correlate):
            gathered = clusters(members, rule.within_m, rule.window_us, rule.anchor)
            need = rule.classes or rule.count or 2
            name_of = (lambda m: self.classes[m.rule]) if rule.classes else (lambda m: m.labels)
            return [found for cluster in gathered if (found := situation(cluster, need, name_of))]
        if isinstance(rule, Area):
            window = rule.window_us
            spans = [Span(m.start, m.end if window is None else m.start + window, m) for m in members]
            return self._crowded(rule, rule.by, spans)
        return self._roots(rule, members) if isinstance(rule, Root) else []

    def _roots(self, rule: Root, members: Iterable[Member]) -> list[Found]:
        spans = [Span(m.start, m.end, m) for m in members]
        found: list[Found] = []
        for by in rule.by:
            here = self._crowded(rule, by, spans)
            found += here
            explained = {f.labels: [g for g in here if g.labels == f.labels] for f in here}
            if explained:
                gone = [(span, explained.get(_labels(by, self.group(by, span.member)))) for span in spans]
                spans = [
                    left for span, holes in gone for left in (without([span], holes) if holes else [span])
                ]
        return found

    def _crowded(self, rule: Area | Root, by: Group, spans: Iterable[Span]) -> list[Found]:
        groups: dict[str, list[Span]] = {}
        for span in spans:
            group = self.group(by, span.member)
            if group is not None:
                groups.setdefault(group, []).append(span)
        keep, share, found = rule.keep_us, rule.share_of(by), []
        for group, inside in sorted(groups.items()):
            need = needed(rule.least, share, self.registered.get((by, group), 0))
            if len(inside) >= need:
                found += crowded(inside, need, keep, _labels(by, group))
        return found

    def place(self, found: Found) -> Place | None:
        """Where a situation is: with the member it is known by, or in the middle of its group's sensors."""
        if isinstance(self.rule, Correlate):
            anchor = found.evidence[0]
            return Place(lat=anchor.lat, lon=anchor.lon, ward=anchor.ward, site=anchor.site)
        ((by, group),) = found.labels
        return next((place for (b, g), place in self.places.items() if (b, g) == (by, group)), None)

    # --- what is suppressed ---------------------------------------------------------------------------------------

    def suppressed(
        self, members: Sequence[Member], roots: Sequence[tuple[Labels, Cover]], now: Micros
    ) -> dict[str, tuple[Member, Cover]]:
        """Which of the members are suppressed, by alarm_id. `roots` are the times of this rule's own alarms."""
        rule = self.rule
        if isinstance(rule, Root):
            of: dict[Labels, list[Cover]] = {}
            for labels, cover in roots:
                of.setdefault(labels, []).append(cover)
            mine = [
                (m, [c for by in rule.by for c in of.get(_labels(by, self.group(by, m)), ())])
                for m in members
            ]
        elif isinstance(rule, Inhibit):
            reaching = _reaching(rule, [m for m in members if m.rule in rule.source])
            mine = [
                (m, [Cover(s.start, s.end, s.alarm_id) for s in reaching(m)])
                for m in members
                if m.rule in rule.target
            ]
        else:
            return {}
        under = ((m, covered(m, covers, rule.release_us, now)) for m, covers in mine)
        return {m.alarm_id: (m, cover) for m, cover in under if cover is not None}


def _reaching(rule: Inhibit, sources: Iterable[Member]) -> Callable[[Member], Sequence[Member]]:
    """Which of the sources reach a target, looked up: hundreds of both stand at once when a city floods."""
    if rule.within_m is not None:
        within, placed = rule.within_m, Nearby(sources)
        return lambda target: placed.of(target, within)
    alike: dict[tuple[str, ...], list[Member]] = {}
    for source in sources:
        alike.setdefault(_values(rule, source), []).append(source)
    alike.pop((), None)  # what lacks one of the labels reaches nothing
    return lambda target: alike.get(_values(rule, target), ())


def _values(rule: Inhibit, member: Member) -> tuple[str, ...]:
    """Of the labels that must be equal; nothing, if it lacks one."""
    labels = dict(member.labels)
    return tuple(labels[name] for name in rule.equal) if labels.keys() >= set(rule.equal) else ()


def _labels(by: Group, group: str | None) -> Labels:
    return ((by, group or ""),)


# --- compiling --------------------------------------------------------------------------------------------------------


class WideProgram:
    """The rules over signals of one version, by id."""

    def __init__(self, version: int, rules: Mapping[str, Defined]) -> None:
        self.version = version
        self.rules = rules


def compile_wide(rules: RuleSet, version: int) -> WideProgram:
    """The program of a set. `version` is the set's offset in `city.rules.v1`."""
    return WideProgram(version, {rule.id: _defined(rule, rules) for rule in rules.wide})


def _defined(rule: AnyWide, rules: RuleSet) -> Defined:
    named = [r for r in rules.rules if r.id in rule.members]
    on = {r.id: r.on for r in named}
    classes = {r.id: _BASELINE if isinstance(r, Baseline) else r.id for r in named}
    by = _gathers_by(rule)
    sensors = [s for s in rules.registry.sensors if by and s.topic in on.values()]
    groups: dict[tuple[Group, str], list[Sensor]] = {}
    for sensor in sensors:
        for kind in by:
            name = _group_of(sensor, kind)
            if name is not None:
                groups.setdefault((kind, name), []).append(sensor)
    gateways = {(s.topic, s.key): s.gateway for s in sensors if s.gateway is not None and "gateway" in by}
    registered = {group: len({tuple(s.labels.items()) for s in inside}) for group, inside in groups.items()}
    places = {group: place for group, inside in groups.items() if (place := _middle(group[0], inside))}
    said = [
        rule.model_dump(mode="json", by_alias=True),
        sorted(on.items()),
        sorted(classes.items()),
        sorted(map(repr, gateways.items())),
        sorted(map(repr, registered.items())),
        sorted(map(repr, places.items())),
    ]
    digest = blake2b(dumps(said, sort_keys=True).encode(), digest_size=16).digest()
    return Defined(rule, digest, on, classes, gateways, registered, places)


def _gathers_by(rule: AnyWide) -> tuple[Group, ...]:
    if isinstance(rule, Area):
        return (rule.by,)
    return rule.by if isinstance(rule, Root) else ()


def _group_of(sensor: Sensor, by: Group) -> str | None:
    if by == "feed":
        return sensor.topic
    if by == "gateway":
        return sensor.gateway
    return None if sensor.place is None else getattr(sensor.place, by)


def _middle(by: Group, sensors: Iterable[Sensor]) -> Place | None:
    """The middle of the sensors' places, and the ward and site where all are in one. A feed is nowhere."""
    found = [s.place for s in sensors if s.place is not None]
    if by == "feed" or not found:
        return None
    lats = [p.lat for p in found if p.lat is not None]
    lons = [p.lon for p in found if p.lon is not None]
    wards, sites = {p.ward for p in found}, {p.site for p in found}
    return Place(
        lat=round(sum(lats) / len(lats), 5) if lats else None,
        lon=round(sum(lons) / len(lons), 5) if lons else None,
        ward=wards.pop() if len(wards) == 1 else None,
        site=sites.pop() if len(sites) == 1 else None,
    )
