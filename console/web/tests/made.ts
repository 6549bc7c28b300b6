// Made-up records for the tests.
import type { Alarm, City, Health, Snapshot } from "../src/wire";

export function alarm(part: Partial<Alarm> = {}): Alarm {
  return {
    alarm_id: "a",
    fingerprint: "f",
    rule: "road-jammed",
    labels: { segment_id: "hl-1" },
    start: "2026-01-05T01:15:00Z",
    end: null,
    priority: "P3",
    peak: 8.5,
    place: null,
    title: { vi: "Ùn tắc", en: "Road jammed" },
    category: "Transport",
    severity: "Moderate",
    urgency: "Immediate",
    certainty: "Observed",
    raised_at: "2026-01-05T01:20:00Z",
    changed_at: "2026-01-05T01:20:00Z",
    active: true,
    acked: false,
    acked_by: null,
    acked_at: null,
    retracted: false,
    suppressed_by: {},
    shelved_by: null,
    shelved_until: null,
    revised: 0,
    state: "UNACK",
    closed_by: null,
    position: 1,
    sensor: null,
    ...part,
  };
}

export function health(part: Partial<Health> = {}): Health {
  return {
    now: "2026-01-05T01:20:00Z",
    level: "ok",
    per_second: 1,
    parts: [],
    feeds: [],
    sensors: {},
    left_open: 0,
    suppressed: 0,
    ...part,
  };
}

export function snapshot(alarms: Alarm[]): Snapshot {
  return { alarms, seen: [], health: health() };
}

/** Two detectors on one road, one on another, and a camera without a place. */
export function city(): City {
  const flow = (key: string, lat: number, site: string) => ({
    id: `city.traffic.flow.v1|${key}`,
    topic: "city.traffic.flow.v1",
    key,
    labels: { segment_id: key },
    place: { lat, lon: 107, ward: "Bãi Cháy", site },
    name: null,
    every_s: 60,
  });
  const camera = {
    ...flow("c", 0, ""),
    id: "city.camera.count.v1|c",
    topic: "city.camera.count.v1",
    place: null,
  };
  return {
    log_id: "L",
    clock: "log",
    rules_version: 1,
    rules: [
      {
        id: "road-jammed",
        kind: "threshold",
        topic: "city.traffic.flow.v1",
        title: { vi: "Ùn tắc", en: "Road jammed" },
        instruction: null,
        category: "Transport",
        priorities: ["P3"],
      },
    ],
    sensors: [
      flow("hl-1", 20.95, "Cầu Bãi Cháy"),
      flow("x", 20.9, "Khác"),
      flow("hl-2", 20.96, "Cầu Bãi Cháy"),
      camera,
    ],
    topics: [],
  };
}
