"""The engine's JSON turned into the app's values. Pure; unknown fields are ignored and missing ones have defaults."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Mapping
from typing import Any

from kitepy.client import BuildDone, BuildEvent, BuildFailed, BuildOutput, BuildStep, BuildUpload, Finding
from kitepy.gui.models import build as model
from kitepy.gui.models import system_check as checks
from kitepy.gui.models.container import Attachment, Container, ContainerDetails, Mount, Port, Status
from kitepy.gui.models.image import Image
from kitepy.gui.models.network import Network, NetworkPlan, Subnet
from kitepy.gui.models.state import EngineEvent
from kitepy.gui.models.system_check import SystemCheck
from kitepy.gui.models.volume import FileEntry, Folder, Volume

Json = Mapping[str, Any]


def container_from_list(entry: Json) -> Container:
    """One entry of `GET /containers/json`. The exit code is only told in words: `Exited (137) 3 minutes ago`."""
    names = entry.get("Names") or [""]
    return Container(
        id=str(entry["Id"]),
        name=str(names[0]).lstrip("/"),
        image=str(entry.get("Image", "")),
        status=_status(str(entry.get("State", ""))),
        ports=tuple(_listed_port(port) for port in entry.get("Ports") or ()),
        created_s=float(entry.get("Created") or 0),
        exit_code=_exit_code(str(entry.get("Status", ""))),
        labels=_texts(entry.get("Labels")),
        mounts=tuple(_mount(mount) for mount in entry.get("Mounts") or ()),
        networks=_attachments((entry.get("NetworkSettings") or {}).get("Networks") or {}),
        image_id=str(entry.get("ImageID") or ""),
    )


def details_from_inspect(document: Json) -> ContainerDetails:
    """`GET /containers/{id}/json`."""
    state, config = document.get("State") or {}, document.get("Config") or {}
    network = document.get("NetworkSettings") or {}
    status = _status(str(state.get("Status", "")))
    container = Container(
        id=str(document["Id"]),
        name=str(document.get("Name", "")).lstrip("/"),
        image=str(config.get("Image", "")),
        status=status,
        ports=_inspected_ports(network.get("Ports") or {}, config.get("ExposedPorts") or {}),
        exit_code=int(state.get("ExitCode") or 0) if status in (Status.EXITED, Status.DEAD) else None,
        labels=config.get("Labels") or {},
        mounts=tuple(_mount(mount) for mount in document.get("Mounts") or ()),
        networks=_attachments(network.get("Networks") or {}),
    )
    command = [str(document.get("Path") or ""), *(str(word) for word in document.get("Args") or ())]
    return ContainerDetails(
        container=container,
        command=shlex.join(word for word in command if word),
        started_at=str(state.get("StartedAt", "")),
        finished_at=str(state.get("FinishedAt", "")),
        error=str(state.get("Error", "")),
        out_of_memory=bool(state.get("OOMKilled")),
        address=_address(network),
        mounts=tuple(_mount(mount) for mount in document.get("Mounts") or ()),
        has_tty=bool(config.get("Tty")),
        document=document,
    )


def image_from_list(entry: Json) -> Image:
    """One entry of `GET /images/json`."""
    tags = tuple(str(tag) for tag in entry.get("RepoTags") or () if tag != "<none>:<none>")
    shared = int(entry.get("SharedSize", -1) or 0)
    return Image(
        str(entry["Id"]),
        tags,
        int(entry.get("Size") or 0),
        float(entry.get("Created") or 0),
        max(0, int(entry.get("Containers") or 0)),
        shared if shared >= 0 else None,
        tuple(str(digest) for digest in entry.get("RepoDigests") or () if digest != "<none>@<none>"),
        _texts(entry.get("Labels")),
    )


def volume_from_list(entry: Json) -> Volume:
    """One entry of `GET /volumes`."""
    return Volume(
        str(entry["Name"]),
        str(entry.get("Driver") or "local"),
        str(entry.get("CreatedAt") or ""),
        str(entry.get("Mountpoint") or ""),
        _texts(entry.get("Labels")),
        _texts(entry.get("Options")),
    )


def folder_from_listing(document: Json) -> Folder:
    """`GET /kitepy/volumes/{name}/files` and `GET /kitepy/images/{name}/files`."""
    return Folder(
        tuple(
            FileEntry(
                str(entry.get("Name", "")),
                str(entry.get("Type", "file")),
                int(entry.get("Size") or 0),
                int(entry.get("Mode") or 0),
                int(entry.get("Uid") or 0),
                int(entry.get("Gid") or 0),
                str(entry.get("ModifiedAt") or ""),
                str(entry.get("LinkTarget") or ""),
                str(entry.get("Change") or ""),
                int(entry.get("Layer") or 0),
            )
            for entry in document.get("Entries") or ()
        ),
        truncated=bool(document.get("Truncated")),
        following=str(document.get("Next") or ""),
    )


def network_from_list(entry: Json) -> Network:
    """One entry of `GET /networks`."""
    return Network(
        str(entry["Id"]),
        str(entry.get("Name", "")),
        str(entry.get("Driver", "")),
        str(entry.get("Scope", "")),
        str(entry.get("Created") or ""),
        tuple(
            Subnet(str(subnet.get("Subnet") or ""), str(subnet.get("Gateway") or ""), str(subnet.get("IPRange") or ""))
            for subnet in (entry.get("IPAM") or {}).get("Config") or ()
        ),
        bool(entry.get("Internal")),
        bool(entry.get("EnableIPv6")),
        bool(entry.get("Attachable")),
        _texts(entry.get("Labels")),
        _texts(entry.get("Options")),
    )


def network_to_create(plan: NetworkPlan) -> dict[str, Any]:
    """The body of `POST /networks/create`."""
    pools = []
    if plan.subnet:
        pools.append({"Subnet": plan.subnet, **({"Gateway": plan.gateway} if plan.gateway else {})})
    if plan.subnet6 and plan.ipv6:
        pools.append({"Subnet": plan.subnet6})
    return {
        "Name": plan.name,
        "Driver": plan.driver,
        "Internal": plan.internal,
        "EnableIPv6": plan.ipv6,
        "IPAM": {"Driver": "default", "Config": pools},
        "Options": {"parent": plan.parent} if plan.parent else {},
    }


def event_from_message(message: Json) -> EngineEvent:
    """One message of `GET /events`."""
    actor = message.get("Actor") or {}
    attributes = {str(key): str(value) for key, value in (actor.get("Attributes") or {}).items()}
    # "exec_start: sh -c …" and the like carry their command behind a colon.
    action = str(message.get("Action", "")).partition(":")[0]
    return EngineEvent(str(message.get("Type", "")), action, str(actor.get("ID", "")), attributes)


def system_check(findings: Iterable[Finding], *, is_root: bool, engine_as_root: bool) -> SystemCheck:
    """The client's findings as the app's."""
    return SystemCheck(
        tuple(
            checks.Finding(
                each.id,
                checks.Severity(each.severity.value),
                each.summary,
                each.meaning,
                tuple(checks.Fix(fix.command, fix.about) for fix in each.fixes),
            )
            for each in findings
        ),
        is_root,
        engine_as_root,
    )


def build_event(event: BuildEvent) -> model.BuildEvent:
    match event:
        case BuildUpload(sent, total):
            return model.ContextSent(sent, total)
        case BuildStep(index, total, text):
            return model.StepStarted(index, total, text)
        case BuildOutput(text):
            return model.OutputWritten(text)
        case BuildFailed(message, _):
            return model.BuildFailed(message)
        case BuildDone(image_id):
            return model.BuildSucceeded(image_id)


def moment(seconds: float) -> str:
    """Seconds since the epoch as the engine writes times; empty for 0."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)) if seconds > 0 else ""


def _status(word: str) -> Status:
    try:
        return Status(word.lower())
    except ValueError:
        return Status.CREATED


def _exit_code(status: str) -> int | None:
    if not status.startswith("Exited ("):
        return None
    digits = status[len("Exited (") :].partition(")")[0]
    return int(digits) if digits.lstrip("-").isdigit() else None


def _listed_port(entry: Json) -> Port:
    host = entry.get("PublicPort")
    return Port(
        int(entry.get("PrivatePort") or 0),
        str(entry.get("Type") or "tcp"),
        str(entry.get("IP") or ""),
        int(host) if host is not None else None,
    )


def _inspected_ports(bindings: Json, exposed: Json) -> tuple[Port, ...]:
    ports: list[Port] = []
    for name in {**exposed, **bindings}:
        number, _, protocol = name.partition("/")
        entries: Iterable[Json] = bindings.get(name) or ({},)
        for binding in entries:
            host = binding.get("HostPort")
            ports.append(Port(int(number), protocol or "tcp", str(binding.get("HostIp") or ""), int(host) if host else None))
    return tuple(ports)


def _attachments(networks: Json) -> tuple[Attachment, ...]:
    return tuple(
        Attachment(
            str((endpoint or {}).get("NetworkID") or ""),
            str(name),
            str((endpoint or {}).get("IPAddress") or ""),
            str((endpoint or {}).get("GlobalIPv6Address") or ""),
            str((endpoint or {}).get("MacAddress") or ""),
        )
        for name, endpoint in networks.items()
    )


def _texts(pairs: Json | None) -> dict[str, str]:
    return {str(key): str(value) for key, value in (pairs or {}).items()}


def _address(network: Json) -> str:
    for endpoint in (network.get("Networks") or {}).values():
        if endpoint and endpoint.get("IPAddress"):
            return str(endpoint["IPAddress"])
    return str(network.get("IPAddress") or "")


def _mount(entry: Json) -> Mount:
    source = str(entry.get("Name") or entry.get("Source") or "")
    return Mount(str(entry.get("Type") or "bind"), source, str(entry.get("Destination") or ""), not entry.get("RW", True))
