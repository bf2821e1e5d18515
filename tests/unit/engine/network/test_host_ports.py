"""Which host port a request gets."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.model.network import PortRequest
from kitepy.engine.network.ports import BindFailed, PortReservations, candidate_ports, host_addresses


def test_a_range_is_tried_from_its_start() -> None:
    assert list(candidate_ports((8000, 8002), (1, 9), last=5)) == [8000, 8001, 8002]


@given(st.integers(1, 50), st.integers(0, 50), st.integers(0, 120))
def test_every_ephemeral_port_is_tried_once_beginning_after_the_last_one(low: int, size: int, last: int) -> None:
    tried = list(candidate_ports(None, (low, low + size), last))
    assert sorted(tried) == list(range(low, low + size + 1))
    assert tried[0] == (last + 1 if low <= last < low + size else low)


def test_no_address_means_all_of_both_families() -> None:
    assert host_addresses("") == ("0.0.0.0", "::")
    assert host_addresses("::1") == ("::1",)
    with pytest.raises(InvalidParameter, match="localhost"):
        host_addresses("localhost")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_a_failed_request_frees_the_ports_of_those_before() -> None:
    reservations = PortReservations()
    port = free_port()
    first = PortRequest(80, host_ip="127.0.0.1", host_port=(port, port))
    with pytest.raises(BindFailed, match=f"Bind for 127.0.0.1:{port} failed: port is already allocated"):
        reservations.reserve([first, first])
    [reservation] = reservations.reserve([first])
    assert (reservation.port.host_ip, reservation.port.host_port) == ("127.0.0.1", port)
    reservations.release(reservation)
    reservations.release(reservation)


def test_a_port_of_another_program_is_told_apart_from_ours() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(BindFailed, match=f"failed to bind host port 127.0.0.1:{port}/tcp: address already in use"):
            PortReservations().reserve([PortRequest(80, host_ip="127.0.0.1", host_port=(port, port))])


def test_certain_ports_are_bound_before_free_ones_are_chosen() -> None:
    reservations = PortReservations()
    port = free_port()
    requests = [PortRequest(1, host_ip="127.0.0.1"), PortRequest(2, host_ip="127.0.0.1", host_port=(port, port))]
    found = reservations.reserve(requests)
    assert [reservation.port.container_port for reservation in found] == [1, 2]
    assert found[1].port.host_port == port
    for reservation in found:
        reservations.release(reservation)
