"""``--link`` on the default bridge: another container by a name of one's own, in /etc/hosts and in the environment; pure.

Where a link is between containers of a user-defined network, it is only an alias, which the network's name service knows.
Names, words and the order of things are dockerd's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from kitepy.engine.model.container import ContainerRecord, Link
from kitepy.engine.model.errors import EngineError, InvalidParameter, SystemFailure
from kitepy.engine.model.ids import short_id
from kitepy.engine.model.network import Endpoint, LinkedPort, Protocol
from kitepy.engine.services.request_networking import known_port, parse_network_mode

_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029#]")
"""What would end a name in /etc/hosts, and begin another, a comment or a line."""
_NOT_HANDED_ON = ("HOME", "PATH")

Find = Callable[[str], ContainerRecord]
"""A container by its name, id or the beginning of its id. Raises EngineError."""


# --- what was asked for ---


def parse_link(text: str) -> tuple[str, str]:
    """``container:alias`` or ``container``, as (container, alias). Raises SystemFailure, as dockerd answers 500."""
    if not text:
        raise SystemFailure("empty string specified for links")
    words = text.split(":")
    if len(words) > 2:
        raise SystemFailure(f"bad format for links: {text}")
    target, alias = words[0], words[-1].removeprefix("/")
    if target.startswith("/"):  # as inspect shows a link, "/target:/parent/alias", which clients send back
        alias = alias.rpartition("/")[2]
    return target, alias


def links_of_request(texts: Iterable[str], find: Find) -> tuple[Link, ...]:
    """The links of a new container of the default bridge. Raises InvalidParameter and SystemFailure."""
    links: dict[str, Link] = {}
    for text in texts:
        target_name, alias = parse_link(text)
        target = _target(target_name, find)
        if _UNPRINTABLE.search(alias) or not {".", ".."}.isdisjoint(alias.split("/")):
            raise InvalidParameter(f"invalid alias {alias!r} of a link to {target_name}: it must be one word")
        # As with dockerd an alias that is taken stays with its first owner, and without one there is nothing to be linked.
        if alias:
            links.setdefault(alias, Link(alias, target.id, target.name))
    return tuple(links.values())


def _target(name: str, find: Find) -> ContainerRecord:
    """The container whose network a link is to reach: where another's is shared, that one."""
    target = _found(name, find)
    while (mode := parse_network_mode(target.host_config.network_mode)).kind == "container":
        target = _found(mode.target, find)
    if mode.kind == "host":
        raise InvalidParameter(
            "conflicting options: host type networking can't be used with links. This would result in undefined behavior"
        )
    return target


def _found(name: str, find: Find) -> ContainerRecord:
    try:
        if not name:
            raise InvalidParameter('invalid name or ID supplied: ""')
        return find(name)
    except EngineError as error:
        raise InvalidParameter(f"could not get container for {name}: {error}") from error


def endpoint_links(texts: Iterable[str] | None) -> tuple[tuple[str, str], ...]:
    """Links in a user-defined network as (alias, container's name there). Raises SystemFailure."""
    found = []
    for text in texts or ():
        target, alias = parse_link(text)
        if target and alias:
            found.append((alias, target.removeprefix("/")))
    return tuple(found)


# --- what comes of it at a start ---


def check_links(record: ContainerRecord, find: Callable[[str], ContainerRecord | None]) -> list[tuple[Link, ContainerRecord]]:
    """The linked containers, each of which must run, on the default bridge. ``find`` takes a full id. Raises SystemFailure."""
    found = []
    for link in record.links:
        target = find(link.target_id)
        if target is None or not target.state.status.counts_as_running:
            name = target.name if target is not None else link.target_name
            raise SystemFailure(f"Cannot link to a non running container: /{name} AS /{record.name}/{link.alias}")
        if default_endpoint(target) is None and target.state.status.has_process:
            raise SystemFailure(f"container {target.id} not attached to default bridge network")
        found.append((link, target))
    return found


def default_endpoint(record: ContainerRecord) -> Endpoint | None:
    """A running container's endpoint in the default network."""
    return next((endpoint for endpoint in record.endpoints if endpoint.network == "bridge"), None)


def exposed_ports(record: ContainerRecord) -> list[tuple[int, Protocol]]:
    """The ports that a link tells of, the first of them for ``ALIAS_PORT``: those of TCP come first."""
    known = {found for text in record.config.exposed_ports or () if (found := known_port(text))}
    return sorted(known, key=lambda port: (port[1] != "tcp", port[1], port[0]))


def link_variables(parent_name: str, links: Iterable[tuple[Link, ContainerRecord]]) -> list[str]:
    """The environment variables by which a container learns of those it is linked to."""
    variables: list[str] = []
    for link, target in links:
        endpoint = default_endpoint(target)
        prefix = link.alias.rpartition("/")[2].upper().replace("-", "_")
        if endpoint is not None and endpoint.address:
            variables += _port_variables(prefix, endpoint.address, exposed_ports(target))
        variables.append(f"{prefix}_NAME=/{parent_name}/{link.alias}")
        for variable in target.config.env or ():
            name, equals, _ = variable.partition("=")
            if equals and name not in _NOT_HANDED_ON:
                variables.append(f"{prefix}_ENV_{variable}")
    return variables


def _port_variables(prefix: str, address: str, ports: Sequence[tuple[int, Protocol]]) -> list[str]:
    def url(number: int, protocol: str) -> str:
        return f"{protocol}://{address}:{number}"

    variables = [f"{prefix}_PORT={url(*ports[0])}"] if ports else []
    for number, protocol in ports:
        port = f"{prefix}_PORT_{number}_{protocol.upper()}"
        variables += [
            f"{port}={url(number, protocol)}",
            f"{port}_ADDR={address}",
            f"{port}_PORT={number}",
            f"{port}_PROTO={protocol}",
        ]
    for first, last, protocol in _ranges(ports):
        port = f"{prefix}_PORT_{first}_{protocol.upper()}"
        variables += [
            f"{port}_START={url(first, protocol)}",
            f"{port}_PORT_START={first}",
            f"{port}_END={url(last, protocol)}",
            f"{port}_PORT_END={last}",
        ]
    return variables


def _ranges(ports: Sequence[tuple[int, Protocol]]) -> Iterable[tuple[int, int, Protocol]]:
    """Runs of two and more neighbouring ports of a protocol."""
    runs: list[list[tuple[int, Protocol]]] = [[port] for port in ports[:1]]
    for before, port in pairwise(ports):
        if port == (before[0] + 1, before[1]):
            runs[-1].append(port)
        else:
            runs.append([port])
    return [(run[0][0], run[-1][0], run[0][1]) for run in runs if len(run) > 1]


def linked_ports(source: Endpoint | None, links: Iterable[tuple[Link, ContainerRecord]]) -> tuple[LinkedPort, ...]:
    """What a container may reach although containers of the bridge otherwise can't talk to each other."""
    targets = {target.id: target for _, target in links}
    return tuple(
        LinkedPort(source, endpoint, protocol, number)
        for target in targets.values()
        if source is not None and (endpoint := default_endpoint(target)) is not None
        for number, protocol in exposed_ports(target)
    )


# --- /etc/hosts ---


def link_entries(links: Iterable[tuple[Link, ContainerRecord]]) -> list[str]:
    """The lines of /etc/hosts for linked containers: alias, host name, and the container's name where it isn't the alias."""
    return [line for link, target in links for line in _lines(link, target)]


def _lines(link: Link, target: ContainerRecord) -> list[str]:
    endpoint = default_endpoint(target)
    alias = link.alias.rpartition("/")[2]
    names = [alias, target.config.hostname or short_id(target.id), *([target.name] if alias != target.name else [])]
    addresses = (endpoint.address, endpoint.address6) if endpoint is not None else ()
    return [f"{address}\t{' '.join(names)}" for address in addresses if address]


def followed_hosts(content: str, links: Iterable[tuple[Link, ContainerRecord | None]]) -> str:
    """/etc/hosts of a running container, which may have written to it, after linked containers changed.

    A link's lines are those that begin with its alias. Where the container runs they are replaced, or added; where it
    doesn't they stay, and they go with the container (None).
    """
    lines = content.splitlines()
    for link, target in links:
        entries = _lines(link, target) if target is not None else []
        if target is not None and not entries:
            continue
        alias = link.alias.rpartition("/")[2]
        places = [index for index, line in enumerate(lines) if line.partition("\t")[2].split(" ")[0] == alias]
        place = places[0] if places else len(lines)
        lines = [line for index, line in enumerate(lines) if index not in places]
        lines[place:place] = entries
    return "".join(f"{line}\n" for line in lines)


# --- names ---


def shown_links(record: ContainerRecord) -> list[str] | None:
    """``HostConfig.Links`` as inspect shows it, with today's names of both ends."""
    return [f"/{link.target_name}:/{record.name}/{link.alias}" for link in record.links] or None


def all_names(record: ContainerRecord, linking: Iterable[ContainerRecord]) -> list[str]:
    """``Names`` of the list: the container's own, and those by which others are linked to it."""
    names = {f"/{record.name}"}
    for parent in linking:
        names |= {f"/{parent.name}/{link.alias}" for link in parent.links if link.target_id == record.id}
    return sorted(names)
