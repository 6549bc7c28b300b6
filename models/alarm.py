"""What is said of an alarm: the detectors' signals and marks, the operators' commands, and what the alarm plane makes of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from models.base import Place

#: ISA-18.2 priorities, worst first; an advisory makes no sound.
Priority = Literal["P1", "P2", "P3", "P4", "advisory"]
PRIORITIES: tuple[Priority, ...] = ("P1", "P2", "P3", "P4", "advisory")

#: CAP 1.2 codes (OASIS CAP-v1.2, section 3.2.2).
Severity = Literal["Extreme", "Severe", "Moderate", "Minor", "Unknown"]
Urgency = Literal["Immediate", "Expected", "Future", "Past", "Unknown"]
Certainty = Literal["Observed", "Likely", "Possible", "Unlikely", "Unknown"]
Category = Literal[
    "Geo",
    "Met",
    "Safety",
    "Security",
    "Rescue",
    "Fire",
    "Health",
    "Env",
    "Transport",
    "Infra",
    "CBRNE",
    "Other",
]

#: ISA-18.2 states, derived from the facts and never stored as the truth (see rules/lifecycle.py).
State = Literal["NORM", "UNACK", "ACKED", "RTNUN", "SHLVD", "DSUPR"]


#: What can happen to an alarm: an entry of its history.
EntryType = Literal[
    "raised",
    "revised",
    "retracted",
    "cleared",
    "acknowledged",
    "suppressed",
    "released",
    "shelved",
    "unshelved",
]

#: `ce_type` of the records on `city.alarm.input.v1`.
SIGNAL_TYPE = "city.alarm.signal.v1"
COMMAND_TYPE = "city.alarm.command.v1"
MARK_TYPE = "city.alarm.mark.v1"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Text(_Record):
    """The same words for the operator in Vietnamese and English."""

    vi: str = Field(min_length=1)
    en: str = Field(min_length=1)


class Evidence(_Record):
    """One event an alarm was derived from: its place in the log and its public fields."""

    event_id: str
    topic: str
    partition: int
    offset: int
    observed_at: AwareDatetime
    values: dict[str, Any]


class Proof(_Record):
    """What one occurrence was derived from. With this alone it is derived again (rules/derive.py); the form is our own.

    `rules` is a set of its rule alone, with the calendars it needs and its sensor; `version` names the set it is from. From
    the rule's `state` at `since` on the `samples`, as the judge has them (their values are those of `names`), give the
    occurrence, once the clock has come to `clock`. `until`: then this rule was in force no more. `gone`: nothing begins at
    the occurrence's start; it is taken back.

    `used` is how many samples there were since the horizon, and `over` a hash over all of them. `minimal`: without any one
    of `samples` the occurrence would be another. `beside` are cited, and nothing depends on them. `seal` is a hash over all that
    is said here; `log` and `partition` are where it was read.
    """

    log: str
    partition: int = 0
    rules: Any
    version: int
    names: tuple[str, ...] = ()
    since: AwareDatetime
    clock: AwareDatetime
    until: AwareDatetime | None = None
    state: Any = None
    samples: tuple[Any, ...] = ()
    beside: tuple[Any, ...] = ()
    used: int = 0
    minimal: bool = False
    gone: bool = False
    over: str = ""
    seal: str = ""


class Signal(_Record):
    """What a detector says of one occurrence: it holds from `start` to `end` (`put`), or never was (`retract`).

    (topic, partition, offset, k) is the place of the causing record and the number of the signal within (record,
    series): a signal is applied only if that is greater than the last one applied to its fingerprint. `stamp` is
    the causing record's time. Nothing here comes from a wall clock or a worker. `merged_into` of a retract names the
    occurrence that now covers this one: it stays acknowledged only if both were. `held`: it is no alarm, or not yet one;
    only the rules over signals look at it.
    """

    op: Literal["put", "retract"]
    alarm_id: str
    fingerprint: str
    rule: str
    rules_version: int
    topic: str
    partition: int = Field(ge=0, lt=2**31)
    offset: int = Field(ge=0, lt=2**63)
    k: int = Field(ge=0, lt=2**63)
    stamp: AwareDatetime
    labels: dict[str, str]
    start: AwareDatetime
    end: AwareDatetime | None = None
    priority: Priority
    peak: float | None = None
    place: Place | None = None
    title: Text
    instruction: Text | None = None
    severity: Severity = "Unknown"
    urgency: Urgency = "Immediate"
    certainty: Certainty = "Observed"
    category: Category = "Other"
    evidence: tuple[Evidence, ...] = ()
    proof: Proof | None = None
    horizon: Any = None  # of records written before there was a proof; never written again
    cause: str | None = None
    merged_into: str | None = None
    held: bool = False


class Mark(_Record):
    """What a rule over signals says of another rule's alarm: it is suppressed by design from now on, or no longer.

    `by` is the alarm that is the reason. Its place is as a signal's, and counts for each (fingerprint, rule) by itself.
    It may come before the alarm is told: then it is told as suppressed, and nobody is called.
    """

    op: Literal["suppress", "release"]
    alarm_id: str
    fingerprint: str
    rule: str
    by: str
    topic: str
    partition: int = Field(ge=0, lt=2**31)
    offset: int = Field(ge=0, lt=2**63)
    k: int = Field(ge=0, lt=2**63)
    stamp: AwareDatetime


class Command(_Record):
    """What an operator asks for. `command_id` is made by the client: asked twice, it is done once.

    To shelve is to be called no more for this subject and rule, `until` a moment and for a reason (`note`).
    """

    command_id: Annotated[str, Field(min_length=1, max_length=64)]
    action: Literal["acknowledge", "shelve", "unshelve"]
    alarm_id: str
    actor: Annotated[str, Field(min_length=1, max_length=100)]
    note: str | None = Field(default=None, max_length=2000)
    until: AwareDatetime | None = None

    @model_validator(mode="after")
    def _shelved_for_a_time(self) -> Self:
        if (self.action == "shelve") != (self.until is not None):
            raise ValueError("an alarm is shelved until a moment (until), and nothing else is")
        if self.action == "shelve" and not self.note:
            raise ValueError("an alarm is shelved for a reason (note)")
        return self


class Alarm(_Record):
    """One occurrence as it stands. Value of the compacted topic `city.alarm.state.v1`, keyed by `alarm_id`.

    `active`, `acked`, `retracted`, `suppressed` and `shelved` are facts; `state` is derived from them. `suppressed_by` are
    the alarms that are the reason, by the rule that says so. `position` is the offset in
    `city.alarm.input.v1` after which this is true: of two records of one alarm the greater position is the newer.
    """

    alarm_id: str
    fingerprint: str
    rule: str
    rules_version: int
    labels: dict[str, str]
    start: AwareDatetime
    end: AwareDatetime | None = None
    priority: Priority
    peak: float | None = None
    place: Place | None = None
    title: Text
    instruction: Text | None = None
    severity: Severity
    urgency: Urgency
    certainty: Certainty
    category: Category
    evidence: tuple[Evidence, ...] = ()
    proof: Proof | None = None
    horizon: Any = None  # of records written before there was a proof; never written again
    raised_at: AwareDatetime
    active: bool
    acked: bool = False
    acked_by: str | None = None
    acked_at: AwareDatetime | None = None
    retracted: bool = False
    suppressed: bool = False
    suppressed_by: dict[str, str] = Field(default_factory=dict)
    shelved: bool = False
    shelved_by: str | None = None
    shelved_until: AwareDatetime | None = None
    revised: int = 0
    state: State
    closed_by: Literal["log-ended"] | None = None
    position: int


class AlarmEvent(_Record):
    """One entry of an alarm's history. Value of `city.alarm.event.v1`, append-only, keyed by `fingerprint`.

    `id` is a function of the causing record's place, so that a repeated entry has the same id and can be dropped.
    `supersedes` is the `position` of what was said of this alarm before: whoever had that is told here what is so now, and
    `cause` says why.
    """

    id: str
    type: EntryType
    supersedes: int | None = None
    at: AwareDatetime
    cause: str | None = None
    actor: str | None = None
    note: str | None = None
    alarm: Alarm
