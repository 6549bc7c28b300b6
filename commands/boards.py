"""Which dashboards there are: one a domain of the city, made from the models, the alarms, and the platform's own health."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from commands.grafana import (
    RAISED,
    Ask,
    Board,
    Choice,
    Panel,
    Row,
    alarms_over,
    both,
    columns,
    select,
    unit_of,
)
from models.base import PLACE_FIELDS
from models.catalogue import domain_of
from rules.words import field_name
from sinks.line import EVENT_ID, FIELDS
from sinks.points import ALARMS, CITY
from streams.domain import Domain, domains

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Domains and topics in the words of the city; what is not listed is called by its own name.
_DOMAINS = {
    "traffic": ("Giao thông", "Traffic"),
    "camera": ("Camera", "Cameras"),
    "hospital": ("Bệnh viện", "Hospitals"),
    "school": ("Trường học", "Schools"),
    "environment": ("Môi trường", "Environment"),
    "citizen": ("Người dân", "Citizens"),
}
_TOPICS = {
    "city.traffic.flow.v1": ("Lưu lượng giao thông", "Traffic flow"),
    "city.traffic.incident.v1": ("Sự cố giao thông", "Traffic incidents"),
    "city.traffic.travel_time.v1": ("Thời gian hành trình", "Travel times"),
    "city.camera.event.v1": ("Sự kiện camera", "Camera events"),
    "city.camera.count.v1": ("Camera đếm", "Camera counts"),
    "city.hospital.adt.v1": ("Tiếp nhận bệnh nhân", "Patients' movements"),
    "city.hospital.occupancy.v1": ("Công suất giường bệnh", "Bed occupancy"),
    "city.hospital.queue.v1": ("Hàng chờ cấp cứu", "Emergency queues"),
    "city.school.attendance.v1": ("Sĩ số học sinh", "School attendance"),
    "city.school.room_air.v1": ("Không khí lớp học", "Classroom air"),
    "city.environment.air.v1": ("Chất lượng không khí", "Air quality"),
    "city.environment.water.v1": ("Mực nước", "Water levels"),
    "city.citizen.report.v1": ("Phản ánh của người dân", "Citizens' reports"),
}

#: The platform's own events are on the page about its health.
_PLATFORM = "platform"

#: A line goes on over what is missing for so many times as long as a value may be late.
_GAPS = 3
_MS = timedelta(milliseconds=1)


def all_boards() -> list[Board]:
    """Every dashboard, by name."""
    of: dict[str, list[Domain]] = {}
    for topic, domain in sorted(domains().items()):
        of.setdefault(domain_of(topic), []).append(domain)
    platform = of.pop(_PLATFORM, [])
    made = [_city(name, found) for name, found in of.items()]
    return [*made, _alarms(), _health(platform)]


# --- a domain of the city -----------------------------------------------------------------------------------------


def _city(name: str, found: Sequence[Domain]) -> Board:
    vi, en = _DOMAINS.get(name, (name, name))
    where = f"(\"domain\" = '{name}' OR \"domain\" = '{CITY}')"
    return Board(
        uid=f"citywatch-{name}",
        title=both(vi, en),
        about="Made from the models by `citywatch dashboards write`. Late values are left out of the charts.",
        rows=(*map(_topic, found), _alarms_of(where)),
        choices=_choices(found),
        notes=(alarms_over(both("Báo động", "Alarms"), where),),
    )


def _choices(found: Sequence[Domain]) -> tuple[Choice, ...]:
    """The ward, and what the topics of samples are about."""
    names = [name for d in found for name in _chosen_by(d)]
    return tuple(
        Choice(
            name,
            _label(name),
            tuple(d.topic.measurement for d in found if name in _chosen_by(d)),
        )
        for name in dict.fromkeys(names)
    )


def _chosen_by(domain: Domain) -> tuple[str, ...]:
    ward = ("ward",) if "ward" in domain.tags else ()
    return ward if domain.topic.kind == "events" else (*ward, domain.topic.series[0])


def _topic(domain: Domain) -> Row:
    topic = domain.topic
    panels = _events(domain) if topic.kind == "events" else _samples(domain)
    return Row(both(*_TOPICS.get(topic.name, (topic.name, topic.name))), tuple(panels))


def _samples(domain: Domain) -> list[Panel]:
    """A chart a number, by what splits the series best; switches as states; the last value of each; how much came in."""
    topic = domain.topic
    by = _split(domain)
    gap = _GAPS * topic.lateness // _MS
    panels = []
    for name in domain.fields:
        kind = _kind(domain, name)
        if kind == "number":
            query = _windows(domain, f'mean("{name}")', by, fill="null")
            panels.append(
                Panel(
                    _label(name),
                    "lines",
                    (Ask(query, f"$tag_{by}"),),
                    _about(domain, name),
                    unit_of(name),
                    gap_ms=gap,
                )
            )
        elif kind == "truth":
            key = topic.series[0]
            query = _windows(domain, f'last("{name}")', key, fill="none")
            panels.append(Panel(_label(name), "states", (Ask(query, f"$tag_{key}"),), _about(domain, name)))
    last = ", ".join(f'last("{name}") AS "{name}"' for name in domain.fields)
    group = columns(topic.series)
    query = select(last, topic.measurement, _of(domain), rest=f"GROUP BY {group}")
    return [
        *panels,
        Panel(both("Giá trị cuối", "Last values"), "table", (Ask(query, table=True),), width=16),
        _how_many(domain),
    ]


def _events(domain: Domain) -> list[Panel]:
    """How many of each kind, over time and in all; the last of them."""
    topic = domain.topic
    kinds = [name for name in domain.tags if _kind(domain, name) == "words"]
    panels = [
        Panel(
            both(f"Số sự kiện theo {field_name(name).vi}", f"Events by {field_name(name).en}"),
            "bars",
            (Ask(_windows(domain, f'count("{EVENT_ID}")', name, fill="0"), f"$tag_{name}"),),
            _about(domain, name),
        )
        for name in kinds[:1]
    ]
    panels += [
        Panel(
            both(f"Tổng số theo {field_name(name).vi}", f"All by {field_name(name).en}"),
            "totals",
            (
                Ask(
                    select(f'count("{EVENT_ID}")', topic.measurement, _of(domain), rest=f'GROUP BY "{name}"'),
                    f"$tag_{name}",
                ),
            ),
            _about(domain, name),
            width=6,
        )
        for name in kinds[1:3]
    ]
    shown = columns(
        (EVENT_ID, *domain.fields, *domain.tags)
    )  # the id, for a row without any field is not given
    query = select(shown, topic.measurement, _of(domain), rest="ORDER BY time DESC LIMIT 200")
    return [
        *panels,
        Panel(both("Sự kiện gần nhất", "Latest events"), "table", (Ask(query, table=True),), width=16),
        _how_many(domain),
    ]


def _how_many(domain: Domain) -> Panel:
    """What was stored in time, and what came too late to be judged. Each point has the field that names its fields."""
    asks = [
        Ask(
            select(
                f'count("{FIELDS}")',
                domain.topic.measurement,
                (f"\"late\" = '{late}'", *_chosen(domain)),
                rest="GROUP BY time($__interval) fill(0)",
            ),
            called,
        )
        for late, called in (("", both("đúng hạn", "in time")), ("1", both("trễ", "late")))
    ]
    return Panel(both("Số bản ghi lưu", "Stored records"), "bars", tuple(asks), width=8)


def _windows(domain: Domain, what: str, by: str, *, fill: str) -> str:
    rest = f'GROUP BY time($__interval), "{by}" fill({fill})'
    return select(what, domain.topic.measurement, _of(domain), rest=rest)


def _of(domain: Domain) -> tuple[str, ...]:
    """What is not late, and is chosen."""
    return ("\"late\" = ''", *_chosen(domain))


def _chosen(domain: Domain) -> tuple[str, ...]:
    return tuple(f'"{name}" =~ /^${name}$/' for name in _chosen_by(domain))


def _split(domain: Domain) -> str:
    """The tag by which the lines of a chart are told apart: few lines say more than one a sensor."""
    if len(domain.topic.series) > 1:
        return domain.topic.series[-1]
    return "ward" if "ward" in domain.tags else domain.topic.series[0]


def _kind(domain: Domain, name: str) -> Literal["number", "truth", "words", "text"]:
    """What a field or tag can hold: numbers, yes or no, one of a few words, or any text."""
    if name in PLACE_FIELDS:
        return "number" if name in ("lat", "lon") else "text"
    event = domain.event
    own = event.model_fields.get(name)
    annotation = event.model_computed_fields[name].return_type if own is None else own.annotation
    kinds = set(_parts(annotation))
    if bool in kinds:
        return "truth"
    if kinds & {int, float}:
        return "number"
    return "words" if Literal in kinds else "text"


def _parts(annotation: Any) -> list[Any]:
    """The plain types in an annotation; of a `Literal` only that it is one."""
    if get_origin(annotation) is Literal:
        return [Literal]
    inner = get_args(annotation)
    return [part for one in inner for part in _parts(one)] if inner else [annotation]


def _about(domain: Domain, name: str) -> str:
    field = domain.event.model_fields.get(name) or domain.event.model_computed_fields.get(name)
    said = (field.description if field is not None else None) or ""
    return f"`{name}` · {said}" if said else f"`{name}`"


def _label(name: str) -> str:
    called = field_name(name)
    return both(called.vi, called.en)


# --- alarms -------------------------------------------------------------------------------------------------------

_ENTRIES = ("title", "subject", "priority", "domain", "rule", "type")


def _alarms_of(where: str) -> Row:
    return Row(both("Báo động", "Alarms"), (_alarms_by("priority", where, RAISED), _last_alarms(where)))


def _alarms_by(tag: str, *where: str) -> Panel:
    title = {
        "priority": both("Báo động mới theo mức ưu tiên", "Alarms raised, by priority"),
        "domain": both("Báo động mới theo lĩnh vực", "Alarms raised, by domain"),
        "type": both("Diễn biến của báo động", "What happened to alarms"),
    }[tag]
    query = select('count("alarm_id")', ALARMS, where, rest=f'GROUP BY time($__interval), "{tag}" fill(0)')
    return Panel(title, "bars", (Ask(query, f"$tag_{tag}"),))


def _last_alarms(*where: str) -> Panel:
    query = select(columns(_ENTRIES), ALARMS, where, rest="ORDER BY time DESC LIMIT 200")
    return Panel(both("Lịch sử báo động", "History of alarms"), "table", (Ask(query, table=True),))


def _alarms_in_all(type_: str, vi: str, en: str) -> Panel:
    query = select('count("alarm_id")', ALARMS, (f"\"type\" = '{type_}'",))
    return Panel(both(vi, en), "number", (Ask(query, both(vi, en)),), width=4, height=4)


def _alarms() -> Board:
    """What was raised, how it went on, and which rules say most."""
    rules = select('count("alarm_id") AS "raised"', ALARMS, (RAISED,), rest='GROUP BY "rule", "priority"')
    numbers = (
        ("raised", "mới", "raised"),
        ("acknowledged", "đã nhận", "acknowledged"),
        ("cleared", "đã hết", "cleared"),
        ("retracted", "rút lại", "retracted"),
        ("suppressed", "bị nén", "suppressed"),
        ("shelved", "tạm gác", "shelved"),
    )
    return Board(
        uid="citywatch-alarms",
        title=both("Báo động", "Alarms"),
        about="From the history of alarms in the store. What stands now is on the console.",
        rows=(
            Row(both("Tổng quan", "Overview"), tuple(_alarms_in_all(*n) for n in numbers)),
            Row(
                both("Theo thời gian", "Over time"),
                (
                    _alarms_by("priority", RAISED),
                    _alarms_by("domain", RAISED),
                    _alarms_by("type"),
                    Panel(both("Theo quy tắc", "By rule"), "table", (Ask(rules, table=True),)),
                ),
            ),
            Row(both("Chi tiết", "Details"), (_last_alarms(),)),
        ),
    )


# --- the platform's own health ------------------------------------------------------------------------------------


def _metric(
    title: str, query: str, name: str, about: str = "", unit: str = "short", red_from: float | None = None
) -> Panel:
    return Panel(title, "lines", (Ask(query, name, "metrics"),), about, unit, red_from=red_from)


def _quantiles() -> Panel:
    """How long a record takes to each hop of its way."""
    asks = [
        Ask(
            f"histogram_quantile({q}, sum by (hop, le) (rate(citywatch_latency_seconds_bucket[$__rate_interval])))",
            f"{{{{hop}}}} p{round(100 * q)}",
            "metrics",
        )
        for q in (0.5, 0.99)
    ]
    return Panel(
        "Độ trễ tới từng chặng · Latency to each hop",
        "lines",
        tuple(asks),
        "From a record's stamp until the hop is done. Promised: to the console p50 ≤ 0.5 s, p99 ≤ 2 s.",
        "s",
    )


def _health(platform: Sequence[Domain]) -> Board:
    """The service levels, each as its alert has it (docker/prometheus/rules.yml), and what they depend on."""
    rate = "[$__rate_interval]"
    levels = (
        _metric("Tiến trình · Processes", "up", "{{job}} {{instance}}", "1: answers; 0: does not."),
        _metric(
            "Tuổi tín hiệu kiểm tra · Age of the canary",
            "max by (topic) (citywatch_canary_age_seconds)",
            "{{topic}}",
            "Since the last canary of a feed came through to the console's stream; one is sent every minute.",
            "s",
        ),
        Panel(
            "Sổ cái · Ledger",
            "lines",
            (
                Ask("max by (topic) (citywatch_ledger_missing_records)", "{{topic}} missing", "metrics"),
                Ask("max by (topic) (citywatch_ledger_waiting_records)", "{{topic}} waiting", "metrics"),
            ),
            "missing: lost on the way to the store (above 0), or stored twice (below). waiting: on its way.",
        ),
        _metric(
            "Tồn đọng · Lag of the workers",
            "sum by (role, topic) (citywatch_consumer_lag_records)",
            "{{role}} {{topic}}",
            "Records that are in the log and not yet taken.",
        ),
        _metric(
            "Tuổi điểm lưu · Age of the checkpoints",
            "max by (role, topic) (citywatch_checkpoint_age_seconds)",
            "{{role}} {{topic}}",
            "For how long what was taken has not been saved. Beyond 60 s there is an alert.",
            "s",
        ),
        _quantiles(),
    )
    faults = (
        _metric(
            "Kho dừng · Store paused",
            "max by (job) (citywatch_store_paused)",
            "{{job}}",
            "1 while the store does not answer.",
        ),
        _metric(
            "Bản ghi bị từ chối · Rejects",
            f"sum by (topic, reason) (rate(citywatch_events_rejected_total{rate}))",
            "{{topic}} {{reason}}",
            "Records a second that are no valid event.",
            "reqps",
        ),
        _metric(
            "Mất trong nhật ký · Gaps of the log",
            "sum by (role, topic) (increase(citywatch_log_gaps_total[1h]))",
            "{{role}} {{topic}}",
            "Records that the broker had forgotten before they were read, in the hour before.",
        ),
        _metric(
            "Khởi động lại · Restarts",
            "sum by (role) (changes(citywatch_worker_started_timestamp_seconds[1h]))",
            "{{role}}",
            "In the hour before.",
        ),
        _metric(
            "Điểm lưu phải dựng lại · Checkpoints rebuilt",
            "sum by (job) (increase(citywatch_checkpoint_rebuilt_total[1h]))",
            "{{job}}",
            "Partitions whose snapshots could not be used, in the hour before.",
        ),
        Panel(
            "Cảnh báo nền tảng · Alerts of the platform",
            "table",
            (Ask('ALERTS{alertstate="firing"}', of="metrics", table=True, now=True),),
            "What Prometheus has told Alertmanager and is not over.",
        ),
    )
    load = (
        _metric(
            "Sự kiện · Events",
            f"sum by (role, verdict) (rate(citywatch_events_total{rate}))",
            "{{role}} {{verdict}}",
            "A second, by what became of them.",
            "reqps",
        ),
        _metric(
            "Điểm ghi kho · Points stored",
            f"sum(rate(citywatch_store_points_total{rate}))",
            "points",
            "",
            "wps",
        ),
        _metric("Bộ nhớ · Memory", "process_resident_memory_bytes", "{{job}} {{instance}}", "", "bytes"),
        _metric(
            "CPU",
            f"rate(process_cpu_seconds_total{rate})",
            "{{job}} {{instance}}",
            "Of one core.",
            "percentunit",
        ),
        _metric(
            "Đĩa còn trống · Disk left",
            "min by (mountpoint) (node_filesystem_avail_bytes / node_filesystem_size_bytes)",
            "{{mountpoint}}",
            "",
            "percentunit",
        ),
        _metric(
            "Người xem và độ trễ màn hình · Console: streams and lag",
            "citywatch_console_subscribers or sum by (topic) (citywatch_console_lag_records)",
            "{{topic}} {{job}}",
            "Open streams of operators, and records that the console has not taken.",
        ),
    )
    return Board(
        uid="citywatch-health",
        title="Tình trạng nền tảng · Platform health",
        about="Service levels of citywatch itself. What an alert asks for is in docs/operations.md.",
        rows=(
            Row("Mức dịch vụ · Service levels", levels),
            Row("Lỗi · Faults", faults),
            Row("Tải · Load", load),
            *map(_topic, platform),
        ),
        notes=(alarms_over(both("Báo động", "Alarms"), f"\"domain\" = '{_PLATFORM}'"),),
        since="now-6h",
    )
