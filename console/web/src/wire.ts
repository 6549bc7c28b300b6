// The console's JSON, made from console/wire.py by `make web-wire`: change it there.

/**
 * One occurrence as a list shows it; evidence and instruction are in its `Detail`.
 *
 * `changed_at` is the time of the record that made it so. `position` grows with every change of any alarm of this log: of
 * two records of one alarm the greater is the newer. `sensor` is the id of the sensor of the registry that it is about.
 * `suppressed_by`: by rule, the alarm that is the reason why nobody is called for this one.
 */
export interface Alarm {
  alarm_id: string;
  fingerprint: string;
  rule: string;
  labels: {
    [k: string]: string;
  };
  start: string;
  end: string | null;
  priority: "P1" | "P2" | "P3" | "P4" | "advisory";
  peak: number | null;
  place: Place | null;
  title: Text;
  category:
    | "Geo"
    | "Met"
    | "Safety"
    | "Security"
    | "Rescue"
    | "Fire"
    | "Health"
    | "Env"
    | "Transport"
    | "Infra"
    | "CBRNE"
    | "Other";
  severity: "Extreme" | "Severe" | "Moderate" | "Minor" | "Unknown";
  urgency: "Immediate" | "Expected" | "Future" | "Past" | "Unknown";
  certainty: "Observed" | "Likely" | "Possible" | "Unlikely" | "Unknown";
  raised_at: string;
  changed_at: string;
  active: boolean;
  acked: boolean;
  acked_by: string | null;
  acked_at: string | null;
  retracted: boolean;
  suppressed_by: {
    [k: string]: string;
  };
  shelved_by: string | null;
  shelved_until: string | null;
  revised: number;
  state: "NORM" | "UNACK" | "ACKED" | "RTNUN" | "SHLVD" | "DSUPR";
  closed_by: "log-ended" | null;
  position: number;
  sensor: string | null;
}
/**
 * Where something was observed. WGS 84 degrees; ward and site are names from the registry.
 */
export interface Place {
  lat?: number | null;
  lon?: number | null;
  ward?: string | null;
  site?: string | null;
}
/**
 * The same words for the operator in Vietnamese and English.
 */
export interface Text {
  vi: string;
  en: string;
}
/**
 * An answer to a question for alarms, the newest first. `more`: there are older ones.
 */
export interface Alarms {
  alarms: Alarm[];
  more: boolean;
}
/**
 * An operator's command. `command_id` is made by the client: asked twice, it is done once.
 */
export interface Ask {
  command_id: string;
  action: "acknowledge";
  alarm_id: string;
  actor: string;
  note?: string | null;
}
/**
 * A comparison of a rule's condition with a number, as a line in a chart.
 */
export interface Bound {
  field: string;
  operator: "<" | "<=" | ">" | ">=" | "==" | "!=";
  value: number;
  priority: "P1" | "P2" | "P3" | "P4" | "advisory";
  when: "raise" | "clear";
}
/**
 * What was sent down the whole way of a feed to see whether it comes through. `age_s` is that of its worst partition.
 *
 * `at` is when its newest one was sent, null where none has come yet; `lost` are the partitions that do not come through.
 */
export interface Canary {
  at: string | null;
  age_s: number;
  lost: number[];
}
/**
 * What the store has around an alarm: GET /api/alarms/{alarm_id}/chart.
 *
 * `times` are seconds since 1970. `every_s` is the width of the windows that the values are means of, None for raw points. No lines: there is
 * no series to draw (the alarm is of an event), or the store has none of it yet.
 */
export interface Chart {
  measurement: string;
  tags: {
    [k: string]: string;
  };
  from: number;
  to: number;
  every_s: number | null;
  times: number[];
  lines: Line[];
  bounds: Bound[];
}
/**
 * The values of one field; as long as `Chart.times`, None where there is no value.
 */
export interface Line {
  field: string;
  values: (number | null)[];
}
/**
 * What is set up: rules, registry, topics. The stream's `city` event says that it changed.
 */
export interface City {
  log_id: string;
  zone?: string;
  clock: "log" | "writer";
  rules_version: number | null;
  rules: Rule[];
  sensors: Sensor[];
  topics: Topic[];
}
/**
 * A rule in force, as far as an operator needs it. `topic` of a rule over signals: that of the first rule it is over.
 */
export interface Rule {
  id: string;
  kind: string;
  topic: string;
  title: Text;
  instruction: Text | null;
  category:
    | "Geo"
    | "Met"
    | "Safety"
    | "Security"
    | "Rescue"
    | "Fire"
    | "Health"
    | "Env"
    | "Transport"
    | "Infra"
    | "CBRNE"
    | "Other";
  priorities: ("P1" | "P2" | "P3" | "P4" | "advisory")[];
}
/**
 * Something of the registry. `id` is its topic and key, joined by `|`.
 */
export interface Sensor {
  id: string;
  topic: string;
  key: string;
  labels: {
    [k: string]: string;
  };
  place: Place | null;
  name: Text | null;
  every_s: number;
}
/**
 * A source topic, and the measurement that holds its history.
 */
export interface Topic {
  name: string;
  measurement: string;
  kind: "samples" | "events";
  key: string[];
}
/**
 * Event `city`: rules and registry are others now, ask for /api/city again. A `snapshot` follows.
 */
export interface CityChanged {
  rules_version: number | null;
}
/**
 * All that is known of one alarm: GET /api/alarms/{alarm_id}. `rule` is None where it is no longer in force.
 */
export interface Detail {
  alarm: Alarm;
  instruction: Text | null;
  evidence: Evidence[];
  timeline: Entry[];
  rule: Rule | null;
}
/**
 * One event an alarm was derived from: its place in the log and its public fields.
 */
export interface Evidence {
  event_id: string;
  topic: string;
  partition: number;
  offset: number;
  observed_at: string;
  values: {
    [k: string]: unknown;
  };
}
/**
 * One line of an alarm's timeline: what happened, when and by whom, and what the alarm then was.
 */
export interface Entry {
  id: string;
  type:
    | "raised"
    | "revised"
    | "retracted"
    | "cleared"
    | "acknowledged"
    | "suppressed"
    | "released"
    | "shelved"
    | "unshelved";
  at: string;
  cause: string | null;
  actor: string | null;
  note: string | null;
  start: string;
  end: string | null;
  priority: "P1" | "P2" | "P3" | "P4" | "advisory";
  peak: number | null;
  state: "NORM" | "UNACK" | "ACKED" | "RTNUN" | "SHLVD" | "DSUPR";
}
/**
 * The broker has the command: it counts, and every console will show what it did.
 */
export interface Done {
  command_id: string;
  offset: number;
}
/**
 * An alarm derived again from its own record, and its story: GET /api/alarms/{alarm_id}/explain.
 *
 * `problems` are what of it does not follow; `citywatch explain` compares its events with the log, too.
 */
export interface Explanation {
  derives: boolean;
  problems: Text[];
  story: Sentence[];
}
/**
 * One sentence of an alarm's story, and the moment that it is about.
 *
 * `rule`: what the rule waits for; `seen`: what was observed; `time`: what time did; `told`: what was told of it; `proof`: on
 * what it rests.
 */
export interface Sentence {
  at: string | null;
  part: "rule" | "seen" | "time" | "told" | "proof";
  text: Text;
}
/**
 * One source topic: whether data flows, and comes through; a replay has no `canary`. `sensors`, `blind`: of the registry.
 */
export interface Feed {
  topic: string;
  level: "ok" | "warn" | "bad";
  per_minute: number;
  at: string | null;
  sensors: number;
  blind: number;
  canary: Canary | null;
}
/**
 * Whether what the page shows can be believed: GET /api/health, and every few seconds on the stream.
 *
 * `left_open` alarms were still raised when an earlier log ended; the history has them. `suppressed` alarms stand and
 * call nobody, by design; the list has them, for whoever asks for their state.
 */
export interface Health {
  now: string;
  level: "ok" | "warn" | "bad";
  per_second: number;
  parts: Part[];
  feeds: Feed[];
  sensors: {
    [k: string]: number;
  };
  left_open: number;
  suppressed: number;
}
/**
 * A part of the platform. `behind_s` is the age of the oldest record that it has not done yet; `why` is for engineers.
 */
export interface Part {
  id: "broker" | "judge" | "alarms" | "through" | "store-worker" | "store" | "ledger";
  level: "ok" | "warn" | "bad";
  behind_s: number | null;
  why: string | null;
}
/**
 * Event `entry`: a line more in an alarm's timeline. It has no id: after a resume, ask for an open detail again.
 */
export interface NewEntry {
  alarm_id: string;
  entry: Entry;
}
/**
 * Why something was not done (RFC 9457). `alarm` is how it stands, where that is the reason (409).
 */
export interface Problem {
  type?: string;
  title: string;
  status: number;
  detail: string;
  alarm?: Alarm | null;
  errors?: {
    [k: string]: unknown;
  }[];
}
/**
 * What is known of a sensor now. `at` is its newest observation, `since` that from which on it is blind.
 *
 * `why` it is blind: `never` heard; `silent`; only what is too `late` comes; it speaks and measures `no_value`; its whole
 * `feed` is silent; its `gateway` is, of which one alarm tells.
 */
export interface Seen {
  id: string;
  status: "ok" | "alarm" | "blind" | "waiting";
  why: ("never" | "silent" | "late" | "no_value" | "feed" | "gateway") | null;
  since: string | null;
  at: string | null;
  values: {
    [k: string]: number | string | boolean;
  };
}
/**
 * Event `seen`, every second or two: the sensors of which something changed.
 */
export interface SeenChanges {
  seen: Seen[];
}
/**
 * Event `snapshot`: everything as it stands; whatever the page held before is void.
 *
 * Alarms that are not NORM, and those that became so within the last hour.
 */
export interface Snapshot {
  alarms: Alarm[];
  seen: Seen[];
  health: Health;
}
