"""Settings, read once at start from `CITYWATCH_<PART>__<NAME>`. Nonsense is refused with the name and what would be right."""

from __future__ import annotations

import difflib
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, ValidationInfo, field_validator

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFIX = "CITYWATCH_"

#: Where the test suite finds recorded input. It begins like a setting and is none.
_NOT_SETTINGS = frozenset({"CITYWATCH_DATA"})


class SettingsError(ValueError):
    """One line for every variable that cannot be used, with what would be right."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Kafka(_Part):
    bootstrap: Annotated[str, Field(pattern=r"^[^\s,]+:\d+(,[^\s,]+:\d+)*$")] | None = Field(
        None,
        description="host:port of a running Kafka, more of them separated by commas; none: the embedded broker",
    )
    prefix: str = Field(
        "",
        pattern=r"^([a-z0-9][a-z0-9-]*\.)?$",
        description="of topics and groups, in a replay's world; ends with a dot",
    )
    clock: Literal["log", "writer"] = Field(
        "log",
        description="log: owners of idle partitions append clock records; writer: only who feeds moves the clock",
    )
    log_id: str | None = Field(
        None, description="names the log in ids; needed with another process's embedded broker"
    )
    embedded: bool = Field(
        False, description="the broker at bootstrap is an embedded one, which forgets by volume"
    )
    fetch_wait_ms: int = Field(50, ge=1, le=1500, description="how long an idle fetch waits for more")
    replication: int = Field(1, ge=1, le=7, description="of topics that are created")


class Store(_Part):
    path: Path | None = Field(None, description="of the SQLite store; none: store.sqlite in the data folder")
    retention_days: int = Field(
        0, ge=0, le=36500, description="for which the SQLite store keeps points and rejects; 0: for ever"
    )


class Influx(_Part):
    """InfluxDB 2 as the store, where `url` is set. A token can reach one organisation: `org` must be that one."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$")] | None = Field(
        None, description="of a running InfluxDB 2, as in http://influxdb:8086; none: SQLite is the store"
    )
    token: SecretStr | None = Field(
        None,
        validate_default=True,
        description="that may read and write the bucket; needed where there is a url",
    )
    org: str = Field(
        "citywatch", min_length=1, description="organisation that the bucket and the token belong to"
    )
    bucket: str = Field(
        "citywatch", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="letters, digits, `_`, `-` and `.`"
    )
    retention_days: int = Field(
        0, ge=0, le=36500, description="of a bucket that is made because it was not there; 0: for ever"
    )

    @field_validator("token")
    @classmethod
    def _is_given(cls, token: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if token is None and info.data.get("url") is not None:
            raise ValueError("a token is needed with CITYWATCH_INFLUX__URL")
        return token


class Checkpoint(_Part):
    seconds: float = Field(15, gt=0, le=3600, description="between two checkpoints of a bucket")
    bytes: int = Field(1_500_000, gt=0, description="of input after which a checkpoint comes early")


class Time(_Part):
    grace_s: float | None = Field(
        None, ge=0, description="replaces every topic's lateness, in a replay's world"
    )


class Log(_Part):
    format: Literal["text", "json"] = "text"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Metrics(_Part):
    host: str = Field(
        "127.0.0.1", min_length=1, description="where workers answer; 0.0.0.0 lets other machines ask"
    )
    port: int = Field(
        0,
        ge=0,
        le=65_533,
        description="of the judge's /metrics, /health and /ready; the store's is the next, the alarms' the one after; 0: none",
    )


class Console(_Part):
    host: str = Field(
        "127.0.0.1", min_length=1, description="where the console listens; 0.0.0.0 lets other machines in"
    )
    port: int = Field(8080, ge=1, le=65_535, description="of the console's page")
    names: str = Field(
        "",
        pattern=r"^([A-Za-z0-9.-]+(,[A-Za-z0-9.-]+)*)?$",
        description="host names by which browsers reach it, beside localhost, separated by commas",
    )


class Data(_Part):
    dir: Path = Field(
        Path("var"), description="what this machine keeps: the store, what a running `up` tells others"
    )


class Settings(_Part):
    """Everything that can be set. Reading it opens no file and no connection."""

    kafka: Kafka = Kafka()
    store: Store = Store()
    influx: Influx = Influx()
    checkpoint: Checkpoint = Checkpoint()
    time: Time = Time()
    log: Log = Log()
    metrics: Metrics = Metrics()
    console: Console = Console()
    data: Data = Data()

    @property
    def store_path(self) -> Path:
        return self.store.path or self.data.dir / "store.sqlite"

    @property
    def grace_us(self) -> int | None:
        """Microseconds that replace every topic's lateness, or None."""
        return None if self.time.grace_s is None else round(self.time.grace_s * 1_000_000)


def names() -> dict[str, tuple[str, str]]:
    """Every variable with its part and name, as `Settings` declares them."""
    return {
        f"{_PREFIX}{part.upper()}__{name.upper()}": (part, name)
        for part, field in Settings.model_fields.items()
        for name in _model(field.annotation).model_fields
    }


def _model(annotation: Any) -> type[BaseModel]:
    assert isinstance(annotation, type)
    assert issubclass(annotation, BaseModel)
    return annotation


def read(environ: Mapping[str, str]) -> Settings:
    """The settings in `environ`; an empty value counts as not set. Raises SettingsError with every problem at once."""
    known = names()
    problems: list[str] = []
    found: dict[str, dict[str, str]] = {}
    for variable, value in sorted(environ.items()):
        if not variable.upper().startswith(_PREFIX) or variable in _NOT_SETTINGS:
            continue
        if variable not in known:
            problems.append(_unknown(variable, known))
        elif value:
            part, name = known[variable]
            found.setdefault(part, {})[name] = value
    try:
        settings = Settings.model_validate(found)
    except ValidationError as error:
        problems += map(_wrong, error.errors(include_url=False))
    if problems:
        raise SettingsError("\n".join(problems))
    return settings


def _unknown(variable: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(variable.upper(), known, n=1, cutoff=0.75)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
    return f"{variable} is no setting; {hint}"


def _wrong(error: Any) -> str:
    part, name = error["loc"][:2]
    about = _model(Settings.model_fields[part].annotation).model_fields[name].description
    said = f"{_PREFIX}{part.upper()}__{name.upper()}={error['input']}: {error['msg']}"
    return f"{said} ({about})" if about else said


@cache
def current() -> Settings:
    """The settings of this process, read at the first call."""
    return read(os.environ)
