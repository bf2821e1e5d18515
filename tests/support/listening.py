"""What listens on this machine."""

from __future__ import annotations

import socket


def line_from(address: str, port: int) -> str:
    """The first line that an address of this machine says; empty when nothing listens there."""
    try:
        with socket.create_connection((address, port), timeout=5) as connection:
            return connection.makefile().readline().strip()
    except OSError:
        return ""
