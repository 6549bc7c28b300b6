"""Tokens for people: a keyed hash in place of every personal identifier, made before an event leaves its source."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

KEY_FILE = "token.key"
_KEY_BYTES = 32


class TokenKeyError(Exception):
    """The key file cannot be trusted; the message names it and what would be right."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """HMAC-SHA256 under one key: the same identifier has the same token for as long as the key lives.

    Whoever has no key can neither undo a token nor try identifiers against it. Raises ValueError for a key that
    is too short to withstand that.
    """

    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.key) < _KEY_BYTES:
            raise ValueError(f"a token key has at least {_KEY_BYTES} bytes, this one has {len(self.key)}")

    def token(self, identifier: str) -> str:
        digest = hmac.digest(self.key, identifier.encode("utf-8", "surrogatepass"), hashlib.sha256)
        return "tok_" + digest.hex()[:32]


def load_tokens(data: Path) -> Tokens:
    """Tokens under the key of a data folder, made at first need and readable by its owner only.

    Raises TokenKeyError for a key that others can read or that is damaged: going on with another key would
    silently give every person a second token.
    """
    path = data / KEY_FILE
    if not path.exists():
        _create(path)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise TokenKeyError(f"{path}: others can read it; `chmod 600` it, and replace it if it was seen")
    try:
        return Tokens(bytes.fromhex(path.read_text(encoding="ascii").strip()))
    except ValueError as error:
        raise TokenKeyError(
            f"{path}: must hold {_KEY_BYTES} bytes in hexadecimal; restore it from a backup"
        ) from error


def _create(path: Path) -> None:
    """Write a fresh key whole, or leave the one that another process was quicker to write."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(
        os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii"
    ) as file:
        file.write(secrets.token_hex(_KEY_BYTES) + "\n")
        file.flush()
        os.fsync(file.fileno())
    with contextlib.suppress(FileExistsError):  # then the key of the quicker process is the one
        os.link(draft, path)
    draft.unlink()
