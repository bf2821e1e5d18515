"""The name service of networks, in real namespaces: a process that answers, asks others, and outlives engines and its own end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import stat
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from support.name_server import failing, outside, saying
from support.private_netns import Place, eventually, run_in_private_netns, scratch_directory

from kitepy.engine.kernel.netlink import LOOPBACK_INDEX, RouteSocket, set_link
from kitepy.engine.kernel.netns import in_new_namespace, open_current_namespace
from kitepy.engine.network import resolver_redirect
from kitepy.engine.network.relay import Reactor
from kitepy.engine.network.resolver_forward import PATIENCE_S, Forwarder
from kitepy.engine.network.resolver_names import NamedEndpoint, View
from kitepy.engine.network.resolver_process import ResolverProcess
from kitepy.engine.network.resolver_redirect import ResolverSockets, prepare_resolver

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]

NETWORK, OTHER = "1" * 64, "2" * 64
WEB = NamedEndpoint("e1", NETWORK, "front", ("web", "www"), "10.9.0.2", "fd00::2")
DATABASE = NamedEndpoint("e2", OTHER, "back", ("db",), "10.8.0.3")


class Container(Place):
    """A namespace with loopback, and what a resolver library in it does."""

    def __init__(self) -> None:
        def make() -> int:
            with RouteSocket() as route:
                route.execute([set_link(LOOPBACK_INDEX, up=True)])
            return open_current_namespace()

        super().__init__(in_new_namespace(make))
        assert self.netns_fd is not None
        self.fd: int = self.netns_fd

    async def query(self, name: str, kind: str = "A", *, tcp: bool = False, **options: object) -> dns.message.Message:
        packet = dns.message.make_query(name, kind, **options).to_wire()  # type: ignore[arg-type]
        return dns.message.from_wire(await (self.ask_stream if tcp else self.ask_datagram)(packet))

    async def ask_datagram(self, packet: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        with self.udp() as client:
            client.connect(("127.0.0.11", 53))
            await loop.sock_sendall(client, packet)
            async with asyncio.timeout(10):
                return await loop.sock_recv(client, 65535)

    async def ask_stream(self, packet: bytes) -> bytes:
        answer = await self.ask("127.0.0.11", 53, struct.pack("!H", len(packet)) + packet, timeout_s=10)
        return answer[2:]

    async def addresses(self, name: str, kind: str = "A", **options: object) -> list[str]:
        answer = await self.query(name, kind, **options)
        return sorted(str(record) for found in answer.answer for record in found)


@asynccontextmanager
async def resolver() -> AsyncIterator[ResolverProcess]:
    process = ResolverProcess(scratch_directory())
    try:
        yield process
    finally:
        await asyncio.to_thread(process.end)


def pid_of(process: ResolverProcess) -> int:
    assert process._child is not None
    return process._child.pid


def test_containers_see_the_names_of_their_networks_alone() -> None:
    async def scenario() -> None:
        async with resolver() as process:
            front, both = Container(), Container()
            process.announce([WEB, DATABASE])
            process.serve("front", front.fd, View((NETWORK,)), prepare_resolver(front.fd))
            process.serve("both", both.fd, View((OTHER, NETWORK), links=((NETWORK, "shop", "web"),)))
            for tcp in (False, True):
                assert await front.addresses("web", tcp=tcp) == ["10.9.0.2"]
                assert await both.addresses("SHOP.front", tcp=tcp) == ["10.9.0.2"]
            assert await front.addresses("www.front", "AAAA") == ["fd00::2"]
            assert await both.addresses("db") == ["10.8.0.3"]
            assert await both.addresses("3.0.8.10.in-addr.arpa", "PTR") == ["db.back."]
            for stranger in ("db", "db.back", "shop", "3.0.8.10.in-addr.arpa"):
                assert (await front.query(stranger)).rcode() == dns.rcode.SERVFAIL, stranger
            # What is said is known with the next question.
            for number in range(50):
                process.announce([NamedEndpoint("e3", NETWORK, "front", (f"n{number}",), f"10.9.1.{number}")])
                assert await front.addresses(f"n{number}") == [f"10.9.1.{number}"]
            assert (await front.query("n48")).rcode() == dns.rcode.SERVFAIL
            process.withdraw(["e3"])
            assert (await front.query("n49")).rcode() == dns.rcode.SERVFAIL
            process.view("front", View((NETWORK, OTHER)))
            assert await front.addresses("db") == ["10.8.0.3"]

    run_in_private_netns(scenario)


@pytest.mark.parametrize("has_rules", [True, False])
def test_the_address_answers_whatever_the_container_does(has_rules: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise resolver_redirect.NftablesMissing(2, "there are no rules here")

    if not has_rules:
        monkeypatch.setattr(resolver_redirect, "Nftables", refuse)

    async def scenario() -> None:
        async with resolver() as process:
            container = Container()
            process.announce([WEB])
            process.serve("c", container.fd, View((NETWORK,)))
            assert await container.addresses("web") == ["10.9.0.2"]
            assert await container.addresses("web", tcp=True) == ["10.9.0.2"]
            if not has_rules:
                return
            # Its own name server may have the port, on all addresses, and is heard on the others.
            with outside(container, "0.0.0.0", saying("192.0.2.1")) as asked:
                assert await container.addresses("web") == ["10.9.0.2"]
                assert not asked
                with container.udp() as client:
                    client.connect(("127.0.0.1", 53))
                    client.send(dns.message.make_query("web", "A").to_wire())
                    await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 65535), 5)
                assert len(asked) == 1
            # Answers come from the address and port that were asked, for those who look.
            with container.udp() as client:
                client.sendto(dns.message.make_query("web", "A").to_wire(), ("127.0.0.11", 53))
                _, source = await asyncio.wait_for(asyncio.get_running_loop().sock_recvfrom(client, 65535), 5)
                assert source == ("127.0.0.11", 53)
            assert "conntrack" not in container.run("nft", "list", "ruleset").stdout

    run_in_private_netns(scenario)


def test_unknown_names_are_asked_outside_in_order() -> None:
    async def scenario() -> None:
        with RouteSocket():
            pass
        host = Place()
        async with resolver() as process:
            container = Container()
            process.announce([WEB])
            servers = ("host(127.0.1.1)", "host(127.0.1.2)", "127.0.1.3")
            process.serve("c", container.fd, View((NETWORK,), upstream=servers))
            with (
                outside(host, "127.0.1.1", failing(dns.rcode.SERVFAIL)) as first,
                outside(host, "127.0.1.2", saying("192.0.2.2")) as second,
                outside(container, "127.0.1.3", saying("192.0.2.3")) as third,
            ):
                query = dns.message.make_query("example.org", "A", use_edns=0)
                answer = dns.message.from_wire(await container.ask_datagram(query.to_wire()))
                assert answer.id == query.id
                assert [str(found) for found in answer.answer] == ["example.org. 30 IN A 192.0.2.2"]
                assert await container.addresses("example.net", tcp=True) == ["192.0.2.2"]
                assert [question.split()[0] for question in (*first, *second)] == ["udp", "tcp"] * 2
                # Nobody outside learns the client's identifier, or can guess ours.
                assert {int(question.split()[1]) for question in (*first, *second)} - {query.id}
                # One that nobody listens at makes room at once.
                process.view("c", View((NETWORK,), upstream=("host(127.0.1.9)", "127.0.1.9", "127.0.1.3")))
                assert await container.addresses("example.org") == ["192.0.2.3"]
                assert await container.addresses("example.org", tcp=True) == ["192.0.2.3"]
                # Internal networks ask nobody from the engine's namespace, but whom the container reaches itself.
                seen = len(second)
                process.view("c", View((NETWORK,), upstream=("host(127.0.1.2)",), internal=True))
                assert (await container.query("example.org")).rcode() == dns.rcode.SERVFAIL
                process.view("c", View((NETWORK,), upstream=("127.0.1.3",), internal=True))
                assert await container.addresses("example.org") == ["192.0.2.3"]
                assert len(second) == seen
                # The service is no server of its own.
                process.view("c", View((NETWORK,), upstream=("127.0.0.11",)))
                assert (await container.query("example.org")).rcode() == dns.rcode.SERVFAIL
                assert len(third) == 3

    run_in_private_netns(scenario)


def test_other_codes_are_handed_on_and_forged_answers_are_not() -> None:
    def decide(query: dns.message.Message, tcp: bool) -> list[dns.message.Message]:
        label = query.question[0].name.labels[0].decode()
        answer, forged = dns.message.make_response(query), dns.message.make_response(query)
        if label == "nx":
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif label == "long" and not tcp:
            answer.flags |= dns.flags.TC
        elif label == "guessed":
            forged.id = query.id ^ 1
            return [forged, *saying("192.0.2.7")(query, tcp)]
        elif label == "elsewhere":
            forged.question = dns.message.make_query("other.example", "A").question
            return [forged, *saying("192.0.2.7")(query, tcp)]
        return [answer]

    async def scenario() -> None:
        async with resolver() as process:
            container = Container()
            process.serve("c", container.fd, View((NETWORK,), upstream=("host(127.0.1.1)",)))
            with outside(Place(), "127.0.1.1", decide):
                assert (await container.query("nx.example")).rcode() == dns.rcode.NXDOMAIN
                assert (await container.query("long.example")).flags & dns.flags.TC
                assert not (await container.query("long.example", tcp=True)).flags & dns.flags.TC
                for name in ("guessed", "elsewhere"):
                    assert await container.addresses(f"{name}.example") == ["192.0.2.7"]

    run_in_private_netns(scenario)


def test_silent_servers_cost_their_time_and_a_flood_has_an_end() -> None:
    async def scenario() -> None:
        now = [0.0]
        reactor = Reactor(lambda: now[0])
        forwarder = Forwarder(reactor, lambda _, family, kind: socket.socket(family, kind | socket.SOCK_NONBLOCK))
        forwarder.set_servers(("127.0.1.1", "127.0.1.2"), internal=False)
        query = dns.message.make_query("example.org", "A")
        replies: list[bytes] = []

        def turn() -> None:
            for _ in range(3):
                reactor.turn(0)

        with socket.socket(type=socket.SOCK_DGRAM) as silent, outside(Place(), "127.0.1.2", saying("192.0.2.2")):
            silent.bind(("127.0.1.1", 53))
            forwarder.ask(query.to_wire(), replies.append, stream=False)
            now[0] = PATIENCE_S - 0.1
            turn()
            assert not replies
            now[0] = PATIENCE_S
            await eventually(lambda: not turn() and bool(replies), "the second server is asked")
            assert dns.message.from_wire(replies.pop()).answer[0].to_text() == "example.org. 30 IN A 192.0.2.2"
            assert forwarder.in_flight == 0
            # A bounded number is asked at once, a bounded number waits, for as long as a server may take.
            forwarder.set_servers(("127.0.1.1",), internal=False)
            for _ in range(256 + 1024 + 7):
                forwarder.ask(query.to_wire(), replies.append, stream=False)
            assert forwarder.in_flight == 256
            assert [reply[3] & 0xF for reply in replies] == [dns.rcode.REFUSED] * 7
            for _ in range(4):
                now[0] += PATIENCE_S + 0.1
                turn()
            codes = [reply[3] & 0xF for reply in replies]
            assert len(codes) == 256 + 1024 + 7
            assert set(codes) == {dns.rcode.REFUSED, dns.rcode.SERVFAIL}
            assert forwarder.in_flight == 0
            forwarder.ask(query.to_wire(), replies.append, stream=False)
            forwarder.close()
            now[0] += PATIENCE_S
            turn()
            assert len(replies) == len(codes), "nobody is told of what is given up with its container"
        reactor.close()

    run_in_private_netns(scenario)


def test_a_killed_process_is_replaced_and_names_come_back() -> None:
    async def scenario() -> None:
        async with resolver() as process:
            containers = {f"c{number}": Container() for number in range(3)}
            process.announce([WEB])
            for name, container in containers.items():
                process.serve(name, container.fd, View((NETWORK,)))
            process.drop("c0")
            old = pid_of(process)
            os.kill(old, signal.SIGKILL)
            await eventually(lambda: pid_of(process) != old, "another process is there")
            for name in ("c1", "c2"):
                assert await containers[name].addresses("www") == ["10.9.0.2"]
            # Also where a killed one isn't noticed yet: questions wait for the next.
            os.kill(pid_of(process), signal.SIGKILL)
            process.announce([DATABASE])
            process.view("c2", View((OTHER,)))
            assert await containers["c2"].addresses("db", tcp=True) == ["10.8.0.3"]

    run_in_private_netns(scenario)


def test_the_next_engine_takes_over_and_the_gone_are_forgotten() -> None:
    async def scenario() -> None:
        exec_root = scratch_directory()
        first, second = ResolverProcess(exec_root), ResolverProcess(exec_root)
        assert second.held() == set()
        stays, goes = Container(), Container()
        first.announce([WEB, DATABASE])
        first.serve("stays", stays.fd, View((NETWORK, OTHER)))
        first.serve("goes", goes.fd, View((NETWORK,)))
        pid = pid_of(first)
        first.close()
        assert await stays.addresses("web") == ["10.9.0.2"]  # nobody is connected
        assert second.held() == {"stays", "goes"}
        second.announce([WEB])
        second.serve("stays", stays.fd, View((NETWORK, OTHER)))
        assert await stays.addresses("db") == ["10.8.0.3"]  # all goes on until the new engine has told everything
        second.finish_adoption()
        assert await stays.addresses("web") == ["10.9.0.2"]
        assert (await stays.query("db")).rcode() == dns.rcode.SERVFAIL
        with pytest.raises(ConnectionRefusedError):
            await goes.addresses("web", tcp=True)
        assert first._child is not None
        # The adopted one is replaced like an own one.
        os.kill(pid, signal.SIGKILL)
        first._child.wait()
        await eventually(lambda: second._child is not None, "another process is there")
        assert await stays.addresses("web") == ["10.9.0.2"]
        second.end()
        assert second._child is not None
        assert second._child.returncode == 0
        assert not list(exec_root.iterdir())

    run_in_private_netns(scenario)


def test_a_process_that_another_engine_ended_is_not_replaced() -> None:
    async def scenario() -> None:
        exec_root = scratch_directory()
        first, second = ResolverProcess(exec_root), ResolverProcess(exec_root)
        container = Container()
        first.announce([WEB])
        first.serve("c", container.fd, View((NETWORK,)))
        assert second.held() == {"c"}  # it may not even have begun to run
        assert stat.S_IMODE(next(exec_root.iterdir()).stat().st_mode) == 0o600
        second.end()
        assert first._child is not None
        assert await asyncio.to_thread(first._child.wait, 10) == 0
        await eventually(lambda: first._channel is None and not first._served, "the first has noticed")
        assert not list(exec_root.iterdir())

    run_in_private_netns(scenario)


def test_a_process_without_engine_and_containers_ends() -> None:
    async def scenario() -> None:
        process = ResolverProcess(scratch_directory())
        container = Container()
        process.serve("c", container.fd, View((NETWORK,)))
        process.drop("c")
        process.close()
        assert process._child is not None
        assert await asyncio.to_thread(process._child.wait, 10) == 0

    run_in_private_netns(scenario)


def test_hostile_clients_neither_end_the_service_nor_keep_it_from_others() -> None:
    packets = [b"", b"\0" * 11, b"\xff" * 600, os.urandom(4000), struct.pack("!6H", 1, 0x0100, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1"]

    async def scenario() -> None:
        async with resolver() as process:
            hostile, other = Container(), Container()
            process.announce([WEB])
            # A server that is silent: what is asked there waits for seconds.
            with outside(Place(), "127.0.1.1", lambda *_: []):
                process.serve("hostile", hostile.fd, View((NETWORK,), upstream=("host(127.0.1.1)",)))
                process.serve("other", other.fd, View((NETWORK,)))
                with hostile.udp() as flood:
                    flood.connect(("127.0.0.11", 53))
                    for number in range(3000):
                        for packet in (dns.message.make_query(f"n{number}.example", "A").to_wire(), packets[number % 5]):
                            with contextlib.suppress(BlockingIOError):
                                flood.send(packet)
                    streams = [
                        hostile.inside(lambda: socket.create_connection(("127.0.0.11", 53), timeout=5)) for _ in range(100)
                    ]
                    for number, stream in enumerate(streams):
                        with contextlib.suppress(OSError):
                            stream.sendall(packets[number % 5] * 40)
                    assert await other.addresses("web") == ["10.9.0.2"]
                    assert await other.addresses("web", tcp=True) == ["10.9.0.2"]
                    assert await hostile.addresses("web") == ["10.9.0.2"]
                    for stream in streams:
                        stream.close()
                assert await hostile.addresses("web", tcp=True) == ["10.9.0.2"]
                limit = Path(f"/proc/{pid_of(process)}/fd")
                assert len(list(limit.iterdir())) < 500

    run_in_private_netns(scenario)


def test_sockets_of_a_sandbox_can_be_made_ahead() -> None:
    async def scenario() -> None:
        container = Container()
        sockets = prepare_resolver(container.fd)
        assert isinstance(sockets, ResolverSockets)
        async with resolver() as process:
            process.announce([WEB])
            waiting = asyncio.create_task(container.addresses("web"))  # a question that comes before the service waits for it
            await asyncio.sleep(0)
            process.serve("c", container.fd, View((NETWORK,)), sockets)
            assert await waiting == ["10.9.0.2"]
            process.drop("c")
            assert sockets.udp.fileno() == -1  # they were the service's to close

    run_in_private_netns(scenario)
