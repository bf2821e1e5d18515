"""The process outside connects the engine to the host's loopback, and to nothing else."""

from __future__ import annotations

import errno
import socket

import pytest

from kitepy.engine.rootless.outside import begin_loopback


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_listener_of_the_loopback_is_connected_to(family: socket.AddressFamily, address: str) -> None:
    with socket.create_server((address, 0), family=family) as listener:
        with begin_loopback(address, listener.getsockname()[1]) as begun:
            listener.settimeout(10)
            accepted, _ = listener.accept()
            with accepted:
                accepted.sendall(b"x")
                begun.settimeout(10)
                assert begun.recv(1) == b"x"


@pytest.mark.parametrize("address", ["192.0.2.1", "0.0.0.0", "::", "169.254.169.254", "::ffff:192.0.2.1", "10.0.2.2", "fe80::1"])
def test_no_other_address_is(address: str) -> None:
    with pytest.raises(OSError, match="ermission denied") as refused:
        begin_loopback(address, 80)
    assert refused.value.errno == errno.EACCES


@pytest.mark.parametrize(("address", "port", "number"), [("localhost", 80, errno.EINVAL), ("127.0.0.1", 0, errno.EACCES)])
def test_what_is_no_address_or_port_is_refused(address: str, port: int, number: int) -> None:
    with pytest.raises(OSError) as refused:  # noqa: PT011 - the number says it
        begin_loopback(address, port)
    assert refused.value.errno == number
