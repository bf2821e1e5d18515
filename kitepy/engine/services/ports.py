"""What the HTTP edge asks of the use cases: one Protocol per resource, and the plain values that pass between them.

The services satisfy these by shape and need not import them; the server's tests satisfy them with fakes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from kitepy.engine.model.container_config import (
    ContainerConfig,
    ContainerCreateBody,
    ContainerUpdateBody,
    ExecCreateBody,
    ExecStartBody,
)
from kitepy.engine.model.filters import Filters
from kitepy.engine.model.network_config import NetworkConnectBody, NetworkCreateBody, NetworkDisconnectBody
from kitepy.engine.model.platform import Platform
from kitepy.engine.model.reference import Reference
from kitepy.engine.model.registry import AuthConfigBody


@dataclass(frozen=True)
class CreateResult:
    """A new container, and what the user should know about its configuration."""

    id: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class WaitResult:
    """How a container ended; ``error`` is a sentence when its end could not be awaited properly."""

    status_code: int
    error: str | None = None


@dataclass(frozen=True)
class LogOptions:
    """Which part of a log to read. Times are nanoseconds since the epoch, 0 for no bound; ``tail`` None is all lines."""

    stdout: bool
    stderr: bool
    since_ns: int = 0
    until_ns: int = 0
    timestamps: bool = False
    tail: int | None = None
    follow: bool = False
    details: bool = False


@dataclass(frozen=True)
class AttachOptions:
    """Which streams to join: ``logs`` replays what was written before, ``stream`` follows what comes."""

    stdin: bool
    stdout: bool
    stderr: bool
    stream: bool
    logs: bool = False
    detach_keys: str | None = None


class AttachSession(Protocol):
    """A conversation with a process; the stream number of output is 1 for stdout (and for a terminal), 2 for stderr."""

    @property
    def tty(self) -> bool:
        """Whether output is a terminal's, to be sent raw."""

    async def read(self) -> tuple[int, bytes] | None:
        """The next piece of output; None at its end."""

    async def write(self, data: bytes) -> None:
        """Hand over input, waiting for room; raises BrokenPipeError when the process closed its stdin."""

    async def close_stdin(self) -> bool:
        """The client sends no more input: end-of-file for the process, or the conversation is over with it (False)."""

    async def detached(self) -> None:
        """The client has typed the detach keys; it leaves next."""

    async def close(self) -> None:
        """Leave the conversation; the process goes on."""


class ContainerService(Protocol):
    """The life of containers. ``ref`` is an id, an unambiguous beginning of one, or a name."""

    async def create(
        self, name: str | None, body: ContainerCreateBody, platform: str | None, *, flat_read_only: bool = False
    ) -> CreateResult:
        """``flat_read_only``: read-only binds leave what is mounted below writable."""

    async def start(self, ref: str, detach_keys: str | None = None) -> None: ...
    async def stop(self, ref: str, timeout_s: int | None, signal: str | None) -> None: ...
    async def restart(self, ref: str, timeout_s: int | None, signal: str | None) -> None: ...
    async def kill(self, ref: str, signal: str | None) -> None: ...
    async def pause(self, ref: str) -> None: ...
    async def unpause(self, ref: str) -> None: ...
    async def rename(self, ref: str, new_name: str) -> None: ...
    async def remove(self, ref: str, force: bool, volumes: bool, link: bool) -> None: ...

    async def wait(self, ref: str, condition: str) -> Awaitable[WaitResult]:
        """The first await registers interest, so that no exit is missed; the second gives the result."""

    async def inspect(self, ref: str, size: bool) -> dict[str, Any]: ...
    async def list(self, all: bool, limit: int | None, size: bool, filters: Filters) -> Sequence[dict[str, Any]]: ...

    async def logs(self, ref: str, options: LogOptions) -> tuple[bool, AsyncIterator[Sequence[tuple[int, bytes]]]]:
        """Whether the log is a terminal's, and its lines in batches; errors that concern the request are raised by the await."""

    async def attach(self, ref: str, options: AttachOptions) -> AttachSession: ...
    async def resize(self, ref: str, rows: int, columns: int) -> None: ...
    async def update(self, ref: str, body: ContainerUpdateBody) -> Sequence[str]:
        """Change limits and restart policy; gives warnings."""

    async def prune(self, filters: Filters) -> dict[str, Any]: ...


@dataclass(frozen=True)
class CommitOptions:
    """The query of ``POST /commit``, but for the container."""

    repository: str = ""
    tag: str = ""
    comment: str = ""
    author: str = ""
    pause: bool = True
    """Let the container stand still meanwhile, where the engine can."""
    changes: Sequence[str] = ()


class ContainerArchives(Protocol):
    """The files of containers: in, out, compared, and as images. ``ref`` is as for ``ContainerService``."""

    async def stat(self, ref: str, path: str) -> dict[str, Any]:
        """ContainerPathStat of one path: name, size, mode, mtime, linkTarget."""

    async def get(self, ref: str, path: str) -> tuple[dict[str, Any], AsyncIterator[bytes]]:
        """The path's stat, and a tar stream of it."""

    async def put(
        self, ref: str, path: str, content: AsyncIterator[bytes], *, no_overwrite_dir_non_dir: bool, copy_uid_gid: bool
    ) -> None:
        """Unpack a tar into a directory."""

    async def export(self, ref: str) -> AsyncIterator[bytes]:
        """The root file system as a tar stream."""

    async def changes(self, ref: str) -> Sequence[dict[str, Any]] | None:
        """What differs from the image; None for nothing."""

    async def commit(self, ref: str, options: CommitOptions, config: ContainerConfig | None) -> str:
        """Make an image of a container; gives its id. ``config`` takes the place of the container's own."""


class ContainerObserver(Protocol):
    """Running containers, looked at from outside."""

    async def top(self, ref: str, ps_args: str) -> dict[str, Any]:
        """The processes, as ps(1) lists them with these options."""

    async def stats(self, ref: str, stream: bool, one_shot: bool) -> AsyncIterator[dict[str, Any]]:
        """Documents of ContainerStatsResponse, one a second while ``stream``; else a single one."""


class ExecService(Protocol):
    """Further processes in running containers."""

    async def create(self, ref: str, body: ExecCreateBody) -> str:
        """Prepare a process; gives the exec's id."""

    async def start(self, exec_id: str, body: ExecStartBody) -> AttachSession | None:
        """Run it; None when the body asks to detach."""

    async def resize(self, exec_id: str, rows: int, columns: int) -> None: ...
    async def inspect(self, exec_id: str) -> dict[str, Any]: ...


class SystemService(Protocol):
    """What the engine tells about itself."""

    def version(self) -> Mapping[str, Any]: ...
    def info(self) -> Mapping[str, Any]: ...


class DiskUsageService(Protocol):
    """What all of it takes on the disk."""

    async def document(self, kinds: Collection[str]) -> dict[str, Any]:
        """SystemDataUsageResponse with some of ``image``, ``container``, ``volume`` and ``build-cache``."""


class RegistryService(Protocol):
    """Image registries, on behalf of a user."""

    async def log_in(self, body: AuthConfigBody) -> dict[str, Any]:
        """Whether a registry accepts credentials: Status and IdentityToken; raises Unauthorized when it does not."""

    async def search(self, term: str, limit: int | None, filters: Filters, auth: AuthConfigBody) -> Sequence[dict[str, Any]]:
        """ImageSearchResponseItems of the registry that the term names, or of Docker Hub."""

    async def distribution(self, name: str, auth: AuthConfigBody) -> dict[str, Any]:
        """DistributionInspect of what a registry has under a name."""


class PullService(Protocol):
    """Images from registries."""

    def pull(self, reference: Reference, platform: Platform | None, auth: AuthConfigBody) -> AsyncIterator[dict[str, Any]]:
        """Progress messages; a reference without tag and digest means all of a repository's tags."""


class PushService(Protocol):
    """Images to registries."""

    def push(self, reference: Reference, platform: Platform | None, auth: AuthConfigBody) -> AsyncIterator[dict[str, Any]]:
        """Progress messages; a reference without a tag means all of a repository's. Raises NotFound for another platform."""


class RegistryBrowsing(Protocol):
    """What registries have, for who looks around in them; Kitepy's own."""

    async def repositories(self, registry: str, limit: int | None, last: str, words: str, auth: AuthConfigBody) -> dict[str, Any]:
        """Repositories and Next."""

    async def tags(self, name: str, limit: int | None, last: str, words: str, auth: AuthConfigBody) -> dict[str, Any]:
        """Name, Tags and Next."""

    async def preview(self, name: str, platform: str, auth: AuthConfigBody) -> dict[str, Any]:
        """What a pull would bring, and which of it is here."""


class EventStream(Protocol):
    """Everything that happens, for whoever listens."""

    def subscribe(self, filters: Filters, since_ns: int | None, until_ns: int | None) -> AsyncIterator[dict[str, Any]]:
        """Documents of EventMessage: first those remembered since ``since_ns``, then new ones until ``until_ns``."""


@dataclass(frozen=True)
class ImportRequest:
    """The query of ``POST /images/create?fromSrc=…``."""

    repository: str = ""
    tag: str = ""
    message: str = ""
    changes: Sequence[str] = ()
    platform: str | None = None


class ImageService(Protocol):
    """Images on this machine. ``name`` is a reference, an id or an unambiguous beginning of one."""

    async def list(self, *, all: bool, filters: Filters, shared_size: bool, containers: bool) -> Sequence[dict[str, Any]]: ...
    async def inspect(self, name: str, platform: Platform | None) -> dict[str, Any]: ...
    async def history(self, name: str, platform: Platform | None) -> Sequence[dict[str, Any]]: ...
    async def tag(self, name: str, repository: str, tag: str) -> None: ...
    async def remove(
        self, name: str, force: bool, prune_parents: bool, platform: Platform | None
    ) -> Sequence[dict[str, Any]]: ...
    async def prune(self, filters: Filters) -> dict[str, Any]: ...

    def load(self, content: AsyncIterator[bytes], quiet: bool, platform: Platform | None) -> AsyncIterator[dict[str, Any]]:
        """Take in an archive as ``save`` writes it; gives progress messages."""

    def import_archive(self, content: AsyncIterator[bytes], request: ImportRequest) -> AsyncIterator[dict[str, Any]]:
        """Make an image of a root file system's tar; gives progress messages, the last with the id."""

    def import_url(self, url: str, request: ImportRequest) -> AsyncIterator[dict[str, Any]]:
        """The same with a tar from the web."""

    def save(self, names: Sequence[str], platform: Platform | None) -> AsyncIterator[bytes]:
        """An archive of images; the names are checked before the first piece."""


@dataclass(frozen=True)
class BuildOptions:
    """The query of ``POST /build``, with its JSON parts read."""

    dockerfile: str = "Dockerfile"
    tags: tuple[str, ...] = ()
    quiet: bool = False
    no_cache: bool = False
    remove_intermediate: bool = True
    build_args: Mapping[str, str | None] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    platform: str = ""
    network_mode: str = ""
    shm_size_bytes: int = 0
    memory_bytes: int = 0
    memory_swap_bytes: int = 0
    cpu_shares: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    cgroup_parent: str = ""
    extra_hosts: tuple[str, ...] = ()
    cache_from: tuple[str, ...] = ()
    squash: bool = False
    remote: str = ""
    pull: bool = False
    """Whether to ask registries for images that are here already."""
    registry_auths: Mapping[str, AuthConfigBody] = field(default_factory=dict)
    """Who the user is to registries, by their names."""
    ulimits: tuple[Mapping[str, Any], ...] = ()
    security_opt: tuple[str, ...] = ()


class BuildService(Protocol):
    """Images made from Dockerfiles."""

    def build(self, context: AsyncIterator[bytes], options: BuildOptions) -> AsyncIterator[dict[str, Any]]:
        """Progress messages of a build whose context is a tar stream.

        What is raised before the first message becomes the answer's status; later errors become the last message.
        Closing the iterator ends the build.
        """

    async def prune(self, all: bool, filters: Filters, keep_bytes: int) -> dict[str, Any]: ...

    async def cache_records(self) -> Sequence[dict[str, Any]]:
        """Documents of BuildCache, for the disk usage."""


class ImageContents(Protocol):
    """Looking into images, which is Kitepy's own (docs/image-layers.md)."""

    async def layers(self, name: str, *, usage: bool = False) -> dict[str, Any]:
        """The steps of an image's making and its layers."""

    async def files(
        self, name: str, path: str, *, layer: int | None = None, own: bool = False, after: str = "", limit: int | None = None
    ) -> dict[str, Any]:
        """A page of a directory."""


class VolumeService(Protocol):
    """Named directories that outlive containers."""

    async def create(
        self, name: str, driver: str, options: Mapping[str, str] | None, labels: Mapping[str, str] | None
    ) -> dict[str, Any]: ...
    async def list(self, filters: Filters) -> dict[str, Any]: ...
    async def inspect(self, name: str) -> dict[str, Any]: ...
    async def remove(self, name: str, force: bool) -> None: ...
    async def prune(self, filters: Filters) -> dict[str, Any]: ...

    async def files(self, name: str, path: str) -> dict[str, Any]:
        """``Path``, ``Entries`` and ``Truncated`` of a directory in the volume."""

    async def archive(self, name: str, path: str) -> AsyncIterator[bytes]:
        """A file or directory of the volume as a tar."""


class NetworkService(Protocol):
    """Networks that containers are attached to."""

    async def list(self, filters: Filters, *, detailed: bool = False) -> Sequence[dict[str, Any]]:
        """``detailed``: with the containers of each."""

    async def inspect(self, ref: str, scope: str = "") -> dict[str, Any]: ...

    async def create(self, body: NetworkCreateBody) -> str:
        """Make a network; gives its id."""

    async def remove(self, ref: str) -> None: ...
    async def prune(self, filters: Filters) -> dict[str, Any]: ...
    async def connect(self, ref: str, body: NetworkConnectBody) -> None: ...
    async def disconnect(self, ref: str, body: NetworkDisconnectBody) -> None: ...
