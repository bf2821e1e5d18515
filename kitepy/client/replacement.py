"""Makes a container anew with another port of the host, since the Engine API can't change one. Blocking.

What the container has written is kept: one that ran is committed, and its volumes are taken over. The old container stays under
another name unless it never ran, and gets its name back when the new one can't be started.
"""

from __future__ import annotations

import copy
from typing import Any

from kitepy.client.errors import ClientError, Conflict, Invalid

# What an endpoint of the old container was asked to be; the rest of it is what came of that.
_ENDPOINT_WISHES = ("IPAMConfig", "Links", "DriverOpts", "GwPriority")


def move_port(api: Any, container_id: str, protocol: str, old: int, new: int) -> str:
    """Give the new container's id once it runs."""
    from kitepy.client.translation import TRANSLATED

    document = api.inspect_container(container_id)
    if document["State"]["Running"]:
        raise Conflict(f"{document['Name'].lstrip('/')} is running")
    has_run = not str(document["State"].get("StartedAt", "")).startswith("0001")
    body = body_with_port(document, protocol, old, new)
    if has_run:
        body["Image"] = str(api.commit(document["Id"])["Id"])
    name = str(document["Name"]).lstrip("/")
    aside = f"{name}-before-{new}"
    api.rename(document["Id"], aside)
    made = ""
    try:
        made = str(api.create_container_from_config(body, name)["Id"])
        api.start(made)
    except (*TRANSLATED, ClientError):
        if made:
            api.remove_container(made, force=True)
        api.rename(document["Id"], name)
        raise
    if not has_run:
        api.remove_container(document["Id"])
    return made


def body_with_port(document: dict[str, Any], protocol: str, old: int, new: int) -> dict[str, Any]:
    """The request that makes such a container with one port of the host changed."""
    body = copy.deepcopy(document["Config"])
    host = copy.deepcopy(document["HostConfig"])
    bindings = [
        binding
        for key, entries in (host.get("PortBindings") or {}).items()
        for binding in entries or ()
        if key.partition("/")[2] == protocol and str(binding.get("HostPort", "")) == str(old)
    ]
    if not bindings:
        raise Invalid(f"the container doesn't ask for port {old}/{protocol} by number")
    for binding in bindings:
        binding["HostPort"] = str(new)
    if body.get("Hostname") == document["Id"][:12]:
        del body["Hostname"]
    host["Binds"] = _binds(document) or None
    body["HostConfig"] = host
    networks = (document.get("NetworkSettings") or {}).get("Networks") or {}
    if not str(host.get("NetworkMode", "")).startswith(("container:", "host", "none")):
        body["NetworkingConfig"] = {"EndpointsConfig": {name: _wishes(each or {}, document) for name, each in networks.items()}}
    return dict(body)


def _binds(document: dict[str, Any]) -> list[str]:
    """The old ones, with the names of volumes that had none: the new container is to find their files."""
    host = document["HostConfig"]
    binds = {str(bind).split(":")[1] if ":" in str(bind) else str(bind): str(bind) for bind in host.get("Binds") or ()}
    elsewhere = {str(mount.get("Target")) for mount in host.get("Mounts") or ()}
    for mount in document.get("Mounts") or ():
        place, name = str(mount.get("Destination")), mount.get("Name")
        nameless = binds.get(place, place) == place
        if mount.get("Type") == "volume" and name and nameless and place not in elsewhere:
            binds[place] = f"{name}:{place}{'' if mount.get('RW', True) else ':ro'}"
    return list(binds.values())


def _wishes(endpoint: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    found = {key: endpoint[key] for key in _ENDPOINT_WISHES if endpoint.get(key)}
    aliases = [alias for alias in endpoint.get("Aliases") or () if alias != document["Id"][:12]]
    return {**found, "Aliases": aliases} if aliases else found
