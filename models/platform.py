"""The platform itself: what goes wrong with it is told on the same console as what goes wrong in the city."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from models.base import Event, Identifier, Topic, minutes


class PlatformEvent(Event):
    """Something that a part of citywatch noticed of its own work. Rare: a part that is well says nothing."""

    topic: ClassVar[Topic] = Topic(
        "city.platform.event.v1",
        key=("component",),
        lateness=minutes(10),
        kind="events",
        partitions=1,
        buckets=1,
    )

    component: Identifier = Field(description="the part of the platform, as in `rules`")
    kind: Literal[
        "rules_refused",  # a file of rules was changed and is wrong: the old set stays in force
        "rules_loaded",  # the files are good (again), and in force
        "ledger_missing",  # the store has less, or more, than the log says
        "ledger_whole",  # and now it has it all again
        "canary_missing",  # what is sent on a feed (the component) does not come through to the console
        "canary_back",  # and now it does again
    ]
    detail: str | None = Field(
        default=None, max_length=2000, description="what an engineer needs to put it right; names nobody"
    )
