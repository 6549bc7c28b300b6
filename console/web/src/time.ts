// Times as operators read them: in the city's zone, with UTC beside; and how long ago something was.
import type { Lang } from "./model";

export const ZONE = "Asia/Ho_Chi_Minh";

const LOCALE: Record<Lang, string> = { vi: "vi-VN", en: "en-GB" };
const cache = new Map<string, Intl.DateTimeFormat>();

function format(lang: Lang, options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
  const key = lang + JSON.stringify(options);
  const found = cache.get(key) ?? new Intl.DateTimeFormat(LOCALE[lang], { timeZone: ZONE, ...options });
  cache.set(key, found);
  return found;
}

const TIME = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" } as const;
const DAY = { day: "2-digit", month: "2-digit" } as const;

export function clock(at: number, lang: Lang): string {
  return format(lang, { ...TIME, second: "2-digit" }).format(at);
}

export function date(at: number, lang: Lang): string {
  return format(lang, { weekday: "short", day: "2-digit", month: "2-digit", year: "numeric" }).format(at);
}

/** 14:05 of today, 23/11 14:05 of another day; with seconds where they matter. */
export function moment(at: number, now: number, lang: Lang, seconds = false): string {
  const time = seconds ? clock(at, lang) : format(lang, TIME).format(at);
  const day = format(lang, DAY);
  return day.format(at) === day.format(now) ? time : `${day.format(at)} ${time}`;
}

/** For tooltips: the whole time in the city's zone and in UTC. */
export function exact(at: number, lang: Lang): string {
  const utc = new Date(at).toISOString().replace("T", " ").slice(0, 19);
  return `${date(at, lang)} ${clock(at, lang)} (UTC ${utc})`;
}

const UNITS: Record<Lang, [second: string, minute: string, hour: string, day: string]> = {
  vi: ["giây", "phút", "giờ", "ngày"],
  en: ["s", "min", "h", "d"],
};

/** "12 s", "3 min", "2 h 05", "4 d". What has not begun yet, by a clock that is ahead, is 0 s old. */
export function age(ms: number, lang: Lang): string {
  const [second, minute, hour, day] = UNITS[lang];
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 60) return `${s} ${second}`;
  if (s < 3600) return `${Math.floor(s / 60)} ${minute}`;
  if (s < 86_400)
    return `${Math.floor(s / 3600)} ${hour} ${String(Math.floor((s % 3600) / 60)).padStart(2, "0")}`;
  return `${Math.floor(s / 86_400)} ${day}`;
}

export function number(value: number, lang: Lang, digits = 2): string {
  return new Intl.NumberFormat(LOCALE[lang], { maximumFractionDigits: digits }).format(value);
}
