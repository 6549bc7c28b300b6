// What the map draws.
import assert from "node:assert/strict";
import { test } from "node:test";
import { known } from "../src/city";
import { cluster, looks, roads, weight, worse, type Mark } from "../src/geo";
import type { Seen } from "../src/wire";
import { alarm, city } from "./made";

const CITY = known(city());
const HL1 = "city.traffic.flow.v1|hl-1";

/** A repeatable spread of numbers in [0, 1). */
function spread(seed: number): () => number {
  let state = seed;
  return () => (state = (state * 48_271) % 2_147_483_647) / 2_147_483_647;
}

function marks(n: number): Mark[] {
  const next = spread(7);
  return Array.from({ length: n }, (_, i) => {
    const made =
      i % 5 === 0
        ? null
        : alarm({ alarm_id: String(i), priority: (["P1", "P2", "P3"] as const)[i % 3] ?? "P4" });
    return { id: String(i), x: next() * 900, y: next() * 600, weight: weight(made), alarm: made };
  });
}

test("every mark is in one cluster, and no two clusters are nearer than the radius", () => {
  const all = marks(2_000);
  const clusters = cluster(all, 30);
  const inside = clusters.flatMap(({ alarms, blind }) => [...alarms.map((a) => a.alarm_id), ...blind]);
  assert.equal(inside.length, all.length);
  assert.equal(new Set(inside).size, all.length);
  for (const [i, a] of clusters.entries())
    for (const b of clusters.slice(i + 1))
      assert.ok(Math.hypot(a.first.x - b.first.x, a.first.y - b.first.y) >= 30);
});

test("a cluster stands where its worst mark is", () => {
  for (const { first, alarms, blind } of cluster(marks(300), 60)) {
    const weights = [...alarms.map(weight), ...blind.map(() => weight(null))];
    assert.equal(first.weight, Math.min(...weights));
  }
});

test("the order in which marks are given does not matter", () => {
  const all = marks(200);
  assert.deepEqual(cluster([...all].reverse(), 40), cluster(all, 40));
});

test("an acknowledged P1 is lighter than a P4 that nobody has acknowledged", () => {
  assert.ok(weight(alarm({ priority: "P1", acked: true })) > weight(alarm({ priority: "P4" })));
  assert.ok(weight(null) > weight(alarm({ priority: "advisory", acked: true })));
});

test("a road is a line through its own detectors, in the order of the registry", () => {
  assert.deepEqual(
    roads(CITY).map(({ site, ends }) => [site, ...ends]),
    [["Cầu Bãi Cháy", HL1, "city.traffic.flow.v1|hl-2"]],
  );
});

test("a sensor looks like its worst active alarm; that it is silent is not covered by the alarm that says so", () => {
  const seen = new Map<string, Seen>([
    [HL1, { id: HL1, status: "blind", why: "silent", since: null, at: null, values: {} }],
  ]);
  const look = (...alarms: Parameters<typeof alarm>[0][]) =>
    looks(
      CITY.sensors.values(),
      seen,
      alarms.map((part) => alarm({ sensor: HL1, ...part })),
    ).get(HL1);
  assert.equal(look(), "blind");
  assert.equal(look({ priority: "P4" }), "blind");
  assert.equal(look({ priority: "P4" }, { priority: "P2" }), "P2");
  assert.equal(look({ priority: "P2", active: false }), "blind");
  assert.equal(looks(CITY.sensors.values(), new Map(), []).get(HL1), "waiting");
});

test("of two looks the worse counts", () => {
  assert.equal(worse("ok", "blind"), "blind");
  assert.equal(worse("P1", "P3"), "P1");
});
