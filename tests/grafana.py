"""What Grafana makes of a dashboard: its queries with macros and choices filled in, asked of InfluxDB as its data source asks."""

from __future__ import annotations

import base64
import json
import re
import urllib.parse
import urllib.request
from pathlib import Path

DASHBOARDS = Path(__file__).parent.parent / "docker" / "grafana" / "dashboards"

_IN_REGEX = re.compile(r"/\^\$(\w+)\$/")
_SPECIAL = re.compile(r"[\\^$*+?.()|\[\]{}/]")


def boards():
    """Every dashboard by its uid."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(DASHBOARDS.glob("*.json"))]
    return {board["uid"]: board for board in found}


def targets(board, kind):
    """(panel, target) of one kind of data source."""
    return [
        (panel, target)
        for panel in board["panels"]
        for target in panel.get("targets", ())
        if target["datasource"]["type"] == kind
    ]


def filled(query, from_ms, to_ms, interval, choices=None):
    """InfluxQL as it is sent. A choice within a regular expression is escaped; several become (a|b), all of them `.*`."""

    def chosen(match):
        values = (choices or {}).get(match[1])
        if values is None:
            return "/^.*$/"
        escaped = [_SPECIAL.sub(lambda found: "\\" + found[0], value) for value in values]
        return f"/^{escaped[0]}$/" if len(escaped) == 1 else f"/^({'|'.join(escaped)})$/"

    query = _IN_REGEX.sub(chosen, query)
    query = query.replace("$timeFilter", f"time >= {from_ms}ms and time <= {to_ms}ms")
    query = query.replace("$__interval", interval)
    assert "$" not in re.sub(r"\$/", "", query), query
    return query


def ask(url, database, user, password, query):
    """The series that InfluxDB answers, as (name of columns, tags, rows); times in milliseconds. Fails on an error of it."""
    given = base64.b64encode(f"{user}:{password}".encode()).decode()
    request = urllib.request.Request(
        f"{url}/query?{urllib.parse.urlencode({'db': database, 'epoch': 'ms'})}",
        data=urllib.parse.urlencode({"q": query}).encode(),
        headers={"Authorization": f"Basic {given}", "Content-Type": "application/x-www-form-urlencoded"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        result = json.loads(answer.read())["results"][0]
    assert "error" not in result, f"{query}\n{result['error']}"
    return [(s["columns"], s.get("tags", {}), s["values"]) for s in result.get("series", ())]
