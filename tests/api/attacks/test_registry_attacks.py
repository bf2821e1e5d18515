"""Registries that mean harm: what they say may cost nothing but the pull, and none of it gets anywhere else."""

from __future__ import annotations

import functools
import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from api.containers.conftest import _api, _until
from support.docker_registry import PASSWORD, USER
from support.engine import EngineUnderTest
from support.hostile_registry import HostileRegistry, Reply, Request, manifest_of
from support.images import docker_archive
from support.oci import DOCKER_LAYER, OCI_CONFIG, OCI_INDEX, Blob, Made, digest, tar, unlike_others
from support.transfers import Transfers, auth_header

__all__ = ["_api", "_until"]

pytestmark = pytest.mark.kitepy  # dockerd holds out against fewer of them

MIB = 1 << 20
OWN = auth_header(USER, PASSWORD)
NAME = "evil/image"


@pytest.fixture(name="transfers")
def _transfers(engine: EngineUnderTest) -> Transfers:
    return Transfers(engine.socket)


@pytest.fixture(name="hostile")
def _hostile() -> Iterator[HostileRegistry]:
    with HostileRegistry() as hostile:
        yield hostile


@pytest.fixture(name="bounded", autouse=True, scope="module")
def _bounded(session_engine: EngineUnderTest) -> Iterator[None]:
    """All attacks together left no file and no line of the log, and never had much memory."""
    memory, files = _memory(session_engine), _kept(session_engine)
    yield
    assert _memory(session_engine) - memory < 64 * MIB
    assert _kept(session_engine) - files < 4 * MIB
    log = session_engine.log.read_text(errors="replace")
    assert "\nFORGED" not in log
    assert PASSWORD not in log


@pytest.fixture(name="unharmed", autouse=True)
def _unharmed(api: Callable[..., Any]) -> Iterator[None]:
    """There is no image more than before, and the engine answers."""
    before = _images(api)
    yield
    assert _images(api) == before


def _images(api: Callable[..., Any]) -> set[str]:
    return {image["Id"] for image in api("GET", "/images/json?all=1").json}


def _memory(engine: EngineUnderTest) -> int:
    """The most that the engine's processes ever had."""
    peaks = []
    for pid in engine.process_ids():
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                peaks.append(int(line.split()[1]) * 1024)
    return max(peaks, default=0)


def _kept(engine: EngineUnderTest) -> int:
    """The bytes of all blobs, whole or not."""
    return sum(path.stat().st_size for path in (engine.data_root / "content").rglob("*") if path.is_file())


@functools.cache
def _bomb() -> bytes:
    """Half a megabyte of 128."""
    return gzip.compress(bytes(128 * MIB), 1)


def _endless(piece: bytes, over: Callable[[], bool]) -> Iterable[bytes]:
    while not over():
        yield piece


def _config_of(image: Made) -> dict[str, Any]:
    return dict(json.loads(image.document.content))


# what manifests say


@pytest.mark.parametrize(
    "wrong",
    [
        "sha256:../../../../../../etc/passwd",
        "sha256:" + "A" * 64,
        "sha256:" + "0" * 63,
        "sha256:" + "0" * 63 + "\n",
        "md5:" + "0" * 32,
        "../x:" + "0" * 64,
        "",
        7,
        None,
    ],
)
@pytest.mark.parametrize("where", ["layer", "config"])
def test_a_digest_is_no_path(transfers: Transfers, hostile: HostileRegistry, wrong: Any, where: str) -> None:
    image = unlike_others("digest", layers=1)
    hostile.serve(NAME, "1", image)
    document = manifest_of(image.document, [image.blobs[0].descriptor])
    (document["layers"][0] if where == "layer" else document["config"])["digest"] = wrong
    hostile.manifest(NAME, "1", document)
    assert transfers.pull(f"{hostile.host}/{NAME}:1").error
    assert not [request for request in hostile.seen if "passwd" in request.path or ".." in request.path]


@pytest.mark.parametrize("size", [10**30, -(10**30), 1.5, "7", True, [], {}])
def test_sizes_are_numbers_of_bytes(transfers: Transfers, hostile: HostileRegistry, size: Any) -> None:
    image = unlike_others("size", layers=1)
    hostile.serve(NAME, "1", image)
    config = {**image.document.descriptor, "size": size}
    hostile.manifest(NAME, "1", {**manifest_of(image.document, [image.blobs[0].descriptor]), "config": config})
    assert transfers.pull(f"{hostile.host}/{NAME}:1").error


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"schemaVersion": 2, "layers": ' + b"[" * 200_000, "application/vnd.oci.image.manifest.v1+json"),
        (b'{"schemaVersion": 2, "manifests": ' + b"[" * 200_000, OCI_INDEX),
        (b'{"schemaVersion": ' + b"9" * 100_000 + b"}", OCI_INDEX),
        (b"\xff\xfe{\0}\0", OCI_INDEX),
        (b'{"schemaVersion": 2, "manifests": {"a": 1}}', OCI_INDEX),
        (b'{"schemaVersion": 2, "manifests": [null, 1, "x", []]}', OCI_INDEX),
        (b'{"schemaVersion": 2, "layers": null, "config": null}', "application/vnd.oci.image.manifest.v1+json"),
    ],
    ids=["deep-manifest", "deep-index", "number", "utf-16", "object", "items", "null"],
)
def test_what_is_no_manifest_is_refused(transfers: Transfers, hostile: HostileRegistry, body: bytes, kind: str) -> None:
    hostile.manifest(NAME, "1", body, kind)
    assert transfers.pull(f"{hostile.host}/{NAME}:1").error


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("path", ["manifests/1", "tags/list"])
def test_a_document_has_bounds(transfers: Transfers, hostile: HostileRegistry, path: str, packed: bool) -> None:
    """4 MiB, as elsewhere in the field."""
    piece = _bomb() if packed else b" " * MIB
    pieces = [piece] if packed else [piece] * 64
    headers = {"Content-Type": "application/vnd.oci.image.manifest.v1+json", **({"Content-Encoding": "gzip"} if packed else {})}
    hostile.replies[f"/v2/{NAME}/{path}"] = Reply(pieces, headers=headers)
    assert transfers.pull(f"{hostile.host}/{NAME}{':1' if path.startswith('m') else ''}").error
    (asked, *_) = hostile.asked(f"/v2/{NAME}/{path}")
    assert packed or asked.sent < 32 * MIB


def test_layers_have_a_bound_in_number(transfers: Transfers, hostile: HostileRegistry) -> None:
    image = unlike_others("number", layers=1)
    hostile.serve(NAME, "1", image)
    hostile.manifest(NAME, "1", manifest_of(image.document, [image.blobs[0].descriptor] * 5000))
    assert transfers.pull(f"{hostile.host}/{NAME}:1").error
    assert not hostile.asked(f"/v2/{NAME}/blobs/{image.blobs[0].digest}")


def test_indexes_have_a_bound_in_depth(transfers: Transfers, hostile: HostileRegistry) -> None:
    image = unlike_others("depth", layers=1)
    hostile.serve(NAME, "inner", image)
    below: Mapping[str, Any] = image.manifest.descriptor
    for number in range(30):
        body = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [below]}).encode()
        hostile.manifest(NAME, digest(body), body, OCI_INDEX)
        hostile.manifest(NAME, "1", body, OCI_INDEX)
        below = {"mediaType": OCI_INDEX, "digest": digest(body), "size": len(body)}
        assert number < 30
    assert "too deeply" in transfers.pull(f"{hostile.host}/{NAME}:1").error
    assert len([request for request in hostile.seen if "/manifests/" in request.path]) < 12


@pytest.mark.parametrize("diff_ids", ["none", "more", "others", "path", "text"])
def test_a_configuration_has_the_layers_of_the_manifest(transfers: Transfers, hostile: HostileRegistry, diff_ids: str) -> None:
    image, other = unlike_others("config", layers=1), unlike_others("config-other", layers=1)
    document = _config_of(image)
    own = document["rootfs"]["diff_ids"]
    document["rootfs"]["diff_ids"] = {
        "none": [],
        "more": own * 2,
        "others": _config_of(other)["rootfs"]["diff_ids"],
        "path": ["sha256:../../x"],
        "text": "abc",
    }[diff_ids]
    config = Blob(json.dumps(document).encode(), OCI_CONFIG)
    hostile.serve(NAME, "1", image)
    hostile.blob(NAME, config.digest, config.content)
    hostile.manifest(NAME, "1", manifest_of(config, [image.blobs[0].descriptor]))
    assert transfers.pull(f"{hostile.host}/{NAME}:1").error


@pytest.mark.parametrize("urls", [["file:///etc/passwd"], ["http://169.254.169.254/latest/meta-data"]])
def test_layers_of_elsewhere_are_refused(transfers: Transfers, hostile: HostileRegistry, urls: list[str]) -> None:
    image = unlike_others("foreign", layers=1)
    hostile.serve(NAME, "1", image)
    foreign = {**image.blobs[0].descriptor, "mediaType": DOCKER_LAYER.replace("rootfs", "rootfs.foreign") + ".gzip", "urls": urls}
    hostile.manifest(NAME, "1", manifest_of(image.document, [foreign]))
    del hostile.replies[f"/v2/{NAME}/blobs/{image.blobs[0].digest}"]
    assert transfers.pull(f"{hostile.host}/{NAME}:1").error


def test_names_of_tags_are_not_believed(transfers: Transfers, hostile: HostileRegistry) -> None:
    image = unlike_others("tags", layers=1)
    hostile.serve(NAME, "1", image)
    for tag in ("../../../blobs", "a\nFORGED", "-x", "a" * 129, "a/b", "a:b", "a@b", "\x1b[2J"):
        hostile.replies[f"/v2/{NAME}/tags/list"] = Reply(json.dumps({"name": NAME, "tags": [tag]}).encode())
        pulled = transfers.pull(f"{hostile.host}/{NAME}")
        assert pulled.error, tag
    assert {request.path for request in hostile.seen} == {"/v2/", f"/v2/{NAME}/tags/list"}


# what is sent


@pytest.mark.parametrize("length", [None, 10**15], ids=["none", "large"])
def test_a_layer_without_end_comes_to_one(transfers: Transfers, hostile: HostileRegistry, length: int | None) -> None:
    image = unlike_others("endless", layers=1)
    hostile.serve(NAME, "1", image)
    headers = {} if length is None else {"Content-Length": str(length)}
    piece = image.blobs[0].content + bytes(MIB)
    hostile.blob(NAME, image.blobs[0].digest, lambda _: Reply(_endless(piece, hostile.over.is_set), headers=headers))
    assert transfers.pull(f"{hostile.host}/{NAME}:1").error
    (asked, *_) = hostile.asked(f"/v2/{NAME}/blobs/{image.blobs[0].digest}")
    assert asked.hung_up.wait(10)
    assert asked.sent < 64 * MIB


def test_a_configuration_without_end_comes_to_one(transfers: Transfers, hostile: HostileRegistry) -> None:
    image = unlike_others("endless-config", layers=1)
    hostile.serve(NAME, "1", image)
    hostile.blob(NAME, image.id, lambda _: Reply(_endless(bytes(MIB), hostile.over.is_set)))
    assert transfers.pull(f"{hostile.host}/{NAME}:1").error
    assert all(request.sent < 64 * MIB for request in hostile.asked(f"/v2/{NAME}/blobs/{image.id}"))


def test_a_bomb_as_a_layer_is_what_its_digest_is_not(transfers: Transfers, hostile: HostileRegistry) -> None:
    """Content-Encoding is the connection's: whoever takes it off has other bytes."""
    image = unlike_others("encoded", layers=1)
    hostile.serve(NAME, "1", image)
    bomb = _bomb()
    hostile.blob(NAME, image.blobs[0].digest, Reply(bomb, headers={"Content-Encoding": "gzip"}))
    assert transfers.pull(f"{hostile.host}/{NAME}:1").error


def test_who_waits_for_a_registry_that_says_nothing_may_leave(
    transfers: Transfers, hostile: HostileRegistry, until: Callable[..., Any]
) -> None:
    image = unlike_others("silent", layers=1)
    hostile.serve(NAME, "1", image)

    def slowly(_: Request) -> Reply:
        def pieces() -> Iterator[bytes]:
            yield image.blobs[0].content[:1]
            while not hostile.over.wait(0.02):
                yield b""

        return Reply(pieces(), headers={"Content-Length": str(len(image.blobs[0].content))})

    hostile.blob(NAME, image.blobs[0].digest, slowly)
    with transfers.begin_pull(f"{hostile.host}/{NAME}:1") as pull:
        pull.wait_for_status("Pulling fs layer")
        until(lambda: hostile.asked(f"/v2/{NAME}/blobs/{image.blobs[0].digest}"))


@pytest.mark.parametrize("headers", [{"X-Long": "x" * 100_000}, {f"X-{n}": "x" * 100 for n in range(2000)}], ids=["long", "many"])
def test_headers_have_bounds(transfers: Transfers, hostile: HostileRegistry, headers: dict[str, str]) -> None:
    hostile.replies[f"/v2/{NAME}/manifests/1"] = Reply(b"{}", headers=headers)
    assert transfers.pull(f"{hostile.host}/{NAME}:1").error


def test_what_a_registry_says_forges_no_line_of_the_log(transfers: Transfers, hostile: HostileRegistry) -> None:
    """`bounded` looks at the log."""
    image = unlike_others("forged", layers=1)
    hostile.serve(NAME, "1", image)
    error = json.dumps({"errors": [{"code": "DENIED", "message": "no\nFORGED\r\nFORGED"}]}).encode()
    json_error = Reply(error, 403, {"Content-Type": "application/json"})
    hostile.blob(NAME, image.blobs[0].digest, json_error)
    assert transfers.pull(f"{hostile.host}/{NAME}:1").error
    hostile.replies[f"/v2/{NAME}/manifests/1"] = json_error
    assert transfers.pull(f"{hostile.host}/{NAME}:1").error


# where requests go


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "gopher://127.0.0.1/x",
        "unix:///run/docker.sock",
        "http://",
        "//",
        "http://[::1",
        "data:,x",
        "javascript:1",
    ],
)
@pytest.mark.parametrize("what", ["manifest", "blob", "token"])
def test_a_redirect_leads_to_servers_only(transfers: Transfers, hostile: HostileRegistry, location: str, what: str) -> None:
    image = unlike_others("redirect", layers=1)
    hostile.serve(NAME, "1", image)
    away = Reply(b"", 307, {"Location": location})
    path = {"manifest": f"/v2/{NAME}/manifests/1", "blob": f"/v2/{NAME}/blobs/{image.id}", "token": "/token"}[what]
    if what == "token":
        challenge = {"WWW-Authenticate": f'Bearer realm="http://{hostile.host}/token",service="s"'}
        hostile.replies["/v2/"] = Reply(b"", 401, challenge)
    hostile.replies[path] = away
    pulled = transfers.pull(f"{hostile.host}/{NAME}:1", auth=OWN)
    assert pulled.error
    assert "root:" not in str(pulled)


def test_credentials_stay_with_the_registry(transfers: Transfers, hostile: HostileRegistry) -> None:
    """Neither redirects nor links to further pages take them along."""
    image = unlike_others("credentials", layers=1)
    with HostileRegistry() as other:
        basic = {"WWW-Authenticate": 'Basic realm="x"'}

        def guarded(reply: Reply) -> Callable[[Request], Reply]:
            return lambda request: reply if "authorization" in request.headers else Reply(b"", 401, basic)

        hostile.replies["/v2/"] = guarded(Reply(b"{}"))
        for path in (f"/v2/{NAME}/manifests/1", f"/v2/{NAME}/tags/list"):
            hostile.replies[path] = guarded(Reply(b"", 307, {"Location": f"http://{other.host}{path}"}))
        other.serve(NAME, "1", image)
        transfers.pull(f"{hostile.host}/{NAME}:1", auth=OWN)
        transfers.pull(f"{hostile.host}/{NAME}", auth=OWN)
        link = {"Link": f'<http://{other.host}/v2/{NAME}/tags/list?last=1>; rel="next"'}
        hostile.replies[f"/v2/{NAME}/tags/list"] = guarded(Reply(b'{"tags": []}', headers=link))
        transfers.pull(f"{hostile.host}/{NAME}", auth=OWN)
        assert any("authorization" in request.headers for request in hostile.seen)
        assert other.seen
        assert not [request for request in other.seen if "authorization" in request.headers]


@pytest.mark.parametrize("kind", ["same", "new"])
def test_pages_of_tags_come_to_an_end(transfers: Transfers, hostile: HostileRegistry, kind: str) -> None:
    numbers = iter(range(10**9))
    path = f"/v2/{NAME}/tags/list"

    def page(_: Request) -> Reply:
        following = f"{path}?last={next(numbers) if kind == 'new' else 0}"
        return Reply(b'{"tags": []}', headers={"Link": f'<{following}>; rel="next"'})

    hostile.replies[path] = page
    assert bool(transfers.pull(f"{hostile.host}/{NAME}").error) == (kind == "new")
    assert len(hostile.asked(path)) <= 1_000


# pushes


@pytest.fixture(name="own")
def _own(api: Callable[..., Any], hostile: HostileRegistry) -> Iterator[str]:
    """An image to push there, as a name without its tag."""
    name = f"{hostile.host}/{NAME}"
    assert api("POST", "/images/load", archive=docker_archive([tar({"own": b"own"})], f"{name}:1")).status == 200
    yield name
    assert api("DELETE", f"/images/{name}:1").status == 200


@pytest.mark.parametrize(
    "location",
    ["file:///etc/passwd", "", "http://[::1", "unix:///run/docker.sock", "http://x:99999999/", "gopher://127.0.0.1/"],
)
def test_the_place_of_an_upload_is_at_a_server(transfers: Transfers, hostile: HostileRegistry, own: str, location: str) -> None:
    hostile.replies[f"POST /v2/{NAME}/blobs/uploads/"] = Reply(b"", 202, {"Location": location})
    assert transfers.push(own, tag="1").error
    assert not [request for request in hostile.seen if request.method in ("PUT", "PATCH")]


def test_the_place_of_an_upload_gets_no_credentials_elsewhere(transfers: Transfers, hostile: HostileRegistry, own: str) -> None:
    basic = {"WWW-Authenticate": 'Basic realm="x"'}
    with HostileRegistry() as other:
        place = {"Location": f"http://{other.host}/upload"}
        hostile.replies["/v2/"] = lambda request: Reply(b"{}") if "authorization" in request.headers else Reply(b"", 401, basic)
        hostile.replies[f"POST /v2/{NAME}/blobs/uploads/"] = Reply(b"", 202, place)
        other.replies["/upload"] = Reply(b"", 202, {**place, **basic})
        transfers.push(own, tag="1", auth=OWN)
        assert any("authorization" in request.headers for request in hostile.seen)
        assert other.seen
        assert not [request for request in other.seen if "authorization" in request.headers]


def test_what_has_arrived_of_an_upload_is_not_believed(transfers: Transfers, hostile: HostileRegistry, own: str) -> None:
    """A push ends, and it is told that the registry does not take the blob."""
    place = {"Location": f"http://{hostile.host}/upload"}
    hostile.replies[f"POST /v2/{NAME}/blobs/uploads/"] = Reply(b"", 202, place)
    hostile.replies["GET /upload"] = Reply(b"", 204, {**place, "Range": "0-999999999999999999"})
    hostile.replies["/upload"] = Reply(b"", 500)
    assert "500 Internal Server Error" in transfers.push(own, tag="1").error
    assert len(hostile.seen) < 60
