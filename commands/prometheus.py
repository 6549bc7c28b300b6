"""Prometheus on this machine: what it scrapes, by which rules, what starts it and when it answers."""

from __future__ import annotations

import shutil
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Of the checkout; a citywatch that was installed otherwise has none.
RULES = Path(__file__).parent.parent / "docker" / "prometheus" / "rules.yml"

_EVERY, _ANSWER_S = "5s", 2


def found() -> str | None:
    """Prometheus on PATH, or None: the city runs without."""
    return shutil.which("prometheus")


@dataclass(frozen=True)
class Prometheus:
    """One server on loopback that scrapes `targets` (host and port by what answers there) and itself."""

    folder: Path
    port: int
    targets: Mapping[str, str]

    name = "Prometheus"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def configuration(self) -> str:
        """The text of prometheus.yml."""
        every = {**self.targets, "prometheus": f"127.0.0.1:{self.port}"}
        return yaml.safe_dump(
            {
                "global": {"scrape_interval": _EVERY, "evaluation_interval": _EVERY},
                "rule_files": [str(RULES)] if RULES.exists() else [],
                "scrape_configs": [
                    {"job_name": job, "static_configs": [{"targets": [target]}]}
                    for job, target in every.items()
                ],
            },
            sort_keys=False,
        )

    def prepare(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        said = self.folder / "prometheus.yml"
        if not said.exists() or said.read_text() != self.configuration():
            said.write_text(self.configuration())

    def command(self) -> list[str]:
        folder = self.folder.absolute()
        return [
            found() or "prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
            "--storage.tsdb.retention.time=15d", f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn",
        ]  # fmt: skip

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=_ANSWER_S) as answer:  # noqa: S310 - our own
                return bool(answer.status == 200)
        except OSError:
            return False
