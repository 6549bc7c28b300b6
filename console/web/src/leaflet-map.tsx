// The map as Leaflet draws it: land, towns, roads, sensors, alarms; it is given what to show and tells what was touched.
import L from "leaflet";
import { render } from "preact";
import landUrl from "../public/land.geojson";
import { placed, sensorName, standing, type At, type Known } from "./city";
import { cluster, looks, roads, weight, worse, type Cluster, type Look, type Mark, type Piece } from "./geo";
import type { Alarm, Lang, Seen } from "./model";
import { fieldName, unitOf } from "./names";
import { alarmLink } from "./route";
import { clock, number } from "./time";
import towns from "./towns.json";
import { Shape } from "./ui";
import type { Sensor } from "./wire";
import type { Words } from "./words";

const CITY: L.LatLngBoundsLiteral = [
  [20.918, 106.965],
  [21.0, 107.155],
];
const PROVINCE: L.LatLngBoundsLiteral = [
  [20.7, 106.42],
  [21.62, 108.1],
];
/** Marks nearer than this, in pixels, are drawn as one. */
const RADIUS = 30;
const CLOSEST = 17;
/** Here a street and its neighbours can be told apart. */
const NEAR = 12.5;

export interface Shown {
  city: Known;
  alarms: readonly Alarm[];
  seen: Map<string, Seen>;
  selected: string | null;
  lang: Lang;
  w: Words;
}

export interface Told {
  open: (id: string) => void;
  hover: (id: string | null) => void;
}

export interface CityMap {
  draw: (shown: Shown) => void;
  reveal: (at: At | null) => void;
  go: (where: "city" | "province") => void;
  zoom: (by: number) => void;
  resize: () => void;
  remove: () => void;
}

export function makeMap(box: HTMLElement, told: Told): CityMap {
  const map = L.map(box, {
    zoomControl: false,
    attributionControl: false,
    minZoom: 8,
    maxZoom: CLOSEST,
    zoomSnap: 0.25,
    maxBounds: L.latLngBounds(PROVINCE).pad(0.4),
  });
  map.fitBounds(CITY);
  L.control.attribution({ prefix: false, position: "bottomright" }).addTo(map);
  map.attributionControl.addAttribution("© OpenStreetMap contributors, ODbL · Leaflet");
  L.control.scale({ imperial: false, position: "bottomright" }).addTo(map);

  // A pane of its own: the land may arrive after what stands on it.
  map.createPane("land").style.zIndex = "300";
  const land = L.layerGroup().addTo(map);
  const names = L.layerGroup().addTo(map);
  const lines = L.layerGroup().addTo(map);
  const dots = L.layerGroup().addTo(map);
  const marks = L.layerGroup().addTo(map);
  let shown: Shown | null = null;
  /** What is drawn, so that what did not change is left alone: a flood of alarms must not make the map slow. */
  const pins = new Map<string, L.Marker>();
  let net = "";
  let netOf: Known | null = null;
  /** Until the operator moves the map, it shows the city, or what is selected, in whatever room it has. */
  let moved = false;
  let revealed: At | null = null;
  map.on("dragstart", () => (moved = true));
  box.addEventListener("wheel", () => (moved = true), { passive: true });

  fetch(landUrl)
    .then((response) => response.json())
    .then((data) =>
      L.geoJSON(data, { pane: "land", interactive: false, style: { className: "land" } }).addTo(land),
    )
    .catch((error: unknown) => console.error("the land cannot be drawn", error));

  const label = () => {
    names.clearLayers();
    for (const { name, lat, lon, zoom } of towns) {
      if (map.getZoom() < zoom) continue;
      const icon = L.divIcon({ className: "town", html: textOf("span", name), iconSize: [0, 0] });
      names.addLayer(
        L.marker([lat, lon], { icon, interactive: false, keyboard: false, zIndexOffset: -100_000 }),
      );
    }
  };

  const drawNet = ({ city, alarms, seen, lang }: Shown) => {
    const look = looks(city.sensors.values(), seen, alarms);
    const state = JSON.stringify([lang, ...look]);
    if (state === net && city === netOf) return;
    [net, netOf] = [state, city];
    lines.clearLayers();
    for (const piece of roads(city)) lines.addLayer(road(piece, look));
    dots.clearLayers();
    for (const sensor of city.sensors.values()) {
      const at = standing(sensor);
      const state = look.get(sensor.id) ?? "waiting";
      if (at === null || state === "blind") continue; // what is blind is a mark
      const dot = L.circleMarker([at.lat, at.lon], { radius: 3, className: `dot ${state}` });
      dots.addLayer(dot.bindTooltip(() => lastWords(sensor, shown?.seen.get(sensor.id), lang)));
    }
  };

  const drawMarks = ({ city, alarms, seen, selected, lang, w }: Shown) => {
    const points: Mark[] = [];
    const add = (id: string, at: At | null, alarm: Alarm | null) => {
      if (at === null) return;
      const { x, y } = map.project([at.lat, at.lon]);
      points.push({ id, x, y, weight: weight(alarm), alarm });
    };
    for (const alarm of alarms) add(alarm.alarm_id, placed(city, alarm), alarm);
    for (const [id, each] of seen) {
      const sensor = each.status === "blind" ? city.sensors.get(id) : undefined;
      if (sensor !== undefined) add(id, standing(sensor), null);
    }
    const clusters = new Map(cluster(points, RADIUS).map((each) => [signature(each, selected, lang), each]));
    for (const [name, marker] of pins) {
      if (clusters.has(name)) continue;
      marks.removeLayer(marker);
      pins.delete(name);
    }
    for (const [name, each] of clusters) {
      if (pins.has(name)) continue;
      const marker = markOf(each, city, selected, lang, w);
      pins.set(name, marker);
      marks.addLayer(marker);
    }
  };

  const markOf = (each: Cluster, city: Known, selected: string | null, lang: Lang, w: Words): L.Marker => {
    const { first, alarms } = each;
    const at = map.unproject([first.x, first.y]);
    const name = nameOf(each, city, lang, w);
    const html = document.createElement("span");
    html.className = `pin${isIn(each, selected) ? " chosen" : ""}`;
    html.dataset["ids"] = alarms.map((alarm) => alarm.alarm_id).join(" ");
    render(<Pin cluster={each} />, html);
    const icon = L.divIcon({ className: "", html, iconSize: [26, 26] });
    const marker = L.marker(at, {
      icon,
      alt: name,
      title: name,
      riseOnHover: true,
      zIndexOffset: -first.weight * 100,
    });
    marker.on("mouseover", () => told.hover(alarms[0]?.alarm_id ?? null));
    marker.on("mouseout", () => told.hover(null));
    marker.on("click", () => open(each, city, lang));
    return marker;
  };

  /** One opens; several are taken apart where they can be, else listed. */
  const open = (each: Cluster, city: Known, lang: Lang) => {
    const [only, ...others] = each.alarms;
    if (only !== undefined && others.length === 0 && each.blind.length === 0) {
      told.open(only.alarm_id);
      return;
    }
    const places = [
      ...each.alarms.map((alarm) => placed(city, alarm)),
      ...each.blind.map((id) => {
        const sensor = city.sensors.get(id);
        return sensor === undefined ? null : standing(sensor);
      }),
    ].filter((place) => place !== null);
    const bounds = L.latLngBounds(places.map(({ lat, lon }) => [lat, lon]));
    const apart = map
      .project(bounds.getNorthEast(), CLOSEST)
      .distanceTo(map.project(bounds.getSouthWest(), CLOSEST));
    if (apart > RADIUS && map.getZoom() < CLOSEST) {
      moved = true;
      map.fitBounds(bounds.pad(0.3), { maxZoom: CLOSEST });
      return;
    }
    const list = document.createElement("div");
    render(<Members cluster={each} city={city} lang={lang} />, list);
    L.popup({ className: "members", maxHeight: 260 })
      .setLatLng(bounds.getCenter())
      .setContent(list)
      .openOn(map);
  };

  map.on("zoomend", () => {
    label();
    if (shown !== null) drawMarks(shown);
  });
  label();

  return {
    draw(next) {
      shown = next;
      drawNet(next);
      drawMarks(next);
    },
    reveal(at) {
      revealed = at;
      if (at === null) return;
      const { lat, lon } = at;
      if (!moved && map.getZoom() < NEAR) map.setView([lat, lon], NEAR);
      else if (!map.getBounds().pad(-0.1).contains([lat, lon])) map.panTo([lat, lon], { animate: calm() });
    },
    go(where) {
      moved = true;
      map.flyToBounds(where === "city" ? CITY : PROVINCE, { animate: calm(), duration: 0.6 });
    },
    zoom(by) {
      moved = true;
      map.setZoom(map.getZoom() + by, { animate: calm() });
    },
    resize() {
      map.invalidateSize({ pan: false });
      if (moved) return;
      map.fitBounds(CITY, { animate: false });
      this.reveal(revealed);
    },
    remove: () => map.remove(),
  };
}

const calm = () => !matchMedia("(prefers-reduced-motion: reduce)").matches;

/** A sensor's name and what it last said, when the pointer is over it. */
function lastWords(sensor: Sensor, seen: Seen | undefined, lang: Lang): HTMLElement {
  const box = document.createElement("div");
  const at = seen?.at == null ? "" : ` · ${clock(Date.parse(seen.at), lang)}`;
  box.append(textOf("b", sensorName(sensor, lang)), at);
  for (const [field, value] of Object.entries(seen?.values ?? {})) {
    if (typeof value !== "number") continue;
    box.append(textOf("div", `${fieldName(field, lang)} ${number(value, lang)} ${unitOf(field, lang)}`));
  }
  return box;
}

function textOf(tag: "span" | "b" | "div", text: string): HTMLElement {
  const element = document.createElement(tag);
  element.textContent = text;
  return element;
}

const isIn = ({ alarms }: Cluster, id: string | null) => alarms.some(({ alarm_id }) => alarm_id === id);

/** All of a cluster that can be seen; another zoom is another place of its first mark. */
function signature(each: Cluster, selected: string | null, lang: Lang): string {
  const { first, alarms, blind } = each;
  const states = alarms.map(({ alarm_id, state }) => alarm_id + state);
  return [
    lang,
    isIn(each, selected),
    first.id,
    first.alarm?.priority,
    first.x,
    first.y,
    ...states,
    "|",
    ...blind,
  ].join(" ");
}

function road({ ends, line }: Piece, look: Map<string, Look>): L.Polyline {
  const worst = ends.map((id) => look.get(id) ?? "waiting").reduce(worse);
  return L.polyline(
    line.map(({ lat, lon }) => L.latLng(lat, lon)),
    { className: `road ${worst}`, interactive: false },
  );
}

function nameOf({ alarms, blind, first }: Cluster, city: Known, lang: Lang, w: Words): string {
  if (first.alarm !== null && alarms.length === 1 && blind.length === 0)
    return `${w.short[first.alarm.priority]} ${first.alarm.title[lang]}, ${w.state[first.alarm.state]}`;
  if (alarms.length === 0 && blind.length === 1) return `${nameOfSensor(city, first.id, lang)}: ${w.blind}`;
  const worst = first.alarm === null ? "" : `${w.short[first.alarm.priority]}: `;
  return worst + w.clusterOf(alarms.length, blind.length);
}

function nameOfSensor(city: Known, id: string, lang: Lang): string {
  const sensor = city.sensors.get(id);
  return sensor === undefined ? id : sensorName(sensor, lang);
}

function Pin({ cluster: { first, alarms, blind } }: { cluster: Cluster }) {
  if (first.alarm === null) return <span class="hollow">{blind.length > 1 && <b>{blind.length}</b>}</span>;
  return (
    <>
      <Shape priority={first.alarm.priority} state={first.alarm.state} size={26} />
      {alarms.length > 1 && <b class="count">{alarms.length}</b>}
      {blind.length > 0 && <i class="count blindcount">{blind.length}</i>}
    </>
  );
}

function Members({ cluster: { alarms, blind }, city, lang }: { cluster: Cluster; city: Known; lang: Lang }) {
  return (
    <ul>
      {alarms.map((alarm) => (
        <li key={alarm.alarm_id}>
          <a href={alarmLink(alarm.alarm_id)}>
            <Shape priority={alarm.priority} state={alarm.state} size={16} /> {alarm.title[lang]}
          </a>
        </li>
      ))}
      {blind.map((id) => (
        <li key={id}>
          <a href="#/blind">
            <span class="hollow small" /> {nameOfSensor(city, id, lang)}
          </a>
        </li>
      ))}
    </ul>
  );
}
