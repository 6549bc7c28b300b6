// The page's model: kept by the stream through the shared worker, and told to whoever draws, at most every 50 ms.
import { get } from "./api";
import { known, type Known } from "./city";
import { follow } from "./live";
import { apply, empty, isOld, SILENT_MS, title, type City, type Told } from "./model";
import { arrive, fade, touch, type News } from "./news";

/** The address of the worker's script; the build says it. */
declare const WORKER: string;

const DRAW_MS = 50;
const CITY_AGAIN_MS = 2_000;

export const model = empty(Date.now());
export const news: News = new Map();
export let city: Known = known(null);

const ids = new Set<string>();
const listeners = new Set<() => void>();
/** Who wants to know that an alarm's timeline has grown. */
const entryListeners = new Set<(id: string) => void>();
let waiting = false;
let asking: "no" | "once" | "again" = "no";

export function onChange(listener: () => void): () => void {
  listeners.add(listener);
  return () => void listeners.delete(listener);
}

export function onEntry(listener: (id: string) => void): () => void {
  entryListeners.add(listener);
  return () => void entryListeners.delete(listener);
}

/** The server's time: alarms are as old as it says, whatever this machine's clock says. */
export const now = (): number => Date.now() + model.ahead;

function draw(): void {
  if (waiting) return;
  waiting = true;
  // A timer and not an animation frame: a page in the background must keep its title true.
  setTimeout(() => {
    waiting = false;
    document.title = title(model.alarms.values());
    const { dataset } = document.documentElement;
    dataset["applied"] = String(model.applied);
    dataset["doubles"] = String(model.doubles);
    dataset["connects"] = String(model.link.connects);
    dataset["live"] = String(model.link.state === "live" && !isOld(model.link, Date.now()));
    for (const listener of listeners) listener();
  }, DRAW_MS);
}

function tell(told: Told): void {
  const first = !model.ready;
  apply(model, told, Date.now());
  if (told.kind === "snapshot") arrive(news, ids, told.data.alarms, first);
  if (told.kind === "alarm") arrive(news, ids, [told.data], first);
  if (told.kind === "entry") for (const listener of entryListeners) listener(told.data.alarm_id);
  if (told.kind === "city" || told.kind === "snapshot") void askCity();
  draw();
}

/** Asked while an answer is under way, it is asked again: that answer may be older than the question. */
async function askCity(): Promise<void> {
  if (asking !== "no") {
    asking = "again";
    return;
  }
  asking = "once";
  try {
    city = known(await get<City>("/api/city"));
    draw();
  } catch (error) {
    console.error("the city cannot be loaded", error);
    setTimeout(() => void askCity(), CITY_AGAIN_MS);
  }
  const again = (asking as string) === "again";
  asking = "no";
  if (again) void askCity();
}

/** Joins the shared worker, and returns how to leave it. */
function join(): () => void {
  const worker = new SharedWorker(WORKER, { type: "module", name: "citywatch" });
  let heard = false;
  worker.port.onmessage = ({ data }: MessageEvent<Told>) => {
    heard = true;
    tell(data);
  };
  worker.onerror = () => {
    if (heard || alone) return;
    alone = true;
    follow("/api/stream", tell);
  };
  worker.port.postMessage("hello");
  return () => {
    worker.port.postMessage("bye");
    worker.port.close();
  };
}

/** Without a worker (some browsers of phones have none) the page has a connection of its own. */
let alone = typeof SharedWorker === "undefined";

function connect(): void {
  if (alone) {
    follow("/api/stream", tell);
    return;
  }
  let leave = join();
  let joined = Date.now();
  const again = () => {
    leave();
    leave = join();
    joined = Date.now();
  };
  addEventListener("pagehide", () => leave());
  addEventListener("pageshow", (event) => {
    if (event.persisted) again();
  });
  // A worker that the browser has killed says nothing more; joining anew starts another.
  setInterval(() => {
    if (!alone && Date.now() - Math.max(model.link.heard, joined) > 2 * SILENT_MS) again();
  }, SILENT_MS);
}

export function start(): void {
  connect();
  void askCity();
  for (const act of ["pointerdown", "keydown"]) addEventListener(act, () => touch(news, Date.now()));
  setInterval(() => {
    fade(news, Date.now());
    draw();
  }, 1_000);
}
