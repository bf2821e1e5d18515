"""What clients of an older API version still see: members of documents that newer versions dropped, and none that came later.

docker-compose 1.29, for one, fails without ``ContainerConfig`` when it makes a container anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from kitepy.engine.model.timestamps import NEVER
from kitepy.engine.server.api_version import ApiVersion

ONE_SAMPLE = ApiVersion(1, 41)
"""Since when statistics can be asked for at once (``one-shot``)."""
_NAMED_SECURITY_OPTIONS = ApiVersion(1, 25)
_WITHOUT_KERNEL_MEMORY = ApiVersion(1, 42)
_FIREWALL = ApiVersion(1, 49)
_WITHOUT_BRIDGE_RULES = ApiVersion(1, 50)
_WITHOUT_NONE = ApiVersion(1, 43)
_WITHOUT_VIRTUAL_SIZE = ApiVersion(1, 44)
_WITHOUT_ID_AS_ALIAS = ApiVersion(1, 45)
_WITHOUT_CONTAINER_CONFIG = ApiVersion(1, 45)
_WITHOUT_SETTINGS_OF_CONTAINERS = ApiVersion(1, 50)

_SETTINGS_OF_CONTAINERS: dict[str, Any] = {
    "Hostname": "",
    "Domainname": "",
    "AttachStdin": False,
    "AttachStdout": False,
    "AttachStderr": False,
    "Tty": False,
    "OpenStdin": False,
    "StdinOnce": False,
    "Image": "",
}
"""Members of an image's configuration that mean something only for a container."""
_CONTAINER_CONFIG: dict[str, Any] = {
    **_SETTINGS_OF_CONTAINERS,
    "User": "",
    "Env": None,
    "Cmd": None,
    "Volumes": None,
    "WorkingDir": "",
    "Entrypoint": None,
    "OnBuild": None,
    "Labels": None,
}


def image_summary(document: dict[str, Any], version: ApiVersion) -> dict[str, Any]:
    """An entry of the list of images as this version has it."""
    if version < _WITHOUT_NONE:
        tags, digests = document["RepoTags"], document["RepoDigests"]
        if not tags and not digests:
            document = {**document, "RepoTags": ["<none>:<none>"], "RepoDigests": ["<none>@<none>"]}
        else:
            document = {**document, "RepoTags": tags or None, "RepoDigests": digests or None}
    return _with_virtual_size(document, version)


def image_inspection(document: dict[str, Any], version: ApiVersion) -> dict[str, Any]:
    """An image's details as this version has them."""
    document = _with_virtual_size(document, version)
    if version < _WITHOUT_VIRTUAL_SIZE and "Created" not in document:
        document = {**document, "Created": NEVER}
    made_by = {key: document[key] for key in ("Container", "ContainerConfig") if document.get(key)}
    document = {key: value for key, value in document.items() if key not in ("Container", "ContainerConfig")}
    if version < _WITHOUT_CONTAINER_CONFIG:
        document |= {**made_by, "ContainerConfig": {**_CONTAINER_CONFIG, **made_by.get("ContainerConfig", {})}}
    if version < _WITHOUT_SETTINGS_OF_CONTAINERS:
        document = {**document, "Config": {**_SETTINGS_OF_CONTAINERS, **document["Config"]}}
    return document


def container_inspection(document: dict[str, Any], container_id: str, version: ApiVersion) -> dict[str, Any]:
    """A container's details as this version has them: its short id was among the aliases in networks of users."""
    if version >= _WITHOUT_ID_AS_ALIAS:
        return document
    settings = document["NetworkSettings"]
    if isinstance(settings, msgspec.Raw):
        settings = msgspec.json.decode(settings)
    networks = {}
    for name, endpoint in settings["Networks"].items():
        added = [alias for alias in endpoint["DNSNames"] or () if alias == container_id[:12]]
        networks[name] = {**endpoint, "Aliases": [*(endpoint["Aliases"] or ()), *added] or None}
    return {**document, "NetworkSettings": {**settings, "Networks": networks}}


def info(document: Mapping[str, Any], version: ApiVersion) -> dict[str, Any]:
    """What the engine tells about itself, as this version has it."""
    shown = dict(document)
    if version < _FIREWALL:
        shown.pop("FirewallBackend", None)
    if version < _WITHOUT_BRIDGE_RULES:
        shown |= {"BridgeNfIptables": False, "BridgeNfIp6tables": False}
    if version < _WITHOUT_KERNEL_MEMORY:
        shown["KernelMemory"] = shown.get("KernelMemoryTCP", False)
    if version < _NAMED_SECURITY_OPTIONS:
        shown["SecurityOptions"] = [option.removeprefix("name=").partition(",")[0] for option in shown.get("SecurityOptions", ())]
    return shown


def disk_usage(document: dict[str, Any], version: ApiVersion) -> dict[str, Any]:
    """What is on the disk, as this version has it."""
    images = document["Images"]
    return {**document, "Images": images and [_with_virtual_size(image, version) for image in images]}


def _with_virtual_size(document: dict[str, Any], version: ApiVersion) -> dict[str, Any]:
    return {**document, "VirtualSize": document["Size"]} if version < _WITHOUT_VIRTUAL_SIZE else document
