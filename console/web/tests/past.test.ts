// Charts, and questions to the history.
import assert from "node:assert/strict";
import { test } from "node:test";
import { local, question, spanOf, utc } from "../src/past";
import { boundLines, cited, gapped, interval, range } from "../src/series";
import type { Chart, Evidence } from "../src/wire";

function chart(times: number[], every_s: number | null = null): Chart {
  return { measurement: "m", tags: {}, from: 0, to: 1_000, every_s, times, lines: [], bounds: [] };
}

test("a line breaks where values lack, and nowhere else", () => {
  const series = gapped(chart([0, 60, 120, 300, 360]), [1, 2, 3, 4, 5]);
  assert.deepEqual(series.times, [0, 60, 120, 210, 300, 360]);
  assert.deepEqual(series.values, [1, 2, 3, null, 4, 5]);
  assert.equal(gapped(chart([0, 60, 205]), [1, 2, 3]).values.length, 3); // 2.4 intervals: one value came late
});

test("windows are as wide as the answer says, raw points as they usually come", () => {
  assert.equal(interval(chart([0, 10, 20], 300)), 300);
  assert.equal(interval(chart([0, 60, 120, 900])), 60);
  assert.equal(interval(chart([5])), 0);
  assert.deepEqual(gapped(chart([]), []), { times: [], values: [] });
});

test("only numbers of the field are marked as evidence", () => {
  const event = (values: Record<string, unknown>): Evidence => ({
    event_id: "e",
    topic: "t",
    partition: 0,
    offset: 0,
    observed_at: "1970-01-01T00:01:00Z",
    values,
  });
  assert.deepEqual(cited([event({ a: 5, b: 6 }), event({ a: "5" }), event({})], "a"), [[60, 5]]);
});

test("bounds and evidence lie inside of the chart, and a chart of counts begins at no less than zero", () => {
  const bound = { field: "a", operator: ">", value: 90, priority: "P2", when: "raise" } as const;
  const [low, high] = range([1, null, 8], [bound], [[0, 100]]);
  assert.ok(low === 0 && high > 100);
  assert.ok(range([-5, 5], [], [])[0] < -5);
  assert.deepEqual(range([], [], []), [0, 1]);
});

test("bounds that lie on one another are one line with all its priorities, the worst first", () => {
  const bound = (value: number, priority: "P2" | "P3", when: "raise" | "clear") =>
    ({ field: "a", operator: ">=", value, priority, when }) as const;
  const lines = boundLines([bound(20, "P3", "clear"), bound(20, "P2", "clear"), bound(20, "P2", "raise")]);
  assert.deepEqual(
    lines.map(({ priorities, when, operator }) => [priorities, when, operator]),
    [
      [["P2", "P3"], "clear", "≥"],
      [["P2"], "raise", "≥"],
    ],
  );
});

test("a question says the span in UTC, and only what was asked", () => {
  const now = Date.parse("2026-01-05T12:00:00Z");
  const asked = (text: string, pages = 1) =>
    new URL(question(new URLSearchParams(text), now, pages), "http://x");
  assert.equal(asked("").searchParams.get("from"), "2026-01-04T12:00:00.000Z");
  const own = asked(
    "span=own&from=2026-01-05T03:05&to=2026-01-05T04:00&priority=P1&q= cau &ward=",
    3,
  ).searchParams;
  assert.deepEqual(
    [...own],
    [
      ["from", "2026-01-04T20:05:00.000Z"],
      ["to", "2026-01-04T21:00:00.000Z"],
      ["priority", "P1"],
      ["q", "cau"],
      ["limit", "300"],
    ],
  );
  assert.equal(spanOf(new URLSearchParams("span=year")), "day");
});

test("times of the form are the city's, both ways; what is none asks for nothing", () => {
  assert.equal(utc("2026-01-05T03:05"), "2026-01-04T20:05:00.000Z");
  assert.equal(local(Date.parse("2026-01-04T20:05:00Z")), "2026-01-05T03:05");
  for (const text of ["", "soon", "2026-13-01T00:00"]) assert.equal(utc(text), null);
});
