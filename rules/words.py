"""Values, conditions, times and durations in the words of an operator, Vietnamese and English."""

from __future__ import annotations

import ast
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final, Literal

from models.alarm import Text
from rules.terms import duration_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from models.base import Micros

Lang = Literal["vi", "en"]
LANGS: Final[tuple[Lang, ...]] = ("vi", "en")

#: The city's time (see rules/calendar.py).
ZONE: Final = timezone(timedelta(hours=7))

#: Names of fields; what is not listed is made readable from its own name. The console has them, too (web/src/names.ts).
FIELDS: Final[Mapping[str, tuple[str, str]]] = {
    "speed_kmh": ("tốc độ", "speed"),
    "intensity_vehh": ("lưu lượng", "flow"),
    "occupancy_pct": ("độ chiếm dụng", "occupancy"),
    "travel_time_s": ("thời gian hành trình", "travel time"),
    "count": ("số lượng", "count"),
    "distinct": ("số giá trị khác nhau", "different values"),
    "rate": ("tốc độ thay đổi", "rate of change"),
    "ratio": ("tỷ lệ", "ratio"),
    "total": ("tổng số", "total"),
    "confidence": ("độ tin cậy", "confidence"),
    "kind": ("kiểu", "kind"),
    "active": ("đang diễn ra", "active"),
    "category": ("loại", "category"),
    "status": ("tình trạng", "status"),
    "injured": ("số người bị thương", "injured"),
    "killed": ("số người tử vong", "killed"),
    "cause": ("nguyên nhân", "cause"),
    "object_class": ("đối tượng", "object"),
    "occupied_pct": ("công suất giường", "beds occupied"),
    "beds_occupied": ("giường đang dùng", "occupied beds"),
    "beds_total": ("tổng số giường", "beds"),
    "waiting": ("số người đang chờ", "waiting"),
    "waiting_urgent": ("số ca nặng đang chờ", "urgent, waiting"),
    "wait_p90_min": ("thời gian chờ (P90)", "wait (90th percentile)"),
    "diverting": ("từ chối xe cứu thương", "diverting"),
    "triage": ("mức phân loại", "triage"),
    "movement": ("di chuyển", "movement"),
    "enrolled": ("sĩ số", "enrolled"),
    "present": ("có mặt", "present"),
    "attendance_pct": ("tỷ lệ có mặt", "attendance"),
    "absence_pct": ("tỷ lệ vắng", "absent"),
    "zone": ("vùng", "zone"),
    "co2_ppm": ("CO₂", "CO₂"),
    "temperature_c": ("nhiệt độ", "temperature"),
    "humidity_pct": ("độ ẩm", "humidity"),
    "light_lux": ("ánh sáng", "light"),
    "occupied": ("có người", "occupied"),
    "pm25_ugm3": ("bụi PM2,5", "PM2.5"),
    "pm10_ugm3": ("bụi PM10", "PM10"),
    "no2_ugm3": ("NO₂", "NO₂"),
    "so2_ugm3": ("SO₂", "SO₂"),
    "co_ugm3": ("CO", "CO"),
    "o3_ugm3": ("O₃", "O₃"),
    "vn_aqi": ("VN_AQI", "VN_AQI"),
    "level_m": ("mực nước", "water level"),
    "discharge_m3s": ("lưu lượng nước", "discharge"),
    "segment_id": ("đoạn đường", "segment"),
    "camera_id": ("camera", "camera"),
    "facility_id": ("cơ sở", "facility"),
    "station_id": ("trạm", "station"),
    "unit": ("khoa", "unit"),
    "incident_id": ("sự cố", "incident"),
    "report_id": ("phản ánh", "report"),
    "route_id": ("tuyến", "route"),
    "school_id": ("trường", "school"),
    "room_id": ("phòng", "room"),
    "quality": ("chất lượng số đo", "quality"),
    "ward": ("phường", "ward"),
    "site": ("địa điểm", "site"),
    "lat": ("vĩ độ", "latitude"),
    "lon": ("kinh độ", "longitude"),
}

#: Our names of fields end in their unit.
UNITS: Final[tuple[tuple[str, str, str], ...]] = (
    ("_kmh", "km/h", "km/h"),
    ("_vehh", "xe/giờ", "veh/h"),
    ("_pct", "%", "%"),
    ("_ppm", "ppm", "ppm"),
    ("_ugm3", "µg/m³", "µg/m³"),
    ("_m3s", "m³/s", "m³/s"),
    ("_lux", "lx", "lx"),
    ("_min", "phút", "min"),
    ("_dba", "dB(A)", "dB(A)"),
    ("_mm", "mm", "mm"),
    ("_km", "km", "km"),
    ("_c", "°C", "°C"),
    ("_m", "m", "m"),
    ("_s", "giây", "s"),
)


def say(vi: str, en: str, **told: object) -> Text:
    """A sentence in both languages; what is told in it is a `Text` or the same in both."""

    def filled(pattern: str, lang: Lang) -> str:
        here = {name: getattr(x, lang) if isinstance(x, Text) else x for name, x in told.items()}
        return pattern.format_map(here) if here else pattern

    return Text(vi=filled(vi, "vi"), en=filled(en, "en"))


def joined(parts: Iterable[Text], by: Text | str = ", ") -> Text:
    found = list(parts)
    between = by if isinstance(by, Text) else Text(vi=by, en=by)
    return Text(
        vi=between.vi.join(p.vi for p in found) or "–", en=between.en.join(p.en for p in found) or "–"
    )


def glued(*parts: Text | None) -> Text:
    """The parts that there are, one after the other; a sentence ends with a stop."""
    there = [p for p in parts if p is not None]
    return Text(vi="".join(p.vi for p in there) + ".", en="".join(p.en for p in there) + ".")


def field_name(field: str) -> Text:
    known = FIELDS.get(field)
    if known is not None:
        return Text(vi=known[0], en=known[1])
    ending = next((end for end, _, _ in UNITS if field.endswith(end)), "")
    words = field.removesuffix(ending).replace("_", " ")
    return Text(vi=words, en=words)


def unit_of(field: str) -> Text | None:
    found = next((u for u in UNITS if field.endswith(u[0])), None)
    return None if found is None else Text(vi=found[1], en=found[2])


def number(x: float) -> Text:
    text = f"{x:.0f}" if abs(x) >= 1e5 and float(x).is_integer() else f"{x:.5g}"
    return Text(vi=text.replace(".", ","), en=text)


def value(field: str, x: Any) -> Text:
    """A value with its unit."""
    if isinstance(x, bool):
        return say("có", "yes") if x else say("không", "no")
    if x is None:
        return say("không có số liệu", "no value")
    if not isinstance(x, int | float):
        return Text(vi=f"“{x}”", en=f"“{x}”")
    unit = unit_of(field)
    return number(x) if unit is None else say("{x} {unit}", "{x} {unit}", x=number(x), unit=unit)


def values(names: Sequence[str], found: Mapping[str, Any]) -> Text:
    """Some fields of an event: "speed 3.2 km/h, occupancy 88 %"."""
    return joined(
        say("{name} {x}", "{name} {x}", name=field_name(n), x=value(n, found.get(n))) for n in names
    )


def duration(us: Micros) -> Text:
    """As rules write it: 1h30m."""
    if us and us % 1000:
        us = max(1000, us // 1000 * 1000)
    return Text(vi=duration_text(us), en=duration_text(us))


def clock(us: Micros) -> str:
    """A moment on the city's clocks: 2026-01-05 13:45:00."""
    at = datetime.fromtimestamp(us // 1_000_000, UTC).astimezone(ZONE)
    return at.strftime("%Y-%m-%d %H:%M:%S") + (f".{us // 1000 % 1000:03d}" if us % 1_000_000 else "")


# --- conditions ---------------------------------------------------------------------------------------------------------

_OPERATORS: Final[Mapping[type[ast.cmpop], str]] = {
    ast.Lt: "<",
    ast.LtE: "≤",
    ast.Gt: ">",
    ast.GtE: "≥",
    ast.Eq: "=",
    ast.NotEq: "≠",
}


def condition(text: str) -> Text:
    """A condition of a rule, which has been compiled before, in words."""
    return _words(ast.parse(text.replace("\n", " ").strip(), mode="eval").body)


def _words(node: ast.expr, *, inside: bool = False) -> Text:
    match node:
        case ast.BoolOp(op=op, values=parts):
            by = say(" và ", " and ") if isinstance(op, ast.And) else say(" hoặc ", " or ")
            found = joined([_words(p, inside=True) for p in parts], by)
            return say("({x})", "({x})", x=found) if inside else found
        case ast.UnaryOp(op=ast.Not(), operand=part):
            return say("không phải {x}", "not {x}", x=_words(part, inside=True))
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            return _compared([left, *comparators], ops)
        case _:
            return _operand(node, None)


def _compared(sides: list[ast.expr], ops: list[ast.cmpop]) -> Text:
    field = next((s.id for s in sides if isinstance(s, ast.Name)), None)
    if isinstance(ops[0], ast.Is | ast.IsNot):
        name = _operand(sides[0], None)
        if isinstance(ops[0], ast.Is):
            return say("{x} không có số liệu", "{x} has no value", x=name)
        return say("{x} có số liệu", "{x} has a value", x=name)
    if isinstance(ops[0], ast.In | ast.NotIn) and isinstance(sides[1], ast.Tuple | ast.List):
        among = joined(_operand(e, field) for e in sides[1].elts)
        name = _operand(sides[0], field)
        if isinstance(ops[0], ast.In):
            return say("{x} là một trong {among}", "{x} is one of {among}", x=name, among=among)
        return say("{x} không thuộc {among}", "{x} is none of {among}", x=name, among=among)
    found = _operand(sides[0], field)
    for op, side in zip(ops, sides[1:], strict=True):
        sign = _OPERATORS.get(type(op), "?")
        found = say("{x} {sign} {y}", "{x} {sign} {y}", x=found, sign=sign, y=_operand(side, field))
    return found


def _operand(node: ast.expr, field: str | None) -> Text:
    match node:
        case ast.Name(id=name):
            return field_name(name)
        case ast.Constant(value=x):
            return value(field or "", x)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as x)):
            return value(field or "", -x)
        case ast.BinOp(left=left, op=op, right=right):
            sign = {ast.Add: "+", ast.Sub: "-", ast.Mult: "×", ast.Div: "/"}.get(type(op), "?")
            one, other = _operand(left, None), _operand(right, None)
            return say("{x} {sign} {y}", "{x} {sign} {y}", x=one, sign=sign, y=other)
        case ast.Call(func=ast.Name(id=name), args=args):
            among = joined(_operand(a, None) for a in args)
            return say("{name}({x})", "{name}({x})", name=name, x=among)
        case _:
            written = ast.unparse(node)
            return Text(vi=written, en=written)
