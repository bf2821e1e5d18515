"""The documents by which the API shows a container: inspect, list, and the attributes of its events; pure.

Shapes: Engine API v1.51 ContainerInspectResponse, ContainerSummary, EndpointSettings; values as dockerd 28 gives them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from kitepy.engine.model.container import ContainerRecord, ContainerState, ContainerStatus, MountKind, MountPoint
from kitepy.engine.model.container_config import EndpointSettings
from kitepy.engine.model.health import Health, HealthStatus
from kitepy.engine.model.network import Endpoint, PublishedPort
from kitepy.engine.model.timestamps import format_time
from kitepy.engine.services.endpoints import placeholder, run_id
from kitepy.engine.services.links import shown_links
from kitepy.engine.services.request_networking import known_port, main_mac_address, parse_network_mode

NO_WISH = EndpointSettings()


@dataclass(frozen=True)
class Sizes:
    """Bytes that a container wrote, and bytes of its whole root file system."""

    written: int
    root: int


@dataclass(frozen=True)
class Paths:
    """Host paths that inspect shows."""

    log: str
    resolv_conf: str
    hostname: str
    hosts: str


def inspect_document(
    record: ContainerRecord,
    *,
    paths: Paths,
    volume_paths: Mapping[str, str],
    graph_driver: Mapping[str, Any],
    apparmor_profile: str,
) -> dict[str, Any]:
    """The answer of ``GET /containers/{id}/json``, without execs, health and sizes, which are nothing of the record's."""
    prepared = _was_started(record)
    argv = record.argv
    host_config = record.host_config.document() | {"Links": shown_links(record)}
    config = record.config.document()
    config["Image"] = record.image_reference
    if mac_address := main_mac_address(record.networks):
        config["MacAddress"] = mac_address
    return {
        "Id": record.id,
        "Created": format_time(record.created_ns),
        "Path": argv[0] if argv else "",
        "Args": list(argv[1:]),
        "State": state_document(record.state),
        "Image": record.image_id,
        "ResolvConfPath": paths.resolv_conf if prepared else "",
        "HostnamePath": paths.hostname if prepared else "",
        "HostsPath": paths.hosts if prepared else "",
        "LogPath": paths.log if _reached_its_process(record) else "",
        "Name": f"/{record.name}",
        "RestartCount": record.state.restart_count,
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": apparmor_profile,
        "ExecIDs": None,
        "HostConfig": host_config,
        "GraphDriver": dict(graph_driver),
        "Mounts": [mount_document(point, volume_paths) for point in record.mounts if point.listed],
        "Config": config,
        "NetworkSettings": network_settings(record),
    }


def state_document(state: ContainerState, health: Health | None = None) -> dict[str, Any]:
    """The ``State`` object; its booleans are computed from the one status."""
    status = state.status
    document: dict[str, Any] = {
        "Status": status.value,
        "Running": status.counts_as_running,
        "Paused": status is ContainerStatus.PAUSED,
        "Restarting": status is ContainerStatus.RESTARTING,
        "OOMKilled": state.oom_killed,
        "Dead": status is ContainerStatus.DEAD,
        "Pid": state.pid,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": format_time(state.started_at_ns),
        "FinishedAt": format_time(state.finished_at_ns),
    }
    if health is not None:
        document["Health"] = health_document(health)
    return document


def health_document(health: Health) -> dict[str, Any]:
    """``State.Health`` of inspect."""
    return {
        "Status": health.status.value,
        "FailingStreak": health.failing_streak,
        "Log": [
            {
                "Start": format_time(result.start_ns),
                "End": format_time(result.end_ns),
                "ExitCode": result.exit_code,
                "Output": result.output,
            }
            for result in health.log
        ],
    }


def mount_document(point: MountPoint, volume_paths: Mapping[str, str]) -> dict[str, Any]:
    """One entry of ``Mounts``."""
    document: dict[str, Any] = {"Type": point.kind.value}
    if point.kind is MountKind.VOLUME:
        document["Name"] = point.volume
        document["Source"] = volume_paths.get(point.volume, "")
    elif point.kind is MountKind.IMAGE:
        document |= {"Name": point.image, "Source": point.source}
    else:
        document["Source"] = point.source
    document["Destination"] = point.destination
    if point.kind is MountKind.VOLUME:
        document["Driver"] = "local"
    document.update({"Mode": point.mode, "RW": not point.read_only, "Propagation": point.propagation})
    return document


def endpoint_in(record: ContainerRecord, name: str, network_id: str) -> Endpoint | None:
    """The endpoint of a running container in a network; on ``host`` and ``none`` it has no addresses."""
    if not record.state.status.has_process or not network_id:
        return None
    joined = next((endpoint for endpoint in record.endpoints if endpoint.network_id == network_id), None)
    if joined is None and name in ("host", "none"):
        return placeholder(record, name, network_id)
    return joined


def published_ports(record: ContainerRecord) -> list[PublishedPort]:
    """What is reachable from outside now, whichever endpoint carries it."""
    return [port for endpoint in record.endpoints for port in endpoint.ports]


def leads_out(record: ContainerRecord) -> bool:
    """Whether ports can be published, now: not while a container runs on internal networks only, as with dockerd."""
    return any(endpoint.gateway or endpoint.gateway6 for endpoint in record.endpoints)


def port_map(record: ContainerRecord) -> dict[str, list[dict[str, str]] | None]:
    """``NetworkSettings.Ports``: each exposed or published port with its host addresses, or null."""
    ports: dict[str, list[dict[str, str]] | None] = {}
    if not leads_out(record):
        return ports
    for text in record.config.exposed_ports or ():
        if known := known_port(text):
            ports[f"{known[0]}/{known[1]}"] = None
    for published in published_ports(record):
        key = f"{published.container_port}/{published.protocol}"
        ports[key] = [*(ports.get(key) or []), {"HostIp": published.host_ip, "HostPort": str(published.host_port or "")}]
    return ports


def network_settings(record: ContainerRecord) -> dict[str, Any]:
    """The ``NetworkSettings`` of inspect, with the legacy fields of the default bridge that clients still read."""
    wish = record.networks.get("bridge", NO_WISH)
    shown = endpoint_document(endpoint_in(record, "bridge", wish.network_id), wish)
    has_sandbox = record.state.pid and parse_network_mode(record.host_config.network_mode).kind != "container"
    return {
        "Bridge": "",
        "SandboxID": run_id(record, "sandbox") if has_sandbox else "",
        "SandboxKey": f"/proc/{record.state.pid}/ns/net" if has_sandbox else "",
        "Ports": port_map(record),
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        **{key: shown[key] for key in _LEGACY},
        "Networks": networks_document(record),
    }


_LEGACY = (
    "EndpointID", "Gateway", "GlobalIPv6Address", "GlobalIPv6PrefixLen", "IPAddress", "IPPrefixLen", "IPv6Gateway", "MacAddress",
)  # fmt: skip
"""What of the default network's endpoint is also shown beside the networks."""


def networks_document(record: ContainerRecord) -> dict[str, Any]:
    """``Networks``: each network of the container by name, with what was wished for and what it got."""
    return {
        name: endpoint_document(endpoint_in(record, name, settings.network_id), settings)
        for name, settings in record.networks.items()
    }


def _was_started(record: ContainerRecord) -> bool:
    return bool(record.state.started_at_ns or record.state.error)


def _reached_its_process(record: ContainerRecord) -> bool:
    """Whether a start came as far as opening the log: it is known from then on, whatever became of the process."""
    return bool(record.state.started_at_ns) or record.state.error.startswith("failed to create task")


def endpoint_document(endpoint: Endpoint | None, settings: EndpointSettings = NO_WISH) -> dict[str, Any]:
    """EndpointSettings of one network; the addresses are empty while the container isn't running."""
    return {
        "IPAMConfig": msgspec.to_builtins(settings.ipam_config),
        "Links": settings.links,
        "Aliases": settings.aliases,
        # As with dockerd a wish is shown until it was granted once, and while it is.
        "MacAddress": endpoint.mac if endpoint else "" if settings.network_id else settings.mac_address,
        "DriverOpts": settings.driver_opts,
        "GwPriority": settings.gw_priority,
        "NetworkID": settings.network_id,
        "EndpointID": endpoint.endpoint_id if endpoint else "",
        "Gateway": endpoint.gateway if endpoint else "",
        "IPAddress": endpoint.address if endpoint else "",
        "IPPrefixLen": endpoint.prefix_length if endpoint else 0,
        "IPv6Gateway": endpoint.gateway6 if endpoint else "",
        "GlobalIPv6Address": endpoint.address6 if endpoint else "",
        "GlobalIPv6PrefixLen": endpoint.prefix_length6 if endpoint else 0,
        "DNSNames": settings.dns_names,
    }


_NOT_LISTED = {"Links": None, "Aliases": None, "DriverOpts": None, "DNSNames": None}
"""What of an endpoint the list of containers leaves out."""


def summary_document(record: ContainerRecord, *, volume_paths: Mapping[str, str]) -> dict[str, Any]:
    """One entry of ``GET /containers/json`` as far as the record tells; image and status are of the moment, and empty here."""
    host: dict[str, Any] = {"NetworkMode": record.host_config.network_mode}
    if record.host_config.annotations:
        host["Annotations"] = dict(record.host_config.annotations)
    return {
        "Id": record.id,
        "Names": [f"/{record.name}"],
        "Image": "",
        "ImageID": record.image_id,
        "Command": command_text(record.argv),
        "Created": record.created_ns // 1_000_000_000,
        "Ports": port_list(record),
        "Labels": dict(record.config.labels or {}),
        "State": record.state.status.value,
        "Status": "",
        "HostConfig": host,
        "NetworkSettings": {"Networks": {name: shown | _NOT_LISTED for name, shown in networks_document(record).items()}},
        "Mounts": [mount_document(point, volume_paths) for point in record.mounts if point.listed],
    }


def command_text(argv: Iterable[str]) -> str:
    """The command on one line: arguments with spaces are quoted, as ``docker ps`` shows them."""
    words = list(argv)
    return " ".join([*words[:1], *(f"'{word}'" if " " in word else word for word in words[1:])])


def port_list(record: ContainerRecord) -> list[dict[str, Any]]:
    """``Ports`` of a summary: one entry per host address, and the exposed ones that aren't published."""
    if not leads_out(record):
        return []
    published: defaultdict[tuple[int, str], list[PublishedPort]] = defaultdict(list)
    for port in published_ports(record):
        published[port.container_port, port.protocol].append(port)
    entries: list[dict[str, Any]] = []
    exposed = {known for text in record.config.exposed_ports or () if (known := known_port(text))}
    for number, protocol in sorted(exposed | set(published)):
        for port in published.get((number, protocol), ()):
            public = {"PublicPort": port.host_port} if port.host_port else {}
            entries.append({"IP": port.host_ip, "PrivatePort": number, **public, "Type": protocol})
        if (number, protocol) not in published:
            entries.append({"PrivatePort": number, "Type": protocol})
    return entries


def status_text(state: ContainerState, now_ns: int, health: Health | None = None) -> str:
    """``Up 5 minutes``, ``Exited (0) 2 hours ago`` and so on."""
    status = state.status
    if status is ContainerStatus.CREATED:
        return "Created"
    if status is ContainerStatus.REMOVING:
        return "Removal In Progress"
    if status is ContainerStatus.DEAD:
        return "Dead"
    if status is ContainerStatus.EXITED:
        return f"Exited ({state.exit_code}) {human_duration(now_ns - state.finished_at_ns)} ago"
    if status is ContainerStatus.RESTARTING:
        return f"Restarting ({state.exit_code}) {human_duration(now_ns - state.finished_at_ns)} ago"
    up = f"Up {human_duration(now_ns - state.started_at_ns)}"
    if status is ContainerStatus.PAUSED:
        return f"{up} (Paused)"
    if health is None:
        return up
    return f"{up} (health: starting)" if health.status is HealthStatus.STARTING else f"{up} ({health.status.value})"


def human_duration(duration_ns: int) -> str:
    """A rough duration in words, in the steps that Docker uses."""
    seconds = max(0, duration_ns) // 1_000_000_000
    if seconds < 1:
        return "Less than a second"
    if seconds == 1:
        return "1 second"
    if seconds < 60:
        return f"{seconds} seconds"
    if seconds < 120:
        return "About a minute"
    if seconds < 3600:
        return f"{seconds // 60} minutes"
    hours = (seconds + 1800) // 3600
    if hours <= 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{hours // 24 // 365} years"


def event_attributes(record: ContainerRecord, **more: str) -> dict[str, str]:
    """What every event of a container carries: its labels, image and name."""
    return {**(record.config.labels or {}), "image": record.image_reference, "name": record.name, **more}
