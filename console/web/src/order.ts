// The order of the list: by priority, what nobody has acknowledged first, then the newest; and how it is held still.
import { PRIORITIES, type Alarm, type Priority, type State } from "./model";

const RANK: Record<State, number> = { UNACK: 0, RTNUN: 1, ACKED: 2, SHLVD: 3, DSUPR: 4, NORM: 5 };

/** The ids of each group as they are laid out. */
export type Layout = Record<Priority, readonly string[]>;

export function compare(a: Alarm, b: Alarm): number {
  return (
    RANK[a.state] - RANK[b.state] ||
    (a.raised_at === b.raised_at ? 0 : a.raised_at < b.raised_at ? 1 : -1) ||
    (a.alarm_id < b.alarm_id ? -1 : 1)
  );
}

export function layout(alarms: readonly Alarm[]): Layout {
  const groups: Record<Priority, Alarm[]> = { P1: [], P2: [], P3: [], P4: [], advisory: [] };
  for (const alarm of alarms) groups[alarm.priority].push(alarm);
  const ids = PRIORITIES.map((p) => [p, groups[p].sort(compare).map((alarm) => alarm.alarm_id)]);
  return Object.fromEntries(ids) as Layout;
}

/** What a held layout does not show yet: how many alarms, and the worst of them. */
export interface Held {
  count: number;
  worst: Alarm | null;
}

export function held(shown: Layout, alarms: readonly Alarm[]): Held {
  const known = new Set(PRIORITIES.flatMap((p) => shown[p]));
  const fresh = alarms.filter((alarm) => !known.has(alarm.alarm_id));
  const worse = (a: Alarm, b: Alarm) =>
    PRIORITIES.indexOf(a.priority) - PRIORITIES.indexOf(b.priority) || compare(a, b);
  return { count: fresh.length, worst: fresh.sort(worse)[0] ?? null };
}
