// The alarm list: grouped by priority, held still under the pointer, and honest about what it does not show.
import { Component } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { placeName, wardOf, type Known } from "./city";
import type { Chosen, Filter } from "./filters";
import { PRIORITIES, unacked, type Alarm, type Lang, type Priority } from "./model";
import type { News } from "./news";
import { held, layout, type Layout } from "./order";
import { alarmLink } from "./route";
import { age, exact, number } from "./time";
import { Shape, stateWords, useScene } from "./ui";
import { WORDS } from "./words";

/** Rows drawn of a group before "show more", and by each of it: 2,000 alarms stay quick. */
const ROWS = 50;
const MORE = 200;
/** An operator who has gone leaves the pointer on the list: what is held back must not stay so. */
const HOLD_MS = 60_000;

interface RowProps {
  alarm: Alarm;
  age: string;
  fresh: boolean;
  chosen: boolean;
  reachable: boolean;
  lang: Lang;
  city: Known;
}

/** Drawn again only when something of it changed, and not with every second: some hundred rows stand in the list. */
class Row extends Component<RowProps> {
  override shouldComponentUpdate(next: RowProps): boolean {
    return (Object.keys(next) as (keyof RowProps)[]).some((name) => next[name] !== this.props[name]);
  }

  override render({ alarm, age: old, fresh, chosen, reachable, lang, city }: RowProps) {
    const w = WORDS[lang];
    const place = placeName(city, alarm, lang);
    const ward = wardOf(city, alarm);
    return (
      <li>
        <a
          class={`row ${alarm.priority} ${alarm.state}`}
          href={alarmLink(alarm.alarm_id)}
          data-id={alarm.alarm_id}
          aria-current={chosen ? "true" : undefined}
          tabIndex={reachable ? 0 : -1}
        >
          <Shape priority={alarm.priority} state={alarm.state} />
          <span class="sr">{w.priority[alarm.priority]}</span>
          <span class="line">
            <span class="what">{alarm.title[lang]}</span>
            {fresh && <span class="new">{w.fresh}</span>}
            <time class="age" dateTime={alarm.raised_at} title={exact(Date.parse(alarm.raised_at), lang)}>
              {old}
            </time>
          </span>
          <span class="line">
            <span class="where">
              {place}
              {ward !== null && ward !== place && <span class="ward">{ward}</span>}
            </span>
            {alarm.revised > 0 && <span class="mark">{w.revised}</span>}
            {alarm.peak !== null && <span class="num">{w.peak(number(alarm.peak, lang))}</span>}
            {alarm.state !== "UNACK" && <span class="state">{stateWords(alarm, w)}</span>}
          </span>
        </a>
      </li>
    );
  }
}

interface GroupProps {
  priority: Priority;
  rows: Alarm[];
  news: News;
  selected: string | null;
  reachable: string | null;
}

function Group({ priority, rows, news, selected, reachable }: GroupProps) {
  const { w, lang, now, city } = useScene();
  const [limit, setLimit] = useState(ROWS);
  if (rows.length === 0) return null;
  const open = rows.filter(unacked).length;
  return (
    <section class={`group ${priority}`} aria-label={w.priority[priority]}>
      <h3 title={w.groupCount(open, rows.length)}>
        <span>{w.priority[priority]}</span>
        <span class="num">
          <b>{open}</b>/{rows.length}
        </span>
      </h3>
      <ol>
        {rows.slice(0, limit).map((alarm) => (
          <Row
            key={alarm.alarm_id}
            alarm={alarm}
            age={age(now - Date.parse(alarm.raised_at), lang)}
            lang={lang}
            city={city}
            fresh={news.has(alarm.alarm_id)}
            chosen={alarm.alarm_id === selected}
            reachable={alarm.alarm_id === reachable}
          />
        ))}
      </ol>
      {rows.length > limit && (
        <button type="button" class="more" onClick={() => setLimit(limit + MORE)}>
          {w.more(Math.min(MORE, rows.length - limit))}
        </button>
      )}
    </section>
  );
}

/** Moves the focus from row to row: up, down, j, k, Home, End. */
function move(event: KeyboardEvent & { currentTarget: HTMLElement }): void {
  const rows = [...event.currentTarget.querySelectorAll<HTMLElement>("a.row")];
  const at = rows.indexOf(document.activeElement as HTMLElement);
  const to = { ArrowDown: at + 1, j: at + 1, ArrowUp: at - 1, k: at - 1, Home: 0, End: rows.length - 1 }[
    event.key
  ];
  if (to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  rows[Math.max(0, Math.min(to, rows.length - 1))]?.focus();
}

/** Whether the operator is at the list with pointer or keyboard, so that it must not move. */
function useStill() {
  const [over, setOver] = useState(false);
  const [keys, setKeys] = useState(false);
  const touched = useRef(0);
  const touch = () => (touched.current = Date.now());
  return {
    still: (over || keys) && Date.now() - touched.current < HOLD_MS,
    watch: {
      onPointerEnter: (event: PointerEvent) => {
        touch();
        setOver(event.pointerType === "mouse");
      },
      onPointerMove: touch,
      onPointerLeave: () => setOver(false),
      onFocusIn: (event: FocusEvent) => {
        touch();
        setKeys((event.target as Element).matches(":focus-visible"));
      },
      onFocusOut: () => setKeys(false),
    },
  };
}

interface ListProps {
  alarms: ReadonlyMap<string, Alarm>;
  chosen: Chosen;
  filter: Filter;
  news: News;
  selected: string | null;
  ready: boolean;
  blind: number;
  onClear: () => void;
}

export function List({ alarms, chosen, filter, news, selected, ready, blind, onClear }: ListProps) {
  const { w, lang, city } = useScene();
  const box = useRef<HTMLDivElement>(null);
  const { still, watch } = useStill();
  const wanted = useMemo(() => layout(chosen.shown), [chosen]);
  const kept = useRef<{ layout: Layout; filter: Filter }>({ layout: wanted, filter });
  const [, redraw] = useState(0);

  const nothing = PRIORITIES.every((p) => kept.current.layout[p].length === 0);
  if (!still || nothing || kept.current.filter !== filter) kept.current = { layout: wanted, filter };
  const shown = kept.current.layout;
  const back = held(shown, chosen.shown);

  const catchUp = () => {
    kept.current = { layout: wanted, filter };
    box.current?.scrollTo({ top: 0 });
    redraw((n) => n + 1);
  };
  const rowsOf = (p: Priority) => shown[p].flatMap((id) => alarms.get(id) ?? []);
  const first = PRIORITIES.flatMap((p) => shown[p])[0] ?? null;
  const reachable =
    selected !== null && PRIORITIES.some((p) => shown[p].includes(selected)) ? selected : first;

  useEffect(() => {
    if (selected === null) return;
    box.current?.querySelector(`[data-id="${CSS.escape(selected)}"]`)?.scrollIntoView({ block: "nearest" });
  }, [selected, ready]);

  const none = first === null && ready;
  return (
    <div class="rows" ref={box} onKeyDown={move} {...watch}>
      {PRIORITIES.map((p) => (
        <Group key={p} priority={p} rows={rowsOf(p)} news={news} selected={selected} reachable={reachable} />
      ))}
      {!ready && <p class="nothing">{w.loading}</p>}
      {none && chosen.hidden.length === 0 && (
        <p class="nothing">{blind > 0 ? w.noneButBlind(blind) : w.none}</p>
      )}
      {none && chosen.hidden.length > 0 && (
        <p class="nothing">
          {w.noneFound}. {w.hidden(chosen.hidden.length)}.{" "}
          <button type="button" onClick={onClear}>
            {w.clear}
          </button>
        </p>
      )}
      <div class="pill" aria-live="assertive">
        {back.worst !== null && (
          <button type="button" class={back.worst.priority} onClick={catchUp}>
            <b>{w.pill(back.count)}</b>
            <span>
              <Shape priority={back.worst.priority} state="UNACK" size={16} />
              {back.worst.title[lang]} · {placeName(city, back.worst, lang)}
            </span>
          </button>
        )}
      </div>
    </div>
  );
}
