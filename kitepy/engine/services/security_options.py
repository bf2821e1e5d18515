"""Reads ``--security-opt``: seccomp, no-new-privileges, system paths, AppArmor and SELinux words; pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from kitepy.engine.model.errors import InvalidParameter, Unsupported
from kitepy.engine.services.capability_sets import check_available

UNCONFINED = "unconfined"
# The kernel takes the name after a space; a line break or a null byte would end it (aa_change_onexec(3)).
_APPARMOR_NAME = re.compile(r"[^\x00-\x1f]*")


@dataclass(frozen=True)
class SecurityOptions:
    """What the options ask for."""

    seccomp_profile: dict[str, Any] | None = None
    """The user's own profile document; None for the built-in one."""
    seccomp_unconfined: bool = False
    no_new_privileges: bool | None = None
    """None when the options don't say: the engine's default."""
    unmasked_paths: bool = False
    seccomp_builtin: bool = False
    """The profile that ships with Kitepy, whatever the engine's default is."""
    apparmor_profile: str = ""
    """A name, ``unconfined``, or nothing for the default."""


@dataclass(frozen=True)
class SecurityDefaults:
    """What the engine gives to containers that don't say otherwise."""

    no_new_privileges: bool = False
    apparmor_profile: str = ""
    """Profile of containers that aren't privileged; empty when the host has no AppArmor."""
    lacking_capabilities: frozenset[str] = frozenset()
    """What the engine hasn't itself, and so can't give to a container in its own user namespace."""
    unknown_capabilities: frozenset[str] = frozenset()
    """What the kernel doesn't know; a container in a user namespace that was made for it can have all else."""

    def check_capabilities(self, added: Iterable[str], *, remapped: bool) -> None:
        """Refuse what ``--cap-add`` names and can't be given; raises InvalidParameter."""
        check_available(added, self.unknown_capabilities if remapped else self.lacking_capabilities)

    def apparmor_profile_for(self, options: SecurityOptions, *, privileged: bool) -> str:
        """The profile to apply; empty for none. Raises InvalidParameter when one is named and the host has no AppArmor."""
        wanted = options.apparmor_profile
        if not self.apparmor_profile:
            if wanted not in ("", UNCONFINED):
                raise InvalidParameter(f"the AppArmor profile {wanted} can't be applied: this host has no AppArmor")
            return ""
        return wanted or (UNCONFINED if privileged else self.apparmor_profile)


NO_DEFAULTS = SecurityDefaults()


def parse_security_options(options: Iterable[str]) -> SecurityOptions:
    """Read the options as dockerd does (``key=value``, older clients write ``key:value``)."""
    profile: dict[str, Any] | None = None
    unconfined = builtin = unmasked = False
    no_new_privileges: bool | None = None
    apparmor = ""
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
            builtin = value == "builtin"
            profile = None if unconfined or builtin else _profile(value)
        elif key == "no-new-privileges":
            if value not in ("true", "false"):
                raise InvalidParameter(f'invalid --security-opt 2: "{option}"')
            no_new_privileges = value == "true"
        elif key == "systempaths":
            if value != "unconfined":
                raise InvalidParameter(f"invalid --security-opt: \"{option}\": the only value is 'unconfined'")
            unmasked = True
        elif key == "apparmor":
            if not _APPARMOR_NAME.fullmatch(value):
                raise InvalidParameter(f'invalid --security-opt 2: "{option}": not the name of an AppArmor profile')
            apparmor = value
        elif key == "label":
            if value != "disable":
                raise Unsupported(f"SELinux labels are not supported by this version of Kitepy (label={value})")
        else:
            raise InvalidParameter(f'invalid --security-opt 2: "{option}"')
    return SecurityOptions(profile, unconfined, no_new_privileges, unmasked, builtin, apparmor)


def _profile(text: str) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise InvalidParameter(f"Decoding seccomp profile failed: {error}") from None
    if not isinstance(document, dict):
        raise InvalidParameter("Decoding seccomp profile failed: it is not a JSON object")
    return document
