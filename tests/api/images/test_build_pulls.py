"""Builds from images that are not here: what is pulled for them, as whom, and what is said of it."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import Callable
from typing import Any

import docker
import pytest
from api.containers.conftest import RawApi
from support.docker_registry import PASSWORD, USER, DockerRegistry
from support.oci import put, unlike_others
from support.transfers import Transfers

Build = Callable[..., list[dict[str, Any]]]


@pytest.fixture(name="build")
def _build(client: docker.DockerClient) -> Build:
    """Build a Dockerfile; gives the messages."""

    def build(dockerfile: str, headers: dict[str, str] | None = None, **options: Any) -> list[dict[str, Any]]:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            entry = tarfile.TarInfo("Dockerfile")
            entry.size = len(dockerfile)
            archive.addfile(entry, io.BytesIO(dockerfile.encode()))
        answer = client.api._post(
            client.api._url("/build"),
            params=options,
            data=buffer.getvalue(),
            headers={"Content-Type": "application/x-tar", **(headers or {})},
        )
        assert answer.status_code == 200, answer.text
        return [json.loads(line) for line in answer.text.splitlines() if line.strip()]

    return build


def statuses(messages: list[dict[str, Any]]) -> list[str]:
    return [message["status"] for message in messages if "status" in message and "progressDetail" not in message]


def error(messages: list[dict[str, Any]]) -> str:
    return str(messages[-1].get("error", ""))


def test_what_a_build_begins_with_is_pulled_once_and_again_when_it_is_wished(
    build: Build, registry: DockerRegistry, api: RawApi
) -> None:
    image = unlike_others("build-base", layers=2)
    digest = put(registry, "build/base", "latest", image)
    name = f"{registry.host}/build/base"
    dockerfile = f"FROM {name}\nLABEL a=b\n"
    first = build(dockerfile, rm="1")
    assert [message.get("stream") for message in first[:2]] == [f"Step 1/2 : FROM {name}", "\n"]
    assert statuses(first) == [
        "Pulling from build/base",
        f"Digest: {digest}",
        f"Status: Downloaded newer image for {name}:latest",
    ]
    assert {message["status"] for message in first if message.get("id") == image.blobs[1].digest[7:19]} >= {
        "Pulling fs layer",
        "Pull complete",
    }
    assert first[-1]["stream"].startswith("Successfully built ")
    assert api("GET", f"/images/{name}/json").json["RepoDigests"] == [f"{name}@{digest}"]
    assert statuses(build(dockerfile)) == []
    assert statuses(build(dockerfile, pull="1"))[-1] == f"Status: Image is up to date for {name}:latest"
    newer = unlike_others("build-newer", layers=1)
    put(registry, "build/base", "latest", newer)
    assert statuses(build(dockerfile, pull="1"))[-1] == f"Status: Downloaded newer image for {name}:latest"
    assert api("GET", f"/images/{name}/json").json["Id"] == newer.id


def test_what_a_build_copies_from_is_pulled(build: Build, registry: DockerRegistry, api: RawApi) -> None:
    base, source = unlike_others("copy-base", layers=1), unlike_others("copy-source", layers=1)
    put(registry, "build/copy", "base", base)
    put(registry, "build/copy", "source", source)
    name = f"{registry.host}/build/copy"
    messages = build(f"FROM {name}:base\nCOPY --from={name}:source /copy-source-0 /here\n", t="build/copied")
    assert [status for status in statuses(messages) if status.startswith("Status")] == [
        f"Status: Downloaded newer image for {name}:base",
        f"Status: Downloaded newer image for {name}:source",
    ]
    assert len(api("GET", "/images/build/copied/json").json["RootFS"]["Layers"]) == 2


@pytest.mark.parametrize(
    ("dockerfile", "message"),
    [
        ("FROM {name}:none\n", "manifest for {name}:none not found: manifest unknown: manifest unknown"),
        (
            "FROM {name}:1\nCOPY --from={name}:none /a /b\n",
            "invalid from flag value {name}:none: manifest for {name}:none not found: manifest unknown: manifest unknown",
        ),
        ("FROM --platform=linux/s390x {name}:index\n", "no matching manifest for linux/s390x in the manifest list entries"),
    ],
)
def test_why_an_image_cannot_be_pulled_is_said_as_it_is_of_a_pull(
    build: Build, registry: DockerRegistry, dockerfile: str, message: str
) -> None:
    one, other = (
        unlike_others("build-fail", layers=1),
        unlike_others("build-fail-arm", layers=1, platform={"os": "linux", "architecture": "arm64"}),
    )
    put(registry, "build/fail", "1", one)
    put(registry, "build/fail", "index", one, other)
    name = f"{registry.host}/build/fail"
    assert error(build(dockerfile.format(name=name))) == message.format(name=name)


def test_a_platform_that_is_asked_for_is_pulled(build: Build, registry: DockerRegistry, api: RawApi) -> None:
    one = unlike_others("build-amd", layers=1)
    other = unlike_others("build-arm", layers=1, platform={"os": "linux", "architecture": "arm64"})
    put(registry, "build/platforms", "1", one, other)
    name = f"{registry.host}/build/platforms:1"
    build(f"FROM {name}\nLABEL a=b\n", platform="linux/arm64", t="build/for-arm")
    assert api("GET", "/images/build/for-arm/json").json["Architecture"] == "arm64"


def test_a_build_shows_the_credentials_that_it_came_with(build: Build, transfers: Transfers) -> None:
    with DockerRegistry(passwords=True) as private:
        image = unlike_others("build-private", layers=1)
        put(private, "build/private", "1", image)
        name = f"{private.host}/build/private:1"
        assert "no basic auth credentials" in error(build(f"FROM {name}\nLABEL a=b\n"))
        known = {private.host: {"username": USER, "password": PASSWORD}}
        header = {"X-Registry-Config": base64.urlsafe_b64encode(json.dumps(known).encode()).decode()}
        assert not error(build(f"FROM {name}\nLABEL a=b\n", header))
        assert "no basic auth credentials" in transfers.pull(name).error
