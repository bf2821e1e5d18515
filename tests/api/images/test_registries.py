"""What the engine says of registries: descriptors and platforms, searches, who the user is, and Kitepy's own looks into them."""

from __future__ import annotations

import http.server
import json
import threading
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from api.containers.conftest import Answer, RawApi
from support.contract import ApiContract
from support.docker_registry import PASSWORD, USER, DockerRegistry
from support.fault_proxy import FaultProxy
from support.oci import Made, digest, index_of, put, tar

AMD64 = Made([tar({"a": b"1"})])
ARM = Made([tar({"a": b"2"})], platform={"os": "linux", "architecture": "arm64", "variant": "v8"})
JSON = {"Content-Type": "application/json"}
DOCKER = Made([tar({"a": b"3"})], docker=True, compression="gzip")


@pytest.fixture(name="images", scope="module")
def _images() -> Iterator[DockerRegistry]:
    """A registry that holds nothing else: catalogs of this kind end early where a repository has blobs alone."""
    with DockerRegistry() as registry:
        put(registry, "shown/one", "1", AMD64)
        put(registry, "shown/one", "2", DOCKER)
        put(registry, "shown/many", "latest", AMD64, ARM)
        yield registry


def _auth(**document: Any) -> dict[str, str]:
    return {"X-Registry-Auth": urlsafe_b64encode(json.dumps(document).encode()).decode()}


# GET /distribution/{name}/json


def test_an_image_is_described(api: RawApi, contract: ApiContract, images: DockerRegistry) -> None:
    for tag, image in (("1", AMD64), ("2", DOCKER)):
        answer = api("GET", f"/distribution/{images.host}/shown/one:{tag}/json")
        assert answer.status == 200, answer.body
        contract.check("GET", "/distribution/{name}/json", 200, answer.json)
        assert answer.json == {
            "Descriptor": image.manifest.descriptor,
            "Platforms": [{"architecture": "amd64", "os": "linux"}] if image.docker else None,
        }
        by_digest = api("GET", f"/distribution/{images.host}/shown/one@{image.manifest.digest}/json")
        assert by_digest.json == answer.json


def test_an_index_is_described_with_all_of_its_platforms(api: RawApi, images: DockerRegistry) -> None:
    answer = api("GET", f"/distribution/{images.host}/shown/many/json")
    assert answer.json == {
        "Descriptor": index_of(AMD64, ARM).descriptor,
        "Platforms": [{"architecture": "amd64", "os": "linux"}, {"architecture": "arm64", "os": "linux", "variant": "v8"}],
    }


def test_what_a_registry_does_not_have_is_said_in_its_words(api: RawApi, images: DockerRegistry) -> None:
    unknown = api("GET", f"/distribution/{images.host}/shown/one:3/json")
    assert (unknown.status, unknown.message) == (404, "manifest unknown: manifest unknown")
    assert api("GET", f"/distribution/{'0' * 64}/json").message == "no manifest found for full image ID"
    nobody = api("GET", "/distribution/127.0.0.1:1/x/json")
    assert nobody.status == 500
    assert nobody.message == 'Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused'


@pytest.mark.parametrize(
    ("status", "headers", "body", "told"),
    [
        (403, JSON, b'{"errors":[{"code":"DENIED","message":"no"}]}', (403, "denied: no")),
        (404, {"Content-Type": "text/html"}, b"<p>", (500, "unknown: <p>")),
        (418, JSON, b"", (500, 'error parsing HTTP 418 response body: unexpected end of JSON input: ""')),
        (200, {"Content-Type": "text/plain"}, b"hi",
         (500, "error unmarshalling content: invalid character 'h' looking for beginning of value")),
        (200, {"Content-Type": DOCKER.manifest.media_type}, b'{"schemaVersion', (500, "unexpected end of JSON input")),
        (200, {"Content-Type": DOCKER.manifest.media_type}, b"{}",
         (500, f"mediaType in manifest should be '{DOCKER.manifest.media_type}' not ''")),
        (200, JSON, b'{"schemaVersion": 2}', (500, "missing signature key")),
        (429, {**JSON, "Retry-After": "3600"}, b'{"details":"slower"}', (429, "toomanyrequests: slower")),
    ],
)  # fmt: skip
def test_odd_answers_of_registries(
    api: RawApi, proxy: FaultProxy, status: int, headers: dict[str, str], body: bytes, told: tuple[int, str]
) -> None:
    if status == 200:
        headers = {**headers, "Docker-Content-Digest": digest(body)}
    proxy.add("/manifests/", method="GET|HEAD", status=status, headers=headers, body=body, times=-1)
    answer = api("GET", f"/distribution/{proxy.host}/shown/one:1/json")
    assert (answer.status, answer.message) == told


# X-Registry-Auth


def test_credentials_come_with_the_request(api: RawApi, images: DockerRegistry) -> None:
    assert images
    with DockerRegistry(passwords=True) as registry:
        put(registry, "mine", "1", AMD64)
        name = f"/distribution/{registry.host}/mine:1/json"

        def ask(headers: dict[str, str]) -> Answer:
            return api("GET", name, headers=headers)

        good = ask(_auth(username=USER, password=PASSWORD))
        assert good.status == 200, good.body
        assert ask(_auth(UserName=USER, PASSWORD=PASSWORD)).status == 200
        wrong = ask(_auth(username=USER, password="wr0ng"))  # noqa: S106
        assert wrong.status == 401
        assert "wr0ng" not in wrong.message
        bad = {"X-Registry-Auth": "%%%"}
        for headers in ({}, _auth(), bad, _auth(username=5), {"X-Registry-Auth": urlsafe_b64encode(b"hi").decode()}):
            answer = ask(headers)
            assert answer.status == 500, headers
            assert answer.message == f'Head "http://{registry.host}/v2/mine/manifests/1": no basic auth credentials'


# GET /images/search


class _SearchService:
    """Answers as Docker Hub's search does; remembers what it was asked."""

    def __init__(self) -> None:
        service = self
        self.asked: list[tuple[str, dict[str, list[str]]]] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                """Be quiet."""

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                service.asked.append((parts.path, parse_qs(parts.query)))
                found = [
                    {"name": "a/one", "description": "first", "star_count": 5, "is_official": False, "is_automated": True},
                    {"name": "two", "star_count": 50, "is_official": True},
                    {"name": "three"},
                ]
                wanted = parse_qs(parts.query).get("q", [""])[0]
                status, body = 200, json.dumps({"results": found}).encode()
                if wanted in ("fails", "nonsense"):
                    status, body = (500, b"") if wanted == "fails" else (200, b"nonsense")
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        self.host = f"127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


@pytest.fixture(name="service", scope="module")
def _service() -> Iterator[_SearchService]:
    service = _SearchService()
    yield service
    service.close()


def _search(api: RawApi, term: str, filters: dict[str, list[str]] | None = None, more: str = "") -> Answer:
    chosen = f"&filters={quote(json.dumps(filters))}" if filters is not None else ""
    return api("GET", f"/images/search?term={quote(term)}{chosen}{more}")


def test_a_search_service_is_asked(api: RawApi, contract: ApiContract, service: _SearchService) -> None:
    answer = _search(api, f"{service.host}/some thing", more="&limit=7")
    contract.check("GET", "/images/search", 200, answer.json)
    assert answer.json == [
        {"star_count": 5, "is_official": False, "name": "a/one", "is_automated": False, "description": "first"},
        {"star_count": 50, "is_official": True, "name": "two", "is_automated": False, "description": ""},
        {"star_count": 0, "is_official": False, "name": "three", "is_automated": False, "description": ""},
    ]
    assert service.asked[-1] == ("/v1/search", {"q": ["some thing"], "n": ["7"]})
    _search(api, f"{service.host}/x")
    assert service.asked[-1] == ("/v1/search", {"q": ["x"], "n": ["25"]})


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({"is-official": ["true"]}, ["two"]),
        ({"is-official": ["0"]}, ["a/one", "three"]),
        ({"stars": ["5"]}, ["a/one", "two"]),
        ({"stars": ["1", "10"]}, ["two"]),
        ({"is-automated": ["true"]}, []),
        ({"is-automated": ["false"], "is-official": ["1"]}, ["two"]),
        ({}, ["a/one", "two", "three"]),
    ],
)
def test_results_are_filtered(api: RawApi, service: _SearchService, filters: dict[str, list[str]], names: list[str]) -> None:
    assert [found["name"] for found in _search(api, f"{service.host}/x", filters).json] == names


@pytest.mark.parametrize(
    ("filters", "more", "words"),
    [
        ({"is-official": ["perhaps"]}, "", "invalid filter 'is-official=[perhaps]'"),
        ({"stars": ["many"]}, "", "invalid filter 'stars=many': strconv.Atoi: parsing \"many\": invalid syntax"),
        ({"nope": ["1"]}, "", "invalid filter 'nope'"),
        (None, "&limit=101", "limit 101 is outside the range of [1, 100]"),
        (None, "&limit=abc", 'invalid limit specified: strconv.Atoi: parsing "abc": invalid syntax'),
    ],
)
def test_searches_that_make_no_sense(
    api: RawApi, service: _SearchService, filters: dict[str, list[str]] | None, more: str, words: str
) -> None:
    answer = _search(api, f"{service.host}/x", filters, more)
    assert (answer.status, answer.message) == (400, words)


def test_searches_that_fail(api: RawApi, service: _SearchService) -> None:
    failed = _search(api, f"{service.host}/fails")
    assert (failed.status, failed.message) == (500, "Unexpected status code 500")
    nonsense = _search(api, f"{service.host}/nonsense").message
    assert nonsense == "error decoding registry search results: invalid character 'o' in literal null (expecting 'u')"
    scheme = _search(api, f"https://{service.host}/x")
    assert (scheme.status, scheme.message.partition(":")[0]) == (400, "invalid repository name")
    nobody = _search(api, "127.0.0.1:1/x")
    assert nobody.status == 400
    assert nobody.message.startswith(
        'invalid registry endpoint "http://127.0.0.1:1/v1/". HTTPS attempt: Get "https://127.0.0.1:1/'
    )


@pytest.mark.kitepy
def test_a_registry_without_a_search_service_is_searched_by_its_catalog(api: RawApi, images: DockerRegistry) -> None:
    found = _search(api, f"{images.host}/SHOWN")
    assert [entry["name"] for entry in found.json] == ["shown/many", "shown/one"]
    assert len(_search(api, f"{images.host}/shown", more="&limit=1").json) == 1
    assert _search(api, f"{images.host}/nothing-like-it").json == []


# /kitepy/registries


@pytest.mark.kitepy
def test_repositories_and_tags_come_in_pages(api: RawApi, images: DockerRegistry) -> None:
    for tag in ("a", "b1", "b2", "c"):
        images.put_manifest("shown/one", tag, AMD64.manifest.content, AMD64.manifest.media_type)
    path = f"/kitepy/registries/tags?repository={images.host}/shown/one"
    first = api("GET", f"{path}&n=2").json
    assert first == {"Name": f"{images.host}/shown/one", "Tags": [{"Name": "1"}, {"Name": "2"}], "Next": "2"}
    names = [tag["Name"] for tag in first["Tags"]]
    page = first
    while page["Next"]:
        page = api("GET", f"{path}&n=2&last={page['Next']}").json
        names += [tag["Name"] for tag in page["Tags"]]
    assert names == ["1", "2", "a", "b1", "b2", "c"]
    assert [tag["Name"] for tag in api("GET", f"{path}&filter=B").json["Tags"]] == ["b1", "b2"]
    repositories = api("GET", f"/kitepy/registries/repositories?registry={images.host}&filter=shown&n=1").json
    assert repositories == {"Repositories": ["shown/many"], "Next": "shown/many"}
    assert api("GET", f"/kitepy/registries/tags?repository={images.host}/shown/none").status == 404
    assert api("GET", f"{path}&n=0").status == 400


@pytest.mark.kitepy
def test_a_preview_tells_what_a_pull_would_bring(api: RawApi, images: DockerRegistry) -> None:
    made = Made([tar({"only": b"here"}), tar({"and": b"there"})], config={"Env": ["A=b"]})
    put(images, "shown/preview", "1", made, ARM)
    path = f"/kitepy/registries/preview?reference={images.host}/shown/preview:1"
    shown = api("GET", f"{path}&platform=linux/amd64").json
    sizes = [len(blob.content) for blob in made.blobs]
    assert shown["Layers"] == [
        {"Digest": blob.digest, "Size": size, "DiffID": digest(layer), "Here": False}
        for blob, size, layer in zip(made.blobs, sizes, made.layers, strict=True)
    ]
    assert shown["Size"] == shown["Fetch"] == sum(sizes) + len(made.document.content)
    assert (shown["ID"], shown["Digest"]) == (made.id, index_of(made, ARM).digest)
    assert (shown["Platform"], shown["Platforms"]) == ("linux/amd64", ["linux/amd64", "linux/arm64"])
    assert shown["Config"]["Env"] == ["A=b"]
    assert api("GET", f"{path}&platform=linux/arm64").json["ID"] == ARM.id
    assert api("GET", f"{path}&platform=linux/s390x").status == 404
    name = f"{images.host}/shown/preview"
    assert api("POST", f"/images/create?fromImage={name}&tag=1").status == 200
    try:
        after = api("GET", f"{path}&platform=linux/amd64").json
        assert [layer["Here"] for layer in after["Layers"]] == [True, True]
        assert after["Fetch"] == 0
    finally:
        api("DELETE", f"/images/{name}:1")


@pytest.mark.kitepy
def test_a_preview_says_how_long_a_registry_wants_to_be_left_alone(api: RawApi, proxy: FaultProxy) -> None:
    proxy.add("/manifests/", status=429, headers={"Retry-After": "12"}, body=b"slower", times=-1)
    answer = api("GET", f"/kitepy/registries/preview?reference={proxy.host}/x:1")
    assert (answer.status, answer.message) == (429, "toomanyrequests: slower, try again in 12 s")
    assert len(proxy.asked("GET", "/manifests/")) == 1
