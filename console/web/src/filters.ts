// What the operator chose to see. What a filter hides is always counted.
import { domainOf, placeName, topicOf, wardOf, type Known } from "./city";
import { isOpen, type Alarm, type Priority, type State } from "./model";

/** An empty set of priorities is all of them. `over` is what became NORM within the last hour. */
export interface Filter {
  priorities: ReadonlySet<Priority>;
  state: State | "open";
  domain: string;
  ward: string;
  text: string;
}

export const NO_FILTER: Filter = { priorities: new Set(), state: "open", domain: "", ward: "", text: "" };

/** Without case, accents and đ, so that "cau bai chay" finds "Cầu Bãi Cháy". */
export function fold(text: string): string {
  return text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase().replace(/đ/g, "d");
}

export function isActive(filter: Filter): boolean {
  const { priorities, state, domain, ward, text } = filter;
  return priorities.size > 0 || state !== "open" || domain !== "" || ward !== "" || text.trim() !== "";
}

/** Folding 2,000 alarms for every letter typed would be felt; a changed alarm is another object. */
const folded = new WeakMap<Alarm, { city: Known; text: string }>();

function words(city: Known, alarm: Alarm): string {
  const found = folded.get(alarm);
  if (found?.city === city) return found.text;
  const places = [placeName(city, alarm, "vi"), placeName(city, alarm, "en"), wardOf(city, alarm)];
  const own = [alarm.title.vi, alarm.title.en, alarm.rule, ...Object.values(alarm.labels), alarm.alarm_id];
  const text = fold([...places, ...own].join(" "));
  folded.set(alarm, { city, text });
  return text;
}

export function matches(filter: Filter, city: Known, alarm: Alarm): boolean {
  if (filter.state === "open" ? !isOpen(alarm) : alarm.state !== filter.state) return false;
  if (filter.priorities.size > 0 && !filter.priorities.has(alarm.priority)) return false;
  if (filter.domain !== "" && domainOf(topicOf(city, alarm)) !== filter.domain) return false;
  if (filter.ward !== "" && wardOf(city, alarm) !== filter.ward) return false;
  const asked = fold(filter.text).split(/\s+/).filter(Boolean);
  if (asked.length === 0) return true;
  const told = words(city, alarm);
  return asked.every((word) => told.includes(word));
}

export interface Chosen {
  shown: Alarm[];
  /** Open alarms that the filter keeps from the list. */
  hidden: Alarm[];
}

export function choose(filter: Filter, city: Known, alarms: Iterable<Alarm>): Chosen {
  const chosen: Chosen = { shown: [], hidden: [] };
  for (const alarm of alarms) {
    if (matches(filter, city, alarm)) chosen.shown.push(alarm);
    else if (isOpen(alarm)) chosen.hidden.push(alarm);
  }
  return chosen;
}
