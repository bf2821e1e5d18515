"""Reads ``--security-opt``: seccomp, no-new-privileges, system paths, AppArmor and SELinux words; pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from kitepy.engine.model.errors import InvalidParameter, Unsupported


@dataclass(frozen=True)
class SecurityOptions:
    """What the options ask for."""

    seccomp_profile: dict[str, Any] | None = None
    """The user's own profile document; None for the built-in one."""
    seccomp_unconfined: bool = False
    no_new_privileges: bool = False
    unmasked_paths: bool = False


def parse_security_options(options: Iterable[str]) -> SecurityOptions:
    """Read the options as dockerd does (``key=value``, older clients write ``key:value``)."""
    profile: dict[str, Any] | None = None
    unconfined = no_new_privileges = unmasked = False
    for option in options:
        if option == "no-new-privileges":
            no_new_privileges = True
            continue
        if option == "disable":  # SELinux labels; there are none here
            continue
        separator = "=" if "=" in option else ":"
        key, found, value = option.partition(separator)
        if not found:
            raise InvalidParameter(f'invalid --security-opt 1: "{option}"')
        if key == "seccomp":
            unconfined = value == "unconfined"
            profile = None if value in ("unconfined", "builtin") else _profile(value)
        elif key == "no-new-privileges":
            if value not in ("true", "false"):
                raise InvalidParameter(f'invalid --security-opt 2: "{option}"')
            no_new_privileges = value == "true"
        elif key == "systempaths":
            if value != "unconfined":
                raise InvalidParameter(f"invalid --security-opt: \"{option}\": the only value is 'unconfined'")
            unmasked = True
        elif key == "apparmor":
            if value not in ("unconfined", ""):
                raise Unsupported(f"AppArmor profiles are not supported by this version of Kitepy (apparmor={value})")
        elif key == "label":
            if value != "disable":
                raise Unsupported(f"SELinux labels are not supported by this version of Kitepy (label={value})")
        else:
            raise InvalidParameter(f'invalid --security-opt 2: "{option}"')
    return SecurityOptions(profile, unconfined, no_new_privileges, unmasked)


def _profile(text: str) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise InvalidParameter(f"Decoding seccomp profile failed: {error}") from None
    if not isinstance(document, dict):
        raise InvalidParameter("Decoding seccomp profile failed: it is not a JSON object")
    return document
