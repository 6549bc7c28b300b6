// A question to the history, as it stands in the address of the page.
import { ZONE } from "./time";

/** City time has no summer time; the inputs of the browser are in no zone at all. */
const OFFSET = "+07:00";
const HOURS = { hour: 1, day: 24, week: 168 } as const;

export const SPANS = ["hour", "day", "week", "own"] as const;
export type Span = (typeof SPANS)[number];
const PAGE = 100;

export function spanOf(query: URLSearchParams): Span {
  return SPANS.find((each) => each === query.get("span")) ?? "day";
}

/** A time of the form's (2026-01-05T03:05 in the city) in UTC; null where it is none. */
export function utc(local: string): string | null {
  const ms = Date.parse(`${local.length === 16 ? local : ""}:00${OFFSET}`);
  return Number.isNaN(ms) ? null : new Date(ms).toISOString();
}

/** The other way, for the inputs. */
export function local(ms: number): string {
  const parts = new Intl.DateTimeFormat("sv-SE", { timeZone: ZONE, dateStyle: "short", timeStyle: "short" });
  return parts.format(ms).replace(" ", "T");
}

/** The address of the answer, of so many pages from the newest on. */
export function question(query: URLSearchParams, now: number, pages: number): string {
  const asked = new URLSearchParams();
  const span = spanOf(query);
  const from =
    span === "own" ? utc(query.get("from") ?? "") : new Date(now - HOURS[span] * 3_600_000).toISOString();
  const to = span === "own" ? utc(query.get("to") ?? "") : null;
  if (from !== null) asked.set("from", from);
  if (to !== null) asked.set("to", to);
  for (const name of ["priority", "rule", "ward", "q"]) {
    const value = query.get(name)?.trim() ?? "";
    if (value !== "") asked.set(name, value);
  }
  asked.set("limit", String(PAGE * pages));
  return `/api/history?${asked}`;
}
