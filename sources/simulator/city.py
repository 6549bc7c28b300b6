"""The places and sensors of Hạ Long: roads, cameras, hospitals, schools, stations and who reports.

Places are real, their coordinates good to some hundred metres. A sensor that stands in rules/registry.yaml has here the
id, place and interval that it has there (a test compares them).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from models.base import Place

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FLOW = "city.traffic.flow.v1"
TRAVEL = "city.traffic.travel_time.v1"
INCIDENT = "city.traffic.incident.v1"
CAMERA = "city.camera.event.v1"
COUNT = "city.camera.count.v1"
ADT = "city.hospital.adt.v1"
BEDS = "city.hospital.occupancy.v1"
QUEUE = "city.hospital.queue.v1"
ROLL = "city.school.attendance.v1"
ROOM = "city.school.room_air.v1"
AIR = "city.environment.air.v1"
WATER = "city.environment.water.v1"
REPORT = "city.citizen.report.v1"

Point = tuple[float, float]


class Road(NamedTuple):
    """A road, its line from its first detector on, and how many detectors it has at load 1."""

    id: str
    vi: str
    en: str
    ward: str
    area: str
    detectors: int
    free_kmh: float
    lanes: int
    rhythm: str
    line: tuple[Point, ...]
    bridge: bool = False
    coastal: bool = False


class Site(NamedTuple):
    """Where cameras look on. `crowd`: persons in one camera's view at the busiest hour of a usual day."""

    id: str
    vi: str
    en: str
    ward: str
    area: str
    at: Point
    cameras: int
    crowd: int = 0
    rhythm: str = "visitors"


# fmt: off
ROADS = (
    Road("cau-bai-chay", "Cầu Bãi Cháy", "Bãi Cháy bridge", "Bãi Cháy", "bai-chay", 2, 60, 4, "city",
         ((20.9605, 107.066), (20.9598, 107.0715)), bridge=True),
    Road("ha-long", "Đường Hạ Long", "Hạ Long road", "Bãi Cháy", "bai-chay", 4, 45, 4, "visitors",
         ((20.9565, 107.035), (20.955, 107.041), (20.958, 107.05)), coastal=True),
    Road("hoang-quoc-viet", "Đường Hoàng Quốc Việt", "Hoàng Quốc Việt street", "Hùng Thắng", "bai-chay", 4, 50, 4,
         "visitors", ((20.9612, 107.0215), (20.9645, 107.0365))),
    Road("cai-lan", "Đường Cái Lân", "Cái Lân road", "Giếng Đáy", "tay", 3, 50, 4, "city",
         ((20.978, 107.04), (20.984, 107.028))),
    Road("tuan-chau", "Đường Tuần Châu", "Tuần Châu road", "Tuần Châu", "tay", 3, 50, 4, "visitors",
         ((20.936, 106.982), (20.931, 106.987)), coastal=True),
    Road("ql18-dai-yen", "Quốc lộ 18, Đại Yên", "National road 18 at Đại Yên", "Đại Yên", "tay", 7, 70, 4, "through",
         ((20.996, 106.93), (20.989, 106.955), (20.983, 106.985), (20.976, 107.01), (20.974, 107.03))),
    Road("ql18-ha-tu", "Quốc lộ 18, Hà Tu", "National road 18 at Hà Tu", "Hà Tu", "dong", 7, 60, 4, "through",
         ((20.966, 107.09), (20.963, 107.115), (20.959, 107.145), (20.964, 107.18), (20.972, 107.2))),
    Road("le-thanh-tong", "Đường Lê Thánh Tông", "Lê Thánh Tông street", "Hồng Gai", "hon-gai", 4, 40, 4, "city",
         ((20.952, 107.08), (20.953, 107.095))),
    Road("tran-quoc-nghien", "Đường bao biển Trần Quốc Nghiễn", "Trần Quốc Nghiễn coast road", "Hồng Hải", "dong", 4, 60,
         6, "visitors", ((20.948, 107.1), (20.949, 107.13)), coastal=True),
    Road("nguyen-van-cu", "Đường Nguyễn Văn Cừ", "Nguyễn Văn Cừ street", "Hồng Hải", "dong", 3, 50, 4, "city",
         ((20.955, 107.092), (20.953, 107.12))),
    Road("tran-phu", "Đường Trần Phú", "Trần Phú street", "Hồng Gai", "hon-gai", 3, 40, 2, "city",
         ((20.957, 107.082), (20.9545, 107.092))),
    Road("cao-thang", "Đường Cao Thắng", "Cao Thắng street", "Cao Thắng", "dong", 3, 40, 2, "city",
         ((20.962, 107.095), (20.957, 107.112))),
    Road("cao-xanh", "Đường Cao Xanh, Hà Khánh", "Cao Xanh road", "Cao Xanh", "hon-gai", 3, 50, 4, "city",
         ((20.968, 107.085), (20.984, 107.095)), coastal=True),
    Road("ql279-troi", "Quốc lộ 279, Trới", "National road 279 at Trới", "Hoành Bồ", "tay", 2, 60, 2, "through",
         ((21.025, 106.99), (21.032, 107.01))),
    Road("cao-toc-van-don", "Cao tốc Hạ Long - Vân Đồn", "Hạ Long-Vân Đồn expressway", "Hoành Bồ", "cao-toc", 8, 95, 4,
         "through", ((21.03, 106.94), (21.035, 106.98), (21.047, 107.03), (21.05, 107.1), (21.045, 107.16),
                     (21.04, 107.22), (21.036, 107.27))),
)

SITES = (
    Site("cang-tuan-chau", "Cảng tàu Tuần Châu", "Tuần Châu pier", "Tuần Châu", "tay", (20.929, 106.99), 3, 130),
    Site("cang-sun-world", "Cảng tàu khách quốc tế Hạ Long", "Sun World cruise port", "Bãi Cháy", "bai-chay",
         (20.953, 107.0405), 3, 140),
    Site("bai-tam-bai-chay", "Bãi tắm Bãi Cháy", "Bãi Cháy beach", "Bãi Cháy", "bai-chay", (20.956, 107.04), 3, 150),
    Site("quang-truong-30-10", "Quảng trường 30-10", "30-10 square", "Hồng Hải", "dong", (20.95, 107.101), 2, 110,
         "evening"),
    Site("cho-ha-long-1", "Chợ Hạ Long 1", "Hạ Long market 1", "Bạch Đằng", "hon-gai", (20.95, 107.077), 3, 120, "market"),
    Site("cho-bai-chay", "Chợ Bãi Cháy", "Bãi Cháy market", "Bãi Cháy", "bai-chay", (20.961, 107.045), 1, 80, "market"),
    Site("ben-doan", "Bến Đoan", "Bến Đoan wharf", "Hồng Gai", "hon-gai", (20.9495, 107.0775), 1, 60, "evening"),
    Site("tuan-chau-bai-tam", "Bãi tắm Tuần Châu", "Tuần Châu beach", "Tuần Châu", "tay", (20.931, 106.98), 1, 90),
    Site("bao-tang", "Bảo tàng Quảng Ninh", "Quảng Ninh museum", "Hồng Hải", "dong", (20.9495, 107.104), 1, 50),
    Site("chua-long-tien", "Chùa Long Tiên", "Long Tiên pagoda", "Bạch Đằng", "hon-gai", (20.9505, 107.0795), 1, 40),
    Site("ben-xe-bai-chay", "Bến xe Bãi Cháy", "Bãi Cháy bus station", "Giếng Đáy", "tay", (20.972, 107.012), 2, 90, "city"),
    Site("ga-ha-long", "Ga Hạ Long", "Hạ Long railway station", "Giếng Đáy", "tay", (20.976, 107.012), 1, 40, "city"),
    Site("cau-bai-chay", "Đầu cầu Bãi Cháy", "Bãi Cháy bridge, west end", "Bãi Cháy", "bai-chay", (20.9605, 107.055), 2),
    Site("loong-toong", "Nút giao Loong Toòng", "Loong Toòng junction", "Yết Kiêu", "hon-gai", (20.957, 107.083), 2),
    Site("kenh-liem", "Nút giao Kênh Liêm", "Kênh Liêm junction", "Hồng Gai", "hon-gai", (20.9525, 107.09), 2),
    Site("bv-bai-chay", "Cổng Bệnh viện Bãi Cháy", "Gate of Bãi Cháy Hospital", "Giếng Đáy", "tay", (20.9716, 107.0083), 1),
    Site("bv-dk-tinh", "Cổng Bệnh viện Đa khoa tỉnh", "Gate of the General Hospital", "Bạch Đằng", "hon-gai",
         (20.9543, 107.0862), 1),
    Site("cot-dong-ho", "Cột đồng hồ", "Clock tower", "Hồng Gai", "hon-gai", (20.954, 107.088), 2, 60, "evening"),
    Site("cot-3", "Ngã tư Cột 3", "Cột 3 crossing", "Hồng Hải", "dong", (20.952, 107.099), 1),
    Site("cot-8", "Ngã tư Cột 8", "Cột 8 crossing", "Hồng Hà", "dong", (20.953, 107.118), 2),
    Site("ha-lam", "Ngã tư Hà Lầm", "Hà Lầm crossing", "Hà Lầm", "dong", (20.963, 107.115), 1),
    Site("ha-tu", "Ngã ba Hà Tu", "Hà Tu junction", "Hà Tu", "dong", (20.959, 107.145), 1),
    Site("khu-cong-nghiep-cai-lan", "Khu công nghiệp Cái Lân", "Cái Lân industrial park", "Giếng Đáy", "tay",
         (20.978, 107.04), 1),
    Site("dai-yen", "Ngã tư Đại Yên", "Đại Yên crossing", "Đại Yên", "tay", (20.996, 106.93), 1),
    Site("hung-thang", "Ngã ba Hùng Thắng", "Hùng Thắng junction", "Hùng Thắng", "bai-chay", (20.9612, 107.0215), 1),
)

#: id, Vietnamese, English, ward, place, beds of the emergency department, of intensive care, arrivals an hour by day
HOSPITALS = (
    ("dk-tinh", "Bệnh viện Đa khoa tỉnh Quảng Ninh", "Quảng Ninh General Hospital", "Bạch Đằng",
     (20.9543, 107.0862), 50, 24, 9.0),
    ("bai-chay", "Bệnh viện Bãi Cháy", "Bãi Cháy Hospital", "Giếng Đáy", (20.9716, 107.0083), 40, 18, 7.0),
    ("san-nhi", "Bệnh viện Sản Nhi Quảng Ninh", "Quảng Ninh Obstetrics and Paediatrics Hospital", "Đại Yên",
     (20.9986, 106.925), 30, 12, 6.0),
)

#: id, Vietnamese, English, ward, place, pupils
SCHOOLS = (
    ("thpt-chuyen-ha-long", "THPT Chuyên Hạ Long", "Hạ Long High School for the Gifted", "Hồng Hải", (20.9525, 107.1035), 1150),
    ("thpt-hon-gai", "THPT Hòn Gai", "Hòn Gai High School", "Hồng Gai", (20.9535, 107.0815), 1300),
    ("thpt-bai-chay", "THPT Bãi Cháy", "Bãi Cháy High School", "Bãi Cháy", (20.9625, 107.0405), 1250),
    ("thpt-vu-van-hieu", "THPT Vũ Văn Hiếu", "Vũ Văn Hiếu High School", "Hà Tu", (20.9585, 107.142), 900),
    ("thcs-trong-diem", "THCS Trọng Điểm", "Trọng Điểm Lower Secondary School", "Hồng Gai", (20.9545, 107.0845), 1400),
    ("thcs-bai-chay", "THCS Bãi Cháy", "Bãi Cháy Lower Secondary School", "Bãi Cháy", (20.9605, 107.0385), 1100),
    ("thcs-cao-xanh", "THCS Cao Xanh", "Cao Xanh Lower Secondary School", "Cao Xanh", (20.9685, 107.0875), 800),
    ("th-ha-long", "TH Hạ Long", "Hạ Long Primary School", "Hồng Gai", (20.9528, 107.0832), 1350),
    ("th-le-hong-phong", "TH Lê Hồng Phong", "Lê Hồng Phong Primary School", "Hồng Hải", (20.9515, 107.1085), 1200),
    ("th-bai-chay", "TH Bãi Cháy", "Bãi Cháy Primary School", "Bãi Cháy", (20.9615, 107.0435), 1050),
    ("th-gieng-day", "TH Giếng Đáy", "Giếng Đáy Primary School", "Giếng Đáy", (20.9725, 107.02), 950),
    ("th-dai-yen", "TH Đại Yên", "Đại Yên Primary School", "Đại Yên", (20.9955, 106.9345), 600),
)

#: id, Vietnamese, English, ward, place
AIR_STATIONS = (
    ("hl-hong-gai", "Hồng Gai", "Hồng Gai", "Hồng Gai", (20.953, 107.083)),
    ("hl-bai-chay", "Bãi Cháy", "Bãi Cháy", "Bãi Cháy", (20.959, 107.042)),
    ("hl-cai-lan", "Khu công nghiệp Cái Lân", "Cái Lân industrial park", "Giếng Đáy", (20.978, 107.04)),
    ("hl-ha-tu", "Hà Tu", "Hà Tu", "Hà Tu", (20.958, 107.148)),
)
WATER_GAUGES = (("hl-cua-luc", "Cửa Lục", "Cửa Lục", "Bãi Cháy", (20.96, 107.056)),)

#: id, Vietnamese, English, the roads it runs over, km
ROUTES = (
    ("hl-bai-chay-hon-gai", "Bãi Cháy - Hòn Gai", "Bãi Cháy to Hòn Gai", ("ha-long", "cau-bai-chay", "le-thanh-tong"), 7.5),
    ("hl-hon-gai-bai-chay", "Hòn Gai - Bãi Cháy", "Hòn Gai to Bãi Cháy", ("le-thanh-tong", "cau-bai-chay", "ha-long"), 7.5),
    ("hl-dai-yen-bai-chay", "Đại Yên - Bãi Cháy", "Đại Yên to Bãi Cháy", ("ql18-dai-yen", "cai-lan"), 14.0),
    ("hl-hon-gai-ha-tu", "Hòn Gai - Hà Tu", "Hòn Gai to Hà Tu", ("nguyen-van-cu", "ql18-ha-tu"), 9.0),
)

#: Wards whose citizens report, with a place in each.
WARDS = (
    ("Bãi Cháy", (20.96, 107.042)), ("Hồng Gai", (20.953, 107.083)), ("Bạch Đằng", (20.951, 107.079)),
    ("Hồng Hải", (20.953, 107.105)), ("Giếng Đáy", (20.974, 107.02)), ("Hà Tu", (20.958, 107.145)),
    ("Tuần Châu", (20.933, 106.983)), ("Đại Yên", (20.995, 106.933)), ("Cao Xanh", (20.969, 107.088)),
    ("Hoành Bồ", (21.027, 106.995)),
)
# fmt: on

#: Seconds between two readings; None where a sensor speaks when something happens.
EVERY: dict[str, float | None] = {
    FLOW: 60, TRAVEL: 300, COUNT: 60, BEDS: 900, QUEUE: 300, ROOM: 120, AIR: 3600, WATER: 600,
    CAMERA: None, ADT: None, ROLL: None, REPORT: None, INCIDENT: None,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sensor:
    """One voice: what it calls itself (`fields`, with the key's among them), where it is, what it is like (`traits`).

    Sensors of one `gateway` fall silent together.
    """

    topic: str
    key: str
    fields: Mapping[str, Any]
    place: Place | None
    gateway: str
    traits: Mapping[str, Any] = field(default_factory=dict)
    vi: str = ""
    en: str = ""
    over_water: bool = False

    @property
    def every_s(self) -> float | None:
        return EVERY[self.topic]

    @property
    def at(self) -> Point:
        assert self.place is not None
        assert self.place.lat is not None
        assert self.place.lon is not None
        return self.place.lat, self.place.lon


@dataclass(frozen=True)
class City:
    """All sensors, in a fixed order, and the same by topic and key."""

    sensors: tuple[Sensor, ...]
    by_key: Mapping[tuple[str, str], Sensor]
    by_topic: Mapping[str, tuple[Sensor, ...]]

    def near(self, topic: str, at: Point) -> Sensor:
        """The sensor of a topic that is nearest to a point."""
        return min(self.by_topic[topic], key=lambda s: (_gap(s.at, at), s.key))


@cache
def city(load: float = 1.0) -> City:
    """Hạ Long with 60 road detectors and 40 cameras, times `load`; all else as it is. The ids of a smaller city stay."""
    sensors = (*_roads(load), *_cameras(load), *_hospitals(), *_schools(), *_stations(), *_people())
    by_topic: dict[str, list[Sensor]] = {topic: [] for topic in EVERY}
    for sensor in sensors:
        by_topic[sensor.topic].append(sensor)
    return City(
        sensors, {(s.topic, s.key): s for s in sensors}, {name: tuple(of) for name, of in by_topic.items()}
    )


def _roads(load: float) -> Iterator[Sensor]:
    for road in ROADS:
        traits = {"free_kmh": road.free_kmh, "lanes": road.lanes, "rhythm": road.rhythm, "road": road.id}
        traits["coastal"] = road.coastal
        for n in range(1, _times(road.detectors, load) + 1):
            where = _place(_along(road.line, _share(n, road.detectors, load)), road.ward, road.vi)
            key = f"hl-{road.id}-{n}"
            yield Sensor(
                FLOW,
                key,
                {"segment_id": key},
                where,
                f"tu-{road.area}",
                {**traits, "n": n},
                *_numbered(road.vi, road.en, n),
                road.bridge,
            )
    roads = {road.id: road for road in ROADS}
    for key, vi, en, over, km in ROUTES:
        free = sum(roads[r].free_kmh for r in over) / len(over)
        first = roads[over[0]]
        where = _place(first.line[0], first.ward, vi)
        yield Sensor(
            TRAVEL,
            key,
            {"route_id": key},
            where,
            "trung-tam",
            {"free_kmh": free, "km": km, "over": over},
            vi,
            en,
        )
    yield Sensor(INCIDENT, "csgt", {}, None, "trung-tam", {}, "Phòng CSGT", "Traffic police")


def _cameras(load: float) -> Iterator[Sensor]:
    for site in SITES:
        for n in range(1, _times(site.cameras, load) + 1):
            key = f"hl-cam-{site.id}" + (f"-{n}" if n > 1 else "")
            lat, lon = site.at
            turn = (n - 1) * 3  # cameras of one site stand a few steps apart
            where = _place((lat + 0.00012 * (turn % 5), lon + 0.00012 * (turn % 7)), site.ward, site.vi)
            words = _numbered(f"Camera {site.vi}", f"Camera {site.en}", n)
            traits = {"site": site.id, "crowd": site.crowd, "rhythm": site.rhythm}
            gateway = f"nvr-{site.area}"
            yield Sensor(CAMERA, key, {"camera_id": key}, where, gateway, traits, *words)
            if site.crowd:
                yield Sensor(
                    COUNT,
                    key,
                    {"camera_id": key, "object_class": "person"},
                    where,
                    gateway,
                    traits,
                    *words,
                )


def _hospitals() -> Iterator[Sensor]:
    for key, vi, en, ward, at, ed, icu, arrivals in HOSPITALS:
        where = _place(at, ward, vi)
        gateway = f"his-{key}"
        traits = {"arrivals": arrivals}
        fields = {"facility_id": key}
        yield Sensor(ADT, key, fields, where, gateway, traits, vi, en)
        yield Sensor(QUEUE, key, fields, where, gateway, traits, f"{vi}: cấp cứu", f"{en}: emergency queue")
        for unit, beds, of_vi, of_en in (
            ("ed", ed, "khoa cấp cứu", "emergency department"),
            ("icu", icu, "hồi sức tích cực", "intensive care"),
        ):
            yield Sensor(
                BEDS,
                f"{key}/{unit}",
                {**fields, "unit": unit, "beds_total": beds},
                where,
                gateway,
                {"beds": beds, "unit": unit},
                f"{vi}: {of_vi}",
                f"{en}: {of_en}",
            )


def _schools() -> Iterator[Sensor]:
    for key, vi, en, ward, at, pupils in SCHOOLS:
        where = _place(at, ward, vi)
        gateway = f"truong-{key}"
        yield Sensor(
            ROLL, key, {"school_id": key, "enrolled": pupils}, where, gateway, {"pupils": pupils}, vi, en
        )
        for n in (1, 2):
            room = f"{key}-p{n}"
            yield Sensor(
                ROOM,
                room,
                {"room_id": room, "school_id": key},
                where,
                gateway,
                {"school": key},
                f"{vi}, phòng {n}",
                f"{en}, room {n}",
            )


def _stations() -> Iterator[Sensor]:
    for key, vi, en, ward, at in AIR_STATIONS:
        yield Sensor(
            AIR,
            key,
            {"station_id": key},
            _place(at, ward, vi),
            "quan-trac",
            {"dust": 1.3 if "cai-lan" in key or "ha-tu" in key else 1.0},
            f"Trạm không khí {vi}",
            f"Air station {en}",
        )
    for key, vi, en, ward, at in WATER_GAUGES:
        yield Sensor(
            WATER,
            key,
            {"station_id": key},
            _place(at, ward, vi),
            "quan-trac",
            {},
            f"Trạm mực nước {vi}",
            f"Water gauge {en}",
        )


def _people() -> Iterator[Sensor]:
    for n, (ward, at) in enumerate(WARDS):
        yield Sensor(REPORT, f"p{n}", {}, _place(at, ward, None), "ung-dung", {"n": n}, ward, ward)


def _place(at: Point, ward: str, site: str | None) -> Place:
    return Place(lat=round(at[0], 5), lon=round(at[1], 5), ward=ward, site=site)


def _times(count: int, load: float) -> int:
    return max(1, round(count * load))


def _share(n: int, count: int, load: float) -> float:
    """How far along its road detector `n` stands: the first `count` evenly, those of a greater load between them."""
    if n <= count:
        return (n - 1) / max(1, count - 1)
    return (n - count - 0.5) / (_times(count, load) - count)


def _along(line: tuple[Point, ...], share: float) -> Point:
    lengths = [_gap(a, b) ** 0.5 for a, b in pairwise(line)]
    left = share * sum(lengths)
    for (a, b), length in zip(pairwise(line), lengths, strict=True):
        if left <= length:
            t = left / length
            return a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])
        left -= length
    return line[-1]


def _gap(a: Point, b: Point) -> float:
    """Squared distance in degrees; good enough to compare within one city."""
    return (a[0] - b[0]) ** 2 + (0.93 * (a[1] - b[1])) ** 2


def _numbered(vi: str, en: str, n: int) -> tuple[str, str]:
    """The first of several has the bare name."""
    return (vi, en) if n == 1 else (f"{vi} ({n})", f"{en} ({n})")
