"""The engine's port with TLS: who is let in, and that conversations work as on a plain socket."""

from __future__ import annotations

import contextlib
import datetime
import shutil
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from support.tls_client import TlsClient, client_context

from kitepy.client.tls import CertificateDirectory
from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.server.app import build_app
from kitepy.engine.server.frames import FrameDecoder
from kitepy.engine.server.gates import Limits
from kitepy.engine.server.listeners import TcpHost
from kitepy.engine.server.tls import TlsFiles

_PING = b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
_ATTACH = (
    b"POST /containers/web/attach?stream=1&stdin=1&stdout=1&stderr=1 HTTP/1.1\r\n"
    b"Host: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
)


@pytest.fixture(name="certificates", scope="module")
def _certificates(tmp_path_factory: pytest.TempPathFactory) -> CertificateDirectory:
    directory = CertificateDirectory(tmp_path_factory.mktemp("tls") / "tls")
    directory.create(["localhost", "127.0.0.1"], ["alice"])
    return directory


@pytest.fixture(name="context")
def _context(certificates: CertificateDirectory) -> ssl.SSLContext:
    return client_context(certificates.client("alice"))


def _files(directory: Path, *, verify: bool = True) -> TlsFiles:
    return TlsFiles(directory / "cert.pem", directory / "key.pem", directory / "ca.pem" if verify else None)


Serve = Callable[..., int]


@pytest.fixture(name="serve")
def _serve(edge: Any, certificates: CertificateDirectory) -> Iterator[Serve]:
    """Listen with TLS beside the edge's socket; gives the port."""
    with contextlib.ExitStack() as stack:

        def serve(files: TlsFiles | None = None, limits: Limits | None = None, insecure: bool = False) -> int:
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = int(free.getsockname()[1])
            server = build_app(
                edge.services,
                tls=files or _files(certificates.server),
                insecure_tcp=insecure,
                limits=(lambda _: limits) if limits else None,
            )
            edge.run(server.start([TcpHost("127.0.0.1", port)]))
            stack.callback(lambda: edge.run(server.stop()))
            return port

        yield serve


def _status(client: TlsClient) -> int:
    client.sendall(_PING)
    return int(client.read_all().split()[1])


def _start_attach(client: TlsClient) -> bytes:
    client.sendall(_ATTACH)
    data = b""
    while b"\r\n\r\n" not in data:
        data += client.recv()
    assert data.startswith(b"HTTP/1.1 101")
    return data.partition(b"\r\n\r\n")[2]


def test_a_client_with_a_certificate_is_served(serve: Serve, context: ssl.SSLContext) -> None:
    with TlsClient(serve(), context) as client:
        assert client.tls.version() == "TLSv1.3"
        assert _status(client) == 200


def test_docker_py_speaks_to_it(serve: Serve, certificates: CertificateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # requests prefers these to what a client was told
        monkeypatch.delenv(name, raising=False)
    alice = certificates.client("alice")
    settings = docker.tls.TLSConfig(
        client_cert=(str(alice / "cert.pem"), str(alice / "key.pem")), ca_cert=str(alice / "ca.pem"), verify=True
    )
    client = docker.APIClient(base_url=f"tcp://127.0.0.1:{serve()}", tls=settings, version="auto", timeout=10)
    try:
        assert client.ping()
        assert client.logs("web") == b"out\nerr\n"
    finally:
        client.close()


def _refusal(port: int, context: ssl.SSLContext) -> ssl.SSLError:
    with pytest.raises(ssl.SSLError) as caught, TlsClient(port, context) as client:
        _status(client)
    return caught.value


def test_without_a_certificate_there_is_a_tls_error_and_no_answer(serve: Serve, certificates: CertificateDirectory) -> None:
    context = client_context(certificates.client("alice"), with_certificate=False)
    assert "CERTIFICATE_REQUIRED" in str(_refusal(serve(), context))


def test_a_certificate_of_another_authority_is_refused(serve: Serve, certificates: CertificateDirectory, tmp_path: Path) -> None:
    other = CertificateDirectory(tmp_path / "other")
    other.create(["localhost"], ["alice"])
    context = client_context(other.client("alice"))
    context.load_verify_locations(certificates.path / "ca.pem")
    assert "alert" in str(_refusal(serve(), context)).lower()


def test_the_engines_own_certificate_opens_nothing(serve: Serve, certificates: CertificateDirectory) -> None:
    assert "alert" in str(_refusal(serve(), client_context(certificates.server))).lower()


def test_an_expired_certificate_is_refused(serve: Serve, certificates: CertificateDirectory, tmp_path: Path) -> None:
    shutil.copytree(certificates.path, tmp_path / "past")
    past = CertificateDirectory(tmp_path / "past", now=datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=10))
    past.add_client("late", days=5)
    assert "expired" in str(_refusal(serve(), client_context(past.client("late")))).lower()


def test_tls_1_1_is_refused_and_1_2_has_sane_ciphers_only(serve: Serve, context: ssl.SSLContext) -> None:
    port = serve()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with TlsClient(port, context) as client:
        cipher = client.tls.cipher()
        assert cipher is not None
        assert cipher[0].startswith("ECDHE-")
        assert "GCM" in cipher[0] or "CHACHA20" in cipher[0]
        assert _status(client) == 200
    context.set_ciphers("AES128-SHA:AES256-SHA256:ECDHE-ECDSA-AES128-SHA")
    _refusal(port, context)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    _refusal(port, old)


def test_plain_http_on_the_port_is_closed_without_an_answer(serve: Serve) -> None:
    with socket.create_connection(("127.0.0.1", serve()), timeout=10) as connection:
        connection.sendall(_PING)
        with contextlib.suppress(ConnectionResetError):
            answer = connection.recv(65536)
            assert not answer.startswith(b"HTTP"), answer


def test_the_end_of_input_leaves_the_output_flowing(serve: Serve, context: ssl.SSLContext) -> None:
    with TlsClient(serve(), context) as client:
        rest = _start_attach(client)
        client.sendall(b"hello")
        client.say_end()
        assert FrameDecoder().feed(rest + client.read_all()) == [(1, b"HELLO"), (2, b"bye")]


def test_a_cut_connection_is_no_end_of_input(serve: Serve, context: ssl.SSLContext, edge: Any) -> None:
    """Whoever can cut the wire must not make a process believe that its input was complete."""
    with TlsClient(serve(), context) as client:
        _start_attach(client)
        client.sendall(b"half of it")
        edge.until(lambda: edge.containers.session.received == b"half of it")
        client.socket.shutdown(socket.SHUT_WR)
        edge.run(edge.containers.session.closed.wait())
        assert not edge.containers.session.stdin_closed.is_set()


def test_much_data_flows_in_both_directions_at_once(serve: Serve, context: ssl.SSLContext) -> None:
    data = bytes(range(256)) * 16384
    with TlsClient(serve(), context) as client:
        rest = _start_attach(client)
        # In pieces, one after another: the client's TLS object is not for two threads.
        seen = FrameDecoder()
        output = b"".join(piece for stream, piece in seen.feed(rest) if stream == 1)
        sent = 0
        while len(output) < len(data):
            if sent < len(data):
                client.sendall(data[sent : sent + 200_000])
                sent += 200_000
            output += b"".join(piece for stream, piece in seen.feed(client.recv()) if stream == 1)
        assert output == data.upper()


def test_a_client_that_does_not_read_stalls_itself_only(serve: Serve, context: ssl.SSLContext) -> None:
    port = serve()
    with TlsClient(port, context) as lazy:
        _start_attach(lazy)
        lazy.socket.settimeout(1)
        with contextlib.suppress(TimeoutError):
            for _ in range(1000):
                lazy.sendall(b"x" * 65536)
        with TlsClient(port, context) as other:
            assert _status(other) == 200


def test_a_renewed_certificate_is_shown_without_a_restart(
    serve: Serve, certificates: CertificateDirectory, tmp_path: Path
) -> None:
    shutil.copytree(certificates.path, tmp_path / "own")
    own = CertificateDirectory(tmp_path / "own")
    context = client_context(own.client("alice"))
    port = serve(_files(own.server))

    def shown() -> str:
        with TlsClient(port, context) as client:
            certificate = client.tls.getpeercert()
            assert certificate is not None
            return str(certificate["serialNumber"])

    before = shown()
    own.renew()
    assert (after := shown()) != before
    (own.server / "cert.pem").write_text("broken by a careless editor")
    assert shown() == after, "the last usable files stay in force"


@pytest.mark.parametrize("name", ["cert.pem", "key.pem", "ca.pem"])
def test_files_that_cannot_be_used_are_named(serve: Serve, certificates: CertificateDirectory, tmp_path: Path, name: str) -> None:
    directory = tmp_path / "server"
    shutil.copytree(certificates.server, directory)
    (directory / name).write_text("nonsense")
    with pytest.raises(InvalidParameter, match=str(directory / name)):
        serve(_files(directory))
    (directory / name).unlink()
    with pytest.raises(InvalidParameter, match=str(directory / name)):
        serve(_files(directory))


def test_without_client_certificates_it_must_be_forced(serve: Serve, certificates: CertificateDirectory) -> None:
    files = _files(certificates.server, verify=False)
    with pytest.raises(InvalidParameter, match="--tlsverify"):
        serve(files)
    port = serve(files, insecure=True)
    with TlsClient(port, client_context(certificates.client("alice"), with_certificate=False)) as client:
        assert _status(client) == 200


def test_a_silent_handshake_is_cut_off_in_time(serve: Serve) -> None:
    port = serve(limits=Limits(connections=4, handshake_timeout_s=0.05))
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"\x16\x03\x01")
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""


def test_a_flood_of_handshakes_locks_nobody_out(serve: Serve, context: ssl.SSLContext) -> None:
    port = serve(limits=Limits(connections=4, handshakes=8))
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10)) for _ in range(40)]
        with TlsClient(port, context) as client:
            assert _status(client) == 200
        for dropped in silent[:30]:
            with contextlib.suppress(ConnectionResetError):
                assert dropped.recv(1) == b""


def test_one_connection_too_many_is_told_so(serve: Serve, context: ssl.SSLContext) -> None:
    port = serve(limits=Limits(connections=2))
    with TlsClient(port, context) as first, TlsClient(port, context) as second:
        _start_attach(first)  # a conversation counts like any other connection
        second.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
        assert second.recv().startswith(b"HTTP/1.1 200")
        with TlsClient(port, context) as third:
            assert third.read_all().startswith(b"HTTP/1.1 503")
    deadline = time.monotonic() + 10
    while (status := _answer(port, context)) != 200:  # the server learns of the closed ones in its own time
        assert status in (0, 503)
        assert time.monotonic() < deadline


def _answer(port: int, context: ssl.SSLContext) -> int:
    """The status of a ping; 0 where the refusal overtook the question and a reset the refusal."""
    try:
        with TlsClient(port, context) as client:
            return _status(client)
    except (OSError, ssl.SSLError):
        return 0
