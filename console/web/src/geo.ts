// What the map draws: marks that would overlap become one, and roads are lines through their detectors.
import { standing, type At, type Known } from "./city";
import { PRIORITIES, type Alarm, type Priority, type Seen } from "./model";
import type { Sensor } from "./wire";

/** An alarm, or a sensor that is blind, at a point of the screen. `weight`: the least is the worst. */
export interface Mark {
  id: string;
  x: number;
  y: number;
  weight: number;
  alarm: Alarm | null;
}

/** Marks that stand as one at the place of the worst of them. */
export interface Cluster {
  first: Mark;
  alarms: Alarm[];
  blind: string[];
}

/** Not acknowledged before acknowledged, then by priority; what is only not seen comes last. */
export function weight(alarm: Alarm | null): number {
  if (alarm === null) return 100;
  return (alarm.acked ? 10 : 0) + PRIORITIES.indexOf(alarm.priority);
}

/**
 * The worst mark gathers all within `radius`, then the worst of the rest, and so on: no two that remain are nearer to each
 * other than that, and the worst is never moved. The order in which marks are given does not matter.
 */
export function cluster(marks: readonly Mark[], radius: number): Cluster[] {
  const sorted = [...marks].sort((a, b) => a.weight - b.weight || (a.id < b.id ? -1 : 1));
  const cells = new Map<string, Cluster[]>();
  const clusters: Cluster[] = [];
  for (const mark of sorted) {
    const near = nearest(cells, mark, radius);
    if (near !== null) join(near, mark);
    else {
      const made: Cluster = { first: mark, alarms: [], blind: [] };
      join(made, mark);
      clusters.push(made);
      const key = cellOf(mark.x, mark.y, radius);
      cells.set(key, [...(cells.get(key) ?? []), made]);
    }
  }
  return clusters;
}

function cellOf(x: number, y: number, radius: number): string {
  return `${Math.floor(x / radius)} ${Math.floor(y / radius)}`;
}

function nearest(cells: Map<string, Cluster[]>, { x, y }: Mark, radius: number): Cluster | null {
  let best: Cluster | null = null;
  let least = radius;
  for (const dx of [-radius, 0, radius])
    for (const dy of [-radius, 0, radius])
      for (const each of cells.get(cellOf(x + dx, y + dy, radius)) ?? []) {
        const distance = Math.hypot(each.first.x - x, each.first.y - y);
        if (distance < least) [best, least] = [each, distance];
      }
  return best;
}

function join(into: Cluster, mark: Mark): void {
  if (mark.alarm === null) into.blind.push(mark.id);
  else into.alarms.push(mark.alarm);
}

/** How a sensor or a piece of road looks: its worst active alarm, else what is known of it. */
export type Look = Priority | "blind" | "waiting" | "ok";

/** Blind before P4 and advisory: that a sensor is silent is itself such an alarm, and its colour must not cover that nothing is seen. */
const LOOKS: readonly Look[] = ["P1", "P2", "P3", "blind", "P4", "advisory", "waiting", "ok"];

export function worse(a: Look, b: Look): Look {
  return LOOKS.indexOf(a) <= LOOKS.indexOf(b) ? a : b;
}

/** By sensor id. */
export function looks(
  sensors: Iterable<Sensor>,
  seen: Map<string, Seen>,
  alarms: Iterable<Alarm>,
): Map<string, Look> {
  const found = new Map<string, Look>();
  for (const { id } of sensors) {
    const status = seen.get(id)?.status ?? "waiting";
    found.set(id, status === "alarm" ? "ok" : status);
  }
  for (const { sensor, active, priority } of alarms) {
    const held = sensor !== null && active ? found.get(sensor) : undefined;
    if (sensor !== null && held !== undefined) found.set(sensor, worse(priority, held));
  }
  return found;
}

/** A piece of a road between two detectors, by their ids. */
export interface Piece {
  site: string;
  ends: readonly [string, string];
  line: readonly [At, At];
}

/** Detectors of one site follow each other in the registry as they do along the road. */
export function roads(city: Known, topic = "city.traffic.flow.v1"): Piece[] {
  const sites = new Map<string, { id: string; at: At }[]>();
  for (const sensor of city.sensors.values()) {
    const at = standing(sensor);
    const site = sensor.place?.site;
    if (sensor.topic !== topic || at === null || site == null) continue;
    const along = sites.get(site);
    if (along === undefined) sites.set(site, [{ id: sensor.id, at }]);
    else along.push({ id: sensor.id, at });
  }
  const pieces: Piece[] = [];
  for (const [site, along] of sites)
    along.slice(1).forEach((to, i) => {
      const from = along[i];
      if (from !== undefined) pieces.push({ site, ends: [from.id, to.id], line: [from.at, to.at] });
    });
  return pieces;
}
