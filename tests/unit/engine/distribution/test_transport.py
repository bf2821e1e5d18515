"""How an engine in a network of its own reaches the host's loopback: only where its user named a registry or a proxy there."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl

import pytest
from support.registry import RegistryDouble

from kitepy.engine.distribution.failures import Unreachable
from kitepy.engine.distribution.proxies import Proxies
from kitepy.engine.distribution.redirects import followed
from kitepy.engine.distribution.transport import Resolver, Transport


class _Outside:
    """Stands for the process outside; ``asked`` has what it was asked to connect to."""

    def __init__(self, port: int = 0) -> None:
        self.asked: list[tuple[str, int]] = []
        self._port = port

    def connect(self, address: str, port: int) -> socket.socket:
        self.asked.append((address, port))
        if not self._port:
            raise OSError(errno.ECONNREFUSED, "Connection refused")
        begun = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        begun.connect_ex(("127.0.0.1", self._port))
        return begun

    async def look_up(self, host: str, port: int, _: int) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        if host != "registry.test":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port))]


def _ask(outside: _Outside, url: str, *, local: bool, proxies: Proxies | None = None) -> int:
    async def run() -> int:
        transport = Transport(
            secure=False,
            context=lambda _: ssl.create_default_context(),
            proxies=proxies or Proxies(),
            user_agent="test",
            local=local,
            loopback=outside.connect,
            resolver=Resolver(outside.look_up),
        )
        try:
            async with followed(transport, "GET", url, {}) as answer:
                return answer.status
        finally:
            await transport.close()

    return asyncio.run(run())


@pytest.mark.parametrize("host", ["127.0.0.1", "registry.test"])
def test_a_registry_of_the_host_is_reached_by_address_and_by_name(host: str) -> None:
    with RegistryDouble("open") as registry:
        outside = _Outside(registry.port)
        assert _ask(outside, f"http://{host}:5000/v2/", local=True) == 200
        assert outside.asked == [("127.0.0.1", 5000)]


def test_nobody_there_and_nobody_known_are_told_apart() -> None:
    with pytest.raises(Unreachable, match="connection refused"):
        _ask(_Outside(), "http://127.0.0.1:5000/v2/", local=True)
    with pytest.raises(Unreachable, match="no such host"):
        _ask(_Outside(), "http://unknown.test:5000/v2/", local=True)


def test_a_registry_elsewhere_leads_nobody_to_services_of_the_host() -> None:
    outside = _Outside()
    for address in ("127.0.0.1", "127.9.9.9"):
        with pytest.raises(Unreachable):
            _ask(outside, f"http://{address}:1/secret", local=False)
    with pytest.raises(Unreachable):
        _ask(outside, "http://registry.test:1/secret", local=False)  # its name service may say what it likes
    assert outside.asked == []


def test_a_proxy_of_the_host_is_reached_all_the_same() -> None:
    with RegistryDouble("open") as proxy:
        outside = _Outside(proxy.port)
        assert _ask(outside, "http://elsewhere.test/v2/", local=False, proxies=Proxies("http://127.0.0.1:3128")) == 200
        assert outside.asked == [("127.0.0.1", 3128)]
