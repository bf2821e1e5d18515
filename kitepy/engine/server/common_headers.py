"""What every answer says about the engine."""

from __future__ import annotations

from collections.abc import Mapping

from kitepy import __version__
from kitepy.engine.server.api_version import NEWEST

COMMON_HEADERS: Mapping[str, str] = {
    "Api-Version": str(NEWEST),
    "Docker-Experimental": "false",
    "Ostype": "linux",
    "Server": f"Kitepy/{__version__} (linux)",
}
