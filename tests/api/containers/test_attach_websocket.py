"""Attaching over a websocket: binary messages out, messages of either kind in, and who may open one."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import docker
import pytest

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class WebSocket:
    """A client that can also do what it must not."""

    def __init__(self, path: Any, target: str, **headers: str | None) -> None:
        self._key = base64.b64encode(os.urandom(16)).decode()
        fields = {
            "Host": "localhost",
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Key": self._key,
            "Sec-WebSocket-Version": "13",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(20)
        self._socket.connect(str(path))
        self._socket.sendall("\r\n".join([f"GET /v1.51{target} HTTP/1.1", *lines, "", ""]).encode())
        self._stream = self._socket.makefile("rb")
        self.status = int(self._stream.readline().split()[1])
        self.headers = {}
        while (line := self._stream.readline().decode().strip()) != "":
            name, _, value = line.partition(":")
            self.headers[name.lower()] = value.strip()

    @property
    def accepted(self) -> bool:
        digest = hashlib.sha1(self._key.encode() + _GUID, usedforsecurity=False).digest()
        return self.status == 101 and self.headers["sec-websocket-accept"] == base64.b64encode(digest).decode()

    def send(self, data: bytes, opcode: int = TEXT, *, final: bool = True, masked: bool = True) -> None:
        mask = os.urandom(4) if masked else b""
        flag = 0x80 if masked else 0
        head = bytes([(0x80 if final else 0) | opcode])
        if len(data) < 126:
            head += bytes([flag | len(data)])
        elif len(data) < 0x10000:
            head += struct.pack(">BH", flag | 126, len(data))
        else:
            head += struct.pack(">BQ", flag | 127, len(data))
        self._socket.sendall(head + mask + (bytes(b ^ mask[i % 4] for i, b in enumerate(data)) if masked else data))

    def receive(self) -> tuple[int, bytes] | None:
        """The next frame's kind and content; None at the end of the connection."""
        head = self._stream.read(2)
        if len(head) < 2:
            return None
        assert head[0] & 0x80, "a server sends whole messages"
        assert not head[1] & 0x80, "a server does not mask"
        length = head[1]
        if length >= 126:
            width = 2 if length == 126 else 8
            length = int.from_bytes(self._stream.read(width), "big")
        return head[0] & 15, self._stream.read(length)

    def receive_until(self, wanted: bytes) -> bytes:
        data = b""
        while wanted not in data:
            frame = self.receive()
            assert frame is not None, f"the websocket ended before {wanted!r}: {data!r}"
            assert frame[0] == BINARY, frame
            data += frame[1]
        return data

    def receive_all(self) -> tuple[bytes, int]:
        """All content, and the code of the close."""
        data = b""
        while (frame := self.receive()) is not None:
            if frame[0] == CLOSE:
                return data, struct.unpack(">H", frame[1][:2])[0]
            assert frame[0] == BINARY, frame
            data += frame[1]
        raise AssertionError(f"the websocket was not closed: {data!r}")

    def close(self) -> None:
        self._stream.close()
        self._socket.close()


Open = Callable[..., WebSocket]


@pytest.fixture(name="websocket")
def _websocket(api: Any) -> Iterator[Open]:
    opened: list[WebSocket] = []

    def open_one(container: str, query: str, **headers: str | None) -> WebSocket:
        opened.append(WebSocket(api.path, f"/containers/{container}/attach/ws?{query}", **headers))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


def test_a_process_is_heard_and_spoken_to(websocket: Open, run: Any) -> None:
    container = run("while read x; do echo got:$x >&2; done", stdin_open=True)
    client = websocket(container.id, "stream=1&stdin=1&stdout=1&stderr=1")
    assert client.accepted
    assert client.headers["upgrade"] == "websocket"
    client.send(b"text\n")
    assert client.receive_until(b"\n") == b"got:text\n"
    client.send(b"\xff\xfe\n", BINARY)
    assert client.receive_until(b"\n") == b"got:\xff\xfe\n"


def test_messages_may_come_in_fragments_with_pings_amid_them(websocket: Open, run: Any) -> None:
    container = run("while read x; do echo got:$x; done", stdin_open=True)
    client = websocket(container.id, "stream=1&stdin=1&stdout=1")
    client.send(b"fra", final=False)
    client.send(b"are you there", PING)
    assert client.receive() == (PONG, b"are you there")
    client.send(b"gment\n", 0)
    client.send(b"", PONG)
    assert client.receive_until(b"\n") == b"got:fragment\n"


def test_a_large_message_comes_through(websocket: Open, run: Any) -> None:
    container = run("head -c 300000 | wc -c", stdin_open=True)
    client = websocket(container.id, "stream=1&stdin=1&stdout=1")
    client.send(b"x" * 300_000, BINARY)
    assert client.receive_all() == (b"300000\n", 1000)


def test_who_attaches_before_the_start_hears_all_and_is_told_of_the_end(
    websocket: Open, client: docker.DockerClient, busybox: str
) -> None:
    container = client.api.create_container(busybox, ["sh", "-c", "printf 'a\\377b'; sleep 0.1; echo err >&2; exit 3"])["Id"]
    connection = websocket(container, "stream=1&stdout=1&stderr=1")
    client.api.start(container)
    assert connection.receive_all() == (b"a\xffberr\n", 1000)


def test_what_was_written_before_can_be_asked_for(websocket: Open, run: Any) -> None:
    container = run("echo said")
    container.wait()
    assert websocket(container.id, "logs=1&stdout=1").receive_all() == (b"said\n", 1000)
    assert websocket(container.id, "logs=1&stderr=1").receive_all() == (b"", 1000)
    assert websocket(container.id, "").receive_all() == (b"", 1000)


def test_the_clients_close_ends_the_input(websocket: Open, api: Any, client: docker.DockerClient, busybox: str) -> None:
    body = {"Image": busybox, "Cmd": ["sh", "-c", "cat; echo ended"], "OpenStdin": True, "StdinOnce": True}
    container = api("POST", "/containers/create", body).json["Id"]
    connection = websocket(container, "stream=1&stdin=1&stdout=1")
    client.api.start(container)
    connection.send(b"abc\n")
    connection.send(struct.pack(">H", 1000), CLOSE)
    assert connection.receive_all() == (b"abc\nended\n", 1000)


def test_the_clients_close_only_leaves_a_container_that_keeps_its_input(websocket: Open, run: Any) -> None:
    container = run("cat", stdin_open=True)
    connection = websocket(container.id, "stream=1&stdin=1&stdout=1")
    connection.send(struct.pack(">H", 1000), CLOSE)
    assert connection.receive_all() == (b"", 1000)
    container.reload()
    assert container.status == "running"


@pytest.mark.kitepy  # dockerd doesn't read from such a client
def test_a_client_that_only_listens_can_take_leave(websocket: Open, run: Any) -> None:
    container = run("sleep 60")
    connection = websocket(container.id, "stream=1&stdout=1")
    connection.send(struct.pack(">H", 1000), CLOSE)
    assert connection.receive_all() == (b"", 1000)


def test_the_keys_detach_from_a_terminal(websocket: Open, run: Any) -> None:
    container = run("read x; echo got:$x; sleep 60", stdin_open=True, tty=True)
    connection = websocket(container.id, "stream=1&stdin=1&stdout=1&detachKeys=ctrl-a")
    connection.send(b"q\n")
    connection.receive_until(b"got:q\r\n")
    connection.send(b"\x01")
    assert connection.receive_all() == (b"", 1000)
    container.reload()
    assert container.status == "running"


@pytest.mark.kitepy  # dockerd minds only what is unmasked
@pytest.mark.parametrize("attack", ["unmasked", "reserved", "long control"])
def test_who_breaks_the_protocol_is_cut_off(
    websocket: Open, api: Any, client: docker.DockerClient, busybox: str, attack: str
) -> None:
    body = {"Image": busybox, "Cmd": ["cat"], "OpenStdin": True, "StdinOnce": True}
    container = api("POST", "/containers/create", body).json["Id"]
    client.api.start(container)
    connection = websocket(container, "stream=1&stdin=1&stdout=1")
    if attack == "unmasked":
        connection.send(b"x\n", masked=False)
    elif attack == "reserved":
        connection.send(b"x\n", 5)
    else:
        connection.send(b"x" * 200, PING)
    _, code = connection.receive_all()
    assert code == 1002


@pytest.mark.kitepy  # dockerd answers plain text
@pytest.mark.parametrize(
    "headers",
    [
        {"Upgrade": "tcp"},
        {"Upgrade": None, "Connection": None},
        {"Sec_WebSocket_Key": None},
        {"Sec_WebSocket_Key": "c2hvcnQ="},
        {"Sec_WebSocket_Version": "8"},
        {"Sec_WebSocket_Version": None},
    ],
)
def test_what_is_no_handshake_is_refused(websocket: Open, run: Any, headers: dict[str, Any]) -> None:
    assert websocket(run(["sleep", "60"]).id, "stream=1&stdout=1", **headers).status == 400


@pytest.mark.parametrize("headers", [{"Origin": "http://localhost"}, {"Sec_WebSocket_Extensions": "permessage-deflate"}])
def test_handshakes(websocket: Open, run: Any, headers: dict[str, Any]) -> None:
    connection = websocket(run(["sleep", "60"]).id, "stream=1&stdout=1", **headers)
    assert connection.status == 101
    assert "sec-websocket-extensions" not in connection.headers


def test_the_subprotocol_that_a_client_names_is_taken(websocket: Open, run: Any) -> None:
    connection = websocket(run(["sleep", "60"]).id, "stream=1&stdout=1", Sec_WebSocket_Protocol="chat")
    assert connection.headers["sec-websocket-protocol"] == "chat"


@pytest.mark.kitepy
@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://localhost.evil.example", "http://localhost:8080"])
def test_a_web_page_of_another_place_opens_none(websocket: Open, run: Any, origin: str) -> None:
    """A browser lets any page open a websocket to anywhere, and tells only by this header whose page it is."""
    assert websocket(run(["sleep", "60"]).id, "stream=1&stdout=1", Origin=origin).status == 400


def test_refusals_come_before_the_upgrade(websocket: Open, run: Any) -> None:
    assert websocket("nobody", "stream=1&stdout=1").status == 404
    assert websocket(run(["sleep", "60"]).id, "stream=1&detachKeys=bogus").status == 400
