"""Which host port a request gets."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitepy.engine.kernel.port_holders import PortHolder, find_holder, holding_socket, parse_sockets
from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.model.network import PortRequest
from kitepy.engine.network.ports import (
    BindFailed,
    PortReservations,
    PortTarget,
    candidate_ports,
    ephemeral_range,
    host_addresses,
)


def test_a_range_is_tried_from_its_start() -> None:
    assert list(candidate_ports((8000, 8002), (1, 9), last=5)) == [8000, 8001, 8002]


@given(st.integers(1, 50), st.integers(0, 50), st.integers(0, 120))
def test_every_ephemeral_port_is_tried_once_beginning_after_the_last_one(low: int, size: int, last: int) -> None:
    tried = list(candidate_ports(None, (low, low + size), last))
    assert sorted(tried) == list(range(low, low + size + 1))
    assert tried[0] == (last + 1 if low <= last < low + size else low)


def test_addresses_are_read_in_every_form() -> None:
    assert host_addresses("") == ("0.0.0.0", "::")
    assert host_addresses("::1") == host_addresses("[::1]") == host_addresses("0:0:0:0:0:0:0:1") == ("::1",)
    assert host_addresses("::ffff:127.0.0.1") == ("127.0.0.1",)
    for nonsense in ("localhost", "1.2.3", "[::1", "[127.0.0.1"):
        with pytest.raises(InvalidParameter, match="invalid IP address"):
            host_addresses(nonsense)


WEB, TWO = PortTarget("web", "172.17.0.2"), PortTarget("two", "172.17.0.3")


class Host:
    """A host whose ports are taken by name, without sockets."""

    def __init__(self, *taken: tuple[str, str, int], errno_: int = errno.EADDRINUSE) -> None:
        self.taken = set(taken)
        self.errno = errno_
        self.searches: list[tuple[str, str, int]] = []
        self.reservations = PortReservations(self.bind, self.find_holder)

    def bind(self, protocol: str, address: str, port: int) -> socket.socket:
        if (protocol, address, port) in self.taken:
            raise OSError(self.errno, os.strerror(self.errno))
        return socket.socket()

    def find_holder(self, *key: str | int) -> PortHolder | None:
        self.searches.append(key)  # type: ignore[arg-type]  # the tuple that bind gets
        return PortHolder(123, "nginx", "root")

    def reserve(self, *requests: PortRequest, target: PortTarget = WEB) -> list[tuple[int, str, str, int]]:
        found = self.reservations.reserve(requests, target)
        for reservation in found:
            reservation.close()
        return [(held.port.container_port, held.port.protocol, held.port.host_ip, held.port.host_port) for held in found]

    def refusal(self, *requests: PortRequest, target: PortTarget = TWO) -> str:
        before = {key: list(held) for key, held in self.reservations._held.items()}
        with pytest.raises(BindFailed) as refused:
            self.reserve(*requests, target=target)
        assert self.reservations._held == before
        return str(refused.value)


def tcp(host_ip: str = "", first: int | None = 8080, last: int | None = None, port: int = 80) -> PortRequest:
    return PortRequest(port, "tcp", host_ip, None if first is None else (first, last or first))


@pytest.mark.parametrize(
    ("held", "asked", "named"),
    [
        ("", "", "0.0.0.0"),
        ("", "127.0.0.1", "0.0.0.0"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("", "::1", "::"),
        ("::1", "", "::1"),
        ("::1", "[::1]", "::1"),
    ],
)
def test_a_conflict_between_containers_names_the_address_and_the_container_that_has_it(held: str, asked: str, named: str) -> None:
    host = Host()
    host.reserve(tcp(held))
    expected = f"Bind for {named}:8080 failed: port is already allocated (container web)"
    assert host.refusal(tcp(first=9000), tcp(asked)) == expected
    assert host.searches == []


@pytest.mark.parametrize(
    ("one", "two"), [("127.0.0.1", "127.0.0.2"), ("0.0.0.0", "::"), ("127.0.0.1", "::1"), ("::", "127.0.0.1")]
)
def test_different_addresses_of_the_host_have_ports_of_their_own(one: str, two: str) -> None:
    host = Host()
    assert [host.reserve(tcp(address))[0][2:] for address in (one, two)] == [(one, 8080), (two, 8080)]
    assert host.reserve(PortRequest(80, "udp", "", (8080, 8080)))


@pytest.mark.parametrize(
    ("request_", "taken", "shown"),
    [
        (tcp(), "0.0.0.0", "0.0.0.0:8080:172.17.0.3:80/tcp"),
        (tcp(), "::", "[::]:8080:172.17.0.3:80/tcp"),
        (tcp("::1"), "::1", "[::1]:8080:172.17.0.3:80/tcp"),
        (PortRequest(53, "udp", "127.0.0.1", (8080, 8080)), "127.0.0.1", "127.0.0.1:8080:172.17.0.3:53/udp"),
    ],
)
def test_a_conflict_with_another_program_is_told_in_dockers_words_with_the_program(
    request_: PortRequest, taken: str, shown: str
) -> None:
    host = Host((request_.protocol, taken, 8080))
    expected = f"failed to bind host port for {shown}: address already in use (process nginx, pid 123)"
    assert host.refusal(tcp(first=9000), request_) == expected
    assert host.searches == [(request_.protocol, taken, 8080)]


def test_other_failures_name_nobody() -> None:
    host = Host(("tcp", "10.9.9.9", 8080), errno_=errno.EADDRNOTAVAIL)
    expected = "failed to bind host port for 10.9.9.9:8080:172.17.0.3:80/tcp: cannot assign requested address"
    assert host.refusal(tcp("10.9.9.9")) == expected
    host = Host(("sctp", "0.0.0.0", 8080), errno_=errno.EPROTONOSUPPORT)
    expected = "error starting userland proxy: failed to listen on 0.0.0.0:8080: protocol not supported"
    assert host.refusal(PortRequest(80, "sctp", "", (8080, 8080))) == expected
    assert host.searches == []


def test_a_range_gives_the_first_port_that_nobody_has_and_searches_for_no_one() -> None:
    host = Host(("tcp", "::", 8001))
    host.reserve(tcp(first=8000))
    assert host.reserve(tcp(first=8000, last=8003)) == [(80, "tcp", "0.0.0.0", 8002), (80, "tcp", "::", 8002)]
    assert host.reserve(tcp("127.0.0.1", 8000, 8003)) == [(80, "tcp", "127.0.0.1", 8001)]
    host.reserve(tcp(first=8003))
    assert host.refusal(tcp(first=8000, last=8003)) == "all ports are allocated"
    assert host.searches == []


def test_bindings_that_differ_in_the_address_only_get_one_number() -> None:
    host = Host(("tcp", "127.0.0.2", 8000))
    found = host.reserve(tcp("127.0.0.2", 8000, 8009), tcp("::1", 8000, 8009), tcp("127.0.0.1", 8000, 8009))
    assert [(address, port) for _, _, address, port in found] == [("127.0.0.1", 8001), ("127.0.0.2", 8001), ("::1", 8001)]
    chosen = [port for _, _, _, port in host.reserve(tcp("127.0.0.1", None), tcp("127.0.0.2", None))]
    assert chosen[0] == chosen[1]
    twice = [port for _, _, _, port in host.reserve(tcp("127.0.0.3", None), tcp("127.0.0.3", None))]
    assert twice[0] != twice[1]


def test_results_are_ordered_by_the_containers_ports_with_certain_ones_first() -> None:
    both = tcp("::", 443, port=9), tcp("0.0.0.0", 443, port=9)
    found = Host().reserve(tcp("", 18081), tcp("127.0.0.1", 18080), *both, PortRequest(9, "udp", "127.0.0.1", (9, 9)))
    assert found == [
        (9, "tcp", "0.0.0.0", 443),
        (9, "tcp", "::", 443),
        (9, "udp", "127.0.0.1", 9),
        (80, "tcp", "127.0.0.1", 18080),
        (80, "tcp", "0.0.0.0", 18081),
        (80, "tcp", "::", 18081),
    ]


def test_numbers_are_counted_on_for_each_protocol() -> None:
    host = Host()
    low, _ = ephemeral_range()
    wanted = [PortRequest(port, protocol) for port, protocol in ((1, "tcp"), (2, "udp"), (3, "tcp"))]  # type: ignore[arg-type]  # literals
    assert [port for _, _, address, port in host.reserve(*wanted) if address == "::"] == [low, low, low + 1]


def test_a_container_gets_the_ports_of_the_families_that_it_can_be_reached_in() -> None:
    host = Host()
    ipv6_only = PortTarget("six", "", "fd00::2")
    assert host.reserve(tcp(), tcp("127.0.0.1", 81), target=ipv6_only) == [(80, "tcp", "::", 8080)]
    routed = PortTarget("routed", "172.18.0.2", "fd00::3", routed6=True)
    assert host.reserve(tcp(first=8081), target=routed) == [(80, "tcp", "::", 0), (80, "tcp", "0.0.0.0", 8081)]
    assert host.reserve(tcp(first=8081), target=PortTarget("other", "172.18.0.4", routed4=True))[0] == (80, "tcp", "0.0.0.0", 0)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_a_failed_request_frees_the_ports_of_those_before() -> None:
    reservations = PortReservations()
    port = free_port()
    first = PortRequest(80, host_ip="127.0.0.1", host_port=(port, port))
    with pytest.raises(BindFailed, match=f"Bind for 127.0.0.1:{port} failed: port is already allocated$"):
        reservations.reserve([first, first])
    [reservation] = reservations.reserve([first])
    assert (reservation.port.host_ip, reservation.port.host_port) == ("127.0.0.1", port)
    reservations.release(reservation)
    reservations.release(reservation)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_the_program_that_has_a_port_is_found(family: socket.AddressFamily, kind: socket.SocketKind) -> None:
    protocol = "tcp" if kind == socket.SOCK_STREAM else "udp"
    own = Path("/proc/self/comm").read_text().strip()
    with socket.socket(family, kind) as other:
        other.bind(("", 0))
        if kind == socket.SOCK_STREAM:
            other.listen()
        port = other.getsockname()[1]
        address = "127.0.0.1" if family == socket.AF_INET else "::1"
        with pytest.raises(BindFailed, match=rf"address already in use \(process {own}, pid {os.getpid()}\)$"):
            PortReservations().reserve([PortRequest(80, protocol, address, (port, port))])  # type: ignore[arg-type]  # literals
    assert find_holder(protocol, address, port) is None


def test_tables_of_sockets_are_read_with_all_that_may_be_in_them() -> None:
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    rest = "00000000:00000000 00:00000000 00000000"
    lines = [
        head,
        f"   0: 0100007F:1F90 00000000:0000 0A {rest}  1000        0 77 1 0 100 0 0 10 0\n",
        f"   1: 0100007F:1F90 0200007F:1234 01 {rest}     0        0 78 1\n",
        f"   2: 00000000000000000000000001000000:1F90 {'0' * 32}:0000 0A {rest}     0        0 79 1\n",
        f"   3: 0000000000000000FFFF00000100007F:1F91 {'0' * 32}:0000 0A {rest}     0        0 80 1\n",
        "broken\n",
    ]
    rows = list(parse_sockets(lines))
    assert [(row.address, row.port, row.uid, row.inode) for row in rows] == [
        ("127.0.0.1", 8080, 1000, 77),
        ("127.0.0.1", 8080, 0, 78),
        ("::1", 8080, 0, 79),
        ("127.0.0.1", 8081, 0, 80),
    ]
    for protocol, address, port, inode in (
        ("tcp", "0.0.0.0", 8080, 77),
        ("tcp", "::", 8080, 79),
        ("tcp", "127.0.0.1", 8081, 80),
        ("tcp", "127.0.0.2", 8080, None),
        ("udp", "127.0.0.1", 8080, 77),
    ):
        found = holding_socket(protocol, address, port, rows)
        assert (found.inode if found else None) == inode


def test_a_program_of_somebody_else_is_told_by_its_user() -> None:
    assert str(PortHolder(0, "", "www-data")) == "a process of user www-data"


def test_certain_ports_are_bound_before_free_ones_are_chosen() -> None:
    reservations = PortReservations()
    port = free_port()
    requests = [PortRequest(1, host_ip="127.0.0.1"), PortRequest(2, host_ip="127.0.0.1", host_port=(port, port))]
    found = reservations.reserve(requests)
    assert [reservation.port.container_port for reservation in found] == [1, 2]
    assert found[1].port.host_port == port
    for reservation in found:
        reservations.release(reservation)
