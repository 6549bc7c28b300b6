// Names of topics, domains and fields with their units; what is not listed is made readable from its own name.
import type { Lang } from "./model";

type Named = Record<Lang, string>;

const n = (vi: string, en: string): Named => ({ vi, en });

const DOMAINS: Record<string, Named> = {
  traffic: n("Giao thông", "Traffic"),
  camera: n("Camera", "Cameras"),
  hospital: n("Bệnh viện", "Hospitals"),
  school: n("Trường học", "Schools"),
  environment: n("Môi trường", "Environment"),
  citizen: n("Người dân", "Citizens"),
};

const TOPICS: Record<string, Named> = {
  "city.traffic.flow.v1": n("Lưu lượng giao thông", "Traffic flow"),
  "city.traffic.incident.v1": n("Sự cố giao thông", "Traffic incidents"),
  "city.traffic.travel_time.v1": n("Thời gian hành trình", "Travel times"),
  "city.platform.event.v1": n("Nền tảng", "The platform itself"),
  "city.camera.event.v1": n("Sự kiện camera", "Camera events"),
  "city.camera.count.v1": n("Camera đếm", "Camera counts"),
  "city.hospital.adt.v1": n("Tiếp nhận bệnh nhân", "Hospital admissions"),
  "city.hospital.occupancy.v1": n("Công suất giường bệnh", "Bed occupancy"),
  "city.hospital.queue.v1": n("Hàng chờ cấp cứu", "Emergency queues"),
  "city.school.attendance.v1": n("Sĩ số học sinh", "School attendance"),
  "city.school.room_air.v1": n("Không khí lớp học", "Classroom air"),
  "city.environment.air.v1": n("Chất lượng không khí", "Air quality"),
  "city.environment.water.v1": n("Mực nước", "Water levels"),
  "city.citizen.report.v1": n("Phản ánh của người dân", "Citizens' reports"),
};

const FIELDS: Record<string, Named> = {
  speed_kmh: n("Tốc độ", "Speed"),
  intensity_vehh: n("Lưu lượng", "Flow"),
  occupancy_pct: n("Độ chiếm dụng", "Occupancy"),
  travel_time_s: n("Thời gian hành trình", "Travel time"),
  count: n("Số lượng", "Count"),
  confidence: n("Độ tin cậy", "Confidence"),
  kind: n("Kiểu", "Kind"),
  active: n("Đang diễn ra", "Active"),
  category: n("Loại", "Category"),
  status: n("Tình trạng", "Status"),
  injured: n("Bị thương", "Injured"),
  killed: n("Tử vong", "Killed"),
  cause: n("Nguyên nhân", "Cause"),
  description: n("Mô tả", "Description"),
  object_class: n("Đối tượng", "Object"),
  occupied_pct: n("Công suất giường", "Beds occupied"),
  beds_occupied: n("Giường đang dùng", "Occupied beds"),
  beds_total: n("Tổng số giường", "Beds"),
  waiting: n("Đang chờ", "Waiting"),
  waiting_urgent: n("Ca nặng đang chờ", "Urgent, waiting"),
  wait_p90_min: n("Thời gian chờ (P90)", "Wait (90th percentile)"),
  diverting: n("Từ chối xe cứu thương", "Diverting"),
  triage: n("Mức phân loại", "Triage"),
  movement: n("Di chuyển", "Movement"),
  enrolled: n("Sĩ số", "Enrolled"),
  present: n("Có mặt", "Present"),
  attendance_pct: n("Tỷ lệ có mặt", "Attendance"),
  absent_pct: n("Tỷ lệ vắng", "Absent"),
  co2_ppm: n("CO₂", "CO₂"),
  temperature_c: n("Nhiệt độ", "Temperature"),
  humidity_pct: n("Độ ẩm", "Humidity"),
  light_lux: n("Ánh sáng", "Light"),
  occupied: n("Có người", "Occupied"),
  pm25_ugm3: n("Bụi PM2,5", "PM2.5"),
  pm10_ugm3: n("Bụi PM10", "PM10"),
  no2_ugm3: n("NO₂", "NO₂"),
  so2_ugm3: n("SO₂", "SO₂"),
  co_ugm3: n("CO", "CO"),
  o3_ugm3: n("O₃", "O₃"),
  vn_aqi: n("VN_AQI", "VN_AQI"),
  level_m: n("Mực nước", "Water level"),
  discharge_m3s: n("Lưu lượng nước", "Discharge"),
  channel: n("Kênh", "Channel"),
  segment_id: n("Đoạn đường", "Segment"),
  camera_id: n("Camera", "Camera"),
  facility_id: n("Cơ sở", "Facility"),
  station_id: n("Trạm", "Station"),
  unit: n("Khoa", "Unit"),
  incident_id: n("Sự cố", "Incident"),
  report_id: n("Phản ánh", "Report"),
  route_id: n("Tuyến", "Route"),
  school_id: n("Trường", "School"),
  room_id: n("Phòng", "Room"),
  quality: n("Chất lượng số đo", "Quality"),
  ward: n("Phường", "Ward"),
  site: n("Địa điểm", "Site"),
  lat: n("Vĩ độ", "Latitude"),
  lon: n("Kinh độ", "Longitude"),
};

/** Our names of fields end in their unit. */
const UNITS: [ending: string, unit: string | Named][] = [
  ["_kmh", "km/h"],
  ["_vehh", n("xe/giờ", "veh/h")],
  ["_pct", "%"],
  ["_ppm", "ppm"],
  ["_ugm3", "µg/m³"],
  ["_m3s", "m³/s"],
  ["_lux", "lx"],
  ["_min", n("phút", "min")],
  ["_dba", "dB(A)"],
  ["_mm", "mm"],
  ["_km", "km"],
  ["_c", "°C"],
  ["_m", "m"],
  ["_s", n("giây", "s")],
];

/** `pump_pressure_bar` as "Pump pressure bar": better than nothing, and recognisable. */
function readable(name: string): string {
  const words = name.replace(/[_-]+/g, " ").trim();
  return words.charAt(0).toUpperCase() + words.slice(1);
}

export function unitOf(field: string, lang: Lang): string {
  const unit = UNITS.find(([ending]) => field.endsWith(ending))?.[1] ?? "";
  return typeof unit === "string" ? unit : unit[lang];
}

export function fieldName(field: string, lang: Lang): string {
  const known = FIELDS[field]?.[lang];
  if (known !== undefined) return known;
  const ending = UNITS.find(([each]) => field.endsWith(each))?.[0] ?? "";
  return readable(field.slice(0, field.length - ending.length));
}

/** `city.pumps.pressure.v1` as "Pumps: pressure", where it has no name of its own. */
export function topicName(topic: string, lang: Lang): string {
  const [, domain = topic, ...rest] = topic.split(".");
  return (
    TOPICS[topic]?.[lang] ?? `${domainName(domain, lang)}: ${rest.slice(0, -1).join(" ").replace(/_/g, " ")}`
  );
}

export function domainName(domain: string, lang: Lang): string {
  return DOMAINS[domain]?.[lang] ?? readable(domain);
}
