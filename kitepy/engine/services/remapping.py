"""Which containers get user namespaces of their own, and what such a container can't have."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kitepy.engine.kernel.namespaces import is_own, owner_of
from kitepy.engine.kernel.user_namespaces import IdMap
from kitepy.engine.model.container_config import HostConfig
from kitepy.engine.model.errors import Conflict, InvalidParameter


@dataclass(frozen=True)
class Remapping:
    """The ids that root and the others of containers have on the host, and where their networks come from."""

    uids: IdMap
    gids: IdMap
    make_network: Callable[[], int]
    """A new network namespace that belongs to a new user namespace with these maps; blocks."""

    def linux_document(self) -> dict[str, Any]:
        """The mappings as the OCI document has them."""
        return {"uidMappings": _rows(self.uids), "gidMappings": _rows(self.gids)}


def _rows(ids: IdMap) -> list[dict[str, int]]:
    return [{"containerID": inside, "hostID": outside, "size": count} for inside, outside, count in ids.ranges]


def check_user_namespace(host: HostConfig, *, remapped: bool) -> None:
    """Refuse what shares the host's namespaces or devices, worded as dockerd does; raises InvalidParameter.

    ``remapped``: whether the engine maps ids; ``--userns=host`` takes a container out of that.
    """
    if host.userns_mode not in ("", "host"):
        raise InvalidParameter(f"invalid user namespace mode: {host.userns_mode}")
    if not remapped or host.userns_mode == "host":
        return
    if host.privileged:
        raise InvalidParameter(
            "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when "
            "running privileged mode"
        )
    if host.network_mode == "host":
        raise InvalidParameter("cannot share the host's network namespace when user namespaces are enabled")
    if host.pid_mode == "host":
        raise InvalidParameter("cannot share the host PID namespace when user namespaces are enabled")


def check_owner(namespace_fd: int, what: str) -> None:
    """A remapped container can only share what belongs to a user namespace other than the engine's; raises Conflict."""
    owner_fd = owner_of(namespace_fd)
    try:
        if is_own(owner_fd, "user"):
            raise Conflict(
                f"cannot join the {what} of a container that runs in the host's user namespace: start this one with --userns=host"
            )
    finally:
        os.close(owner_fd)
