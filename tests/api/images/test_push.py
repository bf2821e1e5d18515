"""Images to a real registry: what is told meanwhile, what is there afterwards, and what other programs read back."""

from __future__ import annotations

import gzip
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from api.containers.conftest import Answer, Events, RawApi
from support.docker_registry import PASSWORD, USER, DockerRegistry
from support.engine import EngineUnderTest
from support.fault_proxy import FaultProxy
from support.image_tools import Buildah, skopeo_copy, skopeo_inspect
from support.images import docker_archive
from support.oci import DOCKER_CONFIG, DOCKER_LAYER, DOCKER_MANIFEST, Made, digest, index_of, noise, put, tar
from support.token_service import TokenService
from support.transfers import auth_header

REFERS = "The push refers to repository [{}]"
AMD64 = quote('{"os":"linux","architecture":"amd64"}')
ARM64 = quote('{"os":"linux","architecture":"arm64"}')


class Images:
    """Images of a test, which are removed at its end."""

    def __init__(self, api: RawApi) -> None:
        self._api = api
        self.names: list[str] = []

    def load(self, reference: str, layers: list[bytes]) -> str:
        """A new image of plain layers, as it comes from an archive; gives its id."""
        answer = self._api("POST", "/images/load", archive=docker_archive(layers, reference))
        assert answer.status == 200, answer.body
        return self.id(reference)

    def pull(self, name: str, tag: str, **options: str) -> None:
        query = "".join(f"&{key}={value}" for key, value in options.items())
        answer = self._api("POST", f"/images/create?fromImage={name}&tag={tag}{query}")
        assert "error" not in answer.lines[-1], answer.lines
        self.names.append(f"{name}:{tag}")

    def tag(self, image: str, name: str, tag: str) -> None:
        assert self._api("POST", f"/images/{image}/tag?repo={name}&tag={tag}").status == 201
        self.names.append(f"{name}:{tag}")

    def id(self, reference: str) -> str:
        answer = self._api("GET", f"/images/{reference}/json")
        self.names.append(reference)
        return str(answer.json["Id"])

    def push(self, name: str, tag: str = "", **options: str) -> list[dict[str, Any]]:
        """The messages of a push that goes well."""
        query = "&".join(f"{key}={value}" for key, value in {"tag": tag, **options}.items() if value)
        answer = self._api("POST", f"/images/{name}/push?{query}", headers={"X-Registry-Auth": "e30="})
        assert answer.status == 200, answer.body
        assert answer.headers["content-type"] == "application/json"
        assert "error" not in answer.lines[-1], answer.lines
        return answer.lines


@pytest.fixture
def images(api: RawApi) -> Iterator[Images]:
    found = Images(api)
    yield found
    for name in found.names:
        api("DELETE", f"/images/{name}?force=1")


@pytest.fixture
def name(registry: DockerRegistry, request: pytest.FixtureRequest) -> str:
    """A repository of this test's own."""
    short = digest(request.node.nodeid.encode())[7:19]
    return f"{registry.host}/push-{short}"


def layers_of(seed: str, count: int = 2, size: int = 2000) -> list[bytes]:
    return [tar({f"{seed}{number}": noise(size, f"{seed}{number}")}) for number in range(count)]


def short(layer: bytes) -> str:
    return digest(layer)[7:19]


def statuses(messages: list[dict[str, Any]], layer: bytes) -> list[str]:
    """What was told of a layer, progress left out."""
    return [message["status"] for message in messages if message.get("id") == short(layer) and not message["progressDetail"]]


def path_of(name: str) -> str:
    return name.partition("/")[2]


def test_a_push_tells_its_steps_and_the_registry_has_the_image(
    images: Images, registry: DockerRegistry, name: str, events: Events, api: RawApi
) -> None:
    layers = layers_of(name, 7)
    image_id = images.load(f"{name}:one", layers)
    messages = images.push(name, "one")
    assert messages[0] == {"status": REFERS.format(name)}
    preparing = [{"status": "Preparing", "progressDetail": {}, "id": short(layer)} for layer in reversed(layers)]
    assert messages[1:8] == preparing
    for number, layer in enumerate(reversed(layers)):
        # Five at once; what comes after them waits.
        assert statuses(messages, layer) == ["Preparing", *(["Waiting"] if number >= 5 else []), "Pushed"]
        steps = [message for message in messages if message.get("id") == short(layer) and message["status"] == "Pushing"]
        assert steps, messages
        assert set(steps[-1]["progressDetail"]) == {"current", "total"}
        assert steps[-1]["progress"].startswith("[=")
    answer = registry.manifest(path_of(name), "one")
    size, shown = len(answer.body), digest(answer.body)
    assert messages[-2] == {"status": f"one: digest: {shown} size: {size}"}
    assert messages[-1] == {"progressDetail": {}, "aux": {"Tag": "one", "Digest": shown, "Size": size}}
    manifest = answer.json
    assert manifest["mediaType"] == answer.headers["Content-Type"] == DOCKER_MANIFEST
    assert manifest["config"]["mediaType"] == DOCKER_CONFIG
    assert manifest["config"]["digest"] == image_id == digest(registry.blob(path_of(name), image_id))
    for layer, there in zip(layers, manifest["layers"], strict=True):
        blob = registry.blob(path_of(name), there["digest"])
        assert (there["mediaType"], there["size"]) == (f"{DOCKER_LAYER}.gzip", len(blob))
        assert gzip.decompress(blob) == layer
    assert api("GET", f"/images/{name}:one/json").json["RepoDigests"] == [f"{name}@{shown}"]
    assert events.attributes(f"{name}:one", "push") == [{"name": name}]

    again = images.push(name, "one")
    assert [statuses(again, layer)[-1] for layer in layers] == ["Layer already exists"] * 7
    assert not any(message.get("status") == "Pushing" for message in again)
    assert again[-2:] == messages[-2:]


def test_without_a_tag_all_tags_are_pushed_in_their_order(images: Images, registry: DockerRegistry, name: str) -> None:
    layers = layers_of(name)
    images.load(f"{name}:b", layers)
    images.load(f"{name}:a", layers[:1])
    images.tag(f"{name}:b", name, "c")
    messages = images.push(name)
    assert [message["aux"]["Tag"] for message in messages if "aux" in message] == ["a", "b", "c"]
    assert registry.tags(path_of(name)) == ["a", "b", "c"]
    assert messages[0] == {"status": REFERS.format(name)}
    assert not any("refers" in message.get("status", "") for message in messages[1:])
    assert statuses(messages, layers[0]) == [
        *("Preparing", "Pushed"), *("Preparing", "Layer already exists"), *("Preparing", "Layer already exists")
    ]  # fmt: skip


def test_a_layer_that_occurs_twice_is_sent_once(images: Images, registry: DockerRegistry, name: str) -> None:
    layers = layers_of(name)
    images.load(f"{name}:one", [*layers, layers[0]])
    messages = images.push(name, "one")
    assert statuses(messages, layers[0]) == ["Preparing", "Preparing", "Pushed"]
    digests = [layer["digest"] for layer in registry.manifest(path_of(name), "one").json["layers"]]
    assert digests[0] == digests[2] != digests[1]


def test_what_can_t_be_pushed_is_told(images: Images, api: RawApi, name: str) -> None:
    image_id = images.load(f"{name}:one", layers_of(name))
    images.tag(f"{name}:one", "127.0.0.1:1/gone", "one")

    def told(target: str) -> str:
        answer = api("POST", f"/images/{target}", headers={"X-Registry-Auth": "not readable"})
        assert answer.status == 200, answer.body
        last = answer.lines[-1]
        assert last["errorDetail"] == {"message": last["error"]}
        return str(last["error"])

    def refused(target: str) -> tuple[int, str]:
        answer = api("POST", f"/images/{target}")
        return answer.status, answer.message

    assert told(f"{name}/push?tag=nope") == f"tag does not exist: {name}:nope"
    assert told(f"{name}x/push?tag=one") == f"An image does not exist locally with the tag: {name}x"
    assert told(f"{name}@{image_id}/push") == "cannot push a digest reference"
    assert told(f"{image_id[7:19]}/push") == f"An image does not exist locally with the tag: {image_id[7:19]}"
    refusal = "dial tcp 127.0.0.1:1: connect: connection refused"
    assert told("127.0.0.1:1/gone/push?tag=one") == f'Get "http://127.0.0.1:1/v2/": {refusal}'
    assert refused(f"{name}/push?tag=a/b") == (400, "invalid tag format")
    assert refused(f"{name}/push?tag=one&platform=junk")[0] == 400
    assert refused(f"{name}/push?tag=one&platform={{}}") == (400, "both OS and Architecture must be provided")
    assert refused(f"nothing-here/push?platform={AMD64}") == (404, "No such image: nothing-here:latest")
    status, message = refused(f"{name}/push?tag=one&platform={ARM64}")
    assert (status, "does not match the specified platform (linux/arm64)" in message) == (404, True)


def test_a_layer_of_another_repository_is_taken_over(images: Images, registry: DockerRegistry, name: str) -> None:
    layers = layers_of(name)
    images.load(f"{name}:one", layers)
    images.push(name, "one")
    images.tag(f"{name}:one", f"{name}-too", "two")
    messages = images.push(f"{name}-too", "two", platform=AMD64)
    assert [statuses(messages, layer)[-1] for layer in layers] == [f"Mounted from {path_of(name)}"] * 2
    first, second = (registry.manifest(path_of(name) + end, tag).body for end, tag in (("", "one"), ("-too", "two")))
    assert first == second


def test_a_layer_that_went_and_came_again_is_known_where_it_was(
    images: Images, registry: DockerRegistry, name: str, api: RawApi
) -> None:
    layers = layers_of(name, 1)
    images.load(f"{name}:one", layers)
    images.push(name, "one")
    assert api("DELETE", f"/images/{name}:one").status == 200
    images.load(f"{name}:two", layers)
    assert statuses(images.push(name, "two"), layers[0]) == ["Preparing", "Layer already exists"]
    assert registry.tags(path_of(name)) == ["one", "two"]


def test_a_repository_that_lost_a_layer_is_not_asked_for_it_again(images: Images, registry: DockerRegistry, name: str) -> None:
    layers = layers_of(name, 1)
    images.load(f"{name}:one", layers)
    images.push(name, "one")
    blob = registry.manifest(path_of(name), "one").json["layers"][0]["digest"]
    assert registry.ask("DELETE", f"/v2/{path_of(name)}/blobs/{blob}").status == 202
    images.tag(f"{name}:one", f"{name}-too", "one")
    assert statuses(images.push(f"{name}-too", "one"), layers[0])[-1] == "Pushed"
    assert statuses(images.push(name, "one"), layers[0])[-1] == f"Mounted from {path_of(name)}-too"
    assert gzip.decompress(registry.blob(path_of(name), blob)) == layers[0]


@pytest.mark.kitepy  # dockerd writes a manifest of its own
@pytest.mark.parametrize(("compression", "docker"), [("gzip", False), ("zstd", False), ("", False), ("gzip", True)])
def test_an_image_that_was_pulled_keeps_its_manifest(
    images: Images, registry: DockerRegistry, name: str, compression: str, docker: bool
) -> None:
    made = Made(layers_of(name), compression=compression, docker=docker)
    put(registry, path_of(name), "one", made)
    images.pull(name, "one")
    images.tag(f"{name}:one", f"{name}-too", "one")
    with DockerRegistry() as other:
        elsewhere = f"{other.host}/x"
        images.tag(f"{name}:one", elsewhere, "one")
        images.push(elsewhere, "one")
        assert other.manifest("x", "one").body == made.manifest.content
        assert [other.blob("x", blob.digest) for blob in made.blobs] == [blob.content for blob in made.blobs]
    messages = images.push(f"{name}-too", "one")
    assert messages[-1]["aux"]["Digest"] == made.manifest.digest
    assert [statuses(messages, layer)[-1] for layer in made.layers] == [f"Mounted from {path_of(name)}"] * 2


@pytest.mark.kitepy  # dockerd keeps no index
def test_an_index_goes_along_when_all_that_it_lists_is_here_or_there(
    images: Images, registry: DockerRegistry, name: str, api: RawApi
) -> None:
    arm = {"os": "linux", "architecture": "arm64"}
    made = [Made(layers_of(name)), Made(layers_of(f"{name}arm"), platform=arm)]
    index = put(registry, path_of(name), "both", *made)
    images.pull(name, "both")
    # Where it comes from, the other platform is there already.
    images.tag(f"{name}:both", name, "again")
    assert images.push(name, "again")[-1]["aux"]["Digest"] == index
    # Elsewhere it isn't.
    alone = f"{name}-one"
    images.tag(f"{name}:both", alone, "1")
    assert images.push(alone, "1")[-1]["aux"]["Digest"] == made[0].manifest.digest
    # With both platforms here, everything goes.
    images.pull(name, "both", platform="linux/arm64")
    whole = f"{name}-all"
    images.tag(made[0].id, whole, "1")
    messages = images.push(whole, "1")
    assert messages[-1]["aux"] == {"Tag": "1", "Digest": index, "Size": len(index_of(*made).content)}
    assert registry.manifest(path_of(whole), "1").body == index_of(*made).content
    assert {statuses(messages, layer)[-1] for image in made for layer in image.layers} == {f"Mounted from {path_of(name)}"}
    # A platform that is asked for goes alone.
    assert images.push(whole, "1", platform=AMD64)[-1]["aux"]["Digest"] == made[0].manifest.digest
    api("DELETE", f"/images/{made[1].id}?force=1")


def test_skopeo_and_buildah_read_back_what_was_pushed(
    images: Images, registry: DockerRegistry, name: str, tmp_path: Path
) -> None:
    layers = layers_of(name, 3)
    image_id = images.load(f"{name}:one", layers)
    pushed = images.push(name, "one")[-1]["aux"]["Digest"]
    found = skopeo_inspect(registry.host, f"{path_of(name)}:one")
    assert found["Digest"] == pushed
    assert found["Layers"] == [layer["digest"] for layer in registry.manifest(path_of(name), "one").json["layers"]]
    skopeo_copy(f"docker://{name}:one", f"dir:{tmp_path / 'copy'}")  # verifies digests and sizes
    assert digest((tmp_path / "copy" / "manifest.json").read_bytes()) == pushed
    assert Buildah(tmp_path).pull(registry.host, f"{path_of(name)}:one").removeprefix("sha256:") == image_id[7:]


@pytest.mark.kitepy  # dockerd begins anew, after five seconds
@pytest.mark.parametrize("plain", [True, False])
def test_a_cut_upload_goes_on_where_it_was(
    images: Images, registry: DockerRegistry, proxy: FaultProxy, name: str, plain: bool
) -> None:
    big = [tar({"big": noise(3_000_000, name)})]
    if plain:
        images.load(f"{name}:one", big)
    else:
        put(registry, path_of(name), "one", Made(big))
        images.pull(name, "one")
    through = f"{proxy.host}/{path_of(name)}-cut"
    images.tag(f"{name}:one", through, "1")
    proxy.add(r"blobs/uploads/.", method="PATCH|PUT", cut_request_after=1_000_000)
    messages = images.push(through, "1")
    told = statuses(messages, big[0])
    assert told[0] == "Preparing"
    assert told[1].startswith("Retrying in 1 second")
    assert told[-1] == "Pushed"
    there = registry.manifest(f"{path_of(name)}-cut", "1").json["layers"][0]["digest"]
    assert gzip.decompress(registry.blob(f"{path_of(name)}-cut", there)) == big[0]
    assert len([request for request in proxy.seen if request.method == "GET" and "uploads/" in request.path]) == 1
    assert len(proxy.asked("POST", "uploads/")) <= 3  # one for the layer, one for the configuration, one that mounts


@pytest.mark.kitepy  # dockerd gives up
def test_what_is_behind_a_proxy_with_a_limit_gets_small_requests(
    images: Images, registry: DockerRegistry, proxy: FaultProxy, name: str
) -> None:
    layers = layers_of(name, 1)
    through = f"{proxy.host}/{path_of(name)}"
    images.load(f"{through}:1", layers)
    proxy.add(r"blobs/uploads/.", method="PATCH|PUT", status=413, body=b"<html>Request Entity Too Large</html>")
    assert statuses(images.push(through, "1"), layers[0])[-1] == "Pushed"
    there = registry.manifest(path_of(name), "1").json["layers"][0]["digest"]
    assert gzip.decompress(registry.blob(path_of(name), there)) == layers[0]


@pytest.mark.parametrize(
    ("path", "method", "code", "message", "told"),
    [
        ("/manifests/", "PUT", "MANIFEST_INVALID", "manifest invalid", "manifest invalid"),
        ("/manifests/", "PUT", "DENIED", "quota exceeded", "denied: quota exceeded"),
    ],
)
def test_a_registry_s_refusal_is_told_in_its_words(
    images: Images, api: RawApi, proxy: FaultProxy, name: str, path: str, method: str, code: str, message: str, told: str
) -> None:
    through = f"{proxy.host}/{path_of(name)}"
    images.load(f"{through}:1", layers_of(name, 1))
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    proxy.add(path, method=method, times=-1, status=403, headers={"Content-Type": "application/json"}, body=body)
    answer = api("POST", f"/images/{through}/push?tag=1")
    assert (answer.status, answer.lines[-1]["error"]) == (200, told)
    assert api("GET", f"/images/{through}:1/json").json["RepoDigests"] == []


def test_who_is_let_in_and_who_is_not(images: Images, api: RawApi) -> None:
    with DockerRegistry(passwords=True) as registry:
        name = f"{registry.host}/mine"
        images.load(f"{name}:1", layers_of(name, 1))

        def push(headers: dict[str, str]) -> Answer:
            return api("POST", f"/images/{name}/push?tag=1", headers=headers)

        assert push({}).lines[-1]["error"] == "no basic auth credentials"
        assert push({"X-Registry-Auth": "e30="}).lines[-1]["error"] == "no basic auth credentials"
        wrong = push({"X-Registry-Auth": auth_header(USER, "wrong")})
        assert wrong.lines[-1]["error"] == "unauthorized: authentication required"
        assert push({"X-Registry-Auth": auth_header(USER, PASSWORD)}).lines[-1]["aux"]["Tag"] == "1"


def test_tokens_are_asked_for_to_write_and_to_take_over(images: Images, api: RawApi) -> None:
    with TokenService(public=lambda path: path == "first") as service, DockerRegistry(token=service.settings) as registry:
        first, second = f"{registry.host}/first", f"{registry.host}/second"
        images.load(f"{first}:1", layers_of(first, 1))
        images.tag(f"{first}:1", second, "1")
        known = {"X-Registry-Auth": auth_header(USER, PASSWORD)}
        denied = "denied: requested access to the resource is denied"
        assert api("POST", f"/images/{first}/push?tag=1").lines[-1]["error"] == denied
        service.asked.clear()
        assert api("POST", f"/images/{first}/push?tag=1", headers=known).lines[-1]["aux"]["Tag"] == "1"
        assert [sorted(asked.scopes[0].rpartition(":")[2].split(",")) for asked in service.asked] == [["pull", "push"]]
        service.asked.clear()
        mounted = api("POST", f"/images/{second}/push?tag=1", headers=known).lines
        assert [line["status"] for line in mounted if line.get("status", "").startswith("Mounted")] == ["Mounted from first"]
        assert service.asked[-1].scopes[1:] == ("repository:first:pull",)


def test_a_push_ends_with_its_client_and_the_next_one_begins_anew(
    images: Images, registry: DockerRegistry, proxy: FaultProxy, name: str, api: RawApi
) -> None:
    big = [tar({"big": noise(9_000_000, name)})]
    through = f"{proxy.host}/{path_of(name)}"
    images.load(f"{through}:1", big)
    fault = proxy.add(r"blobs/uploads/.", method="PATCH|PUT", hold_request_after=500_000)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(api.path))
        client.sendall(f"POST /v1.51/images/{through}/push?tag=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        proxy.wait_until_held()
    # Whoever comes now isn't kept waiting by the one who left.
    fault.times = 0
    messages = images.push(through, "1")
    assert statuses(messages, big[0])[-1] == "Pushed"
    proxy.release()
    there = registry.manifest(path_of(name), "1").json["layers"][0]["digest"]
    assert gzip.decompress(registry.blob(path_of(name), there)) == big[0]


@pytest.mark.kitepy  # it looks into the engine's process
def test_nothing_is_left_of_a_push_whose_client_went(
    images: Images, proxy: FaultProxy, name: str, api: RawApi, engine: EngineUnderTest, until: Callable[..., Any]
) -> None:
    through = f"{proxy.host}/{path_of(name)}"
    images.load(f"{through}:1", layers_of(name, 3, 2_000_000))
    proxy.add(r"blobs/uploads/.", method="PATCH|PUT", times=-1, hold_request_after=100_000)

    def open_pipes() -> int:
        found = 0
        for link in Path(f"/proc/{engine.pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                found += os.readlink(link).startswith("pipe:")
        return found

    before = open_pipes()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(api.path))
        client.sendall(f"POST /v1.51/images/{through}/push?tag=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        proxy.wait_until_held(3)
        assert open_pipes() >= before + 3
    until(lambda: open_pipes() <= before)


def test_pushes_of_one_image_at_once_all_succeed(images: Images, registry: DockerRegistry, name: str) -> None:
    layers = layers_of(name, 4, 100_000)
    images.load(f"{name}:one", layers)
    outcomes: list[list[dict[str, Any]]] = []
    threads = [threading.Thread(target=lambda: outcomes.append(images.push(name, "one"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(outcomes) == 4
    assert len({outcome[-1]["aux"]["Digest"] for outcome in outcomes}) == 1
    assert len(registry.manifest(path_of(name), "one").json["layers"]) == 4
