"""Pulls and pushes as raw requests: their messages, in order, as they come."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlencode

_TIMEOUT_S = 60.0


def auth_header(username: str = "", password: str = "", **more: str) -> str:
    """``X-Registry-Auth`` as Docker's clients write it."""
    return base64.urlsafe_b64encode(json.dumps({"username": username, "password": password, **more}).encode()).decode()


@dataclass(frozen=True)
class Transfer:
    """A pull or push, read to its end."""

    status: int
    messages: list[dict[str, Any]]

    @property
    def error(self) -> str:
        """Why it failed, whether before its first message or amid them; empty when it did not."""
        last = self.messages[-1] if self.messages else {}
        return str(last.get("error") or last.get("message") or "")

    @property
    def statuses(self) -> list[str]:
        """All that was told of the whole, not of a layer."""
        return [message["status"] for message in self.messages if "status" in message and "id" not in message]

    @property
    def summary(self) -> str:
        """The last of these."""
        return self.statuses[-1] if self.statuses else ""

    def of(self, layer: str) -> list[str]:
        """What was told of a layer (by its digest or short id), each thing once: how often progress is told is up to chance."""
        short = layer.removeprefix("sha256:")[:12]
        told = [message["status"] for message in self.messages if message.get("id") == short]
        return [status for at, status in enumerate(told) if at == 0 or told[at - 1] != status]

    @property
    def aux(self) -> list[dict[str, Any]]:
        return [message["aux"] for message in self.messages if "aux" in message]


@dataclass
class Stream:
    """A pull or push under way, read by a thread; leaving the context hangs up."""

    path: Path
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 0
    messages: list[dict[str, Any]] = field(default_factory=list)
    failure: BaseException | None = None

    def __enter__(self) -> Stream:
        self._changed = threading.Condition()
        self._ended = False
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_TIMEOUT_S)
        self._socket.connect(str(self.path))
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.hang_up()

    def hang_up(self) -> None:
        """Close the connection, as Ctrl-C does."""
        with contextlib.suppress(OSError):  # The other side may have been faster.
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._socket.close()

    def wait_for(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first message of a kind, once it was told."""
        with self._changed:

            def find() -> dict[str, Any] | None:
                return next((message for message in self.messages if wanted(message)), None)

            self._changed.wait_for(lambda: find() is not None or self._ended, _TIMEOUT_S)
            found = find()
        assert found is not None, f"it was not told: {self.status} {self.messages}"
        return found

    def wait_for_status(self, status: str) -> dict[str, Any]:
        return self.wait_for(lambda message: message.get("status") == status)

    def end(self) -> Transfer:
        """Read it to its end."""
        self._thread.join(_TIMEOUT_S)
        assert self._ended, f"it does not end: {self.messages}"
        assert self.failure is None, self.failure
        return Transfer(self.status, self.messages)

    def _read(self) -> None:
        connection = http.client.HTTPConnection("localhost")
        connection.sock = self._socket
        try:
            connection.request("POST", f"/v1.51{self.target}", headers=dict(self.headers))
            response = connection.getresponse()
            self.status = response.status
            for line in _lines(response):
                with self._changed:
                    self.messages.append(json.loads(line))
                    self._changed.notify_all()
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.failure = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()


def _lines(response: http.client.HTTPResponse) -> Iterator[bytes]:
    while line := response.readline():
        if line.strip():
            yield line


class Transfers:
    """Pulls and pushes by an engine's socket."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin_pull(self, name: str, *, tag: str | None = None, platform: str = "", auth: str = "") -> Stream:
        """``name`` as users write it, unless the tag is given by itself."""
        query = {"fromImage": name, **({"tag": tag} if tag is not None else {}), **({"platform": platform} if platform else {})}
        return Stream(self.path, f"/images/create?{urlencode(query)}", _headers(auth))

    def pull(self, name: str, **options: Any) -> Transfer:
        with self.begin_pull(name, **options) as stream:
            return stream.end()

    def begin_push(self, name: str, *, tag: str | None = None, platform: str = "", auth: str | None = None) -> Stream:
        """``name`` without a tag; without one all of its tags are pushed. Without ``auth`` it says that there is none."""
        query = {**({"tag": tag} if tag is not None else {}), **({"platform": platform} if platform else {})}
        sent = auth_header() if auth is None else auth
        return Stream(self.path, f"/images/{quote(name, safe='/:@')}/push?{urlencode(query)}", _headers(sent))

    def push(self, name: str, **options: Any) -> Transfer:
        with self.begin_push(name, **options) as stream:
            return stream.end()


def _headers(auth: str) -> dict[str, str]:
    return {"X-Registry-Auth": auth} if auth else {}
