"""The messages between engine, launcher, monitor and the process being started: one JSON object, then raw bytes, per packet.

All of them travel over ``SOCK_SEQPACKET`` sockets, so a packet is a message and descriptors ride along. The C halves of ``json``
and ``socket`` are used directly: the Python halves pull in ``re``, ``enum`` and ``selectors``, a megabyte in each monitor.
"""

from __future__ import annotations

import _json
import array
import struct
from _socket import SCM_RIGHTS, SOL_SOCKET, socket

MAX_PACKET = 192 * 1024
"""Below the default socket buffer (net.core.wmem_default, 212,992 bytes with its overhead)."""
MAX_FDS = 32

MSG_CMSG_CLOEXEC = 0x40000000

Message = dict[str, object]


class _ScannerSettings:
    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo: dict[str, str] = {}  # noqa: RUF012 - the C scanner wants this attribute and keeps a table of its own


_scan = _json.make_scanner(_ScannerSettings())  # type: ignore[arg-type]  # typeshed wants its own class here


def decode_json(text: str) -> object:
    """The value of a JSON document; raises ValueError when it is malformed or followed by something else."""
    stripped = text.strip(" \t\r\n")
    try:
        value, end = _scan(stripped, 0)
    except StopIteration as error:
        raise ValueError(f"malformed JSON near character {error.value}") from error
    if end != len(stripped):
        raise ValueError(f"malformed JSON: text after character {end}")
    return value


def encode_json(value: object) -> str:
    """Compact JSON of None, booleans, integers, text, lists, tuples and dictionaries with text keys."""
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return str(_json.encode_basestring_ascii(value))
    if isinstance(value, list | tuple):
        return "[" + ",".join([encode_json(item) for item in value]) + "]"
    if isinstance(value, dict):
        return "{" + ",".join([f"{encode_json(str(key))}:{encode_json(item)}" for key, item in value.items()]) + "}"
    raise TypeError(f"no JSON for {type(value).__name__}")


def pack(message: Message, payload: bytes = b"") -> bytes:
    """One packet: length of the JSON part, the JSON part, raw bytes."""
    body = encode_json(message).encode()
    packet = struct.pack("<I", len(body)) + body + payload
    if len(packet) > MAX_PACKET:
        raise ValueError(f"a message of {len(packet)} bytes is more than a packet holds ({MAX_PACKET})")
    return packet


def unpack(packet: bytes) -> tuple[Message, bytes]:
    """The JSON object and the raw bytes of one packet; raises ValueError when it is not one."""
    if len(packet) < 4:
        raise ValueError("truncated packet")
    length = struct.unpack_from("<I", packet)[0]
    value = decode_json(packet[4 : 4 + length].decode())
    if not isinstance(value, dict):
        raise ValueError("a packet must hold a JSON object")
    return value, packet[4 + length :]


def send(channel: socket, message: Message, payload: bytes = b"", fds: list[int] | tuple[int, ...] = ()) -> None:
    """Send one packet; blocks or raises BlockingIOError as the socket is set."""
    send_packet(channel, pack(message, payload), fds)


def receive(channel: socket) -> tuple[Message, bytes, list[int]] | None:
    """The next packet with its descriptors (close-on-exec), or None when the other side has closed."""
    received = receive_packet(channel)
    if received is None:
        return None
    packet, fds = received
    message, payload = unpack(packet)
    return message, payload, fds


def send_packet(channel: socket, packet: bytes, fds: list[int] | tuple[int, ...]) -> None:
    """Send what ``pack`` or ``receive_packet`` gave."""
    channel.sendmsg([packet], [(SOL_SOCKET, SCM_RIGHTS, array.array("i", fds))] if fds else [])


def receive_packet(channel: socket) -> tuple[bytes, list[int]] | None:
    """Like ``receive``, but unread: to be handed on, or for ``unpack``."""
    packet, ancillary, _, _ = channel.recvmsg(MAX_PACKET, 4 * MAX_FDS + 64, MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for level, kind, data in ancillary:
        if level == SOL_SOCKET and kind == SCM_RIGHTS:
            received = array.array("i")
            received.frombytes(data[: len(data) - len(data) % received.itemsize])
            fds += received
    return (packet, fds) if packet else None


def error_text(error: OSError) -> str:
    """How a message words an error of the system: what went wrong, and with which file."""
    text = error.strerror or str(error)
    return f"{text}: {error.filename}" if error.filename else text
