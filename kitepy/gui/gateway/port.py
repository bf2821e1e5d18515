"""What the app asks of the engine, as a Protocol: every call runs off the main thread and can be cancelled.

GatewayError                 the world's fault: shown to the user as it is
├── OperationFailed          the engine said no, or a file could not be read
├── Disconnected             the engine went away: lists are re-read after the reconnect
└── EngineUnavailable        the engine cannot start: reason, next step and the end of its log
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kitepy.gui.gateway.image_port import ImageGateway, Progress
from kitepy.gui.gateway.registry_port import RegistryGateway
from kitepy.gui.models.build import BuildEvent, BuildRequest, BuildReview
from kitepy.gui.models.container import Container, ContainerDetails
from kitepy.gui.models.network import Network, NetworkPlan
from kitepy.gui.models.ports import Listener
from kitepy.gui.models.preview import Preview
from kitepy.gui.models.state import EngineEvent
from kitepy.gui.models.system_check import SystemCheck
from kitepy.gui.models.volume import FilePreview, Folder, RestorePlan, Volume

__all__ = [
    "BindResult",
    "Disconnected",
    "EngineStarted",
    "EngineUnavailable",
    "Gateway",
    "GatewayError",
    "LogChunk",
    "OperationFailed",
    "Progress",
]


class GatewayError(Exception):
    """`str()` is a sentence for the user."""


class OperationFailed(GatewayError):
    pass


class Disconnected(GatewayError):
    pass


class EngineUnavailable(GatewayError):
    def __init__(self, reason: str, hint: str = "", log_tail: str = "", check: SystemCheck | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint
        self.log_tail = log_tail
        self.check = check
        """What this machine lacks, when that is the reason."""


@dataclass(frozen=True)
class EngineStarted:
    version: str
    adopted: bool
    why_root: str = ""
    """For an ordinary user's engine that was started as root just now: by what, and why that is needed."""


@dataclass(frozen=True)
class LogChunk:
    stream: str
    data: bytes


@dataclass(frozen=True)
class BindResult:
    """What came of binding a port for a moment."""

    taken: bool
    reason: str = ""


class Gateway(ImageGateway, RegistryGateway, Protocol):
    async def start_engine(self) -> EngineStarted:
        """Starts the engine or adopts a running one. Raises EngineUnavailable."""
        ...

    async def check_system(self) -> SystemCheck:
        """Looks at this machine now. Raises OperationFailed."""
        ...

    async def choose_rights(self, *, as_root: bool) -> None:
        """From the next `start_engine` on, and in later starts of the app; the engine of before goes on running."""
        ...

    async def containers(self) -> tuple[Container, ...]: ...

    async def container(self, container_id: str) -> ContainerDetails: ...

    async def start(self, container_id: str) -> None: ...

    async def stop(self, container_id: str) -> None:
        """Asks it to end and kills it after the grace period of ten seconds."""
        ...

    async def restart(self, container_id: str) -> None: ...

    async def kill(self, container_id: str) -> None: ...

    async def remove(self, container_id: str, *, force: bool) -> None:
        """Removes it with its anonymous volumes."""
        ...

    async def rename(self, container_id: str, name: str) -> None: ...

    async def run_image(self, reference: str, name: str) -> str:
        """Creates and starts a container with all exposed ports published; gives its id."""
        ...

    def logs(self, container_id: str, *, tail: int) -> AsyncIterator[LogChunk]:
        """The last lines and what follows, each line with its timestamp; ends when the container does."""
        ...

    def events(self, *, since_s: float) -> AsyncIterator[EngineEvent]:
        """What has happened since that time (seconds since the epoch) and what happens now.

        Ends or raises Disconnected when the engine goes away.
        """
        ...

    async def make_starter_image(self) -> None:
        """Makes the small image that the examples build on, from this machine's busybox; nothing happens when it is there."""
        ...

    async def review(self, path: Path) -> BuildReview:
        """Reads a folder with a Dockerfile, or a Dockerfile. Raises OperationFailed when it is neither."""
        ...

    def build(self, request: BuildRequest) -> AsyncIterator[BuildEvent]:
        """Ends with BuildSucceeded or BuildFailed; cancelling it cancels the build."""
        ...

    async def preview(self, url: str) -> Preview: ...

    async def volumes(self) -> tuple[Volume, ...]: ...

    async def volume_sizes(self) -> Mapping[str, int]:
        """Bytes by volume; the engine looks at every file."""
        ...

    async def create_volume(self, name: str, labels: Mapping[str, str], options: Mapping[str, str]) -> str:
        """Gives its name, which the engine chooses for an empty one."""
        ...

    async def remove_volume(self, name: str) -> None: ...

    async def list_folder(self, volume: str, path: str) -> Folder: ...

    async def preview_file(self, volume: str, path: str, size_bytes: int) -> FilePreview: ...

    def save_file(self, volume: str, path: str, target: Path) -> AsyncIterator[Progress]:
        """Writes a file, or a folder as a tar archive; nothing stays of a copy that is cancelled."""
        ...

    def back_up(self, volume: str, target: Path) -> AsyncIterator[Progress]: ...

    def restore(self, plan: RestorePlan, source: Path) -> AsyncIterator[Progress]: ...

    async def networks(self) -> tuple[Network, ...]: ...

    async def create_network(self, plan: NetworkPlan) -> str:
        """Gives its id."""
        ...

    async def remove_network(self, network_id: str) -> None: ...

    async def connect_container(self, network_id: str, container_id: str, address: str) -> None: ...

    async def disconnect_container(self, network_id: str, container_id: str) -> None: ...

    async def host_ports(self) -> tuple[Listener, ...]:
        """Every socket of this machine that listens. Raises OperationFailed."""
        ...

    async def try_port(self, port: int, protocol: str) -> BindResult:
        """Binds it on all addresses and lets go of it at once."""
        ...

    async def move_port(self, container_id: str, protocol: str, old: int, new: int) -> str:
        """Makes the container anew with another port of the host, starts it, and gives its id."""
        ...

    async def close(self) -> None: ...
