"""Hospitals: patients' movements (restricted), beds, the queue of the emergency department."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, computed_field

from models.base import Event, Identifier, Token, Topic, hours, minutes


class PatientMovement(Event):
    """A patient came, moved or left: HL7 v2 ADT (chapter 3). Restricted.

    `patient` and `visit` are keyed hashes made by the source (PID-3, PV1-19) and reach no rule, store or alarm. What
    is left to those is coarse on purpose: bands and classes, no diagnosis, no outcome, no bed. `event_id` is seen in
    evidence, so a source must not build it from a number of the patient; MSH-10 alone repeats (`MSG00001`).
    """

    topic: ClassVar[Topic] = Topic(
        "city.hospital.adt.v1", key=("facility_id",), lateness=hours(1), kind="events", access="restricted"
    )

    facility_id: Identifier
    patient: Token
    visit: Token | None = None
    # The trigger of MSH-9, not of EVN-1: where they differ MSH-9 is what was sent (HL7 table 0003).
    movement: Literal[
        "admit",  # A01
        "transfer",  # A02
        "discharge",  # A03
        "register",  # A04: outpatients and arrivals at the emergency department
        "preadmit",  # A05
        "update",  # A08
        "cancel_admit",  # A11
        "cancel_transfer",  # A12
        "cancel_discharge",  # A13
        "other",  # any other trigger: kept under its hl7_trigger
    ]
    hl7_trigger: str | None = Field(default=None, pattern=r"^[A-Z][0-9]{2}$", examples=["A01"])
    unit: Identifier | None = Field(default=None, description="ward after the movement (PV1-3.1)")
    from_unit: Identifier | None = Field(default=None, description="ward before it (PV1-6.1)")
    patient_class: Literal["emergency", "inpatient", "outpatient", "other"] | None = Field(
        default=None, description="HL7 table 0004"
    )
    admission_type: Literal["emergency", "urgent", "elective", "newborn", "other"] | None = Field(
        default=None, description="HL7 table 0007"
    )
    triage: int | None = Field(default=None, ge=1, le=5, description="1 is seen at once (ESI, Manchester)")
    age_band: Literal["0-4", "5-17", "18-64", "65+"] | None = None
    syndrome: (
        Literal["injury", "respiratory", "fever", "gastrointestinal", "cardiac", "neurological", "other"]
        | None
    ) = None


class Occupancy(Event):
    """Beds of one unit of a hospital (FHIR `MeasureReport` of bed capacity, HL7 SANER)."""

    topic: ClassVar[Topic] = Topic(
        "city.hospital.occupancy.v1", key=("facility_id", "unit"), lateness=hours(2)
    )

    facility_id: Identifier
    unit: Identifier = Field(description="ward, icu, ed, ...: names from the registry")
    # A hospital has hundreds; regional totals reach tens of thousands. More patients than beds happens.
    beds_occupied: int | None = Field(default=None, ge=0, le=100_000)
    beds_total: int | None = Field(default=None, ge=0, le=100_000, description="staffed beds")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def occupied_pct(self) -> float | None:
        """Beds occupied per hundred staffed; None where either is not known or no bed is staffed."""
        if self.beds_occupied is None or not self.beds_total:
            return None
        return 100 * self.beds_occupied / self.beds_total


class EmergencyQueue(Event):
    """Who waits in an emergency department, in numbers."""

    topic: ClassVar[Topic] = Topic("city.hospital.queue.v1", key=("facility_id",), lateness=minutes(10))

    facility_id: Identifier
    waiting: int | None = Field(default=None, ge=0, le=5_000)
    waiting_urgent: int | None = Field(default=None, ge=0, le=5_000, description="of them, triage 1 and 2")
    wait_p90_min: float | None = Field(
        default=None, ge=0, le=2_880, description="nine in ten of those seen in the last hour waited less"
    )
    diverting: bool | None = Field(default=None, description="ambulances are asked to go elsewhere")
