// Small parts that every view draws with: marks of priorities, times, and what is loaded from the server.
import { createContext } from "preact";
import { useContext, useEffect, useState } from "preact/hooks";
import { get, NotGiven } from "./api";
import type { Known } from "./city";
import type { Alarm, Lang, Priority, State } from "./model";
import { age, exact, moment } from "./time";
import type { Words } from "./words";

/** What is the same for all that is drawn at one moment. `now` is the server's time. */
export interface Scene {
  lang: Lang;
  w: Words;
  now: number;
  city: Known;
}

export const SceneContext = createContext<Scene | null>(null);

export function useScene(): Scene {
  const scene = useContext(SceneContext);
  if (scene === null) throw new Error("drawn outside of a scene");
  return scene;
}

const PATHS: Record<Priority, string> = {
  P1: "M3 3H21V21H3Z",
  P2: "M12 2.2L22.6 21H1.4Z",
  P3: "M12 21.8L1.4 3H22.6Z",
  P4: "M12 2.5A9.5 9.5 0 1 1 11.99 2.5Z",
  advisory: "M6.5 6H17.5A6 6 0 0 1 17.5 18H6.5A6 6 0 0 1 6.5 6Z",
};
const SIGNS: Record<Priority, [sign: string, y: number]> = {
  P1: ["1", 17],
  P2: ["2", 18.6],
  P3: ["3", 14.4],
  P4: ["4", 16.8],
  advisory: ["i", 16.5],
};

/** A priority as colour, shape and number; filled while nobody has acknowledged it, dashed when it is over. */
export function Shape({ priority, state, size = 20 }: { priority: Priority; state: State; size?: number }) {
  const [sign, y] = SIGNS[priority];
  return (
    <svg
      class={`shape ${priority} ${state}`}
      width={size}
      height={size}
      viewBox="0 0 24 24"
      aria-hidden="true"
    >
      <path d={PATHS[priority]} />
      <text x="12" y={y} text-anchor="middle">
        {sign}
      </text>
    </svg>
  );
}

export function Moment({ at, seconds = false }: { at: string | number; seconds?: boolean }) {
  const { lang, now } = useScene();
  const ms = typeof at === "number" ? at : Date.parse(at);
  return (
    <time dateTime={new Date(ms).toISOString()} title={exact(ms, lang)}>
      {moment(ms, now, lang, seconds)}
    </time>
  );
}

export function Age({ since }: { since: string }) {
  const { lang, now } = useScene();
  const ms = Date.parse(since);
  return (
    <time dateTime={since} title={exact(ms, lang)}>
      {age(now - ms, lang)}
    </time>
  );
}

/** The state in words, with who acknowledged it. */
export function stateWords({ state, acked_by, retracted, closed_by }: Alarm, w: Words): string {
  if (retracted) return w.retracted;
  if (closed_by !== null) return w.logEnded;
  if (state === "ACKED" && acked_by !== null) return w.ackedBy(acked_by);
  return w.state[state];
}

export interface Loaded<T> {
  value: T | null;
  error: NotGiven | Error | null;
  loading: boolean;
  again: () => void;
}

/** What is at `path`; asked again when `stamp` changes, and what was there is shown until the answer comes. */
export function useLoad<T>(path: string | null, stamp: unknown = null): Loaded<T> {
  const [state, setState] = useState<{
    path: string | null;
    value: T | null;
    error: Error | null;
    loading: boolean;
  }>({ path: null, value: null, error: null, loading: true });
  const [tries, setTries] = useState(0);
  useEffect(() => {
    if (path === null) return undefined;
    const stop = new AbortController();
    setState((old) => ({
      ...old,
      path,
      value: old.path === path ? old.value : null,
      error: null,
      loading: true,
    }));
    get<T>(path, stop.signal).then(
      (value) => setState({ path, value, error: null, loading: false }),
      (error: Error) => {
        if (!stop.signal.aborted) setState((old) => ({ ...old, path, error, loading: false }));
      },
    );
    return () => stop.abort();
  }, [path, stamp, tries]);
  const mine = state.path === path;
  return {
    value: mine ? state.value : null,
    error: mine ? state.error : null,
    loading: !mine || state.loading,
    again: () => setTries(tries + 1),
  };
}

export function Failure({ loaded }: { loaded: Loaded<unknown> }) {
  const { w } = useScene();
  if (loaded.error === null) return null;
  return (
    <p class="failure" role="alert">
      {w.failed(loaded.error.message)}{" "}
      <button type="button" onClick={loaded.again}>
        {w.retry}
      </button>
    </p>
  );
}
