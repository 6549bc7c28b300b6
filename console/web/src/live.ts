// Follows the stream and never gives up: reopens where the browser does not, and where nothing was heard for too long.
import { SILENT_MS, type Link, type Told } from "./model";

const KINDS = ["snapshot", "alarm", "entry", "seen", "health", "city"] as const;
const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 5_000;
const LOOK_MS = 5_000;

/** What following needs of the world; tests give another. */
export interface World {
  open(url: string): EventSource;
  now(): number;
  random(): number;
  after(ms: number, run: () => void): void;
}

export const BROWSER: World = {
  open: (url) => new EventSource(url),
  now: () => Date.now(),
  random: () => Math.random(),
  after: (ms, run) => void setTimeout(run, ms),
};

/** Milliseconds before the next try: doubled each time, at most 5 s, and spread so that pages do not come all at once. */
export function wait(tries: number, random: number): number {
  return Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** tries) * (0.5 + random / 2);
}

/**
 * Tells every event of the stream, and every change of the link. The browser reopens by itself and says with which id; when
 * it has given up, or is connected to silence, we open anew and name the id in the address.
 */
export function follow(address: string, tell: (told: Told) => void, world: World = BROWSER): void {
  let source: EventSource | null = null;
  let id = "";
  let tries = 0;
  let asked = world.now();
  const link: Link = { state: "connecting", since: world.now(), heard: world.now(), connects: 0 };

  const become = (state: Link["state"]) => {
    if (state !== link.state) Object.assign(link, { state, since: world.now() });
    tell({ kind: "link", data: { ...link } });
  };
  const again = () => {
    source?.close();
    source = null;
    become("lost");
    world.after(wait(tries, world.random()), connect);
    tries += 1;
  };
  const hear = (kind: (typeof KINDS)[number], event: MessageEvent<string>) => {
    let told: Told;
    try {
      told = { kind, data: JSON.parse(event.data) } as Told;
    } catch (error) {
      // What cannot be read may have been an alarm: only a snapshot makes us whole again.
      console.error(`an event ${kind} of the stream is no JSON`, error);
      id = "";
      again();
      return;
    }
    link.heard = world.now();
    if (event.lastEventId !== "") id = event.lastEventId;
    tell(told);
    if (link.state !== "live" || kind === "health") become("live");
  };
  const connect = () => {
    const opened = world.open(id === "" ? address : `${address}?last-event-id=${encodeURIComponent(id)}`);
    source = opened;
    asked = world.now();
    opened.onopen = () => {
      if (source !== opened) return;
      tries = 0;
      link.connects += 1;
      link.heard = world.now();
      become("live");
    };
    opened.onerror = () => {
      if (source !== opened) return;
      if (opened.readyState === 2) again();
      else become("lost");
    };
    for (const kind of KINDS)
      opened.addEventListener(kind, (event) => {
        if (source === opened) hear(kind, event);
      });
  };
  const look = () => {
    if (source !== null && world.now() - Math.max(link.heard, asked) > SILENT_MS) again();
    world.after(LOOK_MS, look);
  };
  connect();
  world.after(LOOK_MS, look);
}
