// The list: its order, how it is held still, its filters, and what is new.
import assert from "node:assert/strict";
import { test } from "node:test";
import { known, placeName, wardOf } from "../src/city";
import { choose, fold, isActive, NO_FILTER } from "../src/filters";
import { arrive, fade, LOOK_MS, touch, type News } from "../src/news";
import { held, layout } from "../src/order";
import { alarm, city } from "./made";

const CITY = known(city());

test("in a priority what nobody acknowledged comes first, then the newest", () => {
  const alarms = [
    alarm({ alarm_id: "acked", state: "ACKED", raised_at: "2026-01-05T09:00:00Z" }),
    alarm({ alarm_id: "over", state: "RTNUN", raised_at: "2026-01-05T08:00:00Z" }),
    alarm({ alarm_id: "older", raised_at: "2026-01-05T01:00:00Z" }),
    alarm({ alarm_id: "newer", raised_at: "2026-01-05T02:00:00Z" }),
    alarm({ alarm_id: "worse", priority: "P1", raised_at: "2026-01-05T00:00:00Z" }),
  ];
  const { P1, P3 } = layout(alarms);
  assert.deepEqual(P1, ["worse"]);
  assert.deepEqual(P3, ["newer", "older", "over", "acked"]);
});

test("alarms of one moment have one order, however they came", () => {
  const alarms = ["c", "a", "b"].map((alarm_id) => alarm({ alarm_id }));
  assert.deepEqual(layout(alarms), layout([...alarms].reverse()));
});

test("what is suppressed by design calls nobody, is not among the open ones, and is there for whoever asks", () => {
  const open = alarm({ alarm_id: "a" });
  const suppressed = alarm({ alarm_id: "b", state: "DSUPR", suppressed_by: { "gateway-silent": "a" } });
  const all = choose(NO_FILTER, CITY, [open, suppressed]);
  assert.deepEqual(all, { shown: [open], hidden: [] });
  assert.deepEqual(choose({ ...NO_FILTER, state: "DSUPR" }, CITY, [open, suppressed]).shown, [suppressed]);
  const news: News = new Map();
  arrive(news, new Set(), [suppressed], false);
  assert.equal(news.size, 0);
});

test("what a held list does not show yet is counted, and the worst is named", () => {
  const a = alarm({ alarm_id: "a" });
  const shown = layout([a]);
  assert.deepEqual(held(shown, [a]), { count: 0, worst: null });
  const p1 = alarm({ alarm_id: "c", priority: "P1" });
  const more = [a, alarm({ alarm_id: "b", priority: "P4" }), p1];
  assert.deepEqual(held(shown, more), { count: 2, worst: p1 });
});

test("text is found without case and accents, in either language", () => {
  assert.equal(fold("Đường Cầu Bãi Cháy"), "duong cau bai chay");
  const alarms = [alarm({ alarm_id: "a", sensor: "city.traffic.flow.v1|hl-1" }), alarm({ alarm_id: "b" })];
  const find = (text: string) =>
    choose({ ...NO_FILTER, text }, CITY, alarms).shown.map((each) => each.alarm_id);
  assert.deepEqual(find("cau bai"), ["a"]);
  assert.deepEqual(find("JAMMED un tac"), ["a", "b"]);
  assert.deepEqual(find("jammed nowhere"), []);
});

test("open alarms that a filter hides are told, those that are over are not", () => {
  const alarms = [
    alarm({ alarm_id: "a", priority: "P1" }),
    alarm({ alarm_id: "b", priority: "P4" }),
    alarm({ alarm_id: "c", priority: "P4", state: "NORM" }),
  ];
  const { shown, hidden } = choose({ ...NO_FILTER, priorities: new Set(["P1"]) }, CITY, alarms);
  assert.deepEqual([shown.map((a) => a.alarm_id), hidden.map((a) => a.alarm_id)], [["a"], ["b"]]);
});

test("filters by domain and ward know the registry", () => {
  const at = alarm({ sensor: "city.traffic.flow.v1|hl-1" });
  const elsewhere = alarm({ alarm_id: "b", rule: "gone", labels: {} });
  const find = (part: object) => choose({ ...NO_FILTER, ...part }, CITY, [at, elsewhere]).shown;
  assert.deepEqual(find({ domain: "traffic" }), [at]);
  assert.deepEqual(find({ ward: "Bãi Cháy" }), [at]);
  assert.equal(wardOf(CITY, at), "Bãi Cháy");
});

test("no filter is active when nothing is chosen, and spaces are no text", () => {
  assert.equal(isActive(NO_FILTER), false);
  assert.equal(isActive({ ...NO_FILTER, text: "  " }), false);
  assert.equal(isActive({ ...NO_FILTER, state: "UNACK" }), true);
});

test("a place without a name is called by its labels", () => {
  assert.equal(placeName(CITY, alarm(), "vi"), "hl-1");
  assert.equal(placeName(CITY, alarm({ labels: {}, rule: "tide" }), "vi"), "tide");
});

test("the first alarms that a page hears of are not new, those after are", () => {
  const news: News = new Map();
  const ids = new Set<string>();
  arrive(news, ids, [alarm({ alarm_id: "a" })], true);
  arrive(news, ids, [alarm({ alarm_id: "a" }), alarm({ alarm_id: "b" })], false);
  assert.deepEqual([...news.keys()], ["b"]);
});

test("what is new stays so until somebody has had half a minute to look, or acknowledges it", () => {
  const news: News = new Map();
  const ids = new Set<string>();
  arrive(
    news,
    ids,
    ["a", "b"].map((alarm_id) => alarm({ alarm_id })),
    false,
  );
  assert.equal(fade(news, 1e12), false);
  touch(news, 1_000);
  touch(news, 20_000);
  assert.equal(fade(news, 1_000 + LOOK_MS - 1), false);
  arrive(news, ids, [alarm({ alarm_id: "a", state: "ACKED", acked: true })], false);
  assert.deepEqual([...news.keys()], ["b"]);
  assert.equal(fade(news, 1_000 + LOOK_MS), true);
  assert.equal(news.size, 0);
});

test("what is shelved calls nobody, and is listed for whoever asks for it", () => {
  const shelved = alarm({
    alarm_id: "c",
    state: "SHLVD",
    shelved_by: "Lan",
    shelved_until: "2026-01-01T02:00:00Z",
  });
  assert.deepEqual(choose(NO_FILTER, CITY, [shelved]).shown, []);
  assert.deepEqual(choose({ ...NO_FILTER, state: "SHLVD" }, CITY, [shelved]).shown, [shelved]);
});
