// The city as it is set up, by id; and where and about what an alarm is.
import type { Alarm, City, Lang } from "./model";
import type { Place, Rule, Sensor, Topic } from "./wire";

export interface Known {
  city: City | null;
  sensors: Map<string, Sensor>;
  rules: Map<string, Rule>;
  topics: Map<string, Topic>;
}

export function known(city: City | null): Known {
  return {
    city,
    sensors: new Map(city?.sensors.map((each) => [each.id, each])),
    rules: new Map(city?.rules.map((each) => [each.id, each])),
    topics: new Map(city?.topics.map((each) => [each.name, each])),
  };
}

/** The topic of an alarm's rule, or of its sensor where the rule is no longer in force. */
export function topicOf(city: Known, alarm: Alarm): string | null {
  return city.rules.get(alarm.rule)?.topic ?? alarm.sensor?.split("|")[0] ?? null;
}

/** `traffic` of `city.traffic.flow.v1`. */
export function domainOf(topic: string | null): string | null {
  return topic?.split(".")[1] ?? null;
}

export interface At {
  lat: number;
  lon: number;
}

function at(place: Place | null | undefined): At | null {
  if (place?.lat == null || place.lon == null) return null;
  return { lat: place.lat, lon: place.lon };
}

/** Where an alarm is; the registry knows of a sensor that did not say. */
export function placed(city: Known, alarm: Alarm): At | null {
  return at(alarm.place) ?? at(sensorOf(city, alarm)?.place);
}

export function standing(sensor: Sensor): At | null {
  return at(sensor.place);
}

export function sensorOf(city: Known, alarm: Alarm): Sensor | undefined {
  return alarm.sensor === null ? undefined : city.sensors.get(alarm.sensor);
}

export function sensorName(sensor: Sensor, lang: Lang): string {
  return sensor.name?.[lang] ?? sensor.place?.site ?? sensor.key;
}

/** What a person calls the place: the sensor's name, else the site, else the labels that tell it from others. */
export function placeName(city: Known, alarm: Alarm, lang: Lang): string {
  const sensor = sensorOf(city, alarm);
  if (sensor?.name) return sensor.name[lang];
  const labels = Object.values(alarm.labels).join(", ");
  return alarm.place?.site ?? sensor?.place?.site ?? (labels || alarm.rule);
}

export function wardOf(city: Known, alarm: Alarm): string | null {
  return alarm.place?.ward ?? sensorOf(city, alarm)?.place?.ward ?? null;
}
