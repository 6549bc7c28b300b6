"""Settings, read once at start from `CITYWATCH_<PART>__<NAME>`. Nonsense is refused with the name and what would be right."""

from __future__ import annotations

import difflib
import os
import stat
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, ValidationInfo, field_validator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_PREFIX = "CITYWATCH_"

#: Where the test suite finds recorded input. It begins like a setting and is none.
_NOT_SETTINGS = frozenset({"CITYWATCH_DATA"})


#: How one gets into a Kafka: what a process hands on, in the environment, to those it starts.
KAFKA_SECURITY = frozenset(
    f"CITYWATCH_KAFKA__{name}"
    for name in (
        "SECURITY",
        "MECHANISM",
        "USER",
        "PASSWORD",
        "PASSWORD_FILE",
        "CA_FILE",
        "CERT_FILE",
        "KEY_FILE",
    )
)


class SettingsError(ValueError):
    """One line for every variable that cannot be used, with what would be right."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


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
    security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL, as the broker's listener says"
    )
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="of SASL: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"
    )
    user: str | None = Field(None, min_length=1, description="of SASL")
    password: SecretStr | None = Field(None, description="of the user; better in a file")
    password_file: Path | None = Field(
        None, description="that holds the password and nothing else, readable by nobody else"
    )
    ca_file: Path | None = Field(
        None, description="certificates, as PEM, that the broker's is checked by; none: those of this machine"
    )
    cert_file: Path | None = Field(
        None, description="our own certificate, as PEM, where the broker asks for one (mutual TLS)"
    )
    key_file: Path | None = Field(
        None, description="the key of our own certificate, as PEM without a password, readable by nobody else"
    )

    @property
    def has_tls(self) -> bool:
        return self.security.endswith("SSL")

    @property
    def has_sasl(self) -> bool:
        return self.security.startswith("SASL")


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
        description="that may read and write the bucket; needed where there is a url; better in a file",
    )
    token_file: Path | None = Field(
        None, description="that holds the token and nothing else, readable by nobody else"
    )
    ca_file: Path | None = Field(
        None, description="certificates, as PEM, that the server's is checked by; none: those of this machine"
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
            raise ValueError(
                "a token is needed with CITYWATCH_INFLUX__URL, here or in CITYWATCH_INFLUX__TOKEN_FILE"
            )
        return token


class Checkpoint(_Part):
    seconds: float = Field(15, gt=0, le=3600, description="between two checkpoints of a bucket")
    bytes: int = Field(
        5_000_000,
        gt=0,
        description="of input of a partition after which a checkpoint comes early, if its state is no greater",
    )


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
        le=65_532,
        description="of the judge's /metrics, /health and /ready; the store's is the next, then the alarms' and the ledger's; 0: none",
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
    """Everything that can be set. Reading it opens no connection, and no file but those that hold secrets."""

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


#: What does not go together: the variable, when that is so, and what would be right.
_TOGETHER: tuple[tuple[str, Callable[[Settings], bool], str], ...] = (
    (
        "KAFKA__SECURITY",
        lambda s: s.kafka.security != "PLAINTEXT" and (s.kafka.bootstrap is None or s.kafka.embedded),
        "needs a Kafka in CITYWATCH_KAFKA__BOOTSTRAP: the embedded broker has no security",
    ),
    (
        "KAFKA__USER",
        lambda s: s.kafka.has_sasl and s.kafka.user is None,
        "a user is needed where CITYWATCH_KAFKA__SECURITY is SASL_...",
    ),
    (
        "KAFKA__USER",
        lambda s: not s.kafka.has_sasl and s.kafka.user is not None,
        "is used by SASL only: set CITYWATCH_KAFKA__SECURITY to SASL_SSL, or leave it out",
    ),
    (
        "KAFKA__PASSWORD",
        lambda s: s.kafka.has_sasl and s.kafka.password is None,
        "a password is needed where CITYWATCH_KAFKA__SECURITY is SASL_...: name its file in CITYWATCH_KAFKA__PASSWORD_FILE",
    ),
    (
        "KAFKA__PASSWORD",
        lambda s: not s.kafka.has_sasl and s.kafka.password is not None,
        "is used by SASL only: set CITYWATCH_KAFKA__SECURITY to SASL_SSL, or leave it out",
    ),
    (
        "KAFKA__CA_FILE",
        lambda s: not s.kafka.has_tls and s.kafka.ca_file is not None,
        "is used by TLS only: set CITYWATCH_KAFKA__SECURITY to SSL or SASL_SSL, or leave it out",
    ),
    (
        "KAFKA__CERT_FILE",
        lambda s: not s.kafka.has_tls and s.kafka.cert_file is not None,
        "is used by TLS only: set CITYWATCH_KAFKA__SECURITY to SSL or SASL_SSL, or leave it out",
    ),
    (
        "KAFKA__KEY_FILE",
        lambda s: s.kafka.cert_file is not None and s.kafka.key_file is None,
        "the key of CITYWATCH_KAFKA__CERT_FILE is needed, too",
    ),
    (
        "KAFKA__CERT_FILE",
        lambda s: s.kafka.cert_file is None and s.kafka.key_file is not None,
        "the certificate of CITYWATCH_KAFKA__KEY_FILE is needed, too",
    ),
    (
        "INFLUX__CA_FILE",
        lambda s: s.influx.ca_file is not None and not (s.influx.url or "").startswith("https:"),
        "is used by TLS only: CITYWATCH_INFLUX__URL must begin with https://",
    ),
)

#: Files that nobody else may read, beside those that hold a secret.
_KEYS = frozenset({"key_file"})


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
    problems += [problem for part, values in found.items() for problem in _files(part, values)]
    try:
        settings = Settings.model_validate(found)
    except ValidationError as error:
        problems += map(_wrong, error.errors(include_url=False))
    else:
        problems += [f"{_PREFIX}{name}: {right}" for name, is_wrong, right in _TOGETHER if is_wrong(settings)]
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
    shown = "" if _is_secret(part, name) else f"={error['input']}"
    said = f"{_PREFIX}{part.upper()}__{name.upper()}{shown}: {error['msg']}"
    return f"{said} ({about})" if about else said


def _is_secret(part: str, name: str) -> bool:
    field = _model(Settings.model_fields[part].annotation).model_fields.get(name)
    return field is not None and "SecretStr" in str(field.annotation)


def _files(part: str, values: dict[str, str]) -> Iterator[str]:
    """What is wrong with the files that are named. What is in the file of a secret takes the secret's place."""
    for name in [name for name in values if name.endswith("_file")]:
        variable = f"{_PREFIX}{part.upper()}__{name.upper()}"
        secret = name.removesuffix("_file")
        holds_one = _is_secret(part, secret)
        if holds_one and secret in values:
            yield f"{variable}: {variable.removesuffix('_FILE')} is set, too: leave one of them out"
            continue
        try:
            text = _text(Path(values[name]), alone=holds_one or name in _KEYS)
        except (OSError, ValueError) as error:
            yield f"{variable}={values[name]}: {getattr(error, 'strerror', None) or error}"
            text = ""  # that is told; what else is wrong must not be that there is none
        if holds_one:
            values[secret] = text.rstrip("\r\n")
            if "\n" in values[secret]:
                yield f"{variable}={values[name]}: holds more than one line"


def _text(path: Path, *, alone: bool) -> str:
    """What is in a file. Raises ValueError if that is nothing, or if others may read it that must not."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if alone and mode & 0o027:
        raise ValueError(
            f"others may read or change it (mode {mode:04o}): chmod 600, or 640 where its group must read it"
        )
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError("is no text") from None
    if not text.strip():
        raise ValueError("is empty")
    return text


@cache
def current() -> Settings:
    """The settings of this process, read at the first call."""
    return read(os.environ)
