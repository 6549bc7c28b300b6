// The health strip: whether what the page shows can be believed, in one line; and in words across the page if not.
import { useState } from "preact/hooks";
import { readLog, rememberLog } from "./memory";
import { isOld, SILENT_MS, type Health, type Link, type Part } from "./model";
import { topicName } from "./names";
import { age, clock, date, exact, moment, number } from "./time";
import { useScene } from "./ui";

/** What was told too long ago is not repeated as if it were so. */
function PartState({ part, old }: { part: Part; old: boolean }) {
  const { w, lang } = useScene();
  if (old)
    return (
      <li class="part" data-part={part.id}>
        {w.parts[part.id]} <b>?</b>
      </li>
    );
  const behind =
    part.behind_s !== null && part.level !== "ok" ? w.behind(age(part.behind_s * 1000, lang)) : null;
  return (
    <li class="part" data-level={part.level} data-part={part.id} title={part.why ?? undefined}>
      <span class="light" aria-hidden="true" />
      {w.parts[part.id]} <b>{behind ?? w.level[part.level]}</b>
    </li>
  );
}

function Data({ health, old }: { health: Health; old: boolean }) {
  const { w, lang, now } = useScene();
  const times = health.feeds.map((feed) => (feed.at === null ? 0 : Date.parse(feed.at)));
  const newest = Math.max(0, ...times);
  return (
    <li class="part data" data-level={health.per_second > 0 && !old ? "ok" : "warn"}>
      <span class="light" aria-hidden="true" />
      {w.data} <b>{old ? "?" : w.perSecond(number(health.per_second, lang, 1))}</b>
      <span class="dim" title={newest ? exact(newest, lang) : undefined}>
        {newest ? w.newest(age(now - newest, lang)) : w.noData}
      </span>
    </li>
  );
}

interface StripProps {
  health: Health | null;
  /** How many sensors are not seen. */
  blind: number;
  old: boolean;
}

export function HealthStrip({ health, blind, old }: StripProps) {
  const { w } = useScene();
  if (health === null) return <ul class="health" aria-label={w.data} />;
  const waiting = health.sensors["waiting"] ?? 0;
  const all = Object.values(health.sensors).reduce((sum, each) => sum + each, 0);
  return (
    <ul class="health">
      <Data health={health} old={old} />
      {health.parts.map((part) => (
        <PartState key={part.id} part={part} old={old} />
      ))}
      <li class="part blindcount" data-level={blind > 0 ? "blind" : "ok"}>
        <a href="#/blind">
          <span class="ring" aria-hidden="true" />
          <b>
            {blind > 0 ? w.notSeen(blind, all) : waiting > 0 ? w.seenOf(all - waiting, all) : w.allSeen(all)}
          </b>
        </a>
      </li>
    </ul>
  );
}

export function Connection({ link }: { link: Link }) {
  const { w, lang } = useScene();
  const live = link.state === "live" && !isOld(link, Date.now());
  const words = live
    ? w.live
    : link.state === "connecting"
      ? w.connecting
      : w.reconnecting(clock(link.since, lang));
  return (
    <span class="connection" data-level={live ? "ok" : "warn"} role="status">
      <span class="light" aria-hidden="true" />
      {words}
    </span>
  );
}

export function Clock() {
  const { lang, now } = useScene();
  return (
    <time class="clock" title={exact(now, lang)}>
      <span class="dim">{date(now, lang)}</span> <b>{clock(now, lang)}</b>
    </time>
  );
}

/** What an operator must know before believing the list, the gravest first. */
export function Banners({ health, link }: { health: Health | null; link: Link }) {
  const { w, lang, city } = useScene();
  /** That alarms were left open is told once a log. */
  const [read, setRead] = useState(readLog);
  const log = city.city?.log_id ?? null;
  const old = isOld(link, Date.now());
  const bad = health?.parts.filter((part) => part.level === "bad") ?? [];
  const cut = (health?.feeds ?? [])
    .filter((feed) => (feed.canary?.lost.length ?? 0) > 0)
    .map((feed) => topicName(feed.topic, lang));
  const few = cut.length <= 3;
  const since = moment(Math.min(link.heard, Date.now() - SILENT_MS), Date.now(), lang, true);
  return (
    <div class="banners" role="alert">
      {old && <p class="banner grave">{w.old(since)}</p>}
      {bad.map((part) => (
        <p key={part.id} class="banner grave" data-part={part.id}>
          {w.bad[part.id]}{" "}
          {part.id === "through" && (
            <>
              {few ? cut.join(", ") : w.feedsOf(cut.length, health?.feeds.length ?? 0)}.{" "}
              <a href="#/blind">{w.look}</a>{" "}
            </>
          )}{" "}
          {part.behind_s !== null && w.behindFor(age(part.behind_s * 1000, lang))}
        </p>
      ))}
      {health !== null && health.left_open > 0 && log !== null && read !== log && (
        <p class="banner mild">
          {w.leftOpen(health.left_open)}. <a href="#/history?span=week&ended=1">{w.look}</a>
          <button type="button" class="plain" onClick={() => (rememberLog(log), setRead(log))}>
            {w.dismiss}
          </button>
        </p>
      )}
    </div>
  );
}
