"""The client of repositories against a real registry: reading, writing, and what it does where things go wrong in between."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from support.docker_registry import PASSWORD, USER, DockerRegistry
from support.fault_proxy import FaultProxy
from support.oci import Made, digest, put, tar
from support.registry import PASSWORD as DOUBLE_PASSWORD
from support.registry import USER as DOUBLE_USER
from support.registry import RegistryDouble, make_certificate

from kitepy.engine.distribution import connection, uploads
from kitepy.engine.distribution.connection import Waiting
from kitepy.engine.distribution.credentials import ANONYMOUS, Credentials
from kitepy.engine.distribution.endpoints import InsecureRegistries
from kitepy.engine.distribution.failures import CutOff, RefusedRateLimited, RegistryError, Unreachable
from kitepy.engine.distribution.proxies import Proxies
from kitepy.engine.distribution.registries import Registries
from kitepy.engine.distribution.repository import Repository
from kitepy.engine.model.errors import EngineError, InvalidParameter, NotFound, SystemFailure
from kitepy.engine.model.oci import Digest
from kitepy.engine.model.reference import parse_reference

Result = TypeVar("Result")
IMAGE = Made([tar({"a": b"a" * 5000}), tar({"b": bytes(range(256)) * 900})])
LAYER = IMAGE.blobs[1]


@pytest.fixture(name="registry", scope="module")
def _registry() -> Iterator[DockerRegistry]:
    with DockerRegistry() as registry:
        put(registry, "me/app", "1", IMAGE)
        yield registry


@pytest.fixture(name="proxy")
def _proxy(registry: DockerRegistry, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    for module in (connection, uploads):
        monkeypatch.setattr(module, "_FIRST_PAUSE_S", 0.001)
    with FaultProxy(registry.port) as proxy:
        yield proxy


def _use(
    host: str,
    work: Callable[[Repository], Awaitable[Result]],
    *,
    name: str = "me/app",
    credentials: Credentials = ANONYMOUS,
    actions: tuple[str, ...] = ("pull",),
    registries: Registries | None = None,
    **options: Any,
) -> Result:
    async def run() -> Result:
        known = registries or Registries(user_agent="test", insecure=InsecureRegistries())
        text = f"{host}/{name}" if host else name
        async with known.repository(parse_reference(text), credentials, actions, **options) as repository:
            return await work(repository)

    return asyncio.run(run())


async def _read(repository: Repository, offset: int = 0) -> tuple[int, bytes]:
    pieces = []
    async with repository.open_blob(Digest(LAYER.digest), len(LAYER.content), offset) as blob:
        async for piece in blob:
            pieces.append(piece)
        return blob.offset, b"".join(pieces)


def test_manifests_blobs_and_tags_are_read(registry: DockerRegistry) -> None:
    async def work(repository: Repository) -> None:
        fetched = await repository.manifest("1")
        assert (fetched.raw, fetched.digest) == (IMAGE.manifest.content, IMAGE.manifest.digest)
        assert await repository.manifest(IMAGE.manifest.digest) == fetched
        descriptor = await repository.head_manifest("1")
        assert descriptor is not None
        assert (descriptor.digest, descriptor.size, descriptor.media_type) == (
            fetched.digest,
            len(fetched.raw),
            fetched.media_type,
        )
        assert await repository.head_manifest("2") is None
        assert await repository.head_blob(Digest(LAYER.digest)) == len(LAYER.content)
        assert await repository.head_blob(Digest(digest(b"nothing"))) is None
        assert await _read(repository) == (0, LAYER.content)
        assert await _read(repository, 70) == (70, LAYER.content[70:])
        assert [page async for page in repository.tags()] == [["1"]]

    _use(registry.host, work)


def test_what_is_not_there_is_said_as_to_a_pull(registry: DockerRegistry) -> None:
    async def work(repository: Repository) -> None:
        with pytest.raises(NotFound, match=rf"manifest for {registry.host}/me/app:2 not found: manifest unknown"):
            await repository.manifest("2")

    _use(registry.host, work)


def test_blobs_are_written_in_one_piece_in_chunks_and_before_their_size_is_known(registry: DockerRegistry) -> None:
    for number, (chunk_bytes, known) in enumerate([(None, True), (40_000, True), (None, False)]):
        content = bytes([number]) * 100_001

        async def source(offset: int, content: bytes = content) -> AsyncIterator[bytes]:
            for place in range(offset, len(content), 30_000):
                yield content[place : place + 30_000]

        async def work(
            repository: Repository,
            content: bytes = content,
            source: Any = source,
            chunk_bytes: int | None = chunk_bytes,
            known: bool = known,
        ) -> None:
            name, sent = Digest(digest(content)), list[int]()
            wanted = name if known else lambda: name
            await repository.upload_blob(wanted, len(content) if known else None, source, sent.append, chunk_bytes)
            assert sent == sorted(sent)
            assert sent[-1] == len(content)
            assert await repository.head_blob(name) == len(content)

        _use(registry.host, work, name="me/written", actions=("pull", "push"))


def test_a_blob_of_another_repository_is_taken_over(registry: DockerRegistry) -> None:
    async def work(repository: Repository) -> None:
        assert await repository.mount_blob(Digest(LAYER.digest), "me/app")
        content = b"nowhere"
        assert not await repository.mount_blob(Digest(digest(content)), "me/app")

        async def source(offset: int) -> AsyncIterator[bytes]:
            yield content[offset:]

        await repository.upload_blob(Digest(digest(content)), len(content), source, lambda _: None)
        assert await repository.put_manifest("x", IMAGE.manifest.content, IMAGE.manifest.media_type) == IMAGE.manifest.digest

    for blob in (IMAGE.document, IMAGE.blobs[0]):
        registry.put_blob("me/other", blob.content, blob.digest)
    _use(registry.host, work, name="me/other", actions=("pull", "push"))
    assert registry.manifest("me/other", "x").body == IMAGE.manifest.content


def test_a_blob_that_is_cut_off_can_be_gone_on_with(proxy: FaultProxy) -> None:
    cut = len(LAYER.content) // 2
    proxy.add("/blobs/", cut_after=cut)

    async def work(repository: Repository) -> bytes:
        got = b""
        try:
            async with repository.open_blob(Digest(LAYER.digest), len(LAYER.content)) as blob:
                async for piece in blob:
                    got += piece
        except CutOff:
            pass
        else:
            pytest.fail("nobody noticed the cut")
        offset, rest = await _read(repository, len(got))
        assert offset == len(got) > 0
        return got + rest

    assert _use(proxy.host, work) == LAYER.content


def test_a_registry_that_can_not_give_a_part_gives_all_of_it(proxy: FaultProxy) -> None:
    proxy.add("/blobs/", no_range=True)
    assert _use(proxy.host, lambda repository: _read(repository, 100)) == (0, LAYER.content)


def test_more_bytes_than_were_announced_are_not_taken(proxy: FaultProxy) -> None:
    proxy.add("/blobs/", change=lambda body: body + b"more", headers={"Content-Length": ""})
    with pytest.raises(SystemFailure, match="more than"):
        _use(proxy.host, _read)


def test_a_registry_that_fails_is_asked_again_and_one_that_goes_on_failing_is_told_of(proxy: FaultProxy) -> None:
    proxy.add("/manifests/1", status=503, times=2)
    assert _use(proxy.host, lambda repository: repository.manifest("1")).digest == IMAGE.manifest.digest
    proxy.add("/v2/$", cut_after=-1, times=2)
    proxy.add("/manifests/1", cut_after=-1)
    assert _use(proxy.host, lambda repository: repository.manifest("1")).digest == IMAGE.manifest.digest
    proxy.add("/manifests/1", status=500, times=-1)
    with pytest.raises(RegistryError, match="received unexpected HTTP status: 500 Internal Server Error"):
        _use(proxy.host, lambda repository: repository.manifest("1"))


def test_a_rate_limit_is_waited_for_aloud_unless_it_is_too_long(proxy: FaultProxy) -> None:
    waited: list[Waiting] = []
    proxy.add("/manifests/1", status=429, headers={"Retry-After": "0"})
    _use(proxy.host, lambda repository: repository.manifest("1"), waiting=waited.append)
    assert [(pause.host, pause.rate_limited) for pause in waited] == [(proxy.host, True)]
    body = {"errors": [{"code": "TOOMANYREQUESTS", "message": "slower, please"}]}
    headers = {"Retry-After": "3600", "Content-Type": "application/json"}
    proxy.add("/manifests/1", status=429, headers=headers, body=json.dumps(body).encode(), times=-1)
    with pytest.raises(RefusedRateLimited, match="toomanyrequests: slower, please") as refused:
        _use(proxy.host, lambda repository: repository.manifest("1"), waiting=waited.append)
    assert refused.value.retry_after_s == 3600
    assert len(waited) == 1


def test_a_manifest_that_is_not_what_its_digest_says_is_refused(proxy: FaultProxy) -> None:
    proxy.add("/manifests/", change=lambda body: body.replace(b" ", b"", 1))
    with pytest.raises(SystemFailure, match="manifest verification failed for digest sha256:"):
        _use(proxy.host, lambda repository: repository.manifest(IMAGE.manifest.digest))


def test_a_manifest_without_end_is_refused(proxy: FaultProxy) -> None:
    proxy.add("/manifests/", change=lambda body: body + b" " * (5 << 20))
    with pytest.raises(Unreachable, match="longer than"):
        _use(proxy.host, lambda repository: repository.manifest("1"))


def test_redirects_without_end_come_to_one(proxy: FaultProxy) -> None:
    place = "/v2/me/app/manifests/1"
    proxy.add("/manifests/", status=307, headers={"Location": place}, times=-1)
    with pytest.raises(Unreachable, match=rf'Head "{place}": stopped after 10 redirects'):
        _use(proxy.host, lambda repository: repository.manifest("1"))


def test_an_upload_goes_on_where_the_registry_stopped_listening(proxy: FaultProxy) -> None:
    content = bytes(range(256)) * 4000
    begun: list[int] = []

    async def source(offset: int) -> AsyncIterator[bytes]:
        begun.append(offset)
        for place in range(offset, len(content), 65_536):
            yield content[place : place + 65_536]

    async def work(repository: Repository) -> None:
        await repository.upload_blob(Digest(digest(content)), len(content), source, lambda _: None, 400_000)
        assert await repository.head_blob(Digest(digest(content))) == len(content)

    proxy.add("/uploads/", method="PATCH", skip=1, status=502)
    proxy.add("/uploads/", method="PUT", status=502)
    _use(proxy.host, work, name="me/resumed", actions=("pull", "push"))
    assert begun == [0, 400_000, 400_000, 800_000]
    begun.clear()
    proxy.add("/uploads/", method="PATCH", cut_request_after=100_000)
    content = content[1:]
    _use(proxy.host, work, name="me/resumed", actions=("pull", "push"))
    assert begun[0] == 0
    assert len(begun) > 3


def test_a_mirror_is_asked_first_and_the_registry_where_it_can_not_help(
    registry: DockerRegistry, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(registry, "library/thing", "1", IMAGE)
    monkeypatch.setattr("kitepy.engine.distribution.registries.HUB", registry.host)
    known = Registries(user_agent="test", insecure=InsecureRegistries(), mirrors=["http://127.0.0.1:1/", f"http://{proxy.host}/"])
    secret = Credentials(USER, PASSWORD, registry_token="t0ken")  # noqa: S106
    found = _use("", lambda repository: repository.manifest("1"), name="thing", registries=known, credentials=secret)
    assert found.digest == IMAGE.manifest.digest
    assert proxy.asked("GET", "/library/thing/manifests/1")
    assert all("authorization" not in request.headers for request in proxy.seen)
    for status in (404, 500, 429):
        proxy.add("/manifests/1", status=status)
        found = _use("", lambda repository: repository.manifest("1"), name="thing", registries=known)
        assert found.digest == IMAGE.manifest.digest

    async def read(repository: Repository) -> list[tuple[int, bytes]]:
        for _ in range(2):
            with pytest.raises(CutOff):
                await _read(repository)
        return [await _read(repository)]

    proxy.add("/blobs/", cut_after=100, times=-1)
    assert _use("", read, name="thing", registries=known) == [(0, LAYER.content)]
    pushing = len(proxy.seen)
    _use("", lambda repository: repository.head_manifest("1"), name="thing", registries=known, actions=("pull", "push"))
    assert len(proxy.seen) == pushing, "a mirror was asked on behalf of a push"


def test_a_password_is_shown_where_it_is_asked_for(tmp_path: Path) -> None:
    with DockerRegistry(passwords=True, certificate=make_certificate(tmp_path)[1]) as registry:
        put(registry, "me/app", "1", IMAGE)
        for credentials in (ANONYMOUS, Credentials(USER)):
            with pytest.raises(SystemFailure, match="no basic auth credentials"):
                _use(registry.host, lambda repository: repository.manifest("1"), credentials=credentials)
        with pytest.raises(RegistryError, match="unauthorized: authentication required"):
            _use(registry.host, lambda repository: repository.manifest("1"), credentials=Credentials(USER, "wrong"))
        assert _use(registry.host, _read, credentials=Credentials(USER, PASSWORD)) == (0, LAYER.content)


def test_a_token_is_kept_until_it_is_refused_and_never_for_somebody_else() -> None:
    known = Registries(user_agent="test", insecure=InsecureRegistries())
    anna = Credentials(DOUBLE_USER, DOUBLE_PASSWORD)
    with RegistryDouble("token") as registry:

        def ask(credentials: Credentials, name: str = "me/app") -> int:
            before = len([request for request in registry.seen if request.path == "/token"])
            with pytest.raises((RegistryError, SystemFailure)):  # the double has no manifests
                _use(
                    registry.host,
                    lambda repository: repository.manifest("1"),
                    name=name,
                    credentials=credentials,
                    registries=known,
                )
            return len([request for request in registry.seen if request.path == "/token"]) - before

        assert (ask(anna), ask(anna)) == (1, 0)
        assert ask(anna, "me/other") == 1, "a token for one repository was shown to another"
        assert ask(ANONYMOUS) > 0, "a token of somebody was shown for nobody"
        registry.token += "2"
        assert ask(anna) == 0
        scopes = {tuple(request.query.get("scope", ())) for request in registry.seen if request.path == "/token"}
        assert scopes == {("repository:me/app:pull",), ("repository:me/other:pull",)}


def test_what_a_redirect_leads_to_gets_no_token() -> None:
    with RegistryDouble("open") as thief:
        path = "/v2/me/app/manifests/1"
        with RegistryDouble("token", redirects={path: f"{thief.url}{path}"}) as registry:
            with pytest.raises(SystemFailure):
                _use(
                    registry.host,
                    lambda repository: repository.manifest("1"),
                    credentials=Credentials(DOUBLE_USER, DOUBLE_PASSWORD),
                )
        assert [request.authorization for request in thief.seen] == [""]


def test_tags_come_in_pages(proxy: FaultProxy) -> None:
    first = {"Link": '</v2/me/app/tags/list?n=2&last=b>; rel="next"', "Content-Type": "application/json"}
    proxy.add(r"tags/list\?n=2$", status=200, headers=first, body=b'{"name":"me/app","tags":["a","b"]}')
    proxy.add(r"last=b", status=200, headers={"Content-Type": "application/json"}, body=b'{"name":"me/app","tags":["c"]}')

    async def work(repository: Repository) -> list[list[str]]:
        return [page async for page in repository.tags(page_size=2)]

    assert _use(proxy.host, work) == [["a", "b"], ["c"]]


def test_a_proxy_stands_between(proxy: FaultProxy) -> None:
    way = f"http://{proxy.host}"
    known = Registries(
        user_agent="test", insecure=InsecureRegistries(["r.invalid:5000"]), proxies=Proxies(way, way, no_proxy="other.invalid")
    )
    found = _use("r.invalid:5000", lambda repository: repository.manifest("1"), registries=known)
    assert found.digest == IMAGE.manifest.digest
    assert proxy.asked("GET", "^http://r.invalid:5000/v2/me/app/manifests/1$")
    with pytest.raises(Unreachable, match="proxyconnect tcp: "):
        _use("secure.invalid", lambda repository: repository.manifest("1"), registries=known)  # no tunnels through this one


class _Careless(http.server.BaseHTTPRequestHandler):
    """Speaks HTTP 1.0, and answers HEAD as if it were GET."""

    def log_message(self, *_: Any) -> None:
        """Be quiet."""

    def do_GET(self) -> None:
        known = {f"/v2/me/app/manifests/{ref}": IMAGE.manifest for ref in ("1", IMAGE.manifest.digest)}
        known[f"/v2/me/app/blobs/{LAYER.digest}"] = LAYER
        found = known.get(self.path)
        self.send_response(200 if found or self.path == "/v2/" else 404)
        self.send_header("Content-Type", found.media_type if found else "application/json")
        self.end_headers()
        self.wfile.write(found.content if found else b"{}")

    do_HEAD = do_GET


def test_careless_registries_are_understood() -> None:
    async def work(repository: Repository) -> None:
        descriptor = await repository.head_manifest("1")
        assert descriptor is not None
        assert descriptor.digest == IMAGE.manifest.digest
        assert await repository.head_blob(Digest(LAYER.digest)) is not None
        assert await repository.head_blob(Digest(digest(b""))) is None
        assert await _read(repository) == (0, LAYER.content)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Careless) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            _use(f"127.0.0.1:{server.server_address[1]}", work)
        finally:
            server.shutdown()


def test_a_registry_that_repeats_a_password_does_not_get_it_into_messages(proxy: FaultProxy) -> None:
    secret = Credentials(USER, PASSWORD)
    challenge = {"WWW-Authenticate": 'Basic realm="tests"', "Content-Type": "application/json"}
    proxy.add("/v2/$", status=401, headers=challenge, times=-1)
    said = {"errors": [{"code": "DENIED", "message": f"{PASSWORD} and {secret.basic} are no good"}]}
    proxy.add("/manifests/", status=403, headers=challenge, body=json.dumps(said).encode(), times=-1)
    with pytest.raises(NotFound, match=r"denied: xxxxx and Basic xxxxx are no good$"):
        _use(proxy.host, lambda repository: repository.manifest("1"), credentials=secret)


def test_a_token_may_go_out_of_date_while_a_blob_is_sent(registry: DockerRegistry) -> None:
    content = b"sent twice" * 9000

    async def source(offset: int) -> AsyncIterator[bytes]:
        yield content[offset:]

    async def work(repository: Repository) -> None:
        await repository.upload_blob(Digest(digest(content)), len(content), source, lambda _: None)

    with RegistryDouble("token") as tokens, FaultProxy(registry.port) as proxy:
        challenge = {"WWW-Authenticate": f'Bearer realm="{tokens.url}/token",service="double"'}
        proxy.add("/v2/$", status=401, headers=challenge)
        proxy.add("/uploads/", method="PUT", status=401, headers=challenge)
        _use(proxy.host, work, credentials=Credentials(DOUBLE_USER, DOUBLE_PASSWORD), actions=("pull", "push"))
        assert len([request for request in tokens.seen if request.path == "/token"]) == 2
        proxy.add("/uploads/", method="PUT", status=401, headers=challenge, times=-1)
        with pytest.raises(RegistryError, match="unauthorized"):
            _use(proxy.host, work, credentials=Credentials(DOUBLE_USER, DOUBLE_PASSWORD), actions=("pull", "push"))


def test_a_registry_that_wants_certificates_gets_those_of_its_directory(tmp_path: Path) -> None:
    authority, both = make_certificate(tmp_path)
    with DockerRegistry(certificate=both, clients=authority) as registry:
        put(registry, "me/app", "1", IMAGE)
        directory = tmp_path / "certs.d" / registry.host
        directory.mkdir(parents=True)

        def ask() -> str:
            known = Registries(user_agent="test", insecure=InsecureRegistries(), certificates=[tmp_path / "certs.d"])
            return _use(registry.host, lambda repository: repository.manifest("1"), registries=known).digest

        with pytest.raises((Unreachable, RegistryError)):
            ask()
        (directory / "client.cert").write_bytes(both.read_bytes())
        with pytest.raises(InvalidParameter, match=r"missing key client\.key for client certificate client\.cert"):
            ask()
        (directory / "client.key").write_bytes(both.read_bytes())
        assert ask() == IMAGE.manifest.digest
        (directory / "client.cert").unlink()
        with pytest.raises(InvalidParameter, match=r"missing client certificate client\.cert for key client\.key"):
            ask()


NOWHERE = (
    "http://[::1",
    "http://a:99999/",
    "//",
    "http://",
    "\x01",
    "http://a b/",
    "javascript:x",
    "http://u:p@/",
    "?" * 9000,
    "%",
)


@pytest.mark.parametrize("place", NOWHERE)
def test_addresses_that_lead_nowhere_are_no_fault_of_ours(proxy: FaultProxy, place: str) -> None:
    async def tags(repository: Repository) -> list[list[str]]:
        return [page async for page in repository.tags()]

    async def source(_: int) -> AsyncIterator[bytes]:
        yield b"x"

    async def upload(repository: Repository) -> None:
        await repository.upload_blob(Digest(digest(b"x")), 1, source, lambda _: None)

    proxy.add("/manifests/", status=307, headers={"Location": place}, times=-1)
    proxy.add("/tags/list", status=200, headers={"Link": f'<{place}>; rel="next"'}, body=b'{"tags":["a"]}', times=-1)
    proxy.add("/uploads/", method="POST", status=202, headers={"Location": place}, times=-1)
    for work in (lambda repository: repository.manifest("1"), upload):
        with pytest.raises(EngineError):
            _use(proxy.host, work, actions=("pull", "push"))
    with contextlib.suppress(EngineError):  # that there was to be more may be told
        assert len(_use(proxy.host, tags)) <= 2


NONSENSE = ("Bearer", "Bearer realm=", 'Bearer realm="http://[::1"', 'Bearer realm="http://a:99999/"', "Basic", "x" * 9000)


@pytest.mark.parametrize("header", NONSENSE)
def test_challenges_that_make_no_sense_are_no_fault_of_ours(proxy: FaultProxy, header: str) -> None:
    proxy.add("/v2/", status=401, headers={"WWW-Authenticate": header}, times=-1)
    with pytest.raises(EngineError):
        _use(proxy.host, lambda repository: repository.manifest("1"), credentials=Credentials(USER, PASSWORD))
