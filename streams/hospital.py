"""Hospitals: movements without the patient, beds and the queue, judged by rules/hospital.yaml."""

from models.hospital import EmergencyQueue, Occupancy, PatientMovement
from streams.domain import Domain

# Of a movement the store keeps what is counted by ward. Age band and syndrome are for the rules alone: a row of history
# with them, a time and a ward could be put beside a name.
adt = Domain(
    PatientMovement,
    fields=("triage",),
    tags=("facility_id", "unit", "from_unit", "movement", "patient_class", "admission_type"),
)
occupancy = Domain(Occupancy, fields=("beds_occupied", "beds_total", "occupied_pct"), tags=("ward",))
queue = Domain(
    EmergencyQueue, fields=("waiting", "waiting_urgent", "wait_p90_min", "diverting"), tags=("ward",)
)
