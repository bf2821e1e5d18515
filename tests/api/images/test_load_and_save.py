"""Loading, saving and importing images: messages, wording and what an archive may leave out, as dockerd has them."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlencode

import pytest
import zstandard
from support.image_archives import (
    NATIVE,
    OCI_LAYER,
    OTHER,
    Blobs,
    MadeImage,
    digest,
    docker_archive_of,
    hex_digest,
    small_layer,
)
from support.images import tar_of

A, B, C = small_layer("load-a", 100_000), small_layer("load-b", 2000), small_layer("load-c", 3000)
ONE = MadeImage([A], ["load/one:1", "load/one:2"])
TWO = MadeImage([A, B], ["load/two:latest"], created="2021-01-01T00:00:00Z")
NAMELESS = MadeImage([C])
LITTLE = MadeImage([B], ["load/t:1"])


@pytest.fixture(autouse=True)
def _removed(api: Any) -> Iterator[None]:
    _remove(api)
    yield
    _remove(api)


def _remove(api: Any) -> None:
    images = api("GET", "/images/json?all=1").json
    ours = {image.id for image in (ONE, TWO, NAMELESS)}
    for image in images:
        if image["Id"] in ours or any(tag.startswith("load/") for tag in image["RepoTags"]):
            api("DELETE", f"/images/{image['Id']}?force=1")


def _load(api: Any, archive: bytes, **query: str) -> list[dict[str, Any]]:
    answer = api("POST", f"/images/load?{urlencode(query)}", archive=archive)
    assert answer.status == 200
    return list(answer.lines)


def _texts(messages: list[dict[str, Any]]) -> list[str]:
    return [str(message.get("stream") or message.get("error") or message) for message in messages]


def _members(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {member.name: opened.extractfile(member).read() for member in opened if member.isfile()}  # type: ignore[union-attr]  # files have one


def _saved(api: Any, *names: str) -> bytes:
    answer = api("GET", f"/images/get?{urlencode([('names', name) for name in names])}")
    assert answer.status == 200, answer.body
    return bytes(answer.body)


# --- load ---


def test_what_is_loaded_is_told_by_name_or_by_id(api: Any) -> None:
    before = time.time()
    assert _texts(_load(api, docker_archive_of(ONE, TWO))) == [
        "Loaded image: load/one:1\n",
        "Loaded image: load/one:2\n",
        "Loaded image: load/two:latest\n",
    ]
    # When the last has no name, ids of all are told.
    (*_, ids) = _texts(_load(api, docker_archive_of(ONE, NAMELESS)))
    assert ids == f"Loaded image ID: {ONE.id}\nLoaded image ID: {NAMELESS.id}\n"
    told = api("GET", f"/events?since={before:.9f}&until={time.time():.9f}").lines
    assert [(event["Action"], event["Actor"]["ID"]) for event in told if event["Type"] == "image"] == [
        ("load", ONE.id),
        ("load", TWO.id),
        ("load", ONE.id),
        ("load", NAMELESS.id),
    ]


def test_an_old_image_loses_its_name_to_a_loaded_one(api: Any) -> None:
    _load(api, docker_archive_of(ONE))
    other = MadeImage([B], ["load/one:1"])
    assert _texts(_load(api, docker_archive_of(other))) == [
        f"The image load/one:1 already exists, renaming the old one with ID {ONE.id} to empty string\n",
        "Loaded image: load/one:1\n",
    ]


def test_a_bar_is_shown_for_each_layer_that_is_new(api: Any) -> None:
    messages = _load(api, docker_archive_of(ONE, TWO), quiet="0")
    bars = [message for message in messages if message.get("status") == "Loading layer"]
    assert {message["id"] for message in bars if message["progressDetail"]["current"] == len(A)} == {hex_digest(A)[:12]}
    assert {message["id"] for message in bars} == {hex_digest(A)[:12], hex_digest(B)[:12]}
    (last,) = [message for message in bars if message["id"] == hex_digest(A)[:12]][-1:]
    size = f"{len(A) / 1000:.4g}kB"
    assert last["progress"] == f"[{'=' * 50}>] {size:>8}/{size}"
    assert _load(api, docker_archive_of(ONE, TWO), quiet="0") == [
        {"stream": f"Loaded image: {tag}\n"} for tag in ("load/one:1", "load/one:2", "load/two:latest")
    ]


def _edited(manifest: Any = None, **members: bytes | None) -> bytes:
    """An archive of one image whose parts are given."""
    item = {"Config": "c.json", "RepoTags": ["load/t:1"], "Layers": ["l.tar"]}
    listed = manifest if isinstance(manifest, bytes) else json.dumps([{**item, **(manifest or {})}]).encode()
    parts = {
        "c.json": LITTLE.raw,
        "l.tar": B,
        "manifest.json": listed,
        **{k.replace("_", "."): v for k, v in members.items()},
    }
    return tar_of({name: data for name, data in parts.items() if data is not None})


@pytest.mark.parametrize(
    ("archive", "told"),
    [
        (_edited(), ["Loaded image: load/t:1\n"]),
        (_edited(l_tar=gzip.compress(B)), ["Loaded image: load/t:1\n"]),
        (gzip.compress(_edited()), ["Loaded image: load/t:1\n"]),
        (_edited({"RepoTags": ["load/t:1", "load/t:1"]}), ["Loaded image: load/t:1\n"] * 2),
        (_edited(manifest_json=b"[]"), ["{}"]),
        (_edited(b'[{"config":"c.json","repotags":["load/t:1"],"layers":["l.tar"]}]'), ["Loaded image: load/t:1\n"]),
        (tar_of({"./c.json": LITTLE.raw, "/l.tar": B, "./manifest.json": _members(_edited())["manifest.json"]}),
         ["Loaded image: load/t:1\n"]),
        (_edited(b"null"), ["invalid manifest, manifest cannot be null (but can be [])"]),
        (_edited(b"{}"), ["json: cannot unmarshal object into Go value of type []tarexport.manifestItem"]),
        (_edited(b""), ["EOF"]),
        (_edited({"Layers": ["l.tar", "l.tar"]}), ["invalid manifest, layers length mismatch: expected 2, got 1"]),
        (_edited({"RepoTags": ["load/t"]}), ['invalid tag "load/t"']),
        (_edited({"RepoTags": ["load/t:1", "load/UP:1"]}),
         ["Loaded image: load/t:1\n", "invalid reference format: repository name (load/UP) must be lowercase"]),
        (_edited(l_tar=A), [f'invalid diffID for layer 0: expected "{digest(B)}", got "{digest(A)}"']),
        (_edited(c_json=MadeImage([B], fields={"rootfs": None}).raw), ["invalid image JSON, no RootFS key"]),
        (_edited(c_json=MadeImage([B], fields={"os": "windows"}).raw), ["cannot load windows image on linux"]),
        (_edited(c_json=MadeImage([B], fields={"history": [{}, {}]}).raw), ["too many non-empty layers in History section"]),
    ],
)  # fmt: skip
def test_an_archive_is_judged_as_docker_does(api: Any, archive: bytes, told: list[str]) -> None:
    assert _texts(_load(api, archive)) == told


@pytest.mark.parametrize(
    ("archive", "complaint"),
    [
        (b"", "repositories: no such file or directory"),
        (tar_of({"x": b"y"}), "repositories: no such file or directory"),
        (_edited(c_json=None), "c.json: no such file or directory"),
        (b"x" * 2000, "invalid tar header"),
        (_edited()[:2000], "unexpected EOF"),
        (_edited({"Config": "../../../etc/passwd"}), "etc/passwd"),
    ],
)
def test_a_broken_archive_is_told_in_the_stream(api: Any, archive: bytes, complaint: str) -> None:
    (message,) = _load(api, archive)
    assert complaint in message["error"]
    assert message["errorDetail"]["message"] == message["error"]


def test_images_before_a_broken_one_stay(api: Any) -> None:
    broken = MadeImage([B], ["load/broken:1"], fields={"os": "windows"})
    assert len(_load(api, docker_archive_of(ONE, broken, TWO))) == 3
    names = [tag for image in api("GET", "/images/json").json for tag in image["RepoTags"] if tag.startswith("load/")]
    assert names == ["load/one:1", "load/one:2"]


def test_layers_that_are_here_need_not_be_in_the_archive(api: Any) -> None:
    _load(api, docker_archive_of(ONE))
    members = _members(docker_archive_of(TWO))
    del members[f"{hex_digest(A)}/layer.tar"]
    assert _texts(_load(api, tar_of(members))) == ["Loaded image: load/two:latest\n"]


def test_only_images_of_the_wanted_platform_are_loaded(api: Any) -> None:
    foreign = MadeImage([B], ["load/foreign:1"], fields={"architecture": OTHER})
    archive = docker_archive_of(ONE, foreign)
    native, other = (json.dumps({"os": "linux", "architecture": name}) for name in (NATIVE, OTHER))
    assert len(_load(api, archive, platform=native)) == 2
    assert _texts(_load(api, archive, platform=other)) == ["Loaded image: load/foreign:1\n"]
    assert _load(api, docker_archive_of(ONE), platform=other) == [{}]
    answer = api("POST", "/images/load?platform=linux", archive=b"")
    assert (answer.status, answer.message[:25]) == (400, "failed to parse platform:")


# --- save ---


def test_a_saved_archive_is_one_for_docker_and_for_oci(api: Any) -> None:
    _load(api, docker_archive_of(ONE, TWO))
    before = time.time()
    files = _members(_saved(api, "load/one", TWO.id))
    listed = sorted(json.loads(files["manifest.json"]), key=lambda item: len(item["Layers"]))
    assert listed == [
        {
            "Config": f"blobs/sha256/{hex_digest(image.raw)}",
            "RepoTags": tags,
            "Layers": [f"blobs/sha256/{hex_digest(layer)}" for layer in image.layers],
            "LayerSources": {
                digest(layer): {"mediaType": OCI_LAYER, "size": len(layer), "digest": digest(layer)} for layer in image.layers
            },
        }
        for image, tags in ((ONE, ["load/one:1", "load/one:2"]), (TWO, None))
    ]
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    assert json.loads(files["repositories"]) == {"load/one": {"1": hex_digest(A), "2": hex_digest(A)}}
    manifests = {entry["digest"]: entry for entry in json.loads(files["index.json"])["manifests"]}
    for name, data in files.items():
        assert not name.startswith("blobs/") or name == f"blobs/sha256/{hex_digest(data)}"
    described = [json.loads(files[f"blobs/sha256/{name[7:]}"]) for name in manifests]
    assert ONE.id in {manifest["config"]["digest"] for manifest in described}
    names = [entry["annotations"] for entry in json.loads(files["index.json"])["manifests"] if "annotations" in entry]
    assert names == [
        {"io.containerd.image.name": f"docker.io/load/one:{tag}", "org.opencontainers.image.ref.name": tag} for tag in "12"
    ]
    told = api("GET", f"/events?since={before:.9f}&until={time.time():.9f}").lines
    assert {event["Actor"]["ID"] for event in told if event["Action"] == "save"} == {ONE.id, TWO.id}


def test_what_was_saved_is_loaded_as_the_same(api: Any) -> None:
    _load(api, docker_archive_of(ONE, TWO, NAMELESS))
    archive = _saved(api, "load/one:1", "load/two", NAMELESS.id)
    _remove(api)
    assert set(_texts(_load(api, archive))) >= {"Loaded image: load/one:1\n", "Loaded image: load/two:latest\n"}
    images = (ONE, TWO, NAMELESS)
    assert [api("GET", f"/images/{image.id}/json").json["RepoTags"] for image in images] == [
        ["load/one:1"],
        ["load/two:latest"],
        [],
    ]


def test_parents_that_are_saved_along_are_parents_again(api: Any, busybox: str) -> None:
    container = api("POST", "/containers/create", {"Image": busybox, "Cmd": ["x"]}).json["Id"]
    child = api("POST", f"/commit?container={container}&repo=load/child", {}).json["Id"]
    parent = api("GET", f"/images/{child}/json").json["Parent"]
    api("DELETE", f"/containers/{container}")
    together, alone = _saved(api, busybox, "load/child"), _saved(api, "load/child")
    assert [item.get("Parent") for item in json.loads(_members(alone)["manifest.json"])] == [None]
    for archive, expected in ((alone, ""), (together, parent)):
        api("DELETE", "/images/load/child?force=1")
        _load(api, archive)
        assert api("GET", f"/images/{child}/json").json["Parent"] == expected


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("load/none", 404, "No such image: load/none"),
        ("load/none:1", 404, "reference does not exist"),
        ("load/UP", 500, "invalid reference format: repository name (load/UP) must be lowercase"),
    ],
)
def test_what_can_not_be_saved_is_told_before_the_archive(api: Any, name: str, status: int, message: str) -> None:
    _load(api, docker_archive_of(ONE))
    for target in (f"/images/get?names=load/one&names={name}", f"/images/{name}/get"):
        answer = api("GET", target)
        assert (answer.status, answer.message) == (status, message)


# --- OCI layouts, which this engine loads, too ---


def _oci(compress: bool = True) -> tuple[Blobs, dict[str, Any], dict[str, Any]]:
    """A layout's blobs with an image for this machine and one for another."""
    blobs = Blobs()
    packed = [
        (gzip.compress(A, mtime=0), f"{OCI_LAYER}+gzip") if compress else (A, OCI_LAYER),
        (zstandard.compress(B), f"{OCI_LAYER}+zstd") if compress else (B, OCI_LAYER),
    ]
    native = blobs.manifest(TWO.raw, packed, platform={"os": "linux", "architecture": NATIVE})
    foreign = MadeImage([C], fields={"architecture": OTHER})
    return blobs, native, blobs.manifest(foreign.raw, [(C, OCI_LAYER)], platform={"os": "linux", "architecture": OTHER})


@pytest.mark.kitepy
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_an_oci_layout_is_loaded_for_this_machine_and_kept_as_it_is(api: Any, depth: int) -> None:
    blobs, native, foreign = _oci()
    named = {"annotations": {"io.containerd.image.name": "docker.io/load/oci:1"}}
    attestation = {**foreign, "annotations": {"vnd.docker.reference.type": "attestation-manifest"}}
    entry = native
    for _ in range(depth):
        entry = blobs.index([attestation, foreign, entry] if entry is native else [entry])
    layout = blobs.layout({**entry, **named})
    assert _texts(_load(api, layout)) == ["Loaded image: load/oci:1\n"]
    assert api("GET", "/images/load/oci:1/json").json["Id"] == TWO.id
    again = _members(_saved(api, "load/oci:1"))
    kept = [native["digest"], *(layer["digest"] for layer in json.loads(_members(layout)[_blob(native)])["layers"])]
    assert all(again[f"blobs/sha256/{name[7:]}"] == _members(layout)[f"blobs/sha256/{name[7:]}"] for name in kept)


def _blob(descriptor: dict[str, Any]) -> str:
    return f"blobs/sha256/{descriptor['digest'][7:]}"


@pytest.mark.kitepy
def test_another_platform_of_a_layout_is_loaded_on_demand(api: Any) -> None:
    blobs, native, foreign = _oci()
    layout = blobs.layout({**blobs.index([native, foreign]), "annotations": {"io.containerd.image.name": "docker.io/load/oci:1"}})
    assert _texts(_load(api, layout, platform=json.dumps({"os": "linux", "architecture": OTHER}))) == [
        "Loaded image: load/oci:1\n"
    ]
    assert api("GET", "/images/load/oci:1/json").json["Architecture"] == OTHER
    (message,) = _load(api, layout, platform=json.dumps({"os": "linux", "architecture": "s390x"}))
    assert message == {}


@pytest.mark.kitepy
def test_a_manifest_whose_layers_are_here_in_another_form_is_not_saved(api: Any) -> None:
    _load(api, docker_archive_of(TWO))
    blobs, native, _ = _oci()
    _load(api, blobs.layout({**native, "annotations": {"io.containerd.image.name": "docker.io/load/oci:1"}}))
    files = _members(_saved(api, "load/oci:1"))
    (entry,) = json.loads(files["index.json"])["manifests"]
    assert all(_blob(layer) in files for layer in json.loads(files[_blob(entry)])["layers"])


@pytest.mark.kitepy
@pytest.mark.parametrize("attack", ["digest", "loop", "type", "deep"])
def test_a_layout_that_lies_is_refused(api: Any, attack: str) -> None:
    blobs, native, _ = _oci()
    if attack == "digest":
        blobs.members[_blob(native)] += b" "
    elif attack == "type":
        native = {**native, "mediaType": "application/vnd.docker.distribution.manifest.v1+json"}
    elif attack == "deep":
        for _ in range(9):
            native = blobs.index([native])
    else:  # an index that names one which isn't there
        native = {**native, "digest": f"sha256:{'0' * 64}"}
    (message,) = _load(api, blobs.layout(native))
    assert "error" in message


# --- import ---

PLAIN = small_layer("imported")


class _Web(BaseHTTPRequestHandler):
    """A server of tars, and of what may come instead."""

    def do_GET(self) -> None:
        redirects = {"/moved": "/plain", "/loop": "/loop", "/local": "file:///etc/passwd", "/socket": "unix:///run/docker.sock"}
        body, status = {"/plain": (PLAIN, 200), "/gzip": (gzip.compress(PLAIN), 200), "/short": (PLAIN[:700], 200)}.get(
            self.path, (b"nothing here", 404)
        )
        if self.path in redirects:
            self.send_response(302)
            self.send_header("Location", redirects[self.path])
            body = b""
        else:
            self.send_response(status)
        self.send_header("Content-Length", str(len(PLAIN) if self.path == "/short" else len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(name="web", scope="module")
def _web() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Web)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def _import(api: Any, source: str = "-", archive: bytes | None = None, **query: Any) -> Any:
    given = urlencode({"fromSrc": source, "repo": "load/imported", **query}, doseq=True)
    return api("POST", f"/images/create?{given}", archive=archive)


def test_an_imported_tar_is_an_image_of_one_layer(api: Any) -> None:
    before = time.time()
    (message,) = _import(api, archive=gzip.compress(PLAIN), tag="1", changes=['CMD ["a"]', "ENV b=c"], message="why").lines
    found = api("GET", "/images/load/imported:1/json").json
    assert message == {"status": found["Id"]}
    assert (found["RootFS"]["Layers"], found["Comment"]) == ([digest(PLAIN)], "why")
    assert (found["Config"]["Cmd"], found["Config"]["Env"]) == (["a"], ["b=c"])
    assert found["DockerVersion"]
    assert found["Metadata"]["LastTagTime"] > "2024"
    told = api("GET", f"/events?since={before:.9f}&until={time.time():.9f}").lines
    actions = [(event["Action"], event["Actor"]["Attributes"]["name"]) for event in told if event["Type"] == "image"]
    assert actions == [("tag", "load/imported:1"), ("import", found["Id"])]


def test_an_imported_image_may_be_for_another_platform(api: Any) -> None:
    assert _import(api, archive=PLAIN, platform="linux/arm/v6").status == 200
    found = api("GET", "/images/load/imported/json").json
    assert (found["Os"], found["Architecture"], found["Variant"]) == ("linux", "arm", "v6")
    assert found["Comment"] == "Imported from -"


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ({"repo": f"load/x@sha256:{'a' * 64}"}, 400, "cannot import digest reference"),
        ({"repo": "load/UP"}, 400, "invalid reference format: repository name (load/UP) must be lowercase"),
        ({"tag": "-x"}, 400, "invalid tag format"),
        ({"platform": "windows/amd64"}, 400, "operating system is not supported"),
        ({"platform": "a/b/c/d"}, 400, '"a/b/c/d": cannot parse platform specifier: invalid argument'),
        ({"changes": "RUN x"}, 400, "RUN is not a valid change command"),
    ],
)
def test_an_import_that_is_not_understood_is_refused(api: Any, query: dict[str, str], status: int, message: str) -> None:
    answer = _import(api, archive=PLAIN, **query)
    assert (answer.status, answer.message) == (status, message)


@pytest.mark.parametrize("path", ["/plain", "/moved", "/gzip"])
def test_a_tar_is_imported_from_the_web(api: Any, web: str, path: str) -> None:
    source = f"{web}{path}" if path != "/plain" else f"{web}{path}".removeprefix("http://")
    first, *bars, last = _import(api, source).lines
    assert first == {"status": f"Downloading from {web}{path}"}
    assert {bar["status"] for bar in bars} == {"Importing"}
    assert bars[-1]["progressDetail"]["current"] == bars[-1]["progressDetail"]["total"]
    assert last == {"status": api("GET", "/images/load/imported/json").json["Id"]}
    assert api("GET", "/images/load/imported/history").json[0]["Comment"].startswith("Imported from ")


@pytest.mark.parametrize(
    ("address", "status", "message"),
    [
        ("{web}/none", 404, "failed to GET {web}/none with status 404 Not Found: nothing here"),
        ("{web}/loop", 500, 'Get "/loop": stopped after 10 redirects'),
        ("{web}/local", 500, 'Get "file:///etc/passwd": unsupported protocol scheme "file"'),
        ("{web}/socket", 500, 'Get "unix:///run/docker.sock": unsupported protocol scheme "unix"'),
        ("file:///etc/passwd", 500, 'Get "file:///etc/passwd": unsupported protocol scheme "file"'),
        ("unix:///run/docker.sock", 500, 'Get "unix:///run/docker.sock": unsupported protocol scheme "unix"'),
        ("http://127.0.0.1:1/x", 500, 'Get "http://127.0.0.1:1/x": dial tcp 127.0.0.1:1: connect: connection refused'),
        ("http://", 500, 'Get "http:": http: no Host in request URL'),
        ("://", 400, 'parse "://": missing protocol scheme'),
    ],
)
def test_only_what_the_web_has_is_imported(api: Any, web: str, address: str, status: int, message: str) -> None:
    answer = _import(api, address.format(web=web))
    assert (answer.status, answer.message) == (status, message.format(web=web))


def test_a_download_that_breaks_off_is_no_image(api: Any, web: str) -> None:
    messages = _import(api, f"{web}/short").lines
    assert any(message.get("error") == "unexpected EOF" for message in messages)
    assert api("GET", "/images/load/imported/json").status == 404
