"""Containers that outlive the engine keep their network: a first engine is killed, a second takes over."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import pytest
from support.bridge_network import BridgeNetwork
from support.private_netns import Place, eventually, run_in_private_netns, scratch_directory

from kitepy.engine.kernel.netlink import RouteSocket
from kitepy.engine.kernel.netns import open_namespace_of
from kitepy.engine.model.errors import Forbidden, NotFound
from kitepy.engine.model.network import Endpoint, PortRequest, PublishedPort
from kitepy.engine.network.default_bridge import BridgeSettings
from kitepy.engine.network.naming import kernel_names
from kitepy.engine.network.relay_process import RelayProcess

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]

NAMES = kernel_names(Path("/test/adoption"))
REPOSITORY = Path(__file__).parents[2]

# Two containers with a process each, then it waits to be killed.
FIRST_ENGINE = """
import asyncio, dataclasses, json, subprocess, sys
from pathlib import Path
from kitepy.engine.model.network import PortRequest
from kitepy.engine.network.default_bridge import BridgeSettings
from support.bridge_network import BridgeNetwork
from kitepy.engine.network.relay_process import RelayProcess
from kitepy.engine.network.naming import kernel_names

async def main():
    bridge = BridgeNetwork(kernel_names(Path("/test/adoption")), BridgeSettings(), RelayProcess(Path(sys.argv[1])))
    await bridge.set_up()
    for port in (8080, 8081):
        endpoint = await bridge.attach("a" * 64, ports=[PortRequest(80, host_port=(port, port))])
        fd = bridge.fd_of(endpoint)
        process = subprocess.Popen(
            ["nsenter", f"--net=/proc/self/fd/{fd}", "sleep", "60"],
            pass_fds=[fd], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True,
        )
        print(json.dumps([dataclasses.asdict(endpoint), process.pid]), flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@asynccontextmanager
async def survivors(exec_root: Path) -> AsyncIterator[list[tuple[Endpoint, int]]]:
    """The endpoints and processes that a killed engine left behind."""
    engine = subprocess.Popen(
        [sys.executable, "-c", FIRST_ENGINE, str(exec_root)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY}/tests"},
    )
    found = []
    try:
        assert engine.stdout is not None
        for _ in range(2):
            document, pid = json.loads(await asyncio.to_thread(engine.stdout.readline))
            ports = tuple(PublishedPort(**port) for port in document.pop("ports"))
            found.append((Endpoint(**document, ports=ports), pid))
        for _, pid in found:
            await eventually(lambda pid=pid: Path(f"/proc/{pid}/comm").read_text() == "sleep\n", "the container runs")
        engine.kill()
        engine.wait()
        yield found
    finally:
        engine.kill()
        engine.wait()
        assert engine.stdout is not None
        engine.stdout.close()
        for _, pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def port_is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET6) as probe:
        return probe.connect_ex(("::1", port)) != 0


def veths() -> set[str]:
    with RouteSocket() as route:
        return {link.name for link in route.links() if link.name.startswith(NAMES.veth_prefix)}


def nft_ruleset() -> str:
    return subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout


async def serve_inside(pid: int) -> asyncio.Server:
    fd = open_namespace_of(pid)
    try:
        return await Place(fd).serve(b"web")
    finally:
        os.close(fd)


def test_published_ports_work_while_no_engine_runs_and_after_the_next_took_over() -> None:
    exec_root = scratch_directory()

    async def scenario() -> None:
        async with survivors(exec_root) as [(endpoint, pid), _]:
            server = await serve_inside(pid)
            assert (await Place().ask("127.0.0.1", 8080)).startswith(b"web|")
            bridge = BridgeNetwork(NAMES, BridgeSettings(), RelayProcess(exec_root))
            await bridge.set_up()
            assert (await Place().ask("127.0.0.1", 8080)).startswith(b"web|")
            assert await bridge.adopt_endpoint(endpoint, pid) == endpoint
            await bridge.finish_adoption()
            for address in ("127.0.0.1", "::1"):
                assert (await Place().ask(address, 8080)).startswith(b"web|")
            with pytest.raises(OSError, match="in use"):
                socket.create_server(("0.0.0.0", 8080))
            # The other container was not adopted (it is dead to the new engine): its rule, interface and port are gone.
            assert "8081" not in nft_ruleset()
            await bridge.settled()
            assert len(veths()) == 1 + bridge.settings.pool_size
            assert endpoint.host_interface in veths()
            with pytest.raises(Forbidden):
                await bridge.attach("b" * 64, address=IPv4Address(endpoint.address))
            second = await bridge.attach("b" * 64, ports=[PortRequest(80, host_port=(8081, 8081))])
            assert second.address != endpoint.address
            await bridge.detach(endpoint)
            assert "8080" not in nft_ruleset()
            await bridge.close()
            assert veths() == set()
            server.close()

    run_in_private_netns(scenario)


def test_a_port_taken_meanwhile_does_not_stop_the_adoption() -> None:
    exec_root = scratch_directory()

    async def scenario() -> None:
        async with survivors(exec_root) as [(endpoint, pid), _]:
            # The relay process holds the port, so it must go too before anybody can take it.
            relays = RelayProcess(exec_root)
            for kept in relays.held().values():
                kept.close()
            relays.end()
            await eventually(lambda: port_is_free(8080), "the port is free")
            with socket.create_server(("127.0.0.1", 8080)):
                bridge = BridgeNetwork(NAMES, BridgeSettings(), RelayProcess(exec_root))
                await bridge.set_up()
                await bridge.adopt_endpoint(endpoint, pid)
                await bridge.finish_adoption()
                server = await serve_inside(pid)
                assert (await Place().ask("127.0.0.1", 8080)).startswith(b"web|")
                server.close()
            await bridge.close()

    run_in_private_netns(scenario)


def test_what_is_gone_cannot_be_adopted_and_keeps_no_address() -> None:
    exec_root = scratch_directory()

    async def scenario() -> None:
        async with survivors(exec_root) as [(endpoint, pid), (other, _)]:
            bridge = BridgeNetwork(NAMES, BridgeSettings(), RelayProcess(exec_root))
            await bridge.set_up()
            assert await bridge.adopt("c" * 64, [replace(endpoint, host_interface="kv0000-gone")], pid) == ()
            with pytest.raises(NotFound):
                await bridge.adopt_endpoint(endpoint, 2**22 + 1)
            # Its container ended while no engine ran: only the interface is left to remove.
            await bridge.finish_adoption()
            await eventually(lambda: other.host_interface not in veths(), "the interface of the dead container is removed")
            assert (await bridge.attach("b" * 64)).address == endpoint.address
            await bridge.close()

    run_in_private_netns(scenario)


def test_an_orderly_end_can_leave_running_containers_their_network() -> None:
    exec_root = scratch_directory()

    async def scenario() -> None:
        async with survivors(exec_root) as [(endpoint, pid), _]:
            first = BridgeNetwork(NAMES, BridgeSettings(), RelayProcess(exec_root))
            await first.set_up()
            await first.adopt_endpoint(endpoint, pid)
            await first.finish_adoption()
            await first.close(keep=True)
            server = await serve_inside(pid)
            assert (await Place().ask("127.0.0.1", 8080)).startswith(b"web|")
            await eventually(lambda: veths() == {endpoint.host_interface}, "the spare sandboxes are removed")
            second = BridgeNetwork(NAMES, BridgeSettings(), RelayProcess(exec_root))
            await second.set_up()
            assert second.gateway == IPv4Interface((endpoint.gateway, endpoint.prefix_length))
            await second.adopt_endpoint(endpoint, pid)
            await second.close()
            assert nft_ruleset() == ""
            server.close()

    run_in_private_netns(scenario)
