"""Pulls from a real registry: what is told meanwhile, what is there afterwards, and what is refused in which words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import docker
import pytest
from api.containers.conftest import RawApi
from support.docker_registry import DockerRegistry
from support.fault_proxy import FaultProxy
from support.image_tools import Buildah, skopeo_copy, write_layout
from support.oci import DOCKER_INDEX, OCI_INDEX, Made, put, tar, unlike_others
from support.transfers import Transfers

from kitepy.engine.model.platform import host_platform

HERE = {"os": "linux", "architecture": host_platform().architecture}
ELSEWHERE = {"os": "linux", "architecture": "s390x"}


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]


def _ids(api: RawApi) -> set[str]:
    return {image["Id"] for image in api("GET", "/images/json?all=1").json}


def _content(client: docker.DockerClient, image: str, path: str) -> bytes:
    """A file's content in an image that has no program to run."""
    import io
    import tarfile

    container = client.api.create_container(image, ["none"])["Id"]
    try:
        pieces, _ = client.api.get_archive(container, path)
        with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
            found = archive.extractfile(archive.next() or path)
            assert found is not None
            return found.read()
    finally:
        client.api.remove_container(container)


def test_a_pull_tells_of_each_layer_and_of_the_whole_in_dockerds_words(
    api: RawApi, transfers: Transfers, registry: DockerRegistry, client: docker.DockerClient
) -> None:
    first = unlike_others("told", layers=2, size=300_000)
    second = Made([*first.layers, tar({"more": b"more", "other": first.layers[0][:2000]})])
    digest = put(registry, "told/image", "1", first)
    second_digest = put(registry, "told/image", "2", second)
    name = f"{registry.host}/told/image"

    pulled = transfers.pull(name, tag="1")
    assert pulled.status == 200
    assert pulled.messages[0] == {"status": "Pulling from told/image", "id": "1"}
    for blob in first.blobs:
        steps = pulled.of(blob.digest)
        # dockerd leaves out what is over before it looks.
        assert [step for step in steps if step not in ("Waiting", "Downloading", "Verifying Checksum")] == [
            "Pulling fs layer",
            "Download complete",
            "Extracting",
            "Pull complete",
        ]
    begun = [message["id"] for message in pulled.messages if message.get("status") == "Pulling fs layer"]
    ended = [message["id"] for message in pulled.messages if message.get("status") == "Pull complete"]
    assert begun == ended == [_short(blob.digest) for blob in first.blobs]
    extracted = [message for message in pulled.messages if message.get("status") == "Extracting"]
    sizes = {_short(blob.digest): len(blob.content) for blob in first.blobs}
    assert all(message["progressDetail"]["total"] == sizes[message["id"]] for message in extracted)
    assert all(message["progress"].startswith("[") for message in extracted)
    assert pulled.statuses == [f"Digest: {digest}", f"Status: Downloaded newer image for {name}:1"]

    again = transfers.pull(f"{name}:1")
    assert again.messages == [
        {"status": "Pulling from told/image", "id": "1"},
        {"status": f"Digest: {digest}"},
        {"status": f"Status: Image is up to date for {name}:1"},
    ]

    grown = transfers.pull(f"{name}:2")
    assert [grown.of(blob.digest) for blob in first.blobs] == [["Already exists"]] * 2
    assert grown.of(second.blobs[2].digest)[-1] == "Pull complete"
    assert grown.statuses == [f"Digest: {second_digest}", f"Status: Downloaded newer image for {name}:2"]

    described = api("GET", f"/images/{name}:2/json").json
    assert described["Id"] == second.id
    assert described["RepoTags"] == [f"{name}:2"]
    assert described["RepoDigests"] == [f"{name}@{second_digest}"]
    assert described["RootFS"]["Layers"] == json.loads(second.document.content)["rootfs"]["diff_ids"]
    assert api("GET", f"/images/{name}@{second_digest}/json").json["Id"] == second.id
    assert _content(client, f"{name}:2", "/more") == b"more"


@pytest.mark.kitepy
def test_what_is_up_to_date_is_asked_for_but_not_fetched(
    transfers: Transfers, registry: DockerRegistry, proxy: FaultProxy
) -> None:
    first = unlike_others("kept-1", layers=1)
    put(registry, "kept/image", "1", replace(first, platform=HERE), replace(first, platform=ELSEWHERE))
    name = f"{proxy.host}/kept/image"
    transfers.pull(name, tag="1")
    fetched = len(proxy.asked("GET", "/manifests/"))
    assert fetched == 2, "an index and a manifest"
    assert transfers.pull(name, tag="1").summary == f"Status: Image is up to date for {name}:1"
    assert len(proxy.asked("GET", "/manifests/")) == fetched
    second = unlike_others("kept-2", layers=1)
    digest = put(registry, "kept/image", "1", second)
    renewed = transfers.pull(name, tag="1")
    assert renewed.statuses == [f"Digest: {digest}", f"Status: Downloaded newer image for {name}:1"]


def test_a_name_alone_stands_for_all_tags_of_a_repository(api: RawApi, transfers: Transfers, registry: DockerRegistry) -> None:
    made = {tag: unlike_others(f"all-{tag}", layers=1) for tag in ("a", "b", "c")}
    digests = {tag: put(registry, "all/tags", tag, image) for tag, image in made.items()}
    name = f"{registry.host}/all/tags"
    pulled = transfers.pull(name)
    assert [message["id"] for message in pulled.messages if message.get("status") == "Pulling from all/tags"] == ["a", "b", "c"]
    assert pulled.statuses == [*(f"Digest: {digests[tag]}" for tag in "abc"), f"Status: Downloaded newer image for {name}"]
    for tag, image in made.items():
        assert api("GET", f"/images/{name}:{tag}/json").json["Id"] == image.id
    assert transfers.pull(name).summary == f"Status: Image is up to date for {name}"


def test_a_digest_names_an_image_without_a_tag(api: RawApi, transfers: Transfers, registry: DockerRegistry) -> None:
    image = unlike_others("by-digest", layers=1)
    digest = put(registry, "by/digest", "unwanted", image)
    name = f"{registry.host}/by/digest@{digest}"
    pulled = transfers.pull(f"{registry.host}/by/digest", tag=digest)
    assert pulled.messages[0] == {"status": "Pulling from by/digest", "id": name}
    assert pulled.summary == f"Status: Downloaded newer image for {name}"
    described = api("GET", f"/images/{name}/json").json
    assert (described["Id"], described["RepoTags"], described["RepoDigests"]) == (image.id, [], [name])
    assert transfers.pull(name).summary == f"Status: Image is up to date for {name}"


@pytest.mark.parametrize("docker_types", [False, True], ids=["oci", "docker"])
def test_an_index_stands_for_the_image_of_this_machine_or_of_the_platform_that_is_asked_for(
    api: RawApi, transfers: Transfers, registry: DockerRegistry, docker_types: bool
) -> None:
    repository = f"index/{'docker' if docker_types else 'oci'}"
    here = unlike_others(f"{repository}-here", layers=1, platform=HERE, docker=docker_types)
    there = unlike_others(f"{repository}-there", layers=1, platform=ELSEWHERE, docker=docker_types)
    digest = put(registry, repository, "1", there, here, docker=docker_types)
    name = f"{registry.host}/{repository}"
    assert transfers.pull(name, tag="1").statuses[0] == f"Digest: {digest}"
    described = api("GET", f"/images/{name}:1/json").json
    assert (described["Id"], described["RepoDigests"]) == (here.id, [f"{name}@{digest}"])
    kind = registry.manifest(repository, "1").headers["Content-Type"]
    assert kind == (DOCKER_INDEX if docker_types else OCI_INDEX)

    other = transfers.pull(f"{name}:1", platform="linux/s390x")
    assert other.summary == f"Status: Downloaded newer image for {name}:1"
    described = api("GET", f"/images/{name}:1/json").json
    assert (described["Id"], described["Architecture"]) == (there.id, "s390x")

    missing = transfers.pull(f"{name}:1", platform="linux/arm")
    assert missing.status == 200
    assert missing.messages[0] == {"status": "Pulling from " + repository, "id": "1"}
    assert missing.error == "no matching manifest for linux/arm in the manifest list entries"
    assert transfers.pull(f"{name}:1", platform="a/b/c/d").status == 400


def test_an_image_of_another_platform_alone_is_pulled_and_warned_of(transfers: Transfers, registry: DockerRegistry) -> None:
    put(registry, "other/alone", "1", unlike_others("other-alone", layers=1, platform=ELSEWHERE))
    name = f"{registry.host}/other/alone:1"
    assert transfers.pull(name).summary == f"Status: Downloaded newer image for {name}"
    pulled = transfers.pull(name, platform="linux/amd64")
    assert pulled.summary == (
        f"WARNING: image with reference {name} was found but its platform (linux/s390x)"
        " does not match the specified platform (linux/amd64)"
    )


@pytest.mark.parametrize("compression", ["gzip", "zstd", ""])
def test_layers_are_unpacked_however_they_are_packed(
    transfers: Transfers, registry: DockerRegistry, client: docker.DockerClient, api: RawApi, compression: str
) -> None:
    image = unlike_others(f"packed-{compression}", layers=2, compression=compression)
    name = f"{registry.host}/packed/{compression or 'plain'}:1"
    put(registry, f"packed/{compression or 'plain'}", "1", image)
    assert transfers.pull(name).summary == f"Status: Downloaded newer image for {name}"
    assert api("GET", f"/images/{name}/json").json["Id"] == image.id
    assert len(_content(client, name, f"/packed-{compression}-1")) == 2000


def test_what_skopeo_and_buildah_wrote_is_pulled_to_the_byte(
    transfers: Transfers, registry: DockerRegistry, client: docker.DockerClient, api: RawApi, tmp_path: Path
) -> None:
    made = unlike_others("by-skopeo", layers=2, compression="", platform=HERE)
    other = unlike_others("by-skopeo-other", layers=1, platform=ELSEWHERE)
    one = f"oci:{write_layout(tmp_path / 'one', [made])}:latest"
    several = f"oci:{write_layout(tmp_path / 'several', [other, made])}:latest"
    place = f"docker://{registry.host}/written/skopeo"
    skopeo_copy(one, f"{place}:docker", "--format", "v2s2")
    skopeo_copy(one, f"{place}:oci", "--format", "oci")
    skopeo_copy(one, f"{place}:zstd", "--format", "oci", "--dest-compress-format", "zstd")
    skopeo_copy(several, f"{place}:several", "--all")
    buildah = Buildah(tmp_path)
    (tmp_path / "file").write_bytes(b"from buildah")
    working = buildah("from", "scratch")
    buildah("copy", working, str(tmp_path / "file"), "/file")
    built = buildah("commit", "--quiet", working)
    buildah.push(built, registry.host, "written/skopeo:buildah")
    buildah.push(built, registry.host, "written/skopeo:buildah-docker", "--format", "v2s2")
    for tag in ("docker", "oci", "zstd", "several", "buildah", "buildah-docker"):
        name = f"{registry.host}/written/skopeo"
        answer = registry.manifest("written/skopeo", tag)
        document = answer.json
        while "manifests" in document:
            (wanted,) = (item for item in document["manifests"] if item["platform"]["architecture"] == HERE["architecture"])
            document = registry.manifest("written/skopeo", wanted["digest"]).json
        pulled = transfers.pull(name, tag=tag)
        assert pulled.summary == f"Status: Downloaded newer image for {name}:{tag}", (tag, pulled)
        described = api("GET", f"/images/{name}:{tag}/json").json
        assert described["Id"] == document["config"]["digest"]
        assert f"{name}@{answer.headers['Docker-Content-Digest']}" in described["RepoDigests"]
        layers = json.loads(registry.blob("written/skopeo", document["config"]["digest"]))["rootfs"]["diff_ids"]
        assert described["RootFS"]["Layers"] == layers
        if tag.startswith("buildah"):
            assert _content(client, f"{name}:{tag}", "/file") == b"from buildah"
        else:
            assert _content(client, f"{name}:{tag}", "/by-skopeo-1") == _member(made.layers[1])


def _member(layer: bytes) -> bytes:
    """The content of a layer's only file."""
    import io
    import tarfile

    with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
        found = archive.extractfile(archive.next() or "")
        assert found is not None
        return found.read()
