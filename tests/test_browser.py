"""The console in a real browser: what an operator sees, does, and is never to lose from view."""

from __future__ import annotations

import re
from contextlib import suppress
from itertools import pairwise

import pytest
from browser import City, Wire, ago, chromium, until
from playwright.sync_api import Error as PlaywrightError

from models.base import Place
from models.traffic import TrafficFlow, TrafficIncident

pytestmark = pytest.mark.slow

RULES = """\
rules:
- id: road-slow
  kind: threshold
  on: city.traffic.flow.v1
  by: [segment_id]
  title: {vi: "Đường rất chậm", en: "Road slow"}
  instruction: {vi: "Xem camera.", en: "Look at the camera."}
  category: Transport
  levels:
  - {priority: P2, raise: "speed_kmh < 10", clear: "speed_kmh >= 20"}
- id: reported
  kind: event
  on: city.traffic.incident.v1
  by: [incident_id]
  title: {vi: "Sự cố được báo", en: "Incident reported"}
  category: Transport
  priority: P3
  raise: "status == 'open'"
  clear: "status == 'closed'"
tests:
- name: slow
  rule: road-slow
  series: {segment_id: hl-a, speed_kmh: "40x3 8x3 30x3 @1m"}
  expect: [{start: 3m, end: 6m, priority: P2, peak: 8}]
sensors:
- topic: city.traffic.flow.v1
  key: hl-a
  every: 12s
  place: {lat: 20.9565, lon: 107.035, ward: "Bãi Cháy", site: "Đường Hạ Long"}
  name: {vi: "Đường Hạ Long 1", en: "Hạ Long road 1"}
- topic: city.traffic.flow.v1
  key: hl-b
  every: 12s
  place: {lat: 20.958, lon: 107.045, ward: "Bãi Cháy", site: "Đường Hạ Long"}
  name: {vi: "Đường Hạ Long 2", en: "Hạ Long road 2"}
"""


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def city(tmp_path_factory):
    found = City(tmp_path_factory.mktemp("city"), RULES)
    yield found
    found.close()


@pytest.fixture
def page(browser, city):
    """`page(address)` opens the console; afterwards it has asked no other host and met no error of its own."""
    contexts, wrong = [], []

    def opened(address=None, **how):
        address = address or city.address
        context = browser.new_context(
            **{"locale": "en-GB", "viewport": {"width": 1440, "height": 900}, **how}
        )
        contexts.append(context)
        context.on("request", lambda r: r.url.startswith((address, "data:", "blob:")) or wrong.append(r.url))
        context.on("weberror", lambda e: wrong.append(str(e.error)))
        found = context.new_page()
        found.goto(address)
        found.wait_for_selector('html[data-live="true"]')
        return found

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []


def flow(segment, speed, seconds_ago):
    at = ago(seconds_ago)
    return TrafficFlow(
        event_id=f"{segment}-{at.timestamp()}", source_id="test", observed_at=at, segment_id=segment,
        speed_kmh=speed, place=Place(lat=20.9565, lon=107.035, ward="Bãi Cháy"),
    )  # fmt: skip


def incident(name, status="open"):
    return TrafficIncident(
        event_id=f"{name}-{status}", source_id="test", observed_at=ago(0), incident_id=name, category="collision",
        status=status, place=Place(lat=20.95, lon=107.08, ward="Hồng Gai", site=f"Ngã tư {name}"),
    )  # fmt: skip


def row(page, place):
    return page.locator("a.row", has_text=place)


def shown(page):
    """The ids of all rows of the list, in its order."""
    return page.eval_on_selector_all("a.row", "rows => rows.map(row => row.dataset.id)")


def counted(page, name):
    return int(page.evaluate(f"document.documentElement.dataset.{name} || '0'"))


def test_an_alarm_appears_is_acknowledged_and_its_chart_shows_what_the_store_has(city, page):
    operator = page()
    speeds = [42.0, 38.5, 31.0, 8.5]
    # The first three were before the rules came into force: they are in the history, and are not judged.
    city.say(*map(flow, ["hl-a"] * 4, speeds, [100, 70, 40, 0]))

    alarm = row(operator, "Hạ Long road 1").filter(has_text="Road slow")
    alarm.wait_for(timeout=10_000)
    assert "NEW" in alarm.inner_text().upper()
    assert operator.title().startswith("(")
    alarm.click()
    detail = operator.locator("article.detail")
    detail.get_by_text("Look at the camera.").wait_for()

    detail.get_by_role("button", name="Acknowledge").click()
    dialog = operator.locator("dialog[open]")
    dialog.get_by_role("button", name="Acknowledge").click()
    assert dialog.is_visible()  # nobody acknowledges without a name
    dialog.locator("input[name=actor]").fill("Ca trực 3")
    dialog.locator("textarea[name=note]").fill("patrol sent")
    dialog.get_by_role("button", name="Acknowledge").click()
    timeline = detail.locator("ol.timeline")
    timeline.get_by_text("Ca trực 3").wait_for(timeout=10_000)
    timeline.get_by_text("patrol sent").wait_for()
    assert "Ca trực 3" in alarm.inner_text()
    assert detail.get_by_role("button", name="Acknowledge").count() == 0

    kept = until(lambda: stored(city, len(speeds)), "the speeds in the store")
    assert kept == speeds
    operator.reload()  # a deep link, with all that is stored by now
    until(lambda: under_the_pointer(operator) == speeds, "the chart tells what the store has")


def stored(city, count):
    rows = city.store("traffic_flow", "--where", "segment_id=hl-a")
    return [row["fields"]["speed_kmh"] for row in rows] if len(rows) == count else None


def under_the_pointer(page):
    """The values that the chart tells to a pointer that goes over it, in the order of time, each point once.

    Nothing while it is drawn, or drawn again.
    """
    plot, read = (
        page.locator("article.detail .plot .u-over").first,
        page.locator("article.detail .read").first,
    )
    told = [""]
    with suppress(PlaywrightError):
        plot.scroll_into_view_if_needed(timeout=1000)
        box = plot.bounding_box(timeout=1000)
        for x in range(int(box["width"])):
            page.mouse.move(box["x"] + x, box["y"] + box["height"] / 2)
            told.append(read.inner_text(timeout=1000))
    points = [b for a, b in pairwise(told) if a != b and b]
    return [float(re.match(r"[\d.]+", point)[0]) for point in points]


def test_the_console_is_killed_and_no_alarm_is_lost_from_view(city, page):
    operator = page()
    city.say(incident("before"))
    row(operator, "Ngã tư before").wait_for()
    before = city.console_pid()
    city.kill_console()
    city.say(incident("meanwhile"))
    assert row(
        operator, "Ngã tư before"
    ).is_visible()  # what is known stays in view while the console is away
    row(operator, "Ngã tư meanwhile").wait_for(timeout=30_000)
    assert city.console_pid() != before
    city.say(incident("after"))
    row(operator, "Ngã tư after").wait_for()
    until(lambda: set(shown(operator)) == open_alarms(city), "the page shows what is open, and nothing else")
    assert len(shown(operator)) == len(set(shown(operator)))
    assert counted(operator, "doubles") == 0


def open_alarms(city):
    return {a["alarm_id"] for a in city.get("/api/alarms")["alarms"] if a["state"] != "NORM"}


def test_the_stream_is_cut_twenty_times_and_there_is_no_gap_and_no_double(city, page):
    wire = Wire(city.port)
    try:
        operator = page(f"http://127.0.0.1:{wire.port}")
        applied, connects = counted(operator, "applied"), counted(operator, "connects")
        for n in range(20):
            city.say(incident(f"cut-{n}"))
            wire.cut()
            city.say(incident(f"cut-{n}", "closed"))  # while it is cut: two changes of each alarm
            until(lambda c=connects + n + 1: counted(operator, "connects") >= c, f"connection {n + 1}")
        until(lambda: counted(operator, "applied") >= applied + 40, "all forty changes")
        until(lambda: set(shown(operator)) >= open_alarms(city), "the page shows what is open")
        assert counted(operator, "applied") == applied + 40
        assert counted(operator, "doubles") == 0
        states = operator.eval_on_selector_all("a.row", "rows => rows.map(row => row.className)")
        assert sum("RTNUN" in state for state in states) >= 20
    finally:
        wire.close()


def test_a_sensor_that_is_not_heard_is_shown_as_not_seen_until_it_speaks(city, page):
    operator = page()
    city.say(flow("hl-a", 40.0, 0))
    operator.goto(f"{city.address}/#/blind")
    lost = operator.locator("article.panel tr", has_text="Hạ Long road 2")
    lost.wait_for(timeout=45_000)
    told = operator.locator(".health .blindcount")
    until(lambda: "1 of 2 not seen" in told.inner_text(), "that the other is seen", 10)
    city.say(flow("hl-b", 40.0, 0))
    lost.wait_for(state="detached", timeout=10_000)


def test_the_page_speaks_vietnamese_and_remembers_it(page):
    operator = page(locale="vi-VN")
    assert operator.locator("html").get_attribute("lang") == "vi"
    operator.get_by_role("button", name="EN").click()
    assert operator.locator("html").get_attribute("lang") == "en"
    operator.reload()
    operator.wait_for_selector('html[data-live="true"]')
    assert operator.locator("html").get_attribute("lang") == "en"


def test_on_a_phone_nothing_is_wider_than_the_screen(city, page):
    city.say(incident("phone"))
    operator = page(viewport={"width": 390, "height": 844})
    row(operator, "Ngã tư phone").wait_for()
    for view in ("#/", "#/map", "#/blind", "#/history"):
        operator.goto(f"{city.address}/{view}")
        operator.wait_for_selector('html[data-live="true"]')
        assert operator.evaluate("document.documentElement.scrollWidth") <= 390, view


def test_words_from_outside_stay_words(city, page):
    operator = page()
    hostile = "<img src=x onerror=alert(1)>"
    event = incident("hostile").model_copy(update={"place": Place(lat=20.95, lon=107.08, site=hostile)})
    city.say(event)
    row(operator, hostile).wait_for()
    assert operator.locator("img[src=x]").count() == 0
    row(operator, hostile).click()
    operator.locator("article.detail").get_by_text(hostile).first.wait_for()
    assert operator.locator("img[src=x]").count() == 0
