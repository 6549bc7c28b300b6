// Alarms of the past: a table for a span of time, as long as whoever asks wants it.
import { useEffect, useState } from "preact/hooks";
import { get } from "./api";
import { placeName, wardOf } from "./city";
import { PRIORITIES, type Alarm, type Lang } from "./model";
import { local, question, spanOf, SPANS, type Span } from "./past";
import { alarmLink } from "./route";
import { age, number } from "./time";
import { Failure, Moment, Shape, stateWords, useScene, type Loaded } from "./ui";
import type { Alarms } from "./wire";

/** The answer, which grows by "older ones". Asked again when the question changes. */
function useHistory(query: URLSearchParams): Loaded<Alarms> & { older: () => void } {
  const text = query.toString();
  const [state, setState] = useState<{ value: Alarms | null; error: Error | null; loading: boolean }>({
    value: null,
    error: null,
    loading: true,
  });
  const [page, setPage] = useState({ text, pages: 1, tries: 0 });
  const pages = page.text === text ? page.pages : 1;
  useEffect(() => {
    const stop = new AbortController();
    setState((old) => ({ ...old, error: null, loading: true }));
    // Typing asks once: the last letter counts.
    const timer = setTimeout(() => {
      get<Alarms>(question(new URLSearchParams(text), Date.now(), pages), stop.signal).then(
        (value) => setState({ value, error: null, loading: false }),
        (error: Error) => {
          if (!stop.signal.aborted) setState({ value: null, error, loading: false });
        },
      );
    }, 250);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [text, pages, page.tries]);
  return {
    ...state,
    again: () => setPage({ text, pages, tries: page.tries + 1 }),
    older: () => setPage({ text, pages: pages + 1, tries: page.tries }),
  };
}

function Form({ query, set }: { query: URLSearchParams; set: (name: string, value: string) => void }) {
  const { w, lang, city, now } = useScene();
  const span = spanOf(query);
  const spans: Record<Span, string> = { hour: w.hour, day: w.day, week: w.week, own: w.own };
  const rules = [...city.rules.values()].sort((a, b) => a.title[lang].localeCompare(b.title[lang], lang));
  const wards = [...new Set([...city.sensors.values()].flatMap(({ place }) => place?.ward ?? []))];
  wards.sort((a, b) => a.localeCompare(b, "vi"));
  const field = (name: string) => ({
    value: query.get(name) ?? "",
    onChange: (event: { currentTarget: HTMLSelectElement | HTMLInputElement }) =>
      set(name, event.currentTarget.value),
  });
  return (
    <form class="asked" onSubmit={(event) => event.preventDefault()}>
      <div class="segments" role="group" aria-label={w.from}>
        {SPANS.map((each) => (
          <button key={each} type="button" aria-pressed={each === span} onClick={() => set("span", each)}>
            {spans[each]}
          </button>
        ))}
      </div>
      {span === "own" && (
        <div class="span">
          <label>
            {w.from} <input type="datetime-local" max={local(now)} {...field("from")} />
          </label>
          <label>
            {w.to} <input type="datetime-local" {...field("to")} />
          </label>
        </div>
      )}
      <div class="narrow">
        <input
          type="search"
          placeholder={`${w.search}…`}
          aria-label={w.search}
          value={query.get("q") ?? ""}
          onInput={(event) => set("q", event.currentTarget.value)}
        />
        <select aria-label={w.priorityLabel} {...field("priority")}>
          <option value="">{w.anyPriority}</option>
          {PRIORITIES.map((p) => (
            <option key={p} value={p}>
              {w.priority[p]}
            </option>
          ))}
        </select>
        <select aria-label={w.rule} {...field("rule")}>
          <option value="">{w.anyRule}</option>
          {rules.map(({ id, title }) => (
            <option key={id} value={id}>
              {title[lang]}
            </option>
          ))}
        </select>
        <select aria-label={w.ward} {...field("ward")}>
          <option value="">{w.anyWard}</option>
          {wards.map((each) => (
            <option key={each} value={each}>
              {each}
            </option>
          ))}
        </select>
      </div>
      <label class="check">
        <input
          type="checkbox"
          checked={query.get("ended") === "1"}
          onChange={(event) => set("ended", event.currentTarget.checked ? "1" : "")}
        />{" "}
        {w.onlyLogEnded}
      </label>
    </form>
  );
}

function lasted(alarm: Alarm, now: number, lang: Lang): string {
  return age((alarm.end === null ? now : Date.parse(alarm.end)) - Date.parse(alarm.start), lang);
}

function Table({ alarms }: { alarms: readonly Alarm[] }) {
  const { w, lang, now, city } = useScene();
  return (
    <div class="scroll" tabIndex={0} role="group" aria-label={w.historyTitle}>
      <table class="past">
        <thead>
          <tr>
            <th>
              <span class="sr">{w.priorityLabel}</span>
            </th>
            <th>{w.start}</th>
            <th>{w.title}</th>
            <th>{w.place}</th>
            <th class="num">{w.lasted}</th>
            <th class="num">{w.peakLabel}</th>
            <th>{w.stateLabel}</th>
          </tr>
        </thead>
        <tbody>
          {alarms.map((alarm) => (
            <tr key={alarm.alarm_id} class={alarm.retracted ? "retracted" : ""}>
              <td title={w.priority[alarm.priority]}>
                <Shape priority={alarm.priority} state={alarm.state} size={16} />
                <span class="sr">{w.short[alarm.priority]}</span>
              </td>
              <td class="num">
                <Moment at={alarm.start} />
              </td>
              <td class="what">
                <a href={alarmLink(alarm.alarm_id)}>{alarm.title[lang]}</a>
              </td>
              <td>
                {placeName(city, alarm, lang)}
                {wardOf(city, alarm) !== null && <span class="dim"> · {wardOf(city, alarm)}</span>}
              </td>
              <td class="num">
                {alarm.end === null && alarm.closed_by !== null ? "?" : lasted(alarm, now, lang)}
              </td>
              <td class="num">{alarm.peak === null ? "" : number(alarm.peak, lang)}</td>
              <td>{stateWords(alarm, w)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

export function HistoryView({ query }: { query: URLSearchParams }) {
  const { w } = useScene();
  const loaded = useHistory(query);
  const set = (name: string, value: string) => {
    const next = new URLSearchParams(query);
    if (value === "") next.delete(name);
    else next.set(name, value);
    // The question is in the address, so that it can be passed on; but each letter is no step to go back to.
    history.replaceState(null, "", `#/history?${next}`);
    dispatchEvent(new HashChangeEvent("hashchange"));
  };
  const all = loaded.value?.alarms ?? [];
  const shown = query.get("ended") === "1" ? all.filter(({ closed_by }) => closed_by !== null) : all;
  const more = loaded.value?.more ?? false;
  return (
    <article class="panel history" aria-label={w.historyTitle} aria-busy={loaded.loading}>
      <a class="close" href="#/" aria-label={w.back} title={w.close}>
        ×
      </a>
      <h2>
        {w.historyTitle} {loaded.value !== null && <span class="num dim">{w.found(shown.length, more)}</span>}
      </h2>
      <Form query={query} set={set} />
      <Failure loaded={loaded} />
      {loaded.value === null && loaded.loading && <p class="dim">{w.loading}</p>}
      {loaded.value !== null && shown.length === 0 && <p class="nothing">{w.historyNone}</p>}
      {shown.length > 0 && <Table alarms={shown} />}
      {more && (
        <button type="button" class="more" disabled={loaded.loading} onClick={loaded.older}>
          {w.older}
        </button>
      )}
    </article>
  );
}
