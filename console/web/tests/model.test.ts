// The model: what a message of the stream changes.
import assert from "node:assert/strict";
import { test } from "node:test";
import { apply, empty, isOld, retold, title } from "../src/model";
import { alarm, health, snapshot } from "./made";

test("of two records of one alarm the greater position counts, whatever the order", () => {
  const older = alarm({ alarm_id: "a", position: 4, state: "UNACK" });
  const newer = alarm({ alarm_id: "a", position: 9, state: "ACKED", acked: true });
  for (const order of [
    [older, newer],
    [newer, older],
  ]) {
    const model = empty(0);
    for (const data of order) apply(model, { kind: "alarm", data }, 0);
    assert.equal(model.alarms.get("a")?.state, "ACKED");
  }
});

test("a repeated record changes nothing and is counted", () => {
  const model = empty(0);
  const data = alarm({ position: 4 });
  apply(model, { kind: "alarm", data }, 0);
  const before = model.alarmsAt;
  apply(model, { kind: "alarm", data }, 0);
  assert.deepEqual([model.applied, model.doubles, model.alarmsAt], [1, 1, before]);
});

test("a snapshot voids what was held before", () => {
  const model = empty(0);
  apply(model, { kind: "alarm", data: alarm({ alarm_id: "old", position: 99 }) }, 0);
  apply(model, { kind: "snapshot", data: snapshot([alarm({ alarm_id: "new", position: 1 })]) }, 0);
  assert.deepEqual([...model.alarms.keys()], ["new"]);
});

test("a page that joins later knows what the worker knows", () => {
  const worker = empty(0);
  apply(worker, { kind: "snapshot", data: snapshot([alarm({ alarm_id: "a", position: 1 })]) }, 0);
  apply(worker, { kind: "alarm", data: alarm({ alarm_id: "b", position: 2 }) }, 0);
  apply(worker, { kind: "link", data: { state: "live", since: 5, heard: 6, connects: 2 } }, 0);
  const page = empty(0);
  for (const told of retold(worker)) apply(page, structuredClone(told), 0);
  assert.deepEqual(page.alarms, worker.alarms);
  assert.deepEqual(page.link, worker.link);
  assert.deepEqual(page.health, worker.health);
});

test("what has been over for an hour is forgotten, what is open never", () => {
  const model = empty(0);
  const over = alarm({ alarm_id: "over", state: "NORM", changed_at: "2026-01-05T00:00:00Z", position: 1 });
  const open = alarm({ alarm_id: "open", state: "UNACK", changed_at: "2026-01-01T00:00:00Z", position: 2 });
  apply(model, { kind: "snapshot", data: snapshot([over, open]) }, 0);
  apply(model, { kind: "health", data: health({ now: "2026-01-05T00:59:59Z" }) }, 0);
  assert.equal(model.alarms.size, 2);
  apply(model, { kind: "health", data: health({ now: "2026-01-05T01:00:01Z" }) }, 0);
  assert.deepEqual([...model.alarms.keys()], ["open"]);
});

test("after 45 seconds without an event what is shown is old", () => {
  const { link } = empty(1_000);
  assert.equal(isOld(link, 46_000), false);
  assert.equal(isOld(link, 46_001), true);
});

test("the title tells how many are not acknowledged and the worst of them", () => {
  const acked = alarm({ alarm_id: "a", priority: "P1", state: "ACKED", acked: true });
  const over = alarm({ alarm_id: "b", priority: "P3", state: "RTNUN" });
  assert.equal(title([acked]), "citywatch");
  assert.equal(title([acked, over, alarm({ alarm_id: "c", priority: "P2" })]), "(2 · P2) citywatch");
});
