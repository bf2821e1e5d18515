from __future__ import annotations

import contextlib
import io
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
import requests
from support.builder import pack
from support.engine import EngineUnderTest

DEADLINE_S = 15.0
EMPTY_LAYER = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"


def build(
    client: docker.DockerClient, dockerfile: str, files: dict[str, str] | None = None, **options: Any
) -> list[dict[str, Any]]:
    body = io.BytesIO(pack({"Dockerfile": dockerfile, **(files or {})}))
    return list(client.api.build(fileobj=body, custom_context=True, decode=True, rm=True, **options))


def text(messages: list[dict[str, Any]]) -> str:
    return "".join(message.get("stream", "") for message in messages)


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)  # between two looks at the world, with a deadline
    return False


@contextlib.contextmanager
def removed(client: docker.DockerClient, tag: str) -> Iterator[str]:
    yield tag
    with contextlib.suppress(docker.errors.ImageNotFound):
        client.images.remove(tag, force=True)


def processes(marker: str) -> list[str]:
    found = []
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if name.isdigit() and marker.encode() in Path("/proc", name, "cmdline").read_bytes().split(b"\0"):
                found.append(name)
    return found


def test_an_image_built_by_docker_py_runs(client: docker.DockerClient, busybox: str) -> None:
    dockerfile = f'FROM {busybox}\nWORKDIR /app\nCOPY . .\nRUN echo made in a step > step\nCMD ["cat", "hello", "step"]\n'
    with removed(client, "built:1") as tag:
        body = io.BytesIO(pack({"Dockerfile": dockerfile, "hello": "hello\n"}))
        image, log = client.images.build(fileobj=body, custom_context=True, tag=tag, rm=True)
        assert image.tags == [tag]
        assert f"Successfully built {image.short_id.removeprefix('sha256:')}" in text(list(log))
        assert client.containers.run(tag, remove=True) == b"hello\nmade in a step\n"
        newest = client.api.history(tag)[0]
        assert (newest["CreatedBy"], newest["Tags"]) == ('CMD ["cat" "hello" "step"]', [tag])


def test_a_failing_step_raises_with_its_code(client: docker.DockerClient, busybox: str) -> None:
    messages = build(client, f"FROM {busybox}\nRUN exit 7\n")
    assert messages[-1]["errorDetail"]["code"] == 7
    assert messages[-1]["error"] == "The command '/bin/sh -c exit 7' returned a non-zero code: 7"
    with pytest.raises(docker.errors.BuildError, match="returned a non-zero code: 7"):
        client.images.build(fileobj=io.BytesIO(f"FROM {busybox}\nRUN exit 7\n".encode()))


def test_a_mistake_in_the_dockerfile_is_a_bad_request(client: docker.DockerClient) -> None:
    with pytest.raises(docker.errors.APIError, match=r"dockerfile parse error on line 1: unknown instruction: FRMO") as caught:
        build(client, "FRMO x\n")
    assert caught.value.status_code == 400


@pytest.mark.parametrize("option", [{"version": "2"}, {"outputs": '[{"Type":"local"}]'}])
def test_what_the_builder_cannot_do_is_refused_instead_of_ignored(client: docker.DockerClient, option: dict[str, object]) -> None:
    answer = client.api._post(client.api._url("/build"), params=option, data=b"FROM scratch\n")
    assert answer.status_code == 501
    assert answer.json()["message"]


def test_a_step_is_as_confined_as_a_container(client: docker.DockerClient, busybox: str) -> None:
    messages = build(
        client,
        f"FROM {busybox}\nRUN grep CapEff /proc/self/status; grep Seccomp: /proc/self/status; echo pid $$\n"
        "USER nobody\nRUN id -u; echo home $HOME\n",
        nocache=True,
    )
    assert "CapEff:\t00000000a80425fb" in text(messages)
    assert "Seccomp:\t2" in text(messages)
    assert "pid 1\n" in text(messages)
    assert "65534\nhome /\n" in text(messages)


def test_what_is_mounted_during_a_step_leaves_no_trace_in_the_image(client: docker.DockerClient, busybox: str) -> None:
    dockerfile = f"""\
FROM {busybox} AS tools
FROM scratch
COPY --from=tools /bin /bin
RUN --mount=type=tmpfs,target=/a/b grep -q . /etc/hosts /etc/resolv.conf && test -d /proc/1 && test -c /dev/null && test -d /a/b
"""
    with removed(client, "trace:1") as tag:
        messages = build(client, dockerfile, tag=tag, nocache=True)
        assert "Successfully tagged trace:1" in text(messages), messages
        assert client.images.get(tag).attrs["RootFS"]["Layers"][-1] == EMPTY_LAYER


def test_mounts_of_a_step_work(client: docker.DockerClient, busybox: str) -> None:
    dockerfile = f"""\
FROM {busybox} AS source
RUN echo from > /from
FROM {busybox}
RUN --mount=type=cache,target=/cache,id=api-test --mount=type=tmpfs,target=/t --mount=type=bind,target=/ctx \\
    --mount=type=bind,from=source,source=/from,target=/mnt/from \\
    date >> /cache/log && touch /t/x && ! touch /ctx/x && cat /ctx/a /mnt/from && echo runs $(wc -l < /cache/log)
RUN <<END
#!/bin/sh
echo script in $0
END
"""
    first = text(build(client, dockerfile, {"a": "context\n"}, nocache=True))
    assert "context\nfrom\nruns 1\n" in first
    assert "script in /dev/pipes/END\n" in first
    assert "runs 2\n" in text(build(client, dockerfile, {"a": "context\n"}, nocache=True))


@pytest.mark.needs("limits")
def test_limits_and_networks_reach_the_step(client: docker.DockerClient, busybox: str) -> None:
    dockerfile = (
        f"FROM {busybox}\nRUN cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null || true\n"
        "RUN --network=none ls /sys/class/net\nRUN grep friend /etc/hosts\nRUN df -k /dev/shm | tail -1\n"
    )
    log = text(
        build(
            client,
            dockerfile,
            nocache=True,
            container_limits={"memory": 64 << 20},
            extra_hosts={"friend": "10.1.2.3"},
            shmsize=8 << 20,
        )
    )
    assert "67108864\n" in log
    assert "lo\n" in log.split("--network=none")[1]
    assert "eth0" not in log.split("--network=none")[1].split("Step ")[0]
    assert "10.1.2.3\tfriend" in log
    assert " 8192 " in log


def test_leaving_ends_the_build(engine: EngineUnderTest, client: docker.DockerClient, busybox: str) -> None:
    before = {image.id for image in client.images.list(all=True)}
    marker = f"9753{os.getpid()}"
    body = io.BytesIO(pack({"Dockerfile": f"FROM {busybox}\nRUN echo now; sleep {marker}\n"}))
    stream = client.api.build(fileobj=body, custom_context=True, decode=False, nocache=True)
    received = ""
    for piece in stream:
        received += piece if isinstance(piece, str) else piece.decode()
        if '"now' in received:
            break
    assert eventually(lambda: bool(processes(marker)))  # the shell comes to it after the echo
    stream.close()
    client.api.close()
    assert eventually(lambda: not processes(marker))
    assert eventually(lambda: not list((engine.data_root / "tmp").iterdir()))
    assert {image.id for image in engine.docker().images.list(all=True)} == before


def test_a_cached_build_gives_the_same_image_and_the_cache_can_be_pruned(client: docker.DockerClient, busybox: str) -> None:
    dockerfile = f"FROM {busybox}\nRUN head -c 1000 /dev/urandom > /random\nLABEL a=b\n"
    with removed(client, "cached:1") as tag:
        first = build(client, dockerfile, tag=tag)
        second = build(client, dockerfile, tag=tag)
        assert text(second).count("Using cache") == 2
        assert [message["aux"] for message in first if "aux" in message] == [
            message["aux"] for message in second if "aux" in message
        ]
        records = client.df()["BuildCache"]
        assert any(record["Description"].startswith("RUN /bin/sh -c head -c 1000") and record["Shared"] for record in records)
    pruned = requests_post(client, "/build/prune?all=1")
    assert pruned["SpaceReclaimed"] >= 1000
    assert client.df()["BuildCache"] == []


def requests_post(client: docker.DockerClient, path: str) -> dict[str, Any]:
    response: requests.Response = client.api.post(client.api._url(path))
    answer: dict[str, Any] = json.loads(response.text)
    return answer
