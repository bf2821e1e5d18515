"""Asks who, if anybody, listens on a socket; small and blocking, so that it works before any client exists."""

from __future__ import annotations

import http.client
import json
import socket
from dataclasses import dataclass
from enum import Enum
from pathlib import Path


class Presence(Enum):
    """What is found at a socket's path."""

    ABSENT = "absent"
    """There is no socket."""
    STALE = "stale"
    """There is a socket file, but nobody listens."""
    DENIED = "denied"
    """This user may not connect."""
    SILENT = "silent"
    """Somebody listens, but does not answer like an engine in time."""
    HEALTHY = "healthy"
    """An engine answers."""


@dataclass(frozen=True)
class Probe:
    """The outcome of a look at a socket."""

    presence: Presence
    version: str = ""
    """Version of a healthy engine that is Kitepy's; empty for others."""
    detail: str = ""
    pid: int = 0
    """Process on the other side (SO_PEERCRED), 0 when unknown. Through a bound socket it is the process that listened first."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))

    def peer_pid(self) -> int:
        return int.from_bytes(self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], "little", signed=True)


def probe(path: Path, timeout_s: float = 2.0) -> Probe:
    """Connect, ask for the version, and say what is there."""
    connection = _UnixConnection(path, timeout_s)
    try:
        connection.connect()
    except FileNotFoundError:
        return Probe(Presence.ABSENT)
    except ConnectionRefusedError as error:
        return Probe(Presence.STALE, detail=str(error))
    except PermissionError as error:
        return Probe(Presence.DENIED, detail=str(error))
    except OSError as error:
        return Probe(Presence.SILENT, detail=str(error))
    try:
        pid = connection.peer_pid()
        connection.request("GET", "/version")
        response = connection.getresponse()
        body = response.read()
        document = json.loads(body)
        if response.status != 200 or not isinstance(document, dict):
            return Probe(Presence.SILENT, detail=f"GET /version answered {response.status}", pid=pid)
        return Probe(Presence.HEALTHY, version=kitepy_version(document), pid=pid)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Probe(Presence.SILENT, detail=str(error) or type(error).__name__)
    finally:
        connection.close()


def kitepy_version(document: dict[str, object]) -> str:
    """Kitepy's own version out of ``GET /version``, or an empty string for another engine.

    The document's ``Version`` is what Docker's clients compare with; Kitepy's own stands among the components.
    """
    components = document.get("Components")
    for component in components if isinstance(components, list) else []:
        if isinstance(component, dict) and "kitepy" in str(component.get("Name", "")).lower():
            return str(component.get("Version", ""))
    platform = document.get("Platform")
    if isinstance(platform, dict) and "kitepy" in str(platform.get("Name", "")).lower():
        return str(document.get("Version", ""))
    return ""
