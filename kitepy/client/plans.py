"""What to create, as a value; ``to_api`` gives the body of ``POST /containers/create``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class PublishedPort:
    """A container's port on the machine; ``host_port`` 0 lets the engine choose one."""

    container_port: int
    protocol: str = "tcp"
    host_port: int = 0
    host_ip: str = ""

    @property
    def key(self) -> str:
        """The API's spelling, e.g. ``8080/tcp``."""
        return f"{self.container_port}/{self.protocol}"


@dataclass(frozen=True)
class ContainerPlan:
    """A container to be created. Empty fields leave the image's or the engine's defaults."""

    image: str
    name: str | None = None
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    publish_all: bool = False
    """Publish every port that the image exposes on a free port."""
    ports: tuple[PublishedPort, ...] = ()
    binds: tuple[str, ...] = ()
    """``/host/path:/container/path[:ro]`` or ``volume:/container/path``."""
    tty: bool = False
    open_stdin: bool = False
    restart: str = ""
    """``always``, ``unless-stopped`` or ``on-failure``."""
    memory_bytes: int = 0
    auto_remove: bool = False

    def to_api(self) -> dict[str, Any]:
        """The request's body; the name goes into its query."""
        bindings: dict[str, list[dict[str, str]]] = {}
        for port in self.ports:
            bindings.setdefault(port.key, []).append(
                {"HostIp": port.host_ip, "HostPort": str(port.host_port) if port.host_port else ""}
            )
        host: dict[str, Any] = {"PublishAllPorts": self.publish_all}
        if bindings:
            host["PortBindings"] = bindings
        if self.binds:
            host["Binds"] = list(self.binds)
        if self.restart:
            host["RestartPolicy"] = {"Name": self.restart}
        if self.memory_bytes:
            host["Memory"] = self.memory_bytes
        if self.auto_remove:
            host["AutoRemove"] = True
        body: dict[str, Any] = {"Image": self.image, "HostConfig": host, "Tty": self.tty, "OpenStdin": self.open_stdin}
        if self.command is not None:
            body["Cmd"] = list(self.command)
        if self.entrypoint is not None:
            body["Entrypoint"] = list(self.entrypoint)
        if self.environment:
            body["Env"] = [f"{name}={value}" for name, value in self.environment.items()]
        if self.labels:
            body["Labels"] = dict(self.labels)
        if bindings:
            body["ExposedPorts"] = {key: {} for key in bindings}
        return body
