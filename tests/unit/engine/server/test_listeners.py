"""Hosts and sockets."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from kitepy.engine.model.errors import InvalidParameter, SystemFailure
from kitepy.engine.server.listeners import (
    Protection,
    SocketAccess,
    TcpHost,
    UnixHost,
    check_exposure,
    exposure_warnings,
    listen,
    parse_host,
)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("unix:///run/x.sock", UnixHost(Path("/run/x.sock"))),
        ("tcp://127.0.0.1:2000", TcpHost("127.0.0.1", 2000)),
        ("tcp://", TcpHost("localhost", 2375)),
        ("tcp://[::1]:99", TcpHost("::1", 99)),
        ("tcp://0.0.0.0", TcpHost("0.0.0.0", 2375)),
    ],
)
def test_hosts_are_read(text: str, host: UnixHost | TcpHost) -> None:
    assert parse_host(text) == host


@pytest.mark.parametrize(
    "text",
    ["", "x", "unix://relative", f"unix:///{'x' * 200}", "tcp://a:b", "tcp://a:99999", "tcp://::1:5", "tcp://a:1/x", "fd://"],
)
def test_other_hosts_are_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid host"):
        parse_host(text)


def test_the_usual_port_of_tls_is_another() -> None:
    assert parse_host("tcp://0.0.0.0", tls=True) == TcpHost("0.0.0.0", 2376)


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", "::1", "localhost"])
def test_a_port_that_lets_in_everyone_is_refused_unless_forced(address: str) -> None:
    """On a loopback address it lets in every user and every container with the machine's network."""
    host = TcpHost(address, 1)
    with pytest.raises(InvalidParameter, match=r"without TLS: .*root access"):
        check_exposure(host, Protection.NOTHING, forced=False)
    with pytest.raises(InvalidParameter, match=r"without TLS client verification: .*root access"):
        check_exposure(host, Protection.ONE_SIDED_TLS, forced=False)
    check_exposure(host, Protection.NOTHING, forced=True)
    check_exposure(host, Protection.ONE_SIDED_TLS, forced=True)
    check_exposure(host, Protection.MUTUAL_TLS, forced=False)


def test_open_ports_are_warned_of_in_the_words_of_dockers_engine() -> None:
    hosts = [UnixHost(Path("/s")), TcpHost("0.0.0.0", 2375)]
    (warning,) = exposure_warnings(hosts, Protection.NOTHING)
    assert warning.startswith("[DEPRECATION NOTICE]: API is accessible on http://0.0.0.0:2375 without encryption.\n  ")
    (warning,) = exposure_warnings(hosts, Protection.ONE_SIDED_TLS)
    assert "API is accessible on https://0.0.0.0:2375 without TLS client verification." in warning
    assert exposure_warnings(hosts, Protection.MUTUAL_TLS) == []


def test_a_unix_socket_is_only_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "s"
    (listener,) = listen(UnixHost(path), SocketAccess())
    with listener:
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_group_may_be_let_in(tmp_path: Path) -> None:
    path = tmp_path / "s"
    (listener,) = listen(UnixHost(path), SocketAccess(group_gid=os.getgid()))
    with listener:
        assert path.stat().st_mode & 0o777 == 0o660


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    for _ in range(2):
        (listener,) = listen(UnixHost(path), SocketAccess())
        listener.close()


def test_a_socket_in_use_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    (listener,) = listen(UnixHost(path), SocketAccess())
    with listener, pytest.raises(SystemFailure, match="another program listens"):
        listen(UnixHost(path), SocketAccess())
    assert path.exists()


def test_a_file_is_not_mistaken_for_a_stale_socket(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(SystemFailure, match="not a socket"):
        listen(UnixHost(path), SocketAccess())
    assert path.read_text() == "precious"


def test_a_link_at_the_sockets_path_is_neither_followed_nor_removed(tmp_path: Path) -> None:
    target, path = tmp_path / "other", tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(target))
        other.listen(1)
        other.setblocking(False)
        path.symlink_to(target)
        with pytest.raises(SystemFailure, match="symbolic link"):
            listen(UnixHost(path), SocketAccess())
        with pytest.raises(BlockingIOError):
            other.accept()  # nobody knocked
    with pytest.raises(SystemFailure, match="symbolic link"):  # the target is stale by now
        listen(UnixHost(path), SocketAccess())
    assert path.is_symlink()
    assert target.is_socket()


def test_a_dangling_link_makes_no_socket_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SystemFailure, match="symbolic link"):
        listen(UnixHost(path), SocketAccess())
    assert not (tmp_path / "elsewhere").exists()


def test_a_directory_where_others_may_write_is_refused_unless_it_is_sticky(tmp_path: Path) -> None:
    directory = tmp_path / "d"
    directory.mkdir()
    directory.chmod(0o777)
    with pytest.raises(SystemFailure, match="other users may write"):
        listen(UnixHost(directory / "s"), SocketAccess())
    assert list(directory.iterdir()) == []
    directory.chmod(0o1777)
    (listener,) = listen(UnixHost(directory / "s"), SocketAccess())
    listener.close()


def test_the_mode_does_not_hang_on_the_umask_and_the_umask_stays(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        (listener,) = listen(UnixHost(tmp_path / "s"), SocketAccess())
        listener.close()
        assert os.umask(0) == 0
    finally:
        os.umask(previous)
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600


def test_nobody_else_is_let_in_before_the_group_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, modes = tmp_path / "s", []
    original = os.chown

    def chown(*arguments: Any, **options: Any) -> None:
        modes.append(path.stat().st_mode & 0o777)
        original(*arguments, **options)
        modes.append(path.stat().st_mode & 0o777)

    monkeypatch.setattr(os, "chown", chown)
    (listener,) = listen(UnixHost(path), SocketAccess(group_gid=os.getgid()))
    listener.close()
    assert modes == [0o600, 0o600]
    assert path.stat().st_mode & 0o777 == 0o660


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SystemFailure, match=f"127.0.0.1:{port}"):
            listen(TcpHost("127.0.0.1", port), SocketAccess())
