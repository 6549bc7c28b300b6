// What a dashboard of ours must be: Grafana's own types, for the kinds of panels that we use and the queries of our two sources.
import type { AnnotationQuery, Dashboard, Panel, RowPanel } from "@grafana/schema";
import type { Options as BarGauge } from "@grafana/schema/dist/esm/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen";
import type { Options as Stat } from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type {
  FieldConfig as StateField,
  Options as StateTimeline,
} from "@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen";
import type { Options as Table } from "@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen";
import type {
  FieldConfig as SeriesField,
  Options as TimeSeries,
} from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";

/** JSON has the values of an enum, not its names. */
export type Widened<T> = T extends string
  ? `${T}`
  : T extends number
    ? `${T}` extends `${infer N extends number}`
      ? N
      : T
    : T extends object
      ? { [K in keyof T]: Widened<T[K]> }
      : T;

type Source<Type extends string, Uid extends string> = { type: Type; uid: Uid };
type Store = Source<"influxdb", "citywatch-store">;
type Metrics = Source<"prometheus", "citywatch-metrics">;

type InfluxTarget = {
  refId: string;
  datasource: Store;
  query: string;
  rawQuery: true;
  resultFormat: "time_series" | "table";
  alias?: string;
};
type PrometheusTarget = {
  refId: string;
  datasource: Metrics;
  expr: string;
  legendFormat: string;
  instant: boolean;
  range: boolean;
  format?: "table";
};

type Shown<Type extends string, Options, Field = Record<string, never>> = Omit<
  Widened<Panel>,
  "type" | "options" | "fieldConfig" | "targets" | "datasource"
> & {
  type: Type;
  options: Partial<Widened<Options>>;
  fieldConfig: {
    defaults: Omit<NonNullable<Widened<Panel>["fieldConfig"]>["defaults"], "custom"> & {
      custom: Partial<Widened<Field>>;
    };
    overrides: [];
  };
} & ({ datasource: Store; targets: InfluxTarget[] } | { datasource: Metrics; targets: PrometheusTarget[] });

type Heading = Omit<Widened<RowPanel>, "panels" | "type"> & { type: "row"; panels: [] };

type Note = Omit<Widened<AnnotationQuery>, "target" | "datasource"> & {
  datasource: Store;
  target: {
    refId: string;
    query: string;
    rawQuery: true;
    fromAnnotations: true;
    textEditor: true;
    textColumn: string;
    tagsColumn: string;
    timeEndColumn: string;
    titleColumn: string;
  };
};

export type Board = Omit<Widened<Dashboard>, "panels" | "annotations"> & {
  uid: string;
  title: string;
  annotations: { list: Note[] };
  panels: (
    | Heading
    | Shown<"timeseries", TimeSeries, SeriesField>
    | Shown<"state-timeline", StateTimeline, StateField>
    | Shown<"bargauge", BarGauge>
    | Shown<"stat", Stat>
    | Shown<"table", Table>
  )[];
};
