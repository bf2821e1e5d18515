"""The default bridge on its own, for tests that are about what a bridge does: endpoints come and go one by one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Interface

from kitepy.engine.model.network import Endpoint, EndpointRequest, PortRequest, SandboxRequest
from kitepy.engine.network.default_bridge import BridgeSettings
from kitepy.engine.network.naming import KernelNames
from kitepy.engine.network.networks import Networks
from kitepy.engine.network.ports import Binder
from kitepy.engine.network.relay_process import RelayProcess

_number = itertools.count()


class BridgeNetwork(Networks):
    """``container_id`` of an endpoint is the one given with a number, since each container has one sandbox."""

    def __init__(
        self,
        names: KernelNames,
        settings: BridgeSettings,
        relays: RelayProcess,
        *,
        bind: Binder | None = None,
        make_namespace: Callable[[], int] | None = None,
    ) -> None:
        more = {} if bind is None else {"bind": bind}
        super().__init__(names, settings, relays, created="", make_namespace=make_namespace, **more)

    @property
    def gateway(self) -> IPv4Interface:
        subnet = self.default.subnets[0]
        return IPv4Interface(f"{subnet.gateway}/{subnet.subnet.partition('/')[2]}")

    async def attach(
        self,
        container_id: str,
        *,
        ports: Sequence[PortRequest] = (),
        mac: str | None = None,
        address: IPv4Address | None = None,
        name: str = "",
        plain: bool = False,
    ) -> Endpoint:
        wish = EndpointRequest(self.default_id, address=address, mac=mac)
        request = SandboxRequest(f"{container_id}-{next(_number)}", name or container_id[:12], (wish,), tuple(ports), plain)
        (endpoint,) = await self.start(request)
        return endpoint

    async def detach(self, endpoint: Endpoint) -> None:
        await self.stop(endpoint.container_id)

    async def adopt_endpoint(self, endpoint: Endpoint, pid: int) -> Endpoint:
        (adopted,) = await self.adopt(endpoint.container_id, [endpoint], pid)
        return adopted

    def fd_of(self, endpoint: Endpoint) -> int:
        return self.netns_fd(endpoint.container_id)
