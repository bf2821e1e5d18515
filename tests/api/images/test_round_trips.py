"""Images on their way between this engine, skopeo and buildah: ids, manifests and layers stay what they are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.docker_registry import DockerRegistry
from support.image_archives import MadeImage, digest, docker_archive_of, small_layer
from support.image_tools import Buildah, run_tool, skopeo_copy, skopeo_inspect

IMAGE = MadeImage([small_layer("trip-a", 5000), small_layer("trip-b", 300)], ["trips/one:1"], {"Labels": {"a": "b"}})


@pytest.fixture(autouse=True)
def _removed(api: Any) -> Iterator[None]:
    yield
    for image in api("GET", "/images/json").json:
        if any("trips/" in name for name in (*image["RepoTags"], *image["RepoDigests"])):
            assert api("DELETE", f"/images/{image['Id']}?force=1").status == 200


def _load(api: Any, archive: bytes) -> str:
    messages = api("POST", "/images/load", archive=archive).lines
    return "".join(message.get("stream") or str(message) for message in messages)


def test_other_tools_read_what_is_saved_and_write_what_is_loaded(api: Any, tmp_path: Path) -> None:
    assert _load(api, docker_archive_of(IMAGE)) == "Loaded image: trips/one:1\n"
    saved, copied = tmp_path / "saved.tar", tmp_path / "copied.tar"
    saved.write_bytes(api("GET", "/images/trips/one:1/get").body)
    for kind in ("docker-archive", "oci-archive"):
        found = json.loads(run_tool("skopeo", "--insecure-policy", "inspect", "--config", f"{kind}:{saved}"))
        assert found["rootfs"]["diff_ids"] == [digest(layer) for layer in IMAGE.layers]
    skopeo_copy(f"oci-archive:{saved}", f"docker-archive:{copied}:trips/copied:1")
    assert api("DELETE", "/images/trips/one:1").status == 200
    assert _load(api, copied.read_bytes()) == "Loaded image: trips/copied:1\n"
    assert api("GET", "/images/trips/copied:1/json").json["Id"] == IMAGE.id
    buildah = Buildah(tmp_path)
    assert buildah("pull", "--quiet", f"docker-archive:{saved}").removeprefix("sha256:") == IMAGE.id.removeprefix("sha256:")


@pytest.mark.kitepy
@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_a_layout_that_was_compressed_elsewhere_comes_back_byte_by_byte(api: Any, tmp_path: Path, compression: str) -> None:
    _load(api, docker_archive_of(IMAGE))
    saved, packed, again = tmp_path / "saved.tar", tmp_path / "packed.tar", tmp_path / "again.tar"
    saved.write_bytes(api("GET", "/images/trips/one:1/get").body)
    api("DELETE", "/images/trips/one:1")
    options = ("--format", "oci", "--dest-compress-format", compression)
    skopeo_copy(f"docker-archive:{saved}", f"oci-archive:{packed}:trips/packed:1", *options)
    assert _load(api, packed.read_bytes()) == "Loaded image: trips/packed:1\n"
    again.write_bytes(api("GET", "/images/trips/packed:1/get").body)
    first, second = (run_tool("skopeo", "inspect", "--raw", f"oci-archive:{path}") for path in (packed, again))
    assert first == second, "the manifest, and with it the layers' digests, is the same"
    assert {layer["mediaType"].rpartition("+")[2] for layer in json.loads(first)["layers"]} == {compression}


@pytest.mark.parametrize("how", ["tag", "digest", "id"])
def test_names_and_digests_of_a_pulled_image_go_together(api: Any, registry: DockerRegistry, tmp_path: Path, how: str) -> None:
    archive = tmp_path / "one.tar"
    archive.write_bytes(docker_archive_of(IMAGE))
    repository = f"{registry.host}/trips/{how}"
    skopeo_copy(f"docker-archive:{archive}", f"docker://{repository}:1")
    canonical = f"{repository}@{skopeo_inspect(registry.host, f'trips/{how}:1')['Digest']}"
    assert api("POST", f"/images/create?fromImage={repository}&tag=1").status == 200
    (listed,) = (image for image in api("GET", "/images/json").json if image["Id"] == IMAGE.id)
    assert (listed["RepoTags"], listed["RepoDigests"]) == ([f"{repository}:1"], [canonical])
    whole = [{"Untagged": f"{repository}:1"}, {"Untagged": canonical}, {"Deleted": IMAGE.id}]
    if how == "digest":
        # The digest alone may go; what is left of the name is an image as any other.
        assert api("DELETE", f"/images/{canonical}").json == [{"Untagged": canonical}]
        assert api("GET", f"/images/{repository}:1/json").json["RepoDigests"] == []
        assert api("GET", f"/images/{canonical}/json").message == f"No such image: {canonical}"
    else:
        name = f"{repository}:1" if how == "tag" else IMAGE.id
        assert api("DELETE", f"/images/{name}").json[:3] == whole


def test_an_image_with_a_digest_only_is_dangling_and_pruned_on_demand(api: Any, registry: DockerRegistry, tmp_path: Path) -> None:
    archive = tmp_path / "one.tar"
    archive.write_bytes(docker_archive_of(IMAGE))
    repository = f"{registry.host}/trips/pruned"
    skopeo_copy(f"docker-archive:{archive}", f"docker://{repository}:1")
    canonical = f"{repository}@{skopeo_inspect(registry.host, 'trips/pruned:1')['Digest']}"
    assert api("POST", f"/images/create?fromImage={canonical}").status == 200
    dangling = api("GET", '/images/json?filters={"dangling":["true"]}'.replace('"', "%22")).json
    assert [canonical] in [image["RepoDigests"] for image in dangling]
    report = api("POST", '/images/prune?filters={"label":["a=b"]}'.replace('"', "%22")).json
    # Other tests of the same engine may have left images with that label.
    place = report["ImagesDeleted"].index({"Untagged": canonical})
    assert report["ImagesDeleted"][place + 1] == {"Deleted": IMAGE.id}
