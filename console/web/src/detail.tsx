// All that is known of one alarm: what to do, what happened, and what it was derived from.
import { useEffect, useState } from "preact/hooks";
import { Acknowledge } from "./ack";
import { NotGiven } from "./api";
import { EvidenceChart } from "./chart";
import { placed, placeName, topicOf, wardOf } from "./city";
import { Why } from "./explain";
import type { Alarm, Entry, Lang } from "./model";
import { fieldName, topicName, unitOf } from "./names";
import { onEntry } from "./store";
import { age, moment, number } from "./time";
import { Age, Failure, Moment, Shape, stateWords, useLoad, useScene } from "./ui";
import type { Detail, Evidence } from "./wire";
import type { Words } from "./words";

/** An active alarm's chart grows; it is asked for again this often. */
const CHART_MS = 30_000;

/** What of the alarm is other than it was at the entry before. */
function changes(entry: Entry, before: Entry | undefined, lang: Lang, w: Words): string[] {
  if (before === undefined) return [];
  const now = Date.parse(entry.at);
  const at = (time: string | null) => (time === null ? w.stillOn : moment(Date.parse(time), now, lang, true));
  const value = (peak: number | null) => (peak === null ? "–" : number(peak, lang));
  const told: [boolean, string, string, string][] = [
    [entry.priority !== before.priority, w.priorityLabel, w.short[before.priority], w.short[entry.priority]],
    [entry.start !== before.start, w.startLabel, at(before.start), at(entry.start)],
    [entry.end !== before.end, w.endLabel, at(before.end), at(entry.end)],
    [entry.peak !== before.peak, w.peakLabel, value(before.peak), value(entry.peak)],
    [entry.state !== before.state, w.stateLabel, w.state[before.state], w.state[entry.state]],
  ];
  return told.flatMap(([is, what, from, to]) => (is ? [w.changed(what, from, to)] : []));
}

function Timeline({ entries }: { entries: Entry[] }) {
  const { w, lang } = useScene();
  const lines = entries.map((entry, i) => ({ entry, changed: changes(entry, entries[i - 1], lang, w) }));
  return (
    <section aria-label={w.timeline}>
      <h3>{w.timeline}</h3>
      <ol class="timeline">
        {lines.reverse().map(({ entry, changed }) => (
          <li key={entry.id} class={entry.type}>
            <Moment at={entry.at} seconds />
            <div>
              <b>{w.entry[entry.type]}</b>
              {entry.actor !== null && <span> · {entry.actor}</span>}
              {entry.note !== null && <q>{entry.note}</q>}
              {entry.cause !== null && <div class="code dim">{entry.cause}</div>}
              {changed.map((each) => (
                <div key={each} class="dim">
                  {each}
                </div>
              ))}
            </div>
          </li>
        ))}
      </ol>
    </section>
  );
}

function valueWords(field: string, value: unknown, lang: Lang): string {
  if (typeof value === "number") return `${number(value, lang, 5)} ${unitOf(field, lang)}`.trim();
  return typeof value === "string" ? value : JSON.stringify(value);
}

function EvidenceTable({ evidence }: { evidence: Evidence[] }) {
  const { w, lang } = useScene();
  return (
    <section aria-label={w.evidence}>
      <h3>{w.evidence}</h3>
      {evidence.length === 0 && <p class="dim">{w.noEvidence}</p>}
      {evidence.length > 0 && (
        <div class="scroll" tabIndex={0} role="group" aria-label={w.evidence}>
          <table>
            <thead>
              <tr>
                <th>{w.observed}</th>
                <th>{w.values}</th>
                <th>{w.topic}</th>
                <th>{w.position}</th>
                <th>{w.event}</th>
              </tr>
            </thead>
            <tbody>
              {evidence.map((each) => (
                <tr key={`${each.topic}/${each.partition}/${each.offset}`}>
                  <td>
                    <Moment at={each.observed_at} seconds />
                  </td>
                  <td class="values">
                    {Object.entries(each.values).map(([field, value]) => (
                      <span key={field}>
                        <span class="dim">{fieldName(field, lang)}</span> {valueWords(field, value, lang)}
                      </span>
                    ))}
                  </td>
                  <td title={each.topic}>{topicName(each.topic, lang)}</td>
                  <td class="num">
                    {each.partition}/{each.offset}
                  </td>
                  <td class="code">{each.event_id}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}

function Facts({ alarm, detail }: { alarm: Alarm; detail: Detail | null }) {
  const { w, lang, now, city } = useScene();
  const topic = topicOf(city, alarm);
  const end = alarm.end === null ? now : Date.parse(alarm.end);
  const facts: [string, preact.ComponentChildren][] = [
    [w.since, <Moment at={alarm.start} seconds />],
    [w.until, alarm.end === null ? w.stillOn : <Moment at={alarm.end} seconds />],
    [w.lasted, age(end - Date.parse(alarm.start), lang)],
    [w.raisedAt, <Moment at={alarm.raised_at} seconds />],
    ...(alarm.peak === null ? [] : [[w.peakLabel, number(alarm.peak, lang)] satisfies [string, string]]),
    [w.categoryLabel, w.category[alarm.category]],
    [w.certaintyLabel, w.certainty[alarm.certainty]],
    [w.severityLabel, w.severity[alarm.severity]],
    [w.urgencyLabel, w.urgency[alarm.urgency]],
    ...(topic === null ? [] : [[w.topic, topicName(topic, lang)] satisfies [string, string]]),
    [
      w.rule,
      <>
        <span class="code">{alarm.rule}</span>
        {detail !== null && detail.rule === null && <span class="dim"> ({w.notInForce})</span>}
      </>,
    ],
    ...Object.entries(alarm.labels).map(([name, value]): [string, preact.ComponentChildren] => [
      fieldName(name, lang),
      <span class="code">{value}</span>,
    ]),
  ];
  return (
    <dl class="facts">
      {facts.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

/** In words, what about this alarm is not as usual. */
function Explained({ alarm }: { alarm: Alarm }) {
  const { w, lang, now } = useScene();
  const told = [
    alarm.retracted ? w.explainRetracted : null,
    alarm.closed_by === null ? null : w.explainLogEnded,
    alarm.state === "RTNUN" ? w.explainRtn : null,
    alarm.state === "DSUPR" ? w.explainSuppressed(Object.keys(alarm.suppressed_by).join(", ")) : null,
    alarm.shelved_until === null
      ? null
      : w.explainShelved(alarm.shelved_by ?? "", moment(Date.parse(alarm.shelved_until), now, lang)),
    alarm.revised > 0 ? w.explainRevised(alarm.revised) : null,
  ].filter((each) => each !== null);
  return (
    <>
      {told.map((each) => (
        <p key={each} class="explained">
          {each}
        </p>
      ))}
    </>
  );
}

interface Props {
  id: string;
  /** As the stream last told it; none of those that ended long ago. */
  live: Alarm | null;
  /** Grows with each connection: timelines are not told again after a break. */
  connects: number;
  onShow: () => void;
}

export function DetailView({ id, live, connects, onShow }: Props) {
  const { w, lang, now, city } = useScene();
  const [entries, setEntries] = useState(0);
  useEffect(() => onEntry((of) => of === id && setEntries((n) => n + 1)), [id]);
  const loaded = useLoad<Detail>(
    `/api/alarms/${encodeURIComponent(id)}`,
    `${live?.position ?? ""} ${entries} ${connects}`,
  );
  const detail = loaded.value;
  const alarm = newer(live, detail?.alarm ?? null);
  const missing = loaded.error instanceof NotGiven && loaded.error.status === 404;
  const grows = alarm?.active === true && alarm.closed_by === null ? Math.floor(now / CHART_MS) : 0;

  return (
    <article class="detail" aria-label={alarm?.title[lang] ?? w.loading}>
      <a class="close" href="#/" aria-label={w.back} title={w.close}>
        ×
      </a>
      {alarm === null && missing && <p class="nothing">{w.notFound}</p>}
      {alarm === null &&
        !missing &&
        (loaded.error === null ? <p class="nothing">{w.loading}</p> : <Failure loaded={loaded} />)}
      {alarm !== null && (
        <>
          <div class={`head ${alarm.priority} ${alarm.state}`}>
            <Shape priority={alarm.priority} state={alarm.state} size={34} />
            <div>
              <h2>{alarm.title[lang]}</h2>
              <p>
                {placeName(city, alarm, lang)}
                {wardOf(city, alarm) !== null && <span class="dim"> · {wardOf(city, alarm)}</span>}
                {placed(city, alarm) !== null && (
                  <button type="button" class="plain" onClick={onShow}>
                    {w.showOnMap}
                  </button>
                )}
              </p>
              <p class="dim">
                {w.priority[alarm.priority]} · <b>{stateWords(alarm, w)}</b>
                {alarm.acked_at !== null && (
                  <>
                    {" "}
                    <Moment at={alarm.acked_at} />
                  </>
                )}{" "}
                · <Age since={alarm.start} />
              </p>
            </div>
            <Acknowledge key={id} alarm={alarm} />
          </div>
          <Explained alarm={alarm} />
          <section class="todo" aria-label={w.whatToDo}>
            <h3>{w.whatToDo}</h3>
            <p>{detail === null ? w.loading : (detail.instruction?.[lang] ?? w.noInstruction)}</p>
          </section>
          {detail === null && <Failure loaded={loaded} />}
          <Facts alarm={alarm} detail={detail} />
          {detail !== null && (
            <>
              <EvidenceChart alarm={alarm} evidence={detail.evidence} stamp={`${alarm.position} ${grows}`} />
              <Why id={id} stamp={`${alarm.position} ${entries}`} />
              <Timeline entries={detail.timeline} />
              <EvidenceTable evidence={detail.evidence} />
            </>
          )}
        </>
      )}
    </article>
  );
}

function newer(a: Alarm | null, b: Alarm | null): Alarm | null {
  if (a === null || b === null) return a ?? b;
  return a.position >= b.position ? a : b;
}
