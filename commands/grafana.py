"""Dashboards in the form that Grafana reads: panels, their queries, and where they stand on the page."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from sinks.points import ALARMS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Json = dict[str, Any]

#: The two data sources, as docker/grafana/provisioning/datasources names them.
STORE: Json = {"type": "influxdb", "uid": "citywatch-store"}
METRICS: Json = {"type": "prometheus", "uid": "citywatch-metrics"}

#: Grafana's names of units, by the ending of a field's name.
UNITS = {
    "_kmh": "velocitykmh",
    "_vehh": "suffix: veh/h",
    "_pct": "percent",
    "_ppm": "ppm",
    "_ugm3": "conμgm3",
    "_m3s": "flowcms",
    "_lux": "lux",
    "_min": "m",
    "_dba": "suffix: dB(A)",
    "_mm": "lengthmm",
    "_km": "lengthkm",
    "_c": "celsius",
    "_m": "lengthm",
    "_s": "s",
}

#: A page is so wide; a chart takes half of it.
_WIDTH, _HALF, _HEIGHT = 24, 12, 8


def unit_of(name: str) -> str:
    return next((unit for ending, unit in UNITS.items() if name.endswith(ending)), "short")


@dataclass(frozen=True, slots=True)
class Ask:
    """One query: InfluxQL of the store, or PromQL of the metrics. `name` is what a line of the chart is called."""

    query: str
    name: str = ""
    of: Literal["store", "metrics"] = "store"
    table: bool = False
    now: bool = False  # of metrics: the present values alone

    def target(self, n: int) -> Json:
        ref = chr(ord("A") + n)
        if self.of == "store":
            form = "table" if self.table else "time_series"
            made = {
                "refId": ref,
                "datasource": STORE,
                "query": self.query,
                "rawQuery": True,
                "resultFormat": form,
            }
            return made | ({"alias": self.name} if self.name else {})
        made = {
            "refId": ref,
            "datasource": METRICS,
            "expr": self.query,
            "legendFormat": self.name or "__auto",
        }
        made |= {"instant": self.now, "range": not self.now}
        return made | ({"format": "table"} if self.table else {})


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture. `kind` is one of `_KINDS`; `gap_ms` is how long a line goes on over what is missing."""

    title: str
    kind: str
    asks: tuple[Ask, ...]
    about: str = ""
    unit: str = "short"
    width: int = _HALF
    height: int = _HEIGHT
    gap_ms: int | None = None
    red_from: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A heading with its panels."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """What can be chosen at the head of a dashboard: values of a tag, all of them at first."""

    tag: str
    label: str
    measurements: tuple[str, ...]

    def variable(self) -> Json:
        names = ", ".join(f'"{name}"' for name in self.measurements)
        query = f'SHOW TAG VALUES FROM {names} WITH KEY = "{self.tag}"'
        return {
            "type": "query",
            "name": self.tag,
            "label": self.label,
            "datasource": STORE,
            "query": query,
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": ["All"], "value": ["$__all"]},
        }


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard, and the file it is in (its `uid`)."""

    uid: str
    title: str
    about: str
    rows: tuple[Row, ...]
    choices: tuple[Choice, ...] = ()
    notes: tuple[Json, ...] = field(default=())
    since: str = "now-24h"


# --- the form -----------------------------------------------------------------------------------------------------

_LEGEND: Json = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
_TOOLTIP: Json = {"mode": "multi", "sort": "desc"}
_LAST: Json = {"calcs": ["lastNotNull"], "fields": "", "values": False}

#: Of each kind of panel: its type in Grafana, its options, and what its lines look like.
_KINDS: dict[str, tuple[str, Json, Json]] = {
    "lines": (
        "timeseries",
        {"legend": _LEGEND, "tooltip": _TOOLTIP},
        {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 0, "showPoints": "auto", "spanNulls": False},
    ),
    "bars": (
        "timeseries",
        {"legend": _LEGEND, "tooltip": _TOOLTIP},
        {
            "drawStyle": "bars",
            "lineWidth": 1,
            "fillOpacity": 80,
            "stacking": {"mode": "normal", "group": "A"},
        },
    ),
    "totals": (
        "bargauge",
        {
            "displayMode": "basic",
            "orientation": "horizontal",
            "reduceOptions": _LAST,
            "showUnfilled": True,
            "valueMode": "color",
        },
        {},
    ),
    "number": (
        "stat",
        {
            "colorMode": "background",
            "graphMode": "none",
            "justifyMode": "auto",
            "orientation": "auto",
            "reduceOptions": _LAST,
            "textMode": "auto",
            "wideLayout": True,
        },
        {},
    ),
    "states": (
        "state-timeline",
        {"legend": _LEGEND, "tooltip": _TOOLTIP, "mergeValues": True, "rowHeight": 0.9, "showValue": "never"},
        {"fillOpacity": 80, "lineWidth": 0},
    ),
    "table": ("table", {"cellHeight": "sm", "showHeader": True}, {}),
}


def _panel(panel: Panel, id_: int, x: int, y: int) -> Json:
    type_, options, custom = _KINDS[panel.kind]
    custom = dict(custom)
    if panel.gap_ms is not None:
        custom["spanNulls"] = panel.gap_ms
    defaults: Json = {"unit": panel.unit, "custom": custom}
    if panel.red_from is not None:
        steps = [{"color": "green", "value": None}, {"color": "red", "value": panel.red_from}]
        defaults |= {"thresholds": {"mode": "absolute", "steps": steps}, "color": {"mode": "thresholds"}}
    made: Json = {
        "id": id_,
        "type": type_,
        "title": panel.title,
        "datasource": STORE if panel.asks[0].of == "store" else METRICS,
        "gridPos": {"h": panel.height, "w": panel.width, "x": x, "y": y},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "interval": "1m" if panel.asks[0].of == "store" else "15s",
        "targets": [ask.target(n) for n, ask in enumerate(panel.asks)],
    }
    return made | ({"description": panel.about} if panel.about else {})


def _placed(rows: Iterable[Row]) -> list[Json]:
    """Every row's heading, and its panels from left to right below it."""
    made: list[Json] = []
    y = 0
    for row in rows:
        place = {"h": 1, "w": _WIDTH, "x": 0, "y": y}
        made.append(
            {
                "id": len(made) + 1,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "gridPos": place,
                "panels": [],
            }
        )
        x, y, tallest = 0, y + 1, 0
        for panel in row.panels:
            if x + panel.width > _WIDTH:
                x, y, tallest = 0, y + tallest, 0
            made.append(_panel(panel, len(made) + 1, x, y))
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest
    return made


#: Of the entries of an alarm's history the first.
RAISED = "\"type\" = 'raised'"


def columns(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def select(what: str, measurement: str, where: Sequence[str], rest: str = "") -> str:
    """InfluxQL over the page's time. All of it is ours: names of models and words of this file."""
    conditions = " AND ".join([*where, "$timeFilter"])
    return f'SELECT {what} FROM "{measurement}" WHERE {conditions} {rest}'.rstrip()  # noqa: S608 - as it says


def alarms_over(name: str, where: str) -> Json:
    """An annotation: the alarms that were raised, over every chart of a dashboard."""
    return {
        "name": name,
        "datasource": STORE,
        "enable": True,
        "iconColor": "red",
        "target": {
            "refId": "Anno",
            "query": select(
                columns(("title", "subject", "rule", "priority")),
                ALARMS,
                (where, RAISED),
                rest="ORDER BY time DESC LIMIT 500",
            ),
            "rawQuery": True,
            "fromAnnotations": True,
            "textEditor": True,
            "textColumn": "title",
            "tagsColumn": "subject,rule,priority",
            "timeEndColumn": "",
            "titleColumn": "",
        },
    }


_LINK: Json = {
    "asDropdown": True,
    "icon": "external link",
    "includeVars": False,
    "keepTime": True,
    "tags": ["citywatch"],
    "targetBlank": False,
    "title": "citywatch",
    "tooltip": "",
    "type": "dashboards",
    "url": "",
}


def text_of(board: Board) -> str:
    """The file of a dashboard."""
    made = {
        "uid": board.uid,
        "title": board.title,
        "description": board.about,
        "tags": ["citywatch"],
        "timezone": "browser",
        "editable": False,
        "graphTooltip": 1,
        "schemaVersion": 41,
        "refresh": "1m",
        "time": {"from": board.since, "to": "now"},
        "templating": {"list": [choice.variable() for choice in board.choices]},
        "annotations": {"list": list(board.notes)},
        "links": [_LINK],
        "panels": _placed(board.rows),
    }
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def both(vi: str, en: str) -> str:
    """Words for readers of either language; the same in both are said once."""
    vi, en = vi[:1].upper() + vi[1:], en[:1].upper() + en[1:]
    return vi if vi == en else f"{vi} · {en}"
