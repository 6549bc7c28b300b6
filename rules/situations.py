"""Rules over signals: what several alarms mean together. Their fold is rules/wide.py, in the one log of the alarm plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from models.alarm import Priority
from rules.terms import (
    Distance,
    Duration,
    Lasting,
    Problem,
    RuleId,
    Said,
    Whole,
    distance_m,
    duration_us,
    refuse,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from models.base import Micros
    from rules.terms import Loc


#: What alarms can be gathered by: a part of their place, or what the registry says of their sensor.
Group = Literal["ward", "site", "gateway", "feed"]


def _listed(value: Any) -> Any:
    """One word may be written without a list."""
    return (value,) if isinstance(value, str) else value


_Share = Annotated[float, Field(gt=0, le=1)]
_Some = Annotated[tuple[RuleId, ...], Field(min_length=1)]


class _Wide(Said):
    """`of` are the rules whose signals are looked at."""

    of: _Some
    priority: Priority

    @model_validator(mode="after")
    def _checked(self) -> Self:
        refuse(list(self._problems()))
        return self

    def _problems(self) -> Iterator[Problem]:
        yield from ()

    def named(self) -> Iterator[tuple[Loc, RuleId]]:
        for i, name in enumerate(self.of):
            yield ("of", i), name

    @property
    def members(self) -> frozenset[str]:
        return frozenset(self.of)

    @property
    def priorities(self) -> tuple[Priority, ...]:
        return (self.priority,)


class Correlate(_Wide):
    """Alarms near one another in space and time are one situation.

    The first of them gathers those that begin at most `window` after it, within so far of it. Where `anchor` is said, only
    alarms of these rules gather others, and also those that begin at most `window` before. It is a situation from when
    there are `classes` different rules (baselines are one), or alarms of `count` different subjects, until the last of
    them is over. What has no coordinates is near nothing.
    """

    kind: Literal["correlate"]
    anchor: tuple[RuleId, ...] | None = None
    within: Distance = "500m"
    window: Lasting = "10m"
    classes: Annotated[Whole, Field(ge=2, le=20)] | None = None
    count: Annotated[Whole, Field(ge=2, le=1000)] | None = None

    def _problems(self) -> Iterator[Problem]:
        if (self.classes is None) == (self.count is None):
            yield (), "say either classes (how many different rules) or count (how many alarms)"
        for i, name in enumerate(self.anchor or ()):
            if name not in self.of:
                yield ("anchor", i), f"{name} is not one of `of`"

    @property
    def within_m(self) -> float:
        return distance_m(self.within)

    @property
    def window_us(self) -> Micros:
        return duration_us(self.window)


class Area(_Wide):
    """Alarms of so many subjects at once in one ward, site, gateway or feed: `least`, and that `share` of those registered.

    It lasts while there are so many, and `keep` after. With `window` an alarm counts for so long from its beginning, over
    or not.
    """

    kind: Literal["area"]
    by: Group
    least: Annotated[Whole, Field(ge=2, le=10_000)]
    share: _Share | None = None
    window: Lasting | None = None
    keep: Duration = "0s"

    def share_of(self, by: Group) -> float | None:  # noqa: ARG002 - as a root's
        return self.share

    @property
    def window_us(self) -> Micros | None:
        return None if self.window is None else duration_us(self.window)

    @property
    def keep_us(self) -> Micros:
        return duration_us(self.keep)


class Root(_Wide):
    """One reason for many silences: when so many sensors of a gateway or feed are silent, it is dead, and not each of them.

    How many is `least`, and that `share` of those registered: one number, or one of each of `by`. While it stands, and for
    `release` after, the alarms of `of` there are suppressed by design; they are kept and counted. Of several `by` the first
    is looked at first, and what it explains counts for none of the others: where a whole feed is silent, its gateways are
    not told of, too. It becomes an alarm `wait` after it began, and lasts until fewer are silent, and `keep` after.
    """

    kind: Literal["root"]
    by: Annotated[tuple[Literal["gateway", "feed"], ...], BeforeValidator(_listed), Field(min_length=1)]
    least: Annotated[Whole, Field(ge=2, le=10_000)] = 3
    share: _Share | dict[Literal["gateway", "feed"], _Share] = 0.5
    wait: Duration = "0s"
    keep: Duration = "0s"
    release: Duration = "2m"

    def _problems(self) -> Iterator[Problem]:
        if len(set(self.by)) < len(self.by):
            yield ("by",), "each is named once"
        if isinstance(self.share, dict) and self.share.keys() != set(self.by):
            yield ("share",), f"one share, or one of each of {', '.join(self.by)}"

    def share_of(self, by: Group) -> float:
        return (
            self.share if isinstance(self.share, float) else self.share["feed" if by == "feed" else "gateway"]
        )

    @property
    def wait_us(self) -> Micros:
        return duration_us(self.wait)

    @property
    def keep_us(self) -> Micros:
        return duration_us(self.keep)

    @property
    def release_us(self) -> Micros:
        return duration_us(self.release)


class Inhibit(Said):
    """While an alarm of `source` stands, those of `target` with the same labels (`equal`), or so near (`within`), are suppressed.

    They are kept and counted, and told if they outlast it by `release`. It makes no alarm of its own.
    """

    kind: Literal["inhibit"]
    source: _Some
    target: _Some
    equal: tuple[str, ...] = ()
    within: Distance | None = None
    release: Duration = "2m"

    @model_validator(mode="after")
    def _checked(self) -> Self:
        problems: list[Problem] = []
        if bool(self.equal) == (self.within is not None):
            problems.append(((), "say either equal (labels) or within (a distance)"))
        problems += [
            (("target", i), f"{name} would suppress itself")
            for i, name in enumerate(self.target)
            if name in self.source
        ]
        refuse(problems)
        return self

    def named(self) -> Iterator[tuple[Loc, RuleId]]:
        for part, names in (("source", self.source), ("target", self.target)):
            for i, name in enumerate(names):
                yield (part, i), name

    @property
    def members(self) -> frozenset[str]:
        return frozenset((*self.source, *self.target))

    @property
    def priorities(self) -> tuple[Priority, ...]:
        return ()

    @property
    def within_m(self) -> float | None:
        return None if self.within is None else distance_m(self.within)

    @property
    def release_us(self) -> Micros:
        return duration_us(self.release)


AnyWide = Correlate | Area | Root | Inhibit
WideRule = Annotated[AnyWide, Field(discriminator="kind")]
WIDE = (Correlate, Area, Root, Inhibit)
