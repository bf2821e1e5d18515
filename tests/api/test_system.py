"""What the engine tells about itself and what it keeps on the disk."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

import docker
import pytest
from api.containers.conftest import RawApi, _run, _until  # noqa: F401  # the fixtures run and until
from support.contract import ApiContract
from support.engine import EngineUnderTest


@pytest.fixture(name="api")
def _api(engine: EngineUnderTest) -> RawApi:
    return RawApi(engine.socket)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_ping_tells_the_version_in_its_headers(api: RawApi, method: str) -> None:
    answer = api(method, "/_ping")
    assert answer.status == 200
    assert answer.body == (b"OK" if method == "GET" else b"")
    headers = answer.headers
    assert headers["api-version"] == "1.51"
    assert headers["builder-version"] in ("1", "2")
    assert headers["cache-control"] == "no-cache, no-store, must-revalidate"
    assert headers["pragma"] == "no-cache"
    assert headers["docker-experimental"] == "false"
    assert headers["ostype"] == "linux"
    assert headers["swarm"] == "inactive"
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert "/" in headers["server"]


def test_the_version_is_told_with_its_components(api: RawApi, contract: ApiContract) -> None:
    document = api("GET", "/version").json
    contract.check("GET", "/version", 200, document)
    assert (document["ApiVersion"], document["MinAPIVersion"], document["Os"]) == ("1.51", "1.24", "linux")
    assert document["KernelVersion"] == os.uname().release
    engine = document["Components"][0]
    assert (engine["Name"], engine["Version"]) == ("Engine", document["Version"])
    for key in ("ApiVersion", "Arch", "BuildTime", "KernelVersion", "MinAPIVersion", "Os", "GitCommit", "GoVersion"):
        assert engine["Details"][key] == document[key]
    assert datetime.strptime(document["BuildTime"], "%Y-%m-%dT%H:%M:%S.000000000+00:00").year > 2020


def test_info_describes_the_machine_and_the_engine(api: RawApi, contract: ApiContract) -> None:
    document = api("GET", "/info").json
    contract.check("GET", "/info", 200, document)
    assert document["NCPU"] == len(os.sched_getaffinity(0))
    assert document["MemTotal"] == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert document["KernelVersion"] == os.uname().release
    assert document["Architecture"] == os.uname().machine
    assert document["OSType"] == "linux"
    assert document["OperatingSystem"]
    assert document["ID"]
    assert document["ServerVersion"] == api("GET", "/version").json["Version"]
    assert document["DefaultRuntime"] in document["Runtimes"]
    assert "runc" in document["Runtimes"]
    assert document["Plugins"]["Volume"] == ["local"]
    assert {"bridge", "host", "null"} <= set(document["Plugins"]["Network"])
    assert "json-file" in document["Plugins"]["Log"]
    assert "none" not in document["Plugins"]["Log"]
    assert document["LoggingDriver"] == "json-file"
    assert document["Swarm"]["LocalNodeState"] == "inactive"
    assert any(option.startswith("name=seccomp") for option in document["SecurityOptions"])
    registries = document["RegistryConfig"]
    assert "127.0.0.0/8" in registries["InsecureRegistryCIDRs"]
    assert registries["IndexConfigs"]["docker.io"]["Secure"] is True
    assert document["IndexServerAddress"] == "https://index.docker.io/v1/"
    said = datetime.fromisoformat(document["SystemTime"][:26].rstrip("Z") + "+00:00")
    assert abs(said - datetime.now(UTC)) < timedelta(minutes=1)
    assert document["LiveRestoreEnabled"] in (True, False)
    assert document["Warnings"] is None or all(text.startswith("WARNING: ") for text in document["Warnings"])


def test_info_counts_containers_by_what_they_do(api: RawApi, run: Any, client: docker.DockerClient, busybox: str) -> None:
    def counts() -> tuple[int, ...]:
        document = api("GET", "/info").json
        return tuple(document[f"Containers{what}"] for what in ("", "Running", "Paused", "Stopped"))

    before = counts()
    container = run("sleep 60")
    client.containers.create(busybox, ["true"])
    assert tuple(now - then for now, then in zip(counts(), before, strict=True)) == (2, 1, 0, 1)
    container.kill()
    container.wait()
    assert tuple(now - then for now, then in zip(counts(), before, strict=True)) == (2, 0, 0, 2)


@pytest.mark.needs("limits")
def test_info_counts_paused_containers(api: RawApi, run: Any) -> None:
    before = api("GET", "/info").json["ContainersPaused"]
    container = run("sleep 60")
    container.pause()
    assert api("GET", "/info").json["ContainersPaused"] == before + 1
    container.unpause()


def test_info_counts_who_listens_to_events(api: RawApi, client: docker.DockerClient, until: Any) -> None:
    before = api("GET", "/info").json["NEventsListener"]
    stream = client.events()
    until(lambda: api("GET", "/info").json["NEventsListener"] == before + 1)
    stream.close()
    until(lambda: api("GET", "/info").json["NEventsListener"] == before)


# --- disk usage ------------------------------------------------------------------------------------------------------


def test_disk_usage_counts_what_there_is(
    api: RawApi, run: Any, client: docker.DockerClient, busybox: str, contract: ApiContract, until: Any
) -> None:
    script = "head -c 100000 /dev/zero > /written; head -c 50000 /dev/zero > /data/kept; ln /data/kept /data/again; sleep 60"
    container = run(script, volumes=["df-volume:/data"])

    def usage() -> Any:
        document = api("GET", "/system/df").json
        volumes = {volume["Name"]: volume for volume in document["Volumes"]}
        return document if volumes["df-volume"]["UsageData"]["Size"] >= 50_000 else None

    document = until(usage)
    contract.check("GET", "/system/df", 200, document)
    image = next(image for image in document["Images"] if busybox in image["RepoTags"])
    users = [summary for summary in document["Containers"] if summary["ImageID"] == image["Id"]]
    assert image["Containers"] == len(users) >= 1
    assert image["SharedSize"] >= 0
    assert image["Size"] == client.images.get(busybox).attrs["Size"] > 0
    assert document["LayersSize"] >= image["Size"]
    summary = next(summary for summary in users if summary["Id"] == container.id)
    assert 100_000 <= summary["SizeRw"] < 200_000
    assert summary["SizeRootFs"] == summary["SizeRw"] + image["Size"]
    volume = next(volume for volume in document["Volumes"] if volume["Name"] == "df-volume")
    assert volume["UsageData"] == {"RefCount": 1, "Size": 50_000}
    assert isinstance(document["BuildCache"], list)
    container.remove(force=True)
    client.volumes.get("df-volume").remove()


def test_layers_that_images_share_count_once(api: RawApi, client: docker.DockerClient, busybox: str) -> None:
    image = client.images.get(busybox)
    before = api("GET", "/system/df?type=image").json["LayersSize"]
    made = client.containers.create(busybox, ["true"]).commit("df-image", "one")
    document = api("GET", "/system/df?type=image").json
    assert document["LayersSize"] - before < image.attrs["Size"]
    shared = {item["Id"]: item["SharedSize"] for item in document["Images"]}
    assert shared[made.id] == shared[image.id] == image.attrs["Size"]
    client.images.remove("df-image:one")


@pytest.mark.parametrize(
    ("query", "given"),
    [
        ("type=image", {"Images"}),
        ("type=container", {"Containers"}),
        ("type=volume", {"Volumes"}),
        ("type=build-cache", {"BuildCache"}),
        ("type=image&type=volume", {"Images", "Volumes"}),
        ("", {"Images", "Containers", "Volumes", "BuildCache"}),
    ],
)
def test_disk_usage_of_some_kinds_leaves_the_others_null(api: RawApi, query: str, given: set[str]) -> None:
    document = api("GET", f"/system/df?{query}").json
    assert {key for key in ("Images", "Containers", "Volumes", "BuildCache") if document[key] is not None} == given
    assert (document["LayersSize"] > 0) <= ("Images" in given)


def test_disk_usage_of_an_unknown_kind_is_refused(api: RawApi) -> None:
    answer = api("GET", "/system/df?type=moon")
    assert (answer.status, answer.message) == (400, "unknown object type: moon")
