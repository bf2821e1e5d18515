"""The seccomp program of a container: built-in profile, the user's own, or none; compiled once per profile and capabilities."""

from __future__ import annotations

from typing import Any

import msgspec

from kitepy.engine.kernel import seccomp
from kitepy.engine.model.container_config import HostConfig
from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.services.capability_sets import effective_capabilities
from kitepy.engine.services.security_options import parse_security_options

_CACHE_SIZE = 64


class SeccompProfiles:
    """Compiles filters and keeps them, since compiling takes milliseconds and most containers want the same one."""

    def __init__(self) -> None:
        self._default: dict[str, Any] = seccomp.default_profile()
        self._programs: dict[tuple[tuple[str, ...], bytes], bytes] = {}

    def program(self, host: HostConfig) -> bytes:
        """An array of ``struct sock_filter``; empty for unconfined."""
        options = parse_security_options(host.security_opt or ())
        if options.seccomp_unconfined or (host.privileged and options.seccomp_profile is None):
            return b""
        profile = options.seccomp_profile
        capabilities = effective_capabilities(host.cap_add or (), host.cap_drop or (), host.privileged)
        key = (capabilities, b"" if profile is None else msgspec.json.encode(profile))
        program = self._programs.get(key)
        if program is None:
            try:
                document = seccomp.resolve_profile(self._default if profile is None else profile, list(capabilities))
                program = seccomp.compile_filter(document)
            except (ValueError, KeyError, TypeError) as error:
                raise InvalidParameter(f"Loading seccomp profile failed: {error}") from error
            if len(self._programs) >= _CACHE_SIZE:
                self._programs.pop(next(iter(self._programs)))
            self._programs[key] = program
        return program
