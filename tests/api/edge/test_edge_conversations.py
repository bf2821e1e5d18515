"""Raw conversations with processes: attach and exec."""

from __future__ import annotations

import socket
import threading
from typing import Any

import docker
import pytest

from kitepy.engine.model.errors import Conflict, StartFailed
from kitepy.engine.server.frames import FrameDecoder

_UPGRADE = b"Connection: Upgrade\r\nUpgrade: tcp\r\n"


def _attach(query: str = "stream=1&stdin=1&stdout=1&stderr=1", extra: bytes = _UPGRADE, version: str = "") -> bytes:
    return f"POST {version}/containers/web/attach?{query} HTTP/1.1\r\nHost: x\r\n".encode() + extra + b"\r\n"


def _exec(body: bytes = b"{}", extra: bytes = _UPGRADE) -> bytes:
    head = f"POST /exec/{'e' * 64}/start HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + extra + b"\r\n" + body


def _head(connection: socket.socket) -> tuple[str, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        assert piece, data
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    return head.decode(), rest


def _rest(connection: socket.socket, already: bytes = b"") -> list[tuple[int, bytes]]:
    return FrameDecoder().feed(already + b"".join(iter(lambda: connection.recv(65536), b"")))


def _text(frames: list[tuple[int, bytes]], stream: int = 1) -> bytes:
    return b"".join(data for number, data in frames if number == stream)


def test_an_upgrade_is_answered_with_101(edge: Any) -> None:
    with edge.connect() as connection:
        connection.sendall(_attach())
        head, rest = _head(connection)
        assert head.startswith("HTTP/1.1 101 UPGRADED\r\n")
        assert "Content-Type: application/vnd.docker.multiplexed-stream" in head
        assert "Upgrade: tcp" in head
        connection.sendall(b"hello")
        connection.shutdown(socket.SHUT_WR)
        assert _rest(connection, rest) == [(1, b"HELLO"), (2, b"bye")]


def test_without_upgrade_the_stream_follows_a_200(edge: Any) -> None:
    with edge.connect() as connection:
        connection.sendall(_attach(extra=b""))
        head, rest = _head(connection)
        assert head.startswith("HTTP/1.1 200 OK\r\n")
        assert "Content-Type: application/vnd.docker.raw-stream" in head
        connection.sendall(b"hello")
        connection.shutdown(socket.SHUT_WR)
        assert _text(_rest(connection, rest)) == b"HELLO"


@pytest.mark.parametrize("request_bytes", [_attach(), _attach(extra=b""), _exec(), _exec(extra=b""), _exec(b'{"Tty":false}')])
def test_input_that_comes_with_the_request_is_not_lost(edge: Any, request_bytes: bytes) -> None:
    with edge.connect() as connection:
        connection.sendall(request_bytes + b"early bird")
        connection.shutdown(socket.SHUT_WR)
        _, rest = _head(connection)
        assert _text(_rest(connection, rest)) == b"EARLY BIRD"
    edge.run(edge.execs.session.closed.wait() if edge.execs.session else edge.containers.session.closed.wait())


def test_much_early_input_is_taken_in_order(edge: Any) -> None:
    data = bytes(range(256)) * 4096
    with edge.connect() as connection:
        writer = threading.Thread(target=lambda: (connection.sendall(_attach() + data), connection.shutdown(socket.SHUT_WR)))
        writer.start()
        _, rest = _head(connection)
        assert _text(_rest(connection, rest)) == data.upper()
        writer.join(10)


def test_an_error_leaves_the_connection_http(edge: Any) -> None:
    with edge.connect() as connection:
        connection.sendall(
            b"POST /containers/nope/attach?stream=1 HTTP/1.1\r\nHost: x\r\n\r\nGET /_ping HTTP/1.1\r\nHost: x\r\n\r\n"
        )
        data = b""
        while not data.endswith(b"OK"):
            data += connection.recv(65536)
        assert data.startswith(b"HTTP/1.1 404")


def test_a_terminal_is_raw_and_its_keys_detach(edge: Any, terminal: Any) -> None:
    with edge.connect() as connection:
        connection.sendall(_attach("stream=1&stdin=1&stdout=1&detachKeys=ctrl-a,x"))
        head, rest = _head(connection)
        assert "application/vnd.docker.raw-stream" in head
        connection.sendall(b"ls\x01")
        while rest != b"LS":
            rest += connection.recv(65536)
        connection.sendall(b"xignored")
        assert connection.recv(65536) == b""
    edge.run(terminal.closed.wait())
    assert terminal.received == b"ls"
    assert not terminal.stdin_closed.is_set()


def test_an_exec_detaches_by_the_keys_it_was_made_with(edge: Any, terminal: Any) -> None:
    edge.execs.detach_keys = "ctrl-b"
    with edge.connect() as connection:
        connection.sendall(_exec(b'{"Tty":true}') + b"\x10\x11x")
        _, echoed = _head(connection)
        while echoed != b"\x10\x11X":
            echoed += connection.recv(65536)
        connection.sendall(b"\x02")
        assert connection.recv(65536) == b""
    edge.run(terminal.closed.wait())


def test_bad_detach_keys_are_refused(edge: Any) -> None:
    assert edge.request("POST", "/containers/web/attach?detachKeys=ctrl-%25").status == 400


def test_without_stdin_nothing_is_handed_over(edge: Any, process: Any) -> None:
    with edge.connect() as connection:
        connection.sendall(_attach("stream=1&stdout=1") + b"noise")
        _head(connection)
        connection.shutdown(socket.SHUT_WR)

        async def end() -> None:
            process.output.put_nowait((1, b"done"))
            process.output.put_nowait(None)

        edge.run(end())
        assert _rest(connection) == [(1, b"done")]
    assert not process.received
    assert not process.stdin_closed.is_set()


def test_a_client_that_leaves_closes_the_session_only(edge: Any, process: Any) -> None:
    with edge.connect() as connection:
        connection.sendall(_attach("stream=1&stdout=1"))
        _head(connection)
    edge.run(process.closed.wait())


def test_a_client_that_half_closed_and_then_left_is_noticed(edge: Any, process: Any) -> None:
    with edge.connect() as connection:
        connection.sendall(_attach())
        _head(connection)
        connection.shutdown(socket.SHUT_WR)
        edge.run(process.stdin_closed.wait())
        assert not process.closed.is_set()
    edge.run(process.closed.wait())


@pytest.mark.usefixtures("process")
def test_a_process_that_does_not_read_stalls_its_client_only(edge: Any) -> None:
    with edge.connect() as connection:
        connection.sendall(_attach())
        _head(connection)
        connection.setblocking(False)
        sent = 0
        try:
            while sent < 64 * 1024 * 1024:
                sent += connection.send(b"x" * 65536)
        except BlockingIOError:
            pass
        assert sent < 8 * 1024 * 1024
        assert edge.request("GET", "/_ping").status == 200


def test_a_client_that_does_not_read_stalls_its_output_only(edge: Any, process: Any) -> None:
    with edge.connect() as connection:
        connection.sendall(_attach("stream=1&stdout=1"))
        _head(connection)

        async def flood() -> None:
            for _ in range(1000):
                process.output.put_nowait((1, b"x" * 65536))

        edge.run(flood())
        assert edge.request("GET", "/_ping").status == 200
        assert process.output.qsize() > 900
    edge.run(process.closed.wait())


def test_a_process_that_closes_its_input_may_still_speak(edge: Any) -> None:
    with edge.connect() as connection:
        connection.sendall(_attach())
        _, rest = _head(connection)
        connection.sendall(b"close your ears")

        async def speak() -> None:
            edge.containers.session.output.put_nowait((1, b"still here"))
            edge.containers.session.output.put_nowait(None)

        edge.run(speak())
        assert _rest(connection, rest) == [(1, b"still here")]


def test_a_detached_exec_only_answers(edge: Any) -> None:
    answer = edge.request("POST", f"/exec/{'e' * 64}/start", b'{"Detach":true}')
    assert (answer.status, answer.body) == (200, b"")


def test_an_exec_that_cannot_start_says_so_in_the_stream(edge: Any, start_failure: StartFailed) -> None:
    edge.execs.failure = start_failure
    with edge.connect() as connection:
        connection.sendall(_exec())
        head, rest = _head(connection)
        assert "101" in head
        assert b"executable file not found" in _text(_rest(connection, rest))
    assert edge.request("POST", f"/exec/{'e' * 64}/start", b'{"Detach":true}').status == 400


def test_an_exec_in_a_stopped_container_is_a_conflict(edge: Any) -> None:
    edge.execs.failure = Conflict("container is not running")
    assert (
        edge.request("POST", f"/exec/{'e' * 64}/start", b"{}", {"Connection": "Upgrade, close", "Upgrade": "tcp"}).status == 409
    )


def test_docker_py_talks_with_an_exec(client: docker.APIClient, edge: Any) -> None:
    exec_id = client.exec_create("web", ["cat"], stdin=True)["Id"]
    wrapped = client.exec_start(exec_id, socket=True)
    connection = getattr(wrapped, "_sock", wrapped)
    connection.sendall(b"hi")
    connection.shutdown(socket.SHUT_WR)
    assert _text(_rest(connection)) == b"HI"
    wrapped.close()
    client.exec_resize(exec_id, 10, 20)
    assert edge.execs.calls[-1] == ("resize", exec_id, 10, 20)
    assert client.exec_inspect(exec_id)["ExitCode"] == 0


def test_docker_py_reads_an_attached_container(client: docker.APIClient, edge: Any, process: Any) -> None:
    async def speak() -> None:
        process.output.put_nowait((1, b"one"))
        process.output.put_nowait((2, b"two"))
        process.output.put_nowait(None)

    edge.run(speak())
    assert list(client.attach("web", stdout=True, stderr=True, stream=True, demux=True)) == [(b"one", None), (None, b"two")]


def test_stopping_the_server_ends_conversations(edge: Any, process: Any) -> None:
    with edge.connect() as connection:
        connection.sendall(_attach())
        _head(connection)
        edge.run(edge.server.stop())
        assert connection.recv(100) == b""
    edge.run(process.closed.wait())
