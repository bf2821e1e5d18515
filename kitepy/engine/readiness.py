"""Tells the service manager that the engine can be used; see sd_notify(3)."""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping

logger = logging.getLogger(__name__)


def notify_ready(environ: Mapping[str, str]) -> None:
    """Send READY=1 to the manager's socket, if the engine was started by one that waits for it."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
        try:
            manager.sendto(b"READY=1", "\0" + address[1:] if address.startswith("@") else address)
        except OSError as error:
            logger.warning("the service manager can't be told that the engine is ready: %s", error)
