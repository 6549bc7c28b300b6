"""Citizens' reports: each state of each report, by category and ward; judged by rules/citizen.yaml."""

from models.citizen import CitizenReport
from streams.domain import Domain

report = Domain(
    CitizenReport,
    fields=("report_id", "service_name", "agency", "lat", "lon"),
    tags=("category", "service_code", "status", "channel", "ward"),
)
