"""Prometheus and Alertmanager as docker/ has them: every alert is tried, has a heading in the manual, and asks for what there is."""

import re
import subprocess
from pathlib import Path

import grafana
import pytest
import yaml
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

import audit.worker  # noqa: F401 - these three are all of our processes
import console.serve  # noqa: F401
import streams.launch  # noqa: F401

ROOT = Path(__file__).parent.parent
PROMETHEUS = ROOT / "docker" / "prometheus"
ALERTMANAGER = ROOT / "docker" / "alertmanager" / "alertmanager.yml"

ALERTS = [
    rule
    for group in yaml.safe_load((PROMETHEUS / "rules.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
PANELS = [
    (panel["title"], target["expr"])
    for board in grafana.boards().values()
    for panel, target in grafana.targets(board, "prometheus")
]
QUERIES = [*((rule["alert"], rule["expr"]) for rule in ALERTS), *PANELS]


def ran(*words):
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        pytest.fail(f"there is no {words[0]}: apt-get install prometheus prometheus-alertmanager")


# --- alerts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_urgent_it_is_what_is_wrong_and_where_to_read_on(rule):
    assert set(rule["labels"]) == {"severity"}
    assert rule["labels"]["severity"] in ("critical", "warning")
    notes = rule["annotations"]
    assert set(notes) == {"summary", "description", "runbook_url"}
    document, _, heading = notes["runbook_url"].partition("#")
    assert document == "docs/operations.md"
    text = (ROOT / document).read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    assert heading in {re.sub(r"[^\w\- ]", "", said.lower()).replace(" ", "-") for said in headings}


def test_every_alert_is_tried_both_ways():
    said = (PROMETHEUS / "rules_test.yml").read_text(encoding="utf-8")
    assert not [rule["alert"] for rule in ALERTS if f'alertname="{rule["alert"]}"' not in said]
    tests = yaml.safe_load(said)["tests"]
    quiet = [one for test in tests for one in test["promql_expr_test"] if not one["exp_samples"]]
    assert len(quiet) > 10


@pytest.mark.slow
def test_alerts_are_raised_where_they_must_be_and_nowhere_else():
    done = ran("promtool", "test", "rules", PROMETHEUS / "rules_test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_an_alert_that_is_broken_is_noticed(tmp_path):
    rules = (PROMETHEUS / "rules.yml").read_text(encoding="utf-8")
    (tmp_path / "rules_test.yml").write_text((PROMETHEUS / "rules_test.yml").read_text(encoding="utf-8"))
    for right, wrong in (("citywatch_store_paused) == 1", "citywatch_store_paused) == 2"), ("> 150", "> 50")):
        assert right in rules
        (tmp_path / "rules.yml").write_text(rules.replace(right, wrong))
        assert ran("promtool", "test", "rules", tmp_path / "rules_test.yml").returncode != 0


@pytest.mark.slow
def test_prometheus_and_alertmanager_take_their_files_and_tell_the_right_people():
    done = ran("promtool", "check", "config", PROMETHEUS / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    done = ran("amtool", "check-config", ALERTMANAGER)
    assert done.returncode == 0, done.stdout + done.stderr
    for severity, receiver in (("critical", "on-call"), ("warning", "engineers")):
        told = ran(
            "amtool", "config", "routes", "test", f"--config.file={ALERTMANAGER}", f"severity={severity}"
        )
        assert told.stdout.strip() == receiver


@pytest.mark.slow
def test_prometheus_can_read_every_query_of_the_dashboards(tmp_path):
    rules = [
        {"record": f"panel:{n}", "expr": query.replace("$__rate_interval", "5m")}
        for n, (_, query) in enumerate(PANELS)
    ]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = ran("promtool", "check", "rules", tmp_path / "panels.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_who_is_scraped_are_the_services_of_compose_at_the_ports_of_their_roles():
    services = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8"))["services"]
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
    for job in config["scrape_configs"]:
        places = [(name, found["port"]) for found in job.get("dns_sd_configs", ()) for name in found["names"]]
        places += [
            (t.split(":")[0], int(t.split(":")[1]))
            for f in job.get("static_configs", ())
            for t in f["targets"]
        ]
        for host, port in places:
            assert host in services or host == "localhost"
            tested = " ".join(map(str, services[job["job_name"]]["healthcheck"]["test"]))
            assert f":{port}/" in tested, (host, port, tested)


# --- metrics ------------------------------------------------------------------------------------------------------


def told():
    """Every metric that our processes tell (each has been imported), by the names that a scrape has, with its labels."""
    found = {}
    for metric in list(REGISTRY._collector_to_names):
        if isinstance(metric, MetricWrapperBase):
            endings = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
            for ending in endings.get(metric._type, [""]):
                labels = {*metric._labelnames} | ({"le"} if ending == "_bucket" else set())
                found[metric._name + ending] = labels
    return found


#: Of a scrape itself, and of programs that are not ours.
OTHERS = re.compile(r"\b(?:up|ALERTS|process_\w+|node_\w+|alertmanager_\w+)\b")
THEIR_LABELS = {"job", "instance", "mountpoint", "integration"}
OURS = re.compile(r"\b(citywatch_\w+)\s*(\{[^}]*\})?")


@pytest.mark.parametrize("n", range(len(QUERIES)), ids=lambda n: QUERIES[n][0])
def test_every_metric_that_is_asked_for_is_told_by_some_process_with_these_labels(n):
    _, query = QUERIES[n]
    known, asked = told(), OURS.findall(query)
    assert asked or OTHERS.search(query)
    for name, chosen in asked:
        assert name in known, f"nobody tells {name}"
        assert set(re.findall(r"(\w+)\s*=", chosen)) <= known[name] | THEIR_LABELS
    by = {label for found in re.findall(r"\bby \(([^)]*)\)", query) for label in re.split(r",\s*", found)}
    assert by <= THEIR_LABELS.union(*(known[name] for name, _ in asked))


def test_a_metric_that_nobody_tells_is_noticed():
    assert "citywatch_consumer_lag_records" in told()
    assert "citywatch_consumer_lag" not in told()
    assert OURS.findall('sum(citywatch_events_total{role="store"})') == [
        ("citywatch_events_total", '{role="store"}')
    ]
