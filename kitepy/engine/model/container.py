"""A container as the engine remembers it: identity, configuration, state and the one table of state transitions.

What is stored here survives the engine; live handles (monitor connections, namespaces) belong to the services.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

from kitepy.engine.model.container_config import ContainerConfig, EndpointSettings, HostConfig
from kitepy.engine.model.errors import Conflict
from kitepy.engine.model.health import Health
from kitepy.engine.model.network import Endpoint


class ContainerStatus(Enum):
    """The status words of the Engine API."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"

    @property
    def has_process(self) -> bool:
        """Whether process 1 exists."""
        return self in (ContainerStatus.RUNNING, ContainerStatus.PAUSED)

    @property
    def counts_as_running(self) -> bool:
        """What ``State.Running`` says: dockerd reports true while a restart is pending, too."""
        return self in (ContainerStatus.RUNNING, ContainerStatus.PAUSED, ContainerStatus.RESTARTING)


TRANSITIONS: dict[ContainerStatus, frozenset[ContainerStatus]] = {
    ContainerStatus.CREATED: frozenset({ContainerStatus.RUNNING, ContainerStatus.CREATED, ContainerStatus.REMOVING}),
    ContainerStatus.RUNNING: frozenset({ContainerStatus.PAUSED, ContainerStatus.RESTARTING, ContainerStatus.EXITED}),
    ContainerStatus.PAUSED: frozenset({ContainerStatus.RUNNING, ContainerStatus.RESTARTING, ContainerStatus.EXITED}),
    ContainerStatus.RESTARTING: frozenset({ContainerStatus.RUNNING, ContainerStatus.EXITED}),
    ContainerStatus.EXITED: frozenset({ContainerStatus.RUNNING, ContainerStatus.EXITED, ContainerStatus.REMOVING}),
    ContainerStatus.REMOVING: frozenset({ContainerStatus.DEAD}),
    ContainerStatus.DEAD: frozenset({ContainerStatus.REMOVING}),
}


@dataclass(frozen=True)
class ContainerState:
    """What changes while a container lives. Times are nanoseconds since the epoch, 0 for never."""

    status: ContainerStatus = ContainerStatus.CREATED
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    started_at_ns: int = 0
    finished_at_ns: int = 0
    restart_count: int = 0
    health: Health | None = None
    """What the checks of the last run found; while it runs, those who check know."""
    stopped_by_user: bool = False
    """Set by stop and kill: ``unless-stopped`` honours it over an engine restart, ``always`` until the engine restarts."""

    def to(self, status: ContainerStatus, **changes: object) -> ContainerState:
        """The state after a transition; raises Conflict when the table has no such step."""
        if status not in TRANSITIONS[self.status]:
            raise Conflict(f"a container that is {self.status.value} can't become {status.value}")
        return replace(self, status=status, **changes)  # type: ignore[arg-type]  # names are checked by replace


class MountKind(Enum):
    """Where the content of a mount point comes from."""

    BIND = "bind"
    VOLUME = "volume"
    TMPFS = "tmpfs"
    IMAGE = "image"


@dataclass(frozen=True)
class MountPoint:
    """One resolved mount of a container, as ``Mounts`` of inspect lists it."""

    kind: MountKind
    destination: str
    source: str = ""
    """Host directory or file; empty for tmpfs."""
    volume: str = ""
    """Name of the volume, for volumes."""
    image: str = ""
    """The image as the user wrote it, for images; ``source`` is then where it gets mounted."""
    image_id: str = ""
    top_layer: str = ""
    """The image's uppermost chain id; empty for one without layers."""
    mode: str = ""
    """The option string as the user gave it, e.g. ``ro,z``."""
    read_only: bool = False
    propagation: str = ""
    create_source: bool = False
    """Make the host directory at the start when it is missing (``-v`` does, ``--mount`` only on request)."""
    non_recursive: bool = False
    """Leave out what is mounted below the source."""
    flat_read_only: bool = False
    """Leave what is mounted below the source writable."""
    subpath: str = ""
    """The part of the volume that is mounted; relative to it."""
    copy_up: bool = True
    """Fill an empty volume from the image on first use."""
    tmpfs_options: tuple[str, ...] = ()
    listed: bool = True
    """Whether inspect shows it: what ``--tmpfs`` asks for is only in the host configuration."""
    anonymous: bool = False
    engine_owned: bool = False
    """A bind mount of the engine's own files, as for build steps: a remapped container sees their ids as those of its image."""


@dataclass(frozen=True)
class Link:
    """``--link``: a container of the default bridge that another one knows by a name of its own."""

    alias: str
    target_id: str
    target_name: str
    """Its name now, or the last it had."""


@dataclass(frozen=True)
class ContainerRecord:
    """One container in the state database."""

    id: str
    name: str
    """Without the leading slash of the API."""
    created_ns: int
    image_id: str
    image_reference: str
    """As the user wrote it in create."""
    config: ContainerConfig
    host_config: HostConfig
    platform: str
    layers: tuple[str, ...]
    """Chain ids of the image, bottom first."""
    mounts: tuple[MountPoint, ...] = ()
    state: ContainerState = field(default_factory=ContainerState)
    endpoints: tuple[Endpoint, ...] = ()
    """Addresses and ports while the container runs, in the order in which it joined the networks."""
    networks: dict[str, EndpointSettings] = field(default_factory=dict)
    """The networks that it joins at each start, by name, with what was wished for there."""
    links: tuple[Link, ...] = ()
    """Containers of the default bridge that it is linked to."""

    @property
    def argv(self) -> tuple[str, ...]:
        """Entrypoint and command: what process 1 executes."""
        return (*(self.config.entrypoint or ()), *(self.config.cmd or ()))
