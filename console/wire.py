"""What the console tells browsers and other programs: the shapes of its JSON. TypeScript's are made from these."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from models.alarm import Category, Certainty, EntryType, Evidence, Priority, Severity, State, Text, Urgency
from models.base import Place


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


# --- the city as it is set up: GET /api/city --------------------------------------------------------------------------


class Sensor(_Wire):
    """Something of the registry. `id` is its topic and key, joined by `|`."""

    id: str
    topic: str
    key: str
    labels: dict[str, str]
    place: Place | None
    name: Text | None
    every_s: float


class Rule(_Wire):
    """A rule in force, as far as an operator needs it. `topic` of a rule over signals: that of the first rule it is over."""

    id: str
    kind: str
    topic: str
    title: Text
    instruction: Text | None
    category: Category
    priorities: tuple[Priority, ...]


class Topic(_Wire):
    """A source topic, and the measurement that holds its history."""

    name: str
    measurement: str
    kind: Literal["samples", "events"]
    key: tuple[str, ...]


#: log: time passes by itself; writer: a replay's world, where only who feeds moves the clock.
Clock = Literal["log", "writer"]


class City(_Wire):
    """What is set up: rules, registry, topics. The stream's `city` event says that it changed."""

    log_id: str
    zone: str = "Asia/Ho_Chi_Minh"
    clock: Clock
    rules_version: int | None
    rules: tuple[Rule, ...]
    sensors: tuple[Sensor, ...]
    topics: tuple[Topic, ...]


# --- alarms: the stream, GET /api/alarms, GET /api/history ------------------------------------------------------------


class Alarm(_Wire):
    """One occurrence as a list shows it; evidence and instruction are in its `Detail`.

    `changed_at` is the time of the record that made it so. `position` grows with every change of any alarm of this log: of
    two records of one alarm the greater is the newer. `sensor` is the id of the sensor of the registry that it is about.
    `suppressed_by`: by rule, the alarm that is the reason why nobody is called for this one.
    """

    alarm_id: str
    fingerprint: str
    rule: str
    labels: dict[str, str]
    start: AwareDatetime
    end: AwareDatetime | None
    priority: Priority
    peak: float | None
    place: Place | None
    title: Text
    category: Category
    severity: Severity
    urgency: Urgency
    certainty: Certainty
    raised_at: AwareDatetime
    changed_at: AwareDatetime
    active: bool
    acked: bool
    acked_by: str | None
    acked_at: AwareDatetime | None
    retracted: bool
    suppressed_by: dict[str, str]
    shelved_by: str | None
    shelved_until: AwareDatetime | None
    revised: int
    state: State
    closed_by: Literal["log-ended"] | None
    position: int
    sensor: str | None


class Alarms(_Wire):
    """An answer to a question for alarms, the newest first. `more`: there are older ones."""

    alarms: tuple[Alarm, ...]
    more: bool


class Entry(_Wire):
    """One line of an alarm's timeline: what happened, when and by whom, and what the alarm then was."""

    id: str
    type: EntryType
    at: AwareDatetime
    cause: str | None
    actor: str | None
    note: str | None
    start: AwareDatetime
    end: AwareDatetime | None
    priority: Priority
    peak: float | None
    state: State


class Detail(_Wire):
    """All that is known of one alarm: GET /api/alarms/{alarm_id}. `rule` is None where it is no longer in force."""

    alarm: Alarm
    instruction: Text | None
    evidence: tuple[Evidence, ...]
    timeline: tuple[Entry, ...]
    rule: Rule | None


class Sentence(_Wire):
    """One sentence of an alarm's story, and the moment that it is about.

    `rule`: what the rule waits for; `seen`: what was observed; `time`: what time did; `told`: what was told of it; `proof`: on
    what it rests.
    """

    at: AwareDatetime | None
    part: Literal["rule", "seen", "time", "told", "proof"]
    text: Text


class Explanation(_Wire):
    """An alarm derived again from its own record, and its story: GET /api/alarms/{alarm_id}/explain.

    `problems` are what of it does not follow; `citywatch explain` compares its events with the log, too.
    """

    derives: bool
    problems: tuple[Text, ...]
    story: tuple[Sentence, ...]


class Bound(_Wire):
    """A comparison of a rule's condition with a number, as a line in a chart."""

    field: str
    operator: Literal["<", "<=", ">", ">=", "==", "!="]
    value: float
    priority: Priority
    when: Literal["raise", "clear"]


class Line(_Wire):
    """The values of one field; as long as `Chart.times`, None where there is no value."""

    field: str
    values: tuple[float | None, ...]


class Chart(_Wire):
    """What the store has around an alarm: GET /api/alarms/{alarm_id}/chart.

    `times` are seconds since 1970. `every_s` is the width of the windows that the values are means of, None for raw points. No lines: there is
    no series to draw (the alarm is of an event), or the store has none of it yet.
    """

    measurement: str
    tags: dict[str, str]
    from_: float = Field(alias="from", serialization_alias="from")
    to: float
    every_s: float | None
    times: tuple[float, ...]
    lines: tuple[Line, ...]
    bounds: tuple[Bound, ...]


# --- what is seen, and how we are -------------------------------------------------------------------------------------

#: Waiting: since the console knows of it, it has not yet had the time to be missed.
Status = Literal["ok", "alarm", "blind", "waiting"]
Why = Literal["never", "silent", "late", "no_value", "feed", "gateway"]


class Seen(_Wire):
    """What is known of a sensor now. `at` is its newest observation, `since` that from which on it is blind.

    `why` it is blind: `never` heard; `silent`; only what is too `late` comes; it speaks and measures `no_value`; its whole
    `feed` is silent; its `gateway` is, of which one alarm tells.
    """

    id: str
    status: Status
    why: Why | None
    since: AwareDatetime | None
    at: AwareDatetime | None
    values: dict[str, float | str | bool]


class Canary(_Wire):
    """What was sent down the whole way of a feed to see whether it comes through. `age_s` is that of its worst partition.

    `at` is when its newest one was sent, null where none has come yet; `lost` are the partitions that do not come through.
    """

    at: AwareDatetime | None
    age_s: float
    lost: tuple[int, ...]


class Feed(_Wire):
    """One source topic: whether data flows, and comes through; a replay has no `canary`. `sensors`, `blind`: of the registry."""

    topic: str
    level: Level
    per_minute: float
    at: AwareDatetime | None
    sensors: int
    blind: int
    canary: Canary | None


#: Good; look at it; what is shown may be wrong or old.
Level = Literal["ok", "warn", "bad"]


#: `through`: whether what is sent on every feed comes through to here; a replay does not have it. `ledger`: whether what
#: is stored is compared with the log; never worse than `warn`, since what is shown is true without it.
PartId = Literal["broker", "judge", "alarms", "through", "store-worker", "store", "ledger"]


class Part(_Wire):
    """A part of the platform. `behind_s` is the age of the oldest record that it has not done yet; `why` is for engineers."""

    id: PartId
    level: Level
    behind_s: float | None
    why: str | None


class Health(_Wire):
    """Whether what the page shows can be believed: GET /api/health, and every few seconds on the stream.

    `left_open` alarms were still raised when an earlier log ended; the history has them. `suppressed` alarms stand and
    call nobody, by design; the list has them, for whoever asks for their state.
    """

    now: AwareDatetime
    level: Level
    per_second: float
    parts: tuple[Part, ...]
    feeds: tuple[Feed, ...]
    sensors: dict[Status, int]
    left_open: int
    suppressed: int


# --- the stream: GET /api/stream (text/event-stream) -------------------------------------------------------------------


class Snapshot(_Wire):
    """Event `snapshot`: everything as it stands; whatever the page held before is void.

    Alarms that are not NORM, and those that became so within the last hour.
    """

    alarms: tuple[Alarm, ...]
    seen: tuple[Seen, ...]
    health: Health


class NewEntry(_Wire):
    """Event `entry`: a line more in an alarm's timeline. It has no id: after a resume, ask for an open detail again."""

    alarm_id: str
    entry: Entry


class CityChanged(_Wire):
    """Event `city`: rules and registry are others now, ask for /api/city again. A `snapshot` follows."""

    rules_version: int | None


class SeenChanges(_Wire):
    """Event `seen`, every second or two: the sensors of which something changed."""

    seen: tuple[Seen, ...]


# --- what operators ask for: POST /api/commands ------------------------------------------------------------------------


class Ask(_Wire):
    """An operator's command. `command_id` is made by the client: asked twice, it is done once."""

    command_id: Annotated[str, Field(min_length=1, max_length=64)]
    action: Literal["acknowledge"]
    alarm_id: str
    actor: Annotated[str, Field(min_length=1, max_length=100)]
    note: Annotated[str, Field(max_length=2000)] | None = None


class Done(_Wire):
    """The broker has the command: it counts, and every console will show what it did."""

    command_id: str
    offset: int


class Problem(_Wire):
    """Why something was not done (RFC 9457). `alarm` is how it stands, where that is the reason (409)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    alarm: Alarm | None = None
    errors: tuple[dict[str, Any], ...] = ()
