// What this machine remembers of the operator: the language, the name, a notice that was read. Where storage is barred, nothing is remembered.
import type { Lang } from "./model";

function read(key: string): string | null {
  try {
    return localStorage.getItem(`citywatch.${key}`);
  } catch {
    return null;
  }
}

function write(key: string, value: string): void {
  try {
    localStorage.setItem(`citywatch.${key}`, value);
  } catch {
    // A private window or a policy of the organisation: the page works without.
  }
}

/** Chosen before, else the browser's, else Vietnamese. */
export function language(): Lang {
  const chosen = read("language");
  if (chosen === "vi" || chosen === "en") return chosen;
  const first = navigator.languages
    .map((each) => each.slice(0, 2))
    .find((each) => each === "vi" || each === "en");
  return first === "en" ? "en" : "vi";
}

export const rememberLanguage = (lang: Lang): void => write("language", lang);
/** The log whose left open alarms the operator has taken note of. */
export const readLog = (): string | null => read("left-open");
export const rememberLog = (id: string): void => write("left-open", id);
export const actor = (): string => read("actor") ?? "";
export const rememberActor = (name: string): void => write("actor", name);
