"""Cameras: what their analytics saw happen, and how much they counted."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from models.base import Event, Identifier, Topic, seconds

#: What a camera can tell apart: the classes of ONVIF `tt:ClassType` and of the detectors in use, bounded because it
#: names a series.
ObjectClass = Literal[
    "person", "bicycle", "motorcycle", "car", "bus", "truck", "vehicle", "boat", "animal", "other"
]


class CameraEvent(Event):
    """Something a camera saw, or something that happened to the camera.

    There is no plate and no face here, not even as a token: a token of a plate follows a person through the city, so it
    would make the whole topic restricted. Whoever reads plates publishes on a restricted topic of its own. `object_id`
    is the tracker's number of a thing in view; it means nothing at another camera or another day.
    """

    topic: ClassVar[Topic] = Topic(
        "city.camera.event.v1",
        key=("camera_id",),
        lateness=seconds(30),
        kind="events",
        partitions=4,
        buckets=64,
    )

    camera_id: Identifier
    # ONVIF's topics begin with tns1: (onvif/specs, Analytics and Core); without one: trackers of car parks and roads.
    kind: Literal[
        "motion",  # RuleEngine/CellMotionDetector/Motion, VideoSource/MotionAlarm
        "object_detected",  # RuleEngine/ObjectDetection/Object
        "line_crossed",  # RuleEngine/LineDetector/Crossed
        "objects_inside",  # RuleEngine/FieldDetector/ObjectsInside
        "loitering",  # RuleEngine/LoiteringDetector/ObjectIsLoitering
        "object_abandoned",  # RuleEngine/.../ObjectAbandoned
        "signal_loss",  # VideoSource/SignalLoss, VideoLoss
        "tamper",  # VideoSource/GlobalSceneChange, RuleEngine/TamperDetector/Tamper
        "alarm_input",  # Device/Trigger/DigitalInput: a contact wired to the camera
        "moving",
        "parked",
        "empty",
        "other",  # any topic not listed: kept with its name in onvif_topic, never refused
    ]
    active: bool | None = Field(
        default=None, description="for what lasts (loitering, signal_loss): began or ended"
    )
    object_id: Identifier | None = None
    object_class: ObjectClass | None = None
    zone: Identifier | None = Field(
        default=None, description="line, field or rule that the camera was set up with"
    )
    spot_id: Identifier | None = Field(default=None, description="parking spot")
    confidence: float | None = Field(default=None, ge=0, le=1)
    onvif_topic: str | None = Field(
        default=None, max_length=200, description="the topic as the camera sent it"
    )


class CameraCount(Event):
    """How many objects of one class a camera counted.

    ONVIF `tns1:RuleEngine/CountAggregation/Counter` and `OccupancyCounter`; Smart Data Models `CrowdFlowObserved`.
    """

    topic: ClassVar[Topic] = Topic(
        "city.camera.count.v1",
        key=("camera_id",),
        series=("camera_id", "object_class"),
        lateness=seconds(30),
        partitions=4,
        buckets=64,
    )

    camera_id: Identifier
    object_class: ObjectClass
    count: int | None = Field(default=None, ge=0, le=100_000)
    interval_s: float | None = Field(
        default=None, gt=0, le=86_400, description="passings over this long before; absent: those in view now"
    )
