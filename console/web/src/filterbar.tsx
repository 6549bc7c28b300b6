// The filters above the list: priorities with their counts, and what else narrows it; all active ones can be seen and removed.
import { useMemo } from "preact/hooks";
import { domainOf, topicOf, wardOf, type Known } from "./city";
import { isActive, NO_FILTER, type Filter } from "./filters";
import { isOpen, isSuppressed, PRIORITIES, unacked, type Alarm, type Priority } from "./model";
import { domainName } from "./names";
import { Shape, useScene } from "./ui";

const STATES = ["open", "UNACK", "ACKED", "RTNUN", "SHLVD", "DSUPR", "NORM"] as const;

/** Domains and wards that there are: of the registry, the rules and the alarms themselves. */
function choices(city: Known, alarms: Iterable<Alarm>): { domains: string[]; wards: string[] } {
  const domains = new Set<string>();
  const wards = new Set<string>();
  for (const { topic } of city.rules.values()) domains.add(domainOf(topic) ?? "");
  for (const { place } of city.sensors.values()) wards.add(place?.ward ?? "");
  for (const alarm of alarms) {
    domains.add(domainOf(topicOf(city, alarm)) ?? "");
    wards.add(wardOf(city, alarm) ?? "");
  }
  const sorted = (set: Set<string>) => [...set].filter(Boolean).sort((a, b) => a.localeCompare(b, "vi"));
  return { domains: sorted(domains), wards: sorted(wards) };
}

/** Of each priority: how many are open, and how many of these nobody has acknowledged. */
function counted(alarms: Iterable<Alarm>): Record<Priority, { all: number; open: number }> {
  const counts = Object.fromEntries(PRIORITIES.map((p) => [p, { all: 0, open: 0 }])) as ReturnType<
    typeof counted
  >;
  for (const alarm of alarms) {
    if (!isOpen(alarm)) continue;
    counts[alarm.priority].all += 1;
    if (unacked(alarm)) counts[alarm.priority].open += 1;
  }
  return counts;
}

interface Props {
  filter: Filter;
  alarms: ReadonlyMap<string, Alarm>;
  /** Another number: the alarms have changed. */
  alarmsAt: number;
  hidden: number;
  set: (filter: Filter) => void;
}

export function FilterBar({ filter, alarms, alarmsAt, hidden, set }: Props) {
  const { w, lang, city } = useScene();
  const { domains, wards } = useMemo(() => choices(city, alarms.values()), [city, alarmsAt]);
  const counts = useMemo(() => counted(alarms.values()), [alarmsAt]);
  const suppressed = useMemo(() => [...alarms.values()].filter(isSuppressed).length, [alarmsAt]);
  const change = (part: Partial<Filter>) => set({ ...filter, ...part });
  const toggle = (p: Priority) => {
    const priorities = new Set(filter.priorities);
    if (!priorities.delete(p)) priorities.add(p);
    change({ priorities });
  };
  const stateName = (state: Filter["state"]) =>
    state === "open"
      ? w.anyState
      : state === "NORM"
        ? w.over
        : state === "DSUPR"
          ? `${w.state.DSUPR} (${suppressed})`
          : w.state[state];
  const active: [string, Partial<Filter>][] = [
    ...PRIORITIES.filter((p) => filter.priorities.has(p)).map((p): [string, Partial<Filter>] => [
      w.short[p],
      { priorities: new Set([...filter.priorities].filter((each) => each !== p)) },
    ]),
    ...(filter.state === "open"
      ? []
      : [[stateName(filter.state), { state: "open" }] satisfies [string, Partial<Filter>]]),
    ...(filter.domain === ""
      ? []
      : [[domainName(filter.domain, lang), { domain: "" }] satisfies [string, object]]),
    ...(filter.ward === "" ? [] : [[filter.ward, { ward: "" }] satisfies [string, object]]),
    ...(filter.text.trim() === "" ? [] : [[`“${filter.text}”`, { text: "" }] satisfies [string, object]]),
  ];
  return (
    <div class="filterbar">
      <div class="priorities" role="group" aria-label={w.priorityLabel}>
        {PRIORITIES.map((p) => {
          const { all, open } = counts[p];
          return (
            <button
              key={p}
              type="button"
              class={`chip ${p}`}
              aria-pressed={filter.priorities.has(p)}
              data-none={all === 0}
              title={`${w.priority[p]}: ${w.groupCount(open, all)}`}
              onClick={() => toggle(p)}
            >
              <Shape priority={p} state={open > 0 ? "UNACK" : all > 0 ? "ACKED" : "NORM"} size={16} />
              <span class="sr">{w.short[p]}</span>
              <span class="num">
                <b>{open}</b>/{all}
              </span>
            </button>
          );
        })}
      </div>
      <div class="narrow">
        <input
          type="search"
          value={filter.text}
          placeholder={`${w.search}…`}
          title={w.searchHint}
          aria-label={w.search}
          onInput={(event) => change({ text: event.currentTarget.value })}
        />
        <select
          aria-label={w.stateLabel}
          value={filter.state}
          onChange={(event) => change({ state: event.currentTarget.value as Filter["state"] })}
        >
          {STATES.map((state) => (
            <option key={state} value={state}>
              {stateName(state)}
            </option>
          ))}
        </select>
        <select
          aria-label={w.domain}
          value={filter.domain}
          onChange={(event) => change({ domain: event.currentTarget.value })}
        >
          <option value="">{w.domain}</option>
          {domains.map((each) => (
            <option key={each} value={each}>
              {domainName(each, lang)}
            </option>
          ))}
        </select>
        <select
          aria-label={w.ward}
          value={filter.ward}
          onChange={(event) => change({ ward: event.currentTarget.value })}
        >
          <option value="">{w.ward}</option>
          {wards.map((each) => (
            <option key={each} value={each}>
              {each}
            </option>
          ))}
        </select>
      </div>
      {isActive(filter) && (
        <div class="active" role="status">
          {active.map(([name, part]) => (
            <button
              key={name}
              type="button"
              class="tag"
              aria-label={w.remove(name)}
              onClick={() => change(part)}
            >
              {name} <span aria-hidden="true">×</span>
            </button>
          ))}
          {hidden > 0 && <b class="hiddencount">{w.hidden(hidden)}</b>}
          <button type="button" class="plain" onClick={() => set(NO_FILTER)}>
            {w.clear}
          </button>
        </div>
      )}
    </div>
  );
}
