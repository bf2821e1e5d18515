"""The seccomp program of a container: built-in profile, the user's own, or none; compiled once per profile and capabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from kitepy.engine.kernel import seccomp
from kitepy.engine.model.container_config import HostConfig
from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.services.capability_sets import effective_capabilities
from kitepy.engine.services.security_options import parse_security_options

BUILTIN = "builtin"
UNCONFINED = "unconfined"
_CACHE_SIZE = 64


class SeccompProfiles:
    """Compiles filters and keeps them, since compiling takes milliseconds and most containers want the same one."""

    def __init__(self, default: str = BUILTIN) -> None:
        """``default`` is for containers that name no profile: ``builtin``, ``unconfined`` or the path of a profile."""
        self.default_name = default
        self._builtin: dict[str, Any] = seccomp.default_profile()
        self._default: dict[str, Any] | None = None if default == UNCONFINED else _read(default, self._builtin)
        self._programs: dict[tuple[tuple[str, ...], bytes], bytes] = {}

    def program(self, host: HostConfig) -> bytes:
        """An array of ``struct sock_filter``; empty for unconfined."""
        options = parse_security_options(host.security_opt or ())
        profile = self._builtin if options.seccomp_builtin else self._default
        if options.seccomp_profile is not None:
            profile = options.seccomp_profile
        if options.seccomp_unconfined or profile is None or (host.privileged and options.seccomp_profile is None):
            return b""
        capabilities = effective_capabilities(host.cap_add or (), host.cap_drop or (), host.privileged)
        key = (capabilities, b"" if profile is self._builtin else msgspec.json.encode(profile))
        program = self._programs.get(key)
        if program is None:
            try:
                document = seccomp.resolve_profile(profile, list(capabilities))
                program = seccomp.compile_filter(document)
            except (ValueError, KeyError, TypeError) as error:
                raise InvalidParameter(f"Loading seccomp profile failed: {error}") from error
            if len(self._programs) >= _CACHE_SIZE:
                self._programs.pop(next(iter(self._programs)))
            self._programs[key] = program
        return program


def _read(name: str, builtin: dict[str, Any]) -> dict[str, Any]:
    if name == BUILTIN:
        return builtin
    try:
        profile = msgspec.json.decode(Path(name).read_bytes(), type=dict[str, Any])
        seccomp.compile_filter(seccomp.resolve_profile(profile, []))
    except OSError as error:
        raise InvalidParameter(f"opening seccomp profile ({name}) failed: {error.strerror}") from error
    except (InvalidParameter, msgspec.DecodeError, ValueError, KeyError, TypeError) as error:
        raise InvalidParameter(f"the seccomp profile {name} is not usable: {error}") from error
    return profile
