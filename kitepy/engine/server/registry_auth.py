"""The credentials that clients send along in ``X-Registry-Auth``."""

from __future__ import annotations

import binascii
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode

import msgspec

from kitepy.engine.model.registry import AuthConfigBody
from kitepy.engine.server.call import Call

_HEADER = "X-Registry-Auth"
_CONFIG_HEADER = "X-Registry-Config"


def registry_auth(call: Call) -> AuthConfigBody:
    """Who the user is to a registry; nobody in particular where the header is absent or, as dockerd has it, not readable."""
    return read_registry_auth(call.request.headers.get(_HEADER, ""))


def read_registry_auth(text: str) -> AuthConfigBody:
    """The value of the header: base64url of a JSON object, whose keys match without regard to case."""
    try:
        raw = urlsafe_b64decode(text.encode("ascii")) if not set(text) & {"+", "/"} else b""
        document, _ = json.JSONDecoder().raw_decode(raw.decode().lstrip(" \t\r\n"))
        folded = {str(key).lower(): value for key, value in document.items() if value is not None}
        return msgspec.convert(folded, AuthConfigBody, strict=True)
    except (binascii.Error, ValueError, AttributeError, RecursionError, msgspec.ValidationError):
        return AuthConfigBody()


def registry_auths(call: Call) -> dict[str, AuthConfigBody]:
    """``X-Registry-Config``: who the user is to several registries; nobody where it can't be read."""
    text = call.request.headers.get(_CONFIG_HEADER, "")
    try:
        document = json.loads(urlsafe_b64decode(text.encode("ascii")))
        return {str(host): read_registry_auth(_encoded(auth)) for host, auth in document.items() if isinstance(auth, dict)}
    except (binascii.Error, ValueError, AttributeError, RecursionError):
        return {}


def _encoded(document: dict[str, object]) -> str:
    return urlsafe_b64encode(json.dumps(document).encode()).decode()
