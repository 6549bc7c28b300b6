// Times, numbers, names and addresses as operators read them.
import assert from "node:assert/strict";
import { test } from "node:test";
import { outcome, uuid } from "../src/api";
import { domainName, fieldName, topicName, unitOf } from "../src/names";
import { alarmLink, parse } from "../src/route";
import { age, exact, moment, number } from "../src/time";
import { WORDS } from "../src/words";

const NIGHT = Date.parse("2026-01-04T20:05:09Z"); // 03:05 of the 5th in Hạ Long

test("times are the city's, and the tooltip has UTC", () => {
  assert.equal(moment(NIGHT, NIGHT + 3_600_000, "vi"), "03:05");
  assert.equal(moment(NIGHT, NIGHT + 86_400_000, "en", true), "05/01 03:05:09");
  assert.match(exact(NIGHT, "en"), /05\/01\/2026.*03:05:09 \(UTC 2026-01-04 20:05:09\)/);
});

test("ages are short, and never negative", () => {
  const seconds = [-5, 0, 59, 60, 3_599, 3_600, 7_500, 86_399, 86_400 * 4];
  assert.deepEqual(
    seconds.map((s) => age(s * 1_000, "en")),
    ["0 s", "0 s", "59 s", "1 min", "59 min", "1 h 00", "2 h 05", "23 h 59", "4 d"],
  );
  assert.equal(age(7_500_000, "vi"), "2 giờ 05");
});

test("numbers are written as in the language", () => {
  assert.equal(number(8.5, "vi"), "8,5");
  assert.equal(number(1234.567, "en"), "1,234.57");
});

test("a domain that came later is readable without us", () => {
  assert.equal(topicName("city.pumps.oil_pressure.v1", "en"), "Pumps: oil pressure");
  assert.equal(domainName("pumps", "vi"), "Pumps");
  assert.equal(fieldName("oil_level_m", "en"), "Oil level");
  assert.equal(unitOf("oil_level_m", "en"), "m");
  assert.equal(fieldName("speed_kmh", "vi"), "Tốc độ");
  assert.equal(unitOf("wait_p90_min", "vi"), "phút");
});

test("every phrase is said in both languages", () => {
  const texts = (table: object): string[] =>
    Object.values(table).flatMap((each) =>
      typeof each === "function"
        ? [String(each(2, 3, "x"))]
        : typeof each === "string"
          ? [each]
          : texts(each as object),
    );
  const [vi, en] = [texts(WORDS.vi), texts(WORDS.en)];
  assert.equal(vi.length, en.length);
  for (const text of [...vi, ...en]) assert.ok(text.trim() !== "" && !/undefined|\[object/.test(text), text);
});

test("an address and what it opens are each other's inverse", () => {
  assert.deepEqual(parse(alarmLink("a/b ?ü")), { view: "alarm", id: "a/b ?ü" });
  assert.deepEqual(parse("#/alarm/%E0%A4"), { view: "alarm", id: "%E0%A4" });
  assert.deepEqual(parse(""), { view: "alarms" });
  assert.deepEqual(parse("#/nonsense"), { view: "alarms" });
  const history = parse("#/history?span=week&ended=1");
  assert.equal(history.view === "history" && history.query.get("span"), "week");
});

test("only a refusal is a refusal: what failed otherwise may have been done", () => {
  assert.deepEqual(outcome(200, { command_id: "c", offset: 1 }), { kind: "done" });
  for (const status of [0, 408, 500, 502, 503, 504])
    assert.deepEqual(outcome(status, null), { kind: "unknown" });
  const refused = outcome(409, { title: "t", status: 409, detail: "why" });
  assert.deepEqual(refused, { kind: "refused", why: "why", alarm: null });
  assert.deepEqual(outcome(413, null), { kind: "refused", why: "HTTP 413", alarm: null });
});

test("command ids are version 4 UUIDs, and no two are one", () => {
  assert.match(uuid(), /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.equal(new Set(Array.from({ length: 1_000 }, uuid)).size, 1_000);
});
