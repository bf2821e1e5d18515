"""Creating containers by raw requests for the tests of create and inspect, and where Kitepy answers otherwise than Docker."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from support.engine import PEER

DELIBERATE: dict[str, tuple[int, str]] = {
    # test's name: (Docker's status, why ours is another)
    "a bind's mode": (500, "bad input is the client's fault: 400"),
    "a bind's path": (500, "bad input is the client's fault: 400"),
    "a security option": (500, "bad input is the client's fault: 400"),
    "a storage option": (500, "bad input is the client's fault: 400"),
    "a size of the root": (500, "not built: 501"),
    "a blank in a host name": (201, "it would begin another entry in /etc/hosts"),
    "a comment in a resolver option": (201, "it would begin something else in /etc/resolv.conf"),
    "a long host name": (201, "known to be wrong at once; Docker fails at the start"),
    "a zero byte in a variable": (201, "known to be wrong at once; Docker fails at the start"),
    "an unknown tmpfs option": (201, "known to be wrong at once; Docker fails at the start"),
    "a seccomp profile": (201, "known to be wrong at once; Docker fails at the start"),
    "a server that is no address": (201, "known to be wrong at once; Docker fails at the start"),
    "a negative size of a tmpfs": (201, "known to be wrong at once; Docker ignores it"),
    "a bound port": (201, "Docker publishes something else or nothing"),
    "a volume at the root": (201, "it can't be mounted; Docker fails at the start"),
}
"""Every difference that is meant, by the name of the case that shows it."""


def status_for(case: str, ours: int) -> int:
    """The status that the engine under test owes."""
    return DELIBERATE[case][0] if PEER and case in DELIBERATE else ours


@dataclass(frozen=True)
class Made:
    """A container that was created, with what the engine said of it."""

    id: str
    warnings: list[str]
    document: dict[str, Any]


@contextlib.contextmanager
def created(api: Any, body: dict[str, Any], query: str = "") -> Iterator[Made]:
    """Create a container, and remove it with its volumes at the end."""
    answer = api("POST", f"/containers/create{query}", body)
    assert answer.status == 201, answer.body
    container_id = answer.json["Id"]
    try:
        document = api("GET", f"/containers/{container_id}/json").json
        yield Made(container_id, answer.json["Warnings"], document)
    finally:
        assert api("DELETE", f"/containers/{container_id}?force=1&v=1").status == 204


def started(api: Any, made: Made) -> dict[str, Any]:
    """Start it and inspect it."""
    answer = api("POST", f"/containers/{made.id}/start")
    assert answer.status == 204, answer.body
    document: dict[str, Any] = api("GET", f"/containers/{made.id}/json").json
    return document


def output_of(api: Any, body: dict[str, Any]) -> str:
    """What a container's process writes until it ends; frames are taken apart."""
    with created(api, body) as made:
        started(api, made)
        api("POST", f"/containers/{made.id}/wait")
        data = api("GET", f"/containers/{made.id}/logs?stdout=1&stderr=1").body
    text = b""
    while data:
        size = int.from_bytes(data[4:8], "big")
        text += data[8 : 8 + size]
        data = data[8 + size :]
    return text.decode()
