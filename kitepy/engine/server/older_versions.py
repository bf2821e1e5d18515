"""What clients of an older API version still see of images: members that newer versions dropped.

docker-compose 1.29, for one, fails without ``ContainerConfig`` when it makes a container anew.
"""

from __future__ import annotations

from typing import Any

from kitepy.engine.server.api_version import ApiVersion

_WITHOUT_VIRTUAL_SIZE = ApiVersion(1, 44)
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
    if version < _WITHOUT_VIRTUAL_SIZE:
        return {**document, "VirtualSize": document["Size"]}
    return document


def image_inspection(document: dict[str, Any], version: ApiVersion) -> dict[str, Any]:
    """An image's details as this version has them."""
    document = image_summary(document, version)
    if version < _WITHOUT_CONTAINER_CONFIG:
        document = {**document, "ContainerConfig": _CONTAINER_CONFIG}
    if version < _WITHOUT_SETTINGS_OF_CONTAINERS:
        document = {**document, "Config": {**_SETTINGS_OF_CONTAINERS, **document["Config"]}}
    return document
