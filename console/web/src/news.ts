// Which alarms are new: what came since the operator last did something, until half a minute after the next thing done.
import { unacked, type Alarm } from "./model";

/** After this the operator who touched the page has had the time to look. */
export const LOOK_MS = 30_000;

/** Alarms by id: until when they are new; Infinity while nobody has touched the page since. */
export type News = Map<string, number>;

/** Alarms that the page had not known before. The first that it hears of are not new: it knows nothing of before. */
export function arrive(news: News, known: Set<string>, alarms: Iterable<Alarm>, first: boolean): void {
  for (const alarm of alarms) {
    if (!known.has(alarm.alarm_id)) {
      known.add(alarm.alarm_id);
      if (!first && unacked(alarm)) news.set(alarm.alarm_id, Infinity);
    } else if (!unacked(alarm)) news.delete(alarm.alarm_id);
  }
}

/** The operator did something at `now`. */
export function touch(news: News, now: number): void {
  for (const [id, until] of news) if (until === Infinity) news.set(id, now + LOOK_MS);
}

/** Drops what is new no longer; whether anything was. */
export function fade(news: News, now: number): boolean {
  let faded = false;
  for (const [id, until] of news) if (until <= now) faded = news.delete(id) || faded;
  return faded;
}
