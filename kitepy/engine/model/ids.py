"""Identifiers: 64 hexadecimal digits for containers, execs, endpoints and networks, as Docker's."""

from __future__ import annotations

import re
import secrets

SHORT_LENGTH = 12
_HEX_ID = re.compile(r"[0-9a-f]{1,64}")


def new_id() -> str:
    """A fresh identifier of 64 hexadecimal digits whose short form is not all decimal (it may serve as a host name)."""
    while True:
        candidate = secrets.token_hex(32)
        if not candidate[:SHORT_LENGTH].isdecimal():
            return candidate


def short_id(full_id: str) -> str:
    """The form people see: the first twelve digits."""
    return full_id.removeprefix("sha256:")[:SHORT_LENGTH]


def is_id_prefix(text: str) -> bool:
    """Whether the text can abbreviate an identifier."""
    return _HEX_ID.fullmatch(text) is not None
