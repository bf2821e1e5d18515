"""What the tests of networks share: containers that are gone afterwards, commands in them, and a look at their networks."""

from __future__ import annotations

import concurrent.futures
import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import docker
import pytest
from api.containers.conftest import (  # noqa: F401  # fixtures
    Answer,
    RawApi,
    _api,
    _events,
    _output,
    _run,
    _until,
)

_numbers = itertools.count()


class Lab:
    """Containers and networks with names of their own, removed at the end of a test."""

    def __init__(self, api: RawApi, until: Callable[..., Any], image: str) -> None:
        self._api = api
        self._until = until
        self._image = image
        self._prefix = f"n{os.getpid()}x{next(_numbers)}"
        self._containers: list[str] = []
        self._networks: list[str] = []

    def name(self, word: str) -> str:
        """A name that no other test has."""
        return f"{self._prefix}{word}"

    def network(self, word: str, **body: Any) -> str:
        """Make a network; gives its name."""
        name = self.name(word)
        answer = self._api("POST", "/networks/create", {"Name": name, **body})
        assert answer.status == 201, answer.body
        self._networks.append(name)
        return name

    def create(self, word: str, command: str = "exec sleep 600", **body: Any) -> Answer:
        """The answer to making a container whose name is that of ``word``; ``HostConfig`` and such are the body's."""
        name = self.name(word)
        self._containers.append(name)
        document = {"Image": self._image, "Cmd": ["sh", "-c", command], **body}
        document["HostConfig"] = {"Init": True, **body.get("HostConfig", {})}
        return self._api("POST", f"/containers/create?name={name}", document)

    def start(self, word: str, command: str = "exec sleep 600", **body: Any) -> str:
        """Make and start a container; gives its name."""
        answer = self.create(word, command, **body)
        assert answer.status == 201, answer.body
        answer = self._api("POST", f"/containers/{self.name(word)}/start")
        assert answer.status == 204, answer.body
        return self.name(word)

    def joined(self, word: str, network: str, command: str = "exec sleep 600", **body: Any) -> str:
        """Make and start a container in a network; ``Endpoint`` is what it wishes there."""
        endpoint = body.pop("Endpoint", None)
        host = {"NetworkMode": network, **body.pop("HostConfig", {})}
        config = {} if endpoint is None else {"NetworkingConfig": {"EndpointsConfig": {network: endpoint}}}
        return self.start(word, command, HostConfig=host, **config, **body)

    def serve(self, port: int, answer: str) -> str:
        """A command that answers each connection to a port with a word, for ever."""
        return f"while true; do echo {answer} | nc -l -p {port} >/dev/null; done"

    def inspect(self, name: str) -> dict[str, Any]:
        answer = self._api("GET", f"/containers/{name}/json")
        assert answer.status == 200, answer.body
        return dict(answer.json)

    def endpoint(self, name: str, network: str) -> dict[str, Any]:
        """How a container is in a network."""
        return dict(self.inspect(name)["NetworkSettings"]["Networks"][network])

    def address(self, name: str, network: str = "bridge") -> str:
        return str(self.endpoint(name, network)["IPAddress"])

    def stop(self, name: str) -> None:
        assert self._api("POST", f"/containers/{name}/stop?t=0").status == 204

    def sh(self, name: str, script: str) -> str:
        """What a shell script writes in a running container."""
        return self.sh_status(name, script)[1]

    def sh_status(self, name: str, script: str) -> tuple[int, str]:
        """Exit code and output of a shell script in a running container."""
        made = self._api(
            "POST",
            f"/containers/{name}/exec",
            {"Cmd": ["sh", "-c", script], "AttachStdout": True, "AttachStderr": True, "Tty": True},
        )
        assert made.status == 201, made.body
        exec_id = made.json["Id"]
        with self._api.hijack(f"/exec/{exec_id}/start", {"Tty": True}) as stream:
            text = stream.read_all().decode(errors="replace").replace("\r\n", "\n")
        status = self._api("GET", f"/exec/{exec_id}/json").json["ExitCode"]
        return int(status), text

    def reaches(self, name: str, target: str, port: int, wanted: str = "") -> bool:
        """Whether a container gets through to a TCP port; with ``wanted`` also, what answers there."""
        status, text = self.sh_status(name, f"nc -w 1 {target} {port} </dev/null")
        return wanted in text if wanted else status == 0

    def eventually_reaches(self, name: str, target: str, port: int, wanted: str) -> None:
        """The same, with patience for a server that only starts."""
        self._until(lambda: self.reaches(name, target, port, wanted))

    @staticmethod
    def together(*checks: Callable[[], Any]) -> list[Any]:
        """What checks give that each wait for nothing to happen."""
        with concurrent.futures.ThreadPoolExecutor(len(checks)) as pool:
            return [found.result() for found in [pool.submit(check) for check in checks]]

    def lookup(self, name: str, what: str, kind: str = "a") -> list[str]:
        """The addresses or names that the container's name service gives; none when it doesn't know."""
        lines = self.sh(name, f"nslookup -type={kind} {what}").splitlines()
        answers = lines[3:] if len(lines) > 3 else []
        found = [line for line in answers if line.startswith("Address") or "name = " in line]
        return sorted(line.partition(": " if line.startswith("Address") else "= ")[2].strip() for line in found)

    def hosts(self, name: str) -> list[str]:
        """The lines of /etc/hosts beyond those that every container has."""
        return [
            line.replace("\t", " ")
            for line in self.sh(name, "cat /etc/hosts").splitlines()
            if line and "ip6-" not in line and "localhost" not in line and "host.docker.internal" not in line
        ]

    def forget(self) -> None:
        for name in reversed(self._containers):
            self._api("DELETE", f"/containers/{name}?force=1&v=1")
        for name in self._networks:
            self._api("DELETE", f"/networks/{name}")


@pytest.fixture(name="lab")
def _lab(api: RawApi, until: Callable[..., Any], busybox: str) -> Iterator[Lab]:
    lab = Lab(api, until, busybox)
    yield lab
    lab.forget()


@pytest.fixture(autouse=True)
def _nothing_remains(client: docker.DockerClient, lab: Lab) -> None:
    """The containers of a test are gone before the client is, whichever the test named first."""
