// The evidence chart: one small chart a field, with the alarm's span, the rule's bounds and the values it cites.
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import type { Lang } from "./model";
import { fieldName, unitOf } from "./names";
import { boundLines, cited, gapped, interval, range } from "./series";
import { age, exact, moment, number, ZONE } from "./time";
import { Failure, useLoad, useScene } from "./ui";
import type { Alarm, Bound, Chart, Evidence, Line } from "./wire";
import type { Words } from "./words";

const HEIGHT = 168;

/** A colour or length of the style sheet, so that the chart is light and dark with the page. */
function style(box: Element, name: string): string {
  return getComputedStyle(box).getPropertyValue(name).trim();
}

interface Drawn {
  chart: Chart;
  line: Line;
  alarm: Alarm;
  evidence: readonly Evidence[];
  lang: Lang;
  w: Words;
}

/** Draws beneath the line: the alarm's span, and the bounds with what they are. */
function beneath(box: Element, { alarm, chart, lang, w }: Drawn, bounds: Bound[]) {
  return ({ ctx, bbox, valToPos }: uPlot) => {
    const scale = devicePixelRatio;
    const from = valToPos(Math.max(Date.parse(alarm.start) / 1000, chart.from), "x", true);
    const end = alarm.end === null ? chart.to : Date.parse(alarm.end) / 1000;
    const to = valToPos(Math.min(end, chart.to), "x", true);
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    ctx.fillStyle = style(box, "--span");
    ctx.fillRect(from, bbox.top, Math.max(to - from, scale), bbox.height);
    ctx.font = `${11 * scale}px "Inter Variable", sans-serif`;
    ctx.textBaseline = "bottom";
    for (const { value, operator, priorities, when } of boundLines(bounds)) {
      const y = valToPos(value, "y", true);
      const colour = style(box, `--${priorities[0]?.toLowerCase()}-text`);
      ctx.strokeStyle = ctx.fillStyle = colour;
      ctx.lineWidth = scale;
      ctx.setLineDash(when === "raise" ? [] : [4 * scale, 3 * scale]);
      ctx.beginPath();
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
      ctx.stroke();
      const short = priorities.map((p) => w.short[p]).join(", ");
      const words = `${short} ${when === "raise" ? w.raiseAt : w.clearAt} ${operator} ${number(value, lang)}`;
      ctx.textAlign = when === "raise" ? "left" : "right";
      const x = when === "raise" ? bbox.left + 4 * scale : bbox.left + bbox.width - 4 * scale;
      ctx.textBaseline = y - bbox.top < 16 * scale ? "top" : "bottom";
      ctx.fillText(words, x, y);
    }
    ctx.restore();
  };
}

function above(box: Element, marks: readonly [number, number][]) {
  return ({ ctx, bbox, valToPos }: uPlot) => {
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    ctx.strokeStyle = style(box, "--strong");
    ctx.fillStyle = style(box, "--panel");
    ctx.lineWidth = 1.5 * devicePixelRatio;
    for (const [time, value] of marks) {
      ctx.beginPath();
      ctx.arc(valToPos(time, "x", true), valToPos(value, "y", true), 3.5 * devicePixelRatio, 0, 2 * Math.PI);
      ctx.fill();
      ctx.stroke();
    }
    ctx.restore();
  };
}

function plot(box: HTMLElement, drawn: Drawn): uPlot {
  const { chart, line, evidence, lang } = drawn;
  const bounds = chart.bounds.filter(({ field }) => field === line.field);
  const marks = cited(evidence, line.field);
  const { times, values } = gapped(chart, line.values);
  const axis = {
    stroke: style(box, "--dim"),
    font: '11px "Inter Variable", sans-serif',
    grid: { stroke: style(box, "--line"), width: 1 },
    ticks: { stroke: style(box, "--line"), width: 1, size: 4 },
  };
  const options: uPlot.Options = {
    width: box.clientWidth,
    height: HEIGHT,
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), ZONE),
    legend: { show: false },
    cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false }, sync: { key: "alarm" } },
    scales: {
      x: { time: true, range: [chart.from, chart.to] },
      y: { range: range(values, bounds, marks) },
    },
    axes: [
      {
        ...axis,
        values: (_, splits) => splits.map((s) => moment(s * 1000, chart.to * 1000, lang)),
        space: 90,
        size: 26,
      },
      { ...axis, values: (_, splits) => splits.map((v) => number(v, lang)), size: 46 },
    ],
    series: [
      {},
      {
        stroke: style(box, "--text"),
        width: 1.5,
        spanGaps: false,
        points: {
          show: (chart.every_s ?? 0) === 0 && times.length < 120,
          size: 3.5,
          fill: style(box, "--text"),
        },
      },
    ],
    hooks: { drawAxes: [beneath(box, drawn, bounds)], draw: [above(box, marks)] },
  };
  return new uPlot(options, [times, values], box);
}

function Field(drawn: Drawn) {
  const { line, chart, lang, w } = drawn;
  const box = useRef<HTMLDivElement>(null);
  const read = useRef<HTMLSpanElement>(null);
  useEffect(() => {
    const element = box.current;
    if (element === null) return undefined;
    let made = plot(element, drawn);
    const unit = unitOf(line.field, lang);
    const follow = () => {
      const i = made.cursor.idx;
      const [times, values] = [made.data[0], made.data[1]];
      const value = i == null ? null : values?.[i];
      const time = i == null ? undefined : times[i];
      if (read.current === null) return;
      read.current.textContent =
        value == null || time === undefined
          ? ""
          : `${number(value, lang)} ${unit} · ${exact(time * 1000, lang)}`;
    };
    const again = () => {
      made.destroy();
      made = plot(element, drawn);
    };
    const scheme = matchMedia("(prefers-color-scheme: light)");
    const watch = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: HEIGHT }));
    watch.observe(element);
    scheme.addEventListener("change", again);
    element.addEventListener("mousemove", follow);
    return () => {
      watch.disconnect();
      scheme.removeEventListener("change", again);
      element.removeEventListener("mousemove", follow);
      made.destroy();
    };
  }, [chart, line, drawn.evidence, drawn.alarm, lang]);
  const values = line.values.filter((value) => value !== null);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const name = fieldName(line.field, lang);
  const said = values.length === 0 ? w.noChart : w.chartSays(name, number(low, lang), number(high, lang));
  return (
    <figure>
      <figcaption>
        <b>{name}</b> <span class="dim">{unitOf(line.field, lang)}</span> <span class="read num" ref={read} />
      </figcaption>
      <div class="plot" ref={box} role="img" aria-label={said} />
    </figure>
  );
}

/** `stamp`: another one when there is something new to draw. */
export function EvidenceChart({
  alarm,
  evidence,
  stamp,
}: {
  alarm: Alarm;
  evidence: Evidence[];
  stamp: string;
}) {
  const { lang, w } = useScene();
  const loaded = useLoad<Chart>(`/api/alarms/${encodeURIComponent(alarm.alarm_id)}/chart`, stamp);
  const chart = loaded.value;
  return (
    <section class="chart" aria-label={w.chart}>
      <h3>
        {w.chart}
        {chart?.every_s != null && <span class="dim">{w.mean(age(interval(chart) * 1000, lang))}</span>}
      </h3>
      <Failure loaded={loaded} />
      {chart === null && loaded.loading && <p class="dim">{w.loading}</p>}
      {chart !== null && chart.lines.length === 0 && <p class="dim">{w.noChart}</p>}
      {chart?.lines.map((line) => (
        <Field
          key={line.field}
          chart={chart}
          line={line}
          alarm={alarm}
          evidence={evidence}
          lang={lang}
          w={w}
        />
      ))}
    </section>
  );
}
