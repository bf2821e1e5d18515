"""Interfaces of containers: plugged into networks and pulled out again, and the routes over them. Blocking kernel work.

A container that starts has its first interface already, in a sandbox from the pool; all others are made when they are wanted.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from ipaddress import ip_address, ip_interface

from kitepy.engine.kernel.netlink import (
    Message,
    RouteSocket,
    add_address,
    add_default_link_route,
    add_default_route,
    delete_address,
    delete_default_route,
    delete_link,
    set_link,
)
from kitepy.engine.kernel.netns import in_namespace
from kitepy.engine.kernel.sysctl import write_sysctl
from kitepy.engine.model.errors import SystemFailure
from kitepy.engine.model.network import Endpoint
from kitepy.engine.network.attachment import Attachment, interface_parameters
from kitepy.engine.network.bridge_link import Interface
from kitepy.engine.network.sandbox import FIRST_INTERFACE, Sandbox, add_interface, addressing, raise_link

logger = logging.getLogger(__name__)

SYSCTLS_OPTION = "com.docker.network.endpoint.sysctls"
_LINK_LOCAL_LENGTHS = {4: 16, 6: 64}
_GONE = (errno.ENODEV, errno.EADDRNOTAVAIL, errno.ESRCH, errno.ENOENT)
Routes = tuple[Attachment | None, Attachment | None]


def addresses_of(endpoint: Endpoint) -> list[Interface]:
    """What its interface has, with the subnets' prefixes."""
    found = [(endpoint.address, endpoint.prefix_length), (endpoint.address6, endpoint.prefix_length6)]
    return [ip_interface(f"{address}/{length}") for address, length in found if address]


def plug_all(sandbox: Sandbox, attachments: Sequence[Attachment], gateways: Routes, new_veth: Callable[[], str]) -> None:
    """Give a fresh sandbox all its interfaces and routes. Raises OSError and EngineError; its pieces stay with the sandbox."""
    with RouteSocket() as host, sandbox.enter() as inside:
        pending: list[Message] = []
        for attachment in attachments:
            pending.extend(_plug(host, inside, sandbox, attachment, new_veth))
        inside.execute([*pending, *_route_messages(gateways)])


def plug(sandbox: Sandbox, attachment: Attachment, new_veth: Callable[[], str]) -> None:
    """Give a sandbox in use one more interface, without a default route. Raises OSError and EngineError."""
    with RouteSocket() as host, sandbox.enter() as inside:
        inside.execute(_plug(host, inside, sandbox, attachment, new_veth))


def _plug(
    host: RouteSocket, inside: RouteSocket, sandbox: Sandbox, attachment: Attachment, new_veth: Callable[[], str]
) -> list[Message]:
    """Make the interface and join it to its network; gives what is left to be done inside."""
    endpoint, carrier = attachment.endpoint, attachment.carrier
    messages: list[Message] = []
    if not carrier.uses_veth:
        carrier.add_interface(sandbox.netns_fd, endpoint.interface, endpoint.mac)
        link = inside.link(endpoint.interface)
        if link is None:
            raise OSError(errno.ENODEV, f"interface {endpoint.interface} did not appear")
        attachment.index = link.index
        messages.append(set_link(link.index, up=True))
    elif sandbox.interface_index:  # the pair that the sandbox came with
        attachment.index, sandbox.interface_index = sandbox.interface_index, 0
        attachment.endpoint = endpoint = replace(endpoint, host_interface=sandbox.host_interface)
        if endpoint.interface != FIRST_INTERFACE:
            index = attachment.index
            with _naming(sandbox.host_interface, endpoint.interface):
                inside.execute([set_link(index, up=False), set_link(index, name=endpoint.interface)])
            raise_link(host, inside, sandbox.host_interface, index)
        join = carrier.port_messages(sandbox.host_index)
        if carrier.mtu != sandbox.mtu:
            join.insert(0, set_link(sandbox.host_index, mtu=carrier.mtu))
            messages.append(set_link(attachment.index, mtu=carrier.mtu))
        host.execute(join)
    else:
        name = new_veth()
        attachment.endpoint = endpoint = replace(endpoint, host_interface=name)
        with ExitStack() as undo:
            with _naming(name, endpoint.interface):
                outer, attachment.index = add_interface(
                    host, inside, sandbox.netns_fd, name, name=endpoint.interface, mtu=carrier.mtu, undo=undo
                )
            raise_link(host, inside, name, attachment.index)
            host.execute(carrier.port_messages(outer))
            undo.pop_all()
    if endpoint.address6 and endpoint.mac:
        # The link-local address follows the MAC that is there when IPv6 is turned on.
        inside.execute([set_link(attachment.index, mac=endpoint.mac)])
    _set_parameters(sandbox, attachment)
    link_local = [
        add_address(attachment.index, ip_interface(f"{address}/{_LINK_LOCAL_LENGTHS[address.version]}"))
        for address in attachment.link_local
    ]
    return [*messages, *addressing(attachment.index, endpoint.mac, addresses_of(endpoint)), *link_local]


@contextmanager
def _naming(veth: str, name: str) -> Iterator[None]:
    """dockerd's words for a name that the kernel doesn't take or that is taken."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ERANGE, errno.EEXIST):
            raise
        reason = os.strerror(error.errno).lower()
        raise SystemFailure(
            f'failed to add interface {veth} to sandbox: error renaming interface "{veth}" to "{name}": {reason}'
        ) from error


def _set_parameters(sandbox: Sandbox, attachment: Attachment) -> None:
    endpoint = attachment.endpoint
    parameters = interface_parameters(attachment.option(SYSCTLS_OPTION), endpoint.interface)
    if not parameters and not endpoint.address6:
        return

    def write() -> None:
        if endpoint.address6:
            write_sysctl(f"net/ipv6/conf/{endpoint.interface}/accept_ra", "0")
            write_sysctl(f"net/ipv6/conf/{endpoint.interface}/disable_ipv6", "0")
        for name, value in parameters:
            try:
                write_sysctl(name, value)
            except OSError as error:
                path = f"/proc/sys/{name}"
                reason = f"write {path}: {(error.strerror or str(error)).lower()}"
                if error.errno == errno.ENOENT:
                    reason = f"{path} is not a sysctl file"
                raise SystemFailure(f"failed to add interface {endpoint.host_interface} to sandbox: {reason}") from error

    in_namespace(sandbox.netns_fd, write)


def _route_messages(gateways: Routes) -> list[Message]:
    found = []
    for attachment, version in zip(gateways, (4, 6), strict=True):
        if attachment is None:
            continue
        gateway = attachment.endpoint.gateway if version == 4 else attachment.endpoint.gateway6
        if gateway:
            found.append(add_default_route(attachment.index, ip_address(gateway)))
        else:
            found.append(add_default_link_route(attachment.index, version))
    return found


def change_routes(sandbox: Sandbox, before: Routes, after: Routes) -> None:
    """Lead the default routes over other endpoints. Raises OSError."""
    messages = []
    for version, old, new in zip((4, 6), before, after, strict=True):
        if old is not new:
            if old is not None:
                messages.append(delete_default_route(old.index, version))
            messages.extend(_route_messages((new, None) if version == 4 else (None, new)))
    if messages:
        with sandbox.enter() as inside:
            inside.execute(messages, tolerate=_GONE)


def find_interface(sandbox: Sandbox, attachment: Attachment) -> None:
    """Note the index of an interface that a former engine made. Raises FileNotFoundError when it is gone."""
    with sandbox.enter() as inside:
        link = inside.link(attachment.endpoint.interface)
    if link is None:
        raise FileNotFoundError(errno.ENOENT, f"interface {attachment.endpoint.interface} is gone")
    attachment.index = link.index


def replug(attachment: Attachment) -> None:
    """See to it that an interface that a former engine plugged in still is. Raises FileNotFoundError when it is gone."""
    endpoint, carrier = attachment.endpoint, attachment.carrier
    if not carrier.uses_veth:
        return
    with RouteSocket() as host:
        link = host.link(endpoint.host_interface)
        if link is None:
            raise FileNotFoundError(errno.ENOENT, f"interface {endpoint.host_interface} is gone")
        if link.master != carrier.master:
            logger.info("putting interface %s back into network %s", link.name, endpoint.network)
            host.execute(carrier.port_messages(link.index))


def pull_out(sandbox: Sandbox, attachment: Attachment) -> None:
    """Remove one interface of a sandbox in use. Blocks for 10 to 20 ms. Raises OSError, but not when it is gone."""
    endpoint = attachment.endpoint
    if endpoint.host_interface:
        with RouteSocket() as host:
            host.execute([delete_link(endpoint.host_interface)], tolerate=_GONE)
    else:
        with sandbox.enter() as inside:
            inside.execute([delete_link(endpoint.interface)], tolerate=_GONE)


def vacate(sandbox: Sandbox, attachments: Sequence[Attachment]) -> bool:
    """Take all addresses from a sandbox that is given up: others can have them before the interfaces are gone.

    False when that could not be done.
    """
    messages = [
        delete_address(attachment.index, address)
        for attachment in attachments
        if attachment.index
        for address in addresses_of(attachment.endpoint)
    ]
    try:
        with sandbox.enter() as inside:
            inside.execute(messages, tolerate=_GONE)
    except OSError as error:
        logger.debug("the addresses of a sandbox that is given up: %s", error)
        return False
    return True
