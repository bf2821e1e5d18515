"""How containers reach the host and its name service; the engine's place in the network decides it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

HOST_NAME = "host.docker.internal"
"""The name of the host in every container of a bridge network, as in Docker Desktop; ``--add-host`` overrides it."""


@dataclass(frozen=True)
class HostNetwork:
    """Where the host is, seen from a container."""

    address: Callable[[], str]
    """What ``host-gateway`` stands for; empty while the host has no network."""
    nameserver: str = ""
    """An address at which the host's resolver answers; empty: containers ask the host's servers themselves."""
