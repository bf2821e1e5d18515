"""The Engine API's networks as asyncio operations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kitepy.client.connection import Connection


class NetworkCalls(Connection):
    """Networks of one engine. Methods raise `ClientError`."""

    async def networks(self) -> list[dict[str, Any]]:
        """``GET /networks``; who is attached to them is told by the containers."""
        return await self._call(lambda api: list(api.networks()))

    async def create_network(self, body: Mapping[str, Any]) -> str:
        """``POST /networks/create`` with a body as the API wants it; gives the id."""
        return await self._call(lambda api: str(_post(api, "/networks/create", body)["Id"]))

    async def remove_network(self, network_id: str) -> None:
        """``DELETE /networks/{id}``: refused while a container is attached."""
        await self._call(lambda api: api.remove_network(network_id))

    async def connect(self, network_id: str, container_id: str, address: str = "") -> None:
        """Attach a container, with an address of one's own choice or the engine's."""
        options = {"ipv4_address": address} if address else {}
        await self._call(lambda api: api.connect_container_to_network(container_id, network_id, **options))

    async def disconnect(self, network_id: str, container_id: str) -> None:
        """Take a container off a network."""
        await self._call(lambda api: api.disconnect_container_from_network(container_id, network_id))


def _post(api: Any, path: str, body: Mapping[str, Any]) -> Any:
    """docker-py's own ``create_network`` knows fewer fields than the API."""
    return api._result(api._post_json(api._url(path), data=dict(body)), json=True)
