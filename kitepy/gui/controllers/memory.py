"""What controllers keep over a restart of the app; `settings.Settings` fulfils it, tests may too."""

from __future__ import annotations

from typing import Protocol


class Memory(Protocol):
    unfinished_pulls: str
    """As `models.pull.to_memory` writes it; stored at once."""
    registries: tuple[str, ...]
    """Hosts that the user has added."""
