// Following the stream through breaks, in a world whose clock and connections the test holds.
import assert from "node:assert/strict";
import { test } from "node:test";
import { follow, wait, type World } from "../src/live";
import type { Link, Told } from "../src/model";

class Source {
  readyState = 0;
  onopen: (() => void) | null = null;
  onerror: (() => void) | null = null;
  closed = false;
  readonly listeners = new Map<string, (event: { data: string; lastEventId: string }) => void>();
  constructor(readonly url: string) {}
  addEventListener(kind: string, listener: (event: { data: string; lastEventId: string }) => void): void {
    this.listeners.set(kind, listener);
  }
  close(): void {
    this.closed = true;
  }
  open(): void {
    this.readyState = 1;
    this.onopen?.();
  }
  say(kind: string, data: unknown, lastEventId = ""): void {
    this.listeners.get(kind)?.({ data: typeof data === "string" ? data : JSON.stringify(data), lastEventId });
  }
  fail(readyState: number): void {
    this.readyState = readyState;
    this.onerror?.();
  }
}

function world() {
  const sources: Source[] = [];
  const told: Told[] = [];
  let timers: { at: number; run: () => void }[] = [];
  let now = 0;
  const pass = (ms: number) => {
    const until = now + ms;
    for (;;) {
      const due = timers.filter(({ at }) => at <= until).sort((a, b) => a.at - b.at)[0];
      if (due === undefined) break;
      timers = timers.filter((each) => each !== due);
      now = due.at;
      due.run();
    }
    now = until;
  };
  const made: World = {
    open: (url) => {
      const source = new Source(url);
      sources.push(source);
      return source as unknown as EventSource;
    },
    now: () => now,
    random: () => 1,
    after: (ms, run) => void timers.push({ at: now + ms, run }),
  };
  follow("/api/stream", (each) => told.push(each), made);
  const links = () => told.flatMap((each): Link[] => (each.kind === "link" ? [each.data] : []));
  return { sources, told, pass, link: () => links().at(-1), last: () => sources.at(-1) as Source };
}

test("a stream that the browser gave up is opened anew with the id of the last event", () => {
  const { last, pass, sources } = world();
  last().open();
  last().say("alarm", { position: 7 }, "L1/7");
  last().fail(2);
  pass(5_000);
  assert.equal(sources.length, 2);
  assert.equal(last().url, "/api/stream?last-event-id=L1%2F7");
});

test("while the browser reconnects by itself nothing is opened", () => {
  const { last, link, pass, sources } = world();
  last().open();
  last().fail(0);
  pass(10_000);
  assert.equal(sources.length, 1);
  assert.equal(link()?.state, "lost");
  last().open();
  assert.equal(link()?.state, "live");
  assert.equal(link()?.connects, 2);
});

test("45 seconds of silence on an open connection reopen it", () => {
  const { last, pass, sources } = world();
  last().open();
  last().say("health", {}, "");
  pass(44_000);
  assert.equal(sources.length, 1);
  pass(8_000);
  assert.equal(sources.length, 2);
  assert.equal(sources[0]?.closed, true);
});

test("a connection that never opens is tried again, and not faster than one in 45 seconds", () => {
  const { pass, sources } = world();
  pass(200_000);
  assert.ok(sources.length >= 3 && sources.length <= 5, String(sources.length));
});

test("what a closed connection still says is not heard", () => {
  const { last, told, sources, pass } = world();
  last().open();
  last().fail(2);
  pass(5_000);
  const before = told.length;
  sources[0]?.say("alarm", {});
  assert.equal(told.length, before);
});

test("an event that is no JSON asks for the whole again", () => {
  const said = console.error;
  console.error = () => undefined;
  try {
    const { last, pass, told } = world();
    last().open();
    last().say("alarm", { position: 1 }, "L1/1");
    last().say("alarm", "{", "L1/2");
    pass(5_000);
    assert.equal(last().url, "/api/stream");
    assert.equal(told.filter(({ kind }) => kind === "alarm").length, 1);
  } finally {
    console.error = said;
  }
});

test("the wait doubles, is spread, and is never more than five seconds", () => {
  assert.deepEqual(
    [0, 1, 2, 9].map((tries) => wait(tries, 1)),
    [250, 500, 1000, 5000],
  );
  assert.equal(wait(9, 0), 2500);
});
