"""Cameras: events by kind and counts by class, judged by rules/camera.yaml."""

from models.camera import CameraCount, CameraEvent
from streams.domain import Domain

event = Domain(
    CameraEvent,
    fields=("object_id", "spot_id", "zone", "active", "confidence", "onvif_topic"),
    tags=("camera_id", "kind", "object_class", "ward", "site"),
)
count = Domain(CameraCount, fields=("count", "interval_s"), tags=("ward", "site"))
