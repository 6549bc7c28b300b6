"""What must be so on the broker before a worker begins: it waits for what is missing, and refuses what would give other results."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bus import clients, topics
from models import catalogue
from settings import SettingsError
from streams.metrics import log

if TYPE_CHECKING:
    from settings import Settings

#: Between two looks for a topic that is missing.
LOOK_S = 1.0

#: The topics of the platform that a role reads or writes; each reads the source topics but the alarms.
_OWN = {
    "judge": [catalogue.ALARM_INPUT, catalogue.JUDGE_STATE, catalogue.RULES],
    "store": [catalogue.REJECTED, catalogue.ALARM_EVENT, catalogue.ALARM_STATE, catalogue.LEDGER],
    "alarms": [
        catalogue.ALARM_INPUT,
        catalogue.ALARM_EVENT,
        catalogue.ALARM_STATE,
        catalogue.ALARMS_STATE,
        catalogue.RULES,
        catalogue.REJECTED,
        catalogue.CANARY,
    ],
    "ledger": [catalogue.REJECTED, catalogue.LEDGER],
}


def needs(role: str, prefix: str) -> dict[str, topics.Wanted]:
    """The topics of a role as they should be, by their names in the world of `prefix`."""
    names = [*_OWN[role], *(() if role == "alarms" else catalogue.topics())]
    want = topics.wanted(prefix)
    return {full: want[full] for name in names for full in [clients.name(prefix, name)]}


def open_for(role: str, settings: Settings) -> None:
    """Return when the broker answers and has every topic of the role.

    Raises SettingsError for one with another number of partitions (its keys would meet another history than the one they
    have, and the same events would give other alarms), and for one whose records' time is not set by whom it should be
    (among the living one producer's wrong clock would move the clock of all).
    """
    bootstrap, prefix = settings.kafka.bootstrap, settings.kafka.prefix
    assert bootstrap is not None
    want = needs(role, prefix)
    while (why := _why_not(bootstrap, want)) is not None:
        log.warning("waiting: %s", why)
        time.sleep(LOOK_S)


def _why_not(bootstrap: str, want: dict[str, topics.Wanted]) -> str | None:
    """What there is to wait for. Raises SettingsError for what waiting does not cure."""
    try:
        counts = clients.partitions_of(bootstrap, want)
        stamps = topics.stamps(bootstrap, [t for t, w in want.items() if w.clock and t in counts])
    except clients.UnreachableError as error:
        return str(error)
    wrong = [
        f"{t} {topics.count_problem(t, n, want[t].partitions)}"
        for t, n in counts.items()
        if n != want[t].partitions
    ]
    wrong += [
        f"{t} has {topics.STAMPED}={found}, not {want[t].clock}: `citywatch topics apply` puts it right"
        for t, found in stamps.items()
        if found != want[t].clock
    ]
    if wrong:
        raise SettingsError("\n".join(wrong))
    missing = sorted(want.keys() - counts.keys())
    return (
        f"the broker has no {', '.join(missing)}: `citywatch topics apply` makes them, and its user must be let read them (`citywatch topics acls`)"
        if missing
        else None
    )
