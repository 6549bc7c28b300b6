// What the page knows: the alarms, what is seen, how the platform is; and how a message of the stream changes it.
import type {
  Alarm,
  City,
  CityChanged,
  Entry,
  Feed,
  Health,
  NewEntry,
  Part,
  Seen,
  SeenChanges,
  Snapshot,
} from "./wire";

export type Priority = Alarm["priority"];
export type State = Alarm["state"];
export type Level = Health["level"];
export type Status = Seen["status"];

/** Not seen: also a sensor where something is known to be wrong may have fallen silent since. */
export const unseen = ({ why }: Seen): boolean => why !== null;
export type Why = NonNullable<Seen["why"]>;
export type Lang = "vi" | "en";
export type { Alarm, City, Entry, Feed, Health, NewEntry, Part, Seen };

/** Worst first. */
export const PRIORITIES: readonly Priority[] = ["P1", "P2", "P3", "P4", "advisory"];

export const SILENT_MS = 45_000;

/** The connection to the stream. `heard` is the time of the newest event, `since` that of the last change of `state`. */
export interface Link {
  state: "connecting" | "live" | "lost";
  since: number;
  heard: number;
  connects: number;
}

/** A message of the stream, as the connection hands it on. */
export type Told =
  | { kind: "snapshot"; data: Snapshot }
  | { kind: "alarm"; data: Alarm }
  | { kind: "entry"; data: NewEntry }
  | { kind: "seen"; data: SeenChanges }
  | { kind: "health"; data: Health }
  | { kind: "city"; data: CityChanged }
  | { kind: "link"; data: Link };

/**
 * Changed in place by `apply`. The counters `alarmsAt` and `seenAt` grow with every change of their part, so that views
 * know when to look again. `ahead` is how far the server's clock is ahead of ours, in milliseconds.
 */
export interface Model {
  alarms: Map<string, Alarm>;
  seen: Map<string, Seen>;
  health: Health | null;
  link: Link;
  ready: boolean;
  ahead: number;
  alarmsAt: number;
  seenAt: number;
  applied: number;
  doubles: number;
}

export function empty(now: number): Model {
  return {
    alarms: new Map(),
    seen: new Map(),
    health: null,
    link: { state: "connecting", since: now, heard: now, connects: 0 },
    ready: false,
    ahead: 0,
    alarmsAt: 0,
    seenAt: 0,
    applied: 0,
    doubles: 0,
  };
}

/** Applies a message: of two records of one alarm the greater position counts, so that a repeat changes nothing. */
export function apply(model: Model, told: Told, now: number): void {
  switch (told.kind) {
    case "snapshot":
      model.alarms = new Map(told.data.alarms.map((alarm) => [alarm.alarm_id, alarm]));
      model.seen = new Map(told.data.seen.map((seen) => [seen.id, seen]));
      model.ready = true;
      model.alarmsAt += 1;
      model.seenAt += 1;
      health(model, told.data.health, now);
      return;
    case "alarm": {
      const held = model.alarms.get(told.data.alarm_id);
      if (held !== undefined && held.position >= told.data.position) {
        model.doubles += 1;
        return;
      }
      model.alarms.set(told.data.alarm_id, told.data);
      model.applied += 1;
      model.alarmsAt += 1;
      return;
    }
    case "seen":
      for (const seen of told.data.seen) model.seen.set(seen.id, seen);
      model.seenAt += 1;
      return;
    case "health":
      health(model, told.data, now);
      forget(model, Date.parse(told.data.now));
      return;
    case "link":
      model.link = told.data;
      return;
    case "entry":
    case "city":
      return;
  }
}

function health(model: Model, told: Health, now: number): void {
  model.health = told;
  model.ahead = Date.parse(told.now) - now;
}

/** What has been over for more than an hour is history; otherwise a page that stays open for weeks would grow. */
function forget(model: Model, now: number): void {
  for (const [id, alarm] of model.alarms) {
    if (alarm.state === "NORM" && now - Date.parse(alarm.changed_at) > 3_600_000) {
      model.alarms.delete(id);
      model.alarmsAt += 1;
    }
  }
}

/** The whole model as messages: what a page that joins later is told. */
export function retold(model: Model): Told[] {
  const told: Told[] = [{ kind: "link", data: model.link }];
  if (model.health !== null) {
    const data = { alarms: [...model.alarms.values()], seen: [...model.seen.values()], health: model.health };
    told.push({ kind: "snapshot", data });
  }
  return told;
}

/** Whether what is shown may be old: no event for 45 s, though one comes every 5 s. */
export function isOld(link: Link, now: number): boolean {
  return now - link.heard > SILENT_MS;
}

export const unacked = (alarm: Alarm): boolean => alarm.state === "UNACK" || alarm.state === "RTNUN";
/** What is suppressed by design calls nobody: it is counted, and listed for whoever asks for it. */
export const isSuppressed = (alarm: Alarm): boolean => alarm.state === "DSUPR";
export const isOpen = (alarm: Alarm): boolean =>
  alarm.state !== "NORM" && alarm.state !== "SHLVD" && !isSuppressed(alarm);

/** "(3 · P1) citywatch": how many are not acknowledged, and the worst of them. */
export function title(alarms: Iterable<Alarm>): string {
  let count = 0;
  let worst = PRIORITIES.length;
  for (const alarm of alarms) {
    if (!unacked(alarm)) continue;
    count += 1;
    worst = Math.min(worst, PRIORITIES.indexOf(alarm.priority));
  }
  const priority = PRIORITIES[worst];
  return priority === undefined ? "citywatch" : `(${count} · ${priority}) citywatch`;
}
