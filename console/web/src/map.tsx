// The map beside the list: Leaflet's, with its legend and buttons.
import { useEffect, useRef } from "preact/hooks";
import { placed } from "./city";
import { light } from "./light";
import { makeMap, type CityMap } from "./leaflet-map";
import { PRIORITIES, type Alarm, type Seen } from "./model";
import { alarmLink } from "./route";
import { Shape, useScene } from "./ui";

interface Props {
  alarms: readonly Alarm[];
  seen: Map<string, Seen>;
  seenAt: number;
  selected: string | null;
  /** Another number: the operator asked to be shown the selected alarm. */
  asked: number;
  /** Another word: the place that the map has on the page is another. */
  space: string;
}

export function CityMapView({ alarms, seen, seenAt, selected, asked, space }: Props) {
  const { city, lang, w } = useScene();
  const box = useRef<HTMLDivElement>(null);
  const map = useRef<CityMap | null>(null);

  useEffect(() => {
    if (box.current === null) return undefined;
    const made = makeMap(box.current, {
      open: (id) => (location.hash = alarmLink(id)),
      hover: (id) => light(id),
    });
    map.current = made;
    const watch = new ResizeObserver(() => made.resize());
    watch.observe(box.current);
    return () => {
      watch.disconnect();
      made.remove();
    };
  }, []);

  useEffect(() => {
    map.current?.draw({ city, alarms, seen, selected, lang, w });
  }, [city, alarms, seen, seenAt, selected, lang, w]);

  const at = alarms.find((alarm) => alarm.alarm_id === selected);
  const place = at === undefined ? null : placed(city, at);
  useEffect(() => {
    map.current?.resize();
    map.current?.reveal(place);
  }, [selected, asked, space, place?.lat, place?.lon]);

  const nowhere = alarms.filter((alarm) => placed(city, alarm) === null).length;
  return (
    <section class="map" aria-label={w.map}>
      <div class="leaflet" ref={box} />
      <div class="mapbuttons">
        <button type="button" onClick={() => map.current?.go("city")}>
          {w.cityView}
        </button>
        <button type="button" onClick={() => map.current?.go("province")}>
          {w.wholeProvince}
        </button>
        <button type="button" aria-label={w.zoomIn} title={w.zoomIn} onClick={() => map.current?.zoom(1)}>
          +
        </button>
        <button type="button" aria-label={w.zoomOut} title={w.zoomOut} onClick={() => map.current?.zoom(-1)}>
          −
        </button>
      </div>
      <details class="legend" open={space === "alarms" && matchMedia("(min-width: 1200px)").matches}>
        <summary>{w.legend}</summary>
        <ul>
          {PRIORITIES.map((p) => (
            <li key={p}>
              <Shape priority={p} state="UNACK" size={14} /> {w.priority[p]}
            </li>
          ))}
          <li>
            <Shape priority="P2" state="ACKED" size={14} /> {w.legendAcked}
          </li>
          <li>
            <Shape priority="P2" state="RTNUN" size={14} /> {w.legendRtn}
          </li>
          <li>
            <span class="hollow small" /> {w.legendBlind}
          </li>
          <li>
            <span class="key ok" /> {w.legendOk}
          </li>
          <li>
            <span class="key waiting" /> {w.legendWaiting}
          </li>
          <li>
            <span class="key road" /> {w.legendRoad}
          </li>
        </ul>
      </details>
      {nowhere > 0 && <p class="nowhere">{w.noPlace(nowhere)}</p>}
    </section>
  );
}
