// What a chart draws: lines that break where values lack, and the values that were cited as evidence.
import { PRIORITIES } from "./model";
import type { Bound, Chart, Evidence } from "./wire";

/** Times in seconds, and the values of one field at them. */
export interface Series {
  times: number[];
  values: (number | null)[];
}

/** A gap of this many intervals is one, and is drawn so: a line across it would claim what nobody measured. */
const GAP = 2.5;

/** How far apart values usually are: as the answer says, else the median. */
export function interval(chart: Chart): number {
  if (chart.every_s !== null) return chart.every_s;
  const steps = chart.times.slice(1).map((time, i) => time - (chart.times[i] ?? time));
  return steps.sort((a, b) => a - b)[Math.floor(steps.length / 2)] ?? 0;
}

export function gapped(chart: Chart, values: readonly (number | null)[]): Series {
  const longest = GAP * interval(chart);
  const series: Series = { times: [], values: [] };
  chart.times.forEach((time, i) => {
    const last = series.times.at(-1);
    if (last !== undefined && time - last > longest) {
      series.times.push((last + time) / 2);
      series.values.push(null);
    }
    series.times.push(time);
    series.values.push(values[i] ?? null);
  });
  return series;
}

/** The cited values of a field: seconds and number. */
export function cited(evidence: readonly Evidence[], field: string): [time: number, value: number][] {
  return evidence.flatMap(({ observed_at, values }): [number, number][] => {
    const value = values[field];
    return typeof value === "number" ? [[Date.parse(observed_at) / 1000, value]] : [];
  });
}

/** Bounds that lie on one another, as one line: the worst priority first. */
export interface BoundLine {
  value: number;
  when: Bound["when"];
  operator: string;
  priorities: Bound["priority"][];
}

const SIGNS: Partial<Record<Bound["operator"], string>> = { "<=": "≤", ">=": "≥", "!=": "≠", "==": "=" };

export function boundLines(bounds: readonly Bound[]): BoundLine[] {
  const found = new Map<string, BoundLine>();
  for (const { value, when, operator, priority } of bounds) {
    const key = `${value} ${when} ${operator}`;
    const line = found.get(key) ?? { value, when, operator: SIGNS[operator] ?? operator, priorities: [] };
    if (!line.priorities.includes(priority)) line.priorities.push(priority);
    line.priorities.sort((a, b) => PRIORITIES.indexOf(a) - PRIORITIES.indexOf(b));
    found.set(key, line);
  }
  return [...found.values()];
}

/** From the least to the greatest of all that is drawn, so that no bound lies outside of the chart. */
export function range(
  values: readonly (number | null)[],
  bounds: readonly Bound[],
  marks: readonly [number, number][],
): [number, number] {
  const all = [
    ...values.filter((v) => v !== null),
    ...bounds.map((b) => b.value),
    ...marks.map(([, v]) => v),
  ];
  const low = Math.min(...all);
  const high = Math.max(...all);
  if (all.length === 0) return [0, 1];
  const room = (high - low || Math.abs(high) || 1) * 0.08;
  return [low >= 0 ? Math.max(0, low - room) : low - room, high + room];
}
