// What is not seen, and why: by place and by feed, for who must look there by other means.
import { useState } from "preact/hooks";
import { sensorName, type Known } from "./city";
import { unseen, type Feed, type Seen } from "./model";
import { topicName } from "./names";
import { age, number } from "./time";
import { Moment, useScene } from "./ui";
import type { Sensor } from "./wire";

interface Blind {
  seen: Seen;
  sensor: Sensor | undefined;
}

/** By `key`, the longest silent first, both inside and between groups. */
function grouped(blind: Blind[], key: (each: Blind) => string): [string, Blind[]][] {
  const groups = new Map<string, Blind[]>();
  const since = ({ seen }: Blind) => seen.since ?? "";
  for (const each of [...blind].sort((a, b) => since(a).localeCompare(since(b)))) {
    const name = key(each);
    groups.set(name, [...(groups.get(name) ?? []), each]);
  }
  return [...groups];
}

/** What the rule that misses a sensor of this topic tells the operator to do. */
function instruction(city: Known, topic: string) {
  const rules = [...city.rules.values()];
  return rules.find((rule) => rule.kind === "absence" && rule.topic === topic)?.instruction ?? null;
}

function Rows({ rows, byFeed }: { rows: Blind[]; byFeed: boolean }) {
  const { w, lang, now } = useScene();
  return (
    <table class="blindtable">
      <thead class="sr">
        <tr>
          <th>{w.sensor}</th>
          <th>{w.reason}</th>
          <th>{w.lasted}</th>
        </tr>
      </thead>
      <tbody>
        {rows.map(({ seen, sensor }) => (
          <tr key={seen.id}>
            <td>
              <span class="hollow small" aria-hidden="true" />{" "}
              {sensor === undefined ? seen.id : sensorName(sensor, lang)}
              {sensor !== undefined && (
                <span class="dim">
                  {" "}
                  · {byFeed ? (sensor.place?.ward ?? "") : topicName(sensor.topic, lang)}
                </span>
              )}
            </td>
            <td>
              {seen.why !== null && w.why[seen.why]}
              {seen.since !== null && (
                <span class="dim">
                  {" "}
                  {w.fromThen} <Moment at={seen.since} />
                </span>
              )}
            </td>
            <td class="num">{seen.since !== null && age(now - Date.parse(seen.since), lang)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** Of every feed, when a canary last came down its whole way to here. A replay has none. */
function Through({ feeds, at }: { feeds: readonly Feed[]; at: number }) {
  const { w, lang } = useScene();
  const sent = feeds.flatMap((feed) => (feed.canary === null ? [] : [{ feed, canary: feed.canary }]));
  if (sent.length === 0) return null;
  return (
    <section class="through">
      <h3>{w.throughTitle}</h3>
      <p class="dim">{w.throughHint}</p>
      <table>
        <thead>
          <tr>
            <th>{w.feed}</th>
            <th class="num">{w.rate}</th>
            <th>{w.canary}</th>
          </tr>
        </thead>
        <tbody>
          {sent.map(({ feed, canary }) => (
            <tr key={feed.topic} data-topic={feed.topic}>
              <td data-level={canary.lost.length > 0 ? "bad" : "ok"}>
                <span class="light" aria-hidden="true" /> {topicName(feed.topic, lang)}
              </td>
              <td class="num">{w.perMinute(number(feed.per_minute, lang, 0))}</td>
              <td>
                {canary.at === null ? w.canaryNone : w.canaryAgo(age(at - Date.parse(canary.at), lang))}
                {canary.lost.length > 0 && (
                  <b> · {w.lostParts(canary.lost.length, canary.lost.join(", "))}</b>
                )}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

export function BlindView({ seen, feeds }: { seen: ReadonlyMap<string, Seen>; feeds: readonly Feed[] }) {
  const { w, lang, city, now } = useScene();
  const [by, setBy] = useState<"site" | "feed">("site");
  const all = [...seen.values()];
  const blind = all.filter(unseen).map((each): Blind => ({ seen: each, sensor: city.sensors.get(each.id) }));
  const waiting = all.filter(({ status }) => status === "waiting").length;
  const topicOf = ({ sensor, seen: { id } }: Blind) => sensor?.topic ?? id.split("|")[0] ?? "";
  const groups = grouped(blind, by === "feed" ? topicOf : ({ sensor }) => sensor?.place?.site ?? "");
  const feedOf = new Map(feeds.map((feed) => [feed.topic, feed]));

  return (
    <article class="panel" aria-label={w.blindTitle}>
      <a class="close" href="#/" aria-label={w.back} title={w.close}>
        ×
      </a>
      <h2>
        {w.blindTitle} <span class="num dim">{w.notSeen(blind.length, all.length)}</span>
      </h2>
      {blind.length === 0 ? <p>{w.blindNone(all.length)}</p> : <p class="explained">{w.blindHint}</p>}
      {waiting > 0 && <p class="dim">{w.waitingCount(waiting)}</p>}
      {blind.length > 0 && (
        <div class="segments" role="group">
          {(["site", "feed"] as const).map((each) => (
            <button key={each} type="button" aria-pressed={each === by} onClick={() => setBy(each)}>
              {each === "site" ? w.bySite : w.byFeed}
            </button>
          ))}
        </div>
      )}
      {groups.map(([name, rows]) => {
        const topics = [...new Set(rows.map(topicOf))];
        const feed = by === "feed" ? feedOf.get(name) : undefined;
        return (
          <section key={name} class="blindgroup">
            <h3>
              {by === "feed" ? topicName(name, lang) : name || w.noSite}
              {feed !== undefined && (
                <span class="num dim">
                  {rows.length === feed.sensors && rows.length > 1
                    ? w.feedSilent
                    : w.feedState(rows.length, feed.sensors)}{" "}
                  · {w.perMinute(number(feed.per_minute, lang, 0))}
                </span>
              )}
            </h3>
            <Rows rows={rows} byFeed={by === "feed"} />
            {topics.map((topic) => {
              const told = instruction(city, topic);
              return (
                told !== null && (
                  <p key={topic} class="do">
                    <b>{w.whatToDo}:</b> {told[lang]}
                  </p>
                )
              );
            })}
          </section>
        );
      })}
      <Through feeds={feeds} at={now} />
    </article>
  );
}
