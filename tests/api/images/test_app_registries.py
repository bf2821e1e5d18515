"""The app's gateway over a real engine and real registries: what a preview promises, what a pause keeps, who gets in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import docker
import pytest
from support.docker_registry import PASSWORD, USER, DockerRegistry
from support.engine import EngineUnderTest
from support.fault_proxy import FaultProxy
from support.oci import Made, noise, put, tar, unlike_others

from kitepy.client import EnginePaths
from kitepy.client.credentials import CredentialStore
from kitepy.gui.gateway.engine import EngineGateway
from kitepy.gui.gateway.logins import Logins
from kitepy.gui.gateway.port import OperationFailed
from kitepy.gui.models.reference import Reference
from kitepy.gui.models.registry import Keeper, NewLogin, Registries
from kitepy.gui.models.transfer import Transfer, TransferMessage, advance
from kitepy.gui.models.trouble import Cause

pytestmark = pytest.mark.kitepy

Story = Callable[[EngineGateway], Awaitable[None]]


@pytest.fixture(name="play")
def _play(engine: EngineUnderTest, tmp_path: Path) -> Callable[[Story], None]:
    """Plays a story with a gateway to the engine, for a user who is logged in nowhere."""

    def play(story: Story) -> None:
        async def whole() -> None:
            gateway = EngineGateway(replace(EnginePaths.default({"KITEPY_HOME": str(tmp_path)}), socket=engine.socket))
            gateway._logins = Logins(CredentialStore({"HOME": str(tmp_path), "PATH": "", "XDG_CONFIG_HOME": str(tmp_path)}))
            try:
                await asyncio.wait_for(story(gateway), 60)
            finally:
                await gateway.close()

        asyncio.run(whole())

    return play


async def followed(messages: AsyncIterator[TransferMessage]) -> Transfer:
    transfer = Transfer()
    async for message in messages:
        transfer = advance(transfer, message, 0.0)
    return transfer


def test_a_preview_promises_the_bytes_that_are_then_fetched(
    play: Callable[[Story], None], proxy: FaultProxy, registry: DockerRegistry, client: docker.DockerClient
) -> None:
    shared = tar({"shared": noise(300_000, "app shared")})
    config = {"Env": ["COLOUR=red"], "User": "1000", "ExposedPorts": {"80/tcp": {}}}
    first = Made([shared, tar({"a": noise(90_000, "app first")})], config=config)
    second = Made([shared, tar({"b": noise(70_000, "app second")})], config={"Env": ["COLOUR=blue"]})
    put(registry, "app/preview", "1", first)
    digest = put(registry, "app/preview", "2", second)
    repository = Reference(proxy.host, "app/preview")

    async def story(gateway: EngineGateway) -> None:
        page = await gateway.tags(repository, after="", words="", limit=1)
        rest = await gateway.tags(repository, after=page.next, words="", limit=5)
        assert {tag.name for tag in (*page.tags, *rest.tags)} == {"1", "2"}
        assert [hit.repository for hit in await gateway.search(proxy.host, "app/prev", 5)] == ["app/preview"]
        whole = await gateway.preview_pull(repository.tagged("1"), "")
        assert (whole.config.user, whole.config.exposed, whole.local) == ("1000", ("80/tcp",), None)
        assert (await followed(gateway.pull(f"{proxy.host}/app/preview:1", ""))).percent == 100
        client.images.get(f"{proxy.host}/app/preview:1").tag(f"{proxy.host}/app/preview", "2")
        preview = await gateway.preview_pull(repository.tagged("2"), "")
        assert (preview.digest, preview.image_id, [layer.here for layer in preview.layers]) == (digest, second.id, [True, False])
        assert preview.local is not None
        assert preview.local.config.user == "1000"
        assert not preview.is_here
        before = len(proxy.seen)
        transfer = await followed(gateway.pull(f"{proxy.host}/app/preview:2", ""))
        fetched = sum(sum(request.sent) for request in proxy.seen[before:] if "/blobs/" in request.path)
        assert fetched == preview.fetch_bytes
        assert (transfer.percent, transfer.digest) == (100, digest)
        assert (await gateway.preview_pull(repository.tagged("2"), "")).is_here

    try:
        play(story)
    finally:
        for tag in ("1", "2"):
            client.images.remove(f"{proxy.host}/app/preview:{tag}")


def test_a_paused_pull_keeps_what_has_arrived(
    play: Callable[[Story], None], proxy: FaultProxy, registry: DockerRegistry, client: docker.DockerClient
) -> None:
    image = unlike_others("app pause", layers=1, size=6_000_000)
    put(registry, "app/pause", "1", image)
    name = f"{proxy.host}/app/pause:1"
    layer = image.blobs[0]
    proxy.add(f"/blobs/{layer.digest}", hold_after=4_000_000)

    async def story(gateway: EngineGateway) -> None:
        # What the engine tells has arrived; what the proxy has sent may be anywhere between.
        async with aclosing(gateway.pull(name, "")) as messages:
            async for message in messages:
                if message.status == "Downloading" and message.current >= 1_000_000:
                    break
        transfer = await again(gateway)
        assert transfer.percent == 100

    async def again(gateway: EngineGateway) -> Transfer:
        """A pull right after would share the transfer that nobody wants any more, until the engine has seen that."""
        for _ in range(100):
            pulling = asyncio.ensure_future(followed(gateway.pull(name, "")))
            for _ in range(50):
                await asyncio.sleep(0.01)
                if len(proxy.asked("GET", f"/blobs/{layer.digest}")) > 1:
                    return await pulling
            pulling.cancel()
            await asyncio.wait([pulling])
        raise AssertionError("the engine never asked for the rest")

    try:
        play(story)
        asked = proxy.asked("GET", f"/blobs/{layer.digest}")
        # The engine may learn of the pause only when the next pull wants the same: then that one takes over what is under way.
        assert len(asked) == 1 or asked[-1].headers["range"].startswith("bytes=")
        assert sum(asked[-1].sent) < len(layer.content) or len(asked) == 1
    finally:
        client.images.remove(name)


def test_a_login_is_tried_kept_and_forgotten(play: Callable[[Story], None], client: docker.DockerClient) -> None:
    with DockerRegistry(passwords=True) as registry:
        put(registry, "app/secret", "1", unlike_others("app secret"))
        host = registry.host
        name = f"{host}/app/secret:1"
        repository = Reference(host, "app/secret", "1")

        async def story(gateway: EngineGateway) -> None:
            known = Registries()

            async def cause_of(deed: Awaitable[object], subject: Reference | str) -> Cause:
                with pytest.raises(OperationFailed) as failure:
                    await deed
                assert PASSWORD not in str(failure.value)
                return known.explain(str(failure.value), subject).cause

            assert await cause_of(followed(gateway.pull(name, "")), repository) is Cause.DENIED
            assert await cause_of(gateway.tags(repository, after="", words="", limit=5), repository) is Cause.DENIED
            assert await cause_of(gateway.check_registry(host), host) is Cause.DENIED
            wrong = NewLogin(host, USER, "wrong", Keeper.SESSION)
            assert await cause_of(gateway.log_in(wrong), host) in (Cause.BAD_LOGIN, Cause.DENIED)
            assert not (await gateway.logins()).logins
            await gateway.log_in(NewLogin(host, USER, PASSWORD, Keeper.SESSION))
            await gateway.check_registry(host)
            assert [tag.name for tag in (await gateway.tags(repository, after="", words="", limit=5)).tags] == ["1"]
            assert (await followed(gateway.pull(name, ""))).percent == 100
            await gateway.log_out(host)
            assert await cause_of(gateway.tags(repository, after="", words="", limit=5), repository) is Cause.DENIED
            missing = repository.tagged("9")
            await gateway.log_in(NewLogin(host, USER, PASSWORD, Keeper.SESSION))
            assert await cause_of(followed(gateway.pull(missing.familiar, "")), missing) is Cause.UNKNOWN_TAG
            assert await cause_of(gateway.preview_pull(missing, ""), missing) is Cause.UNKNOWN_TAG

        try:
            play(story)
        finally:
            client.images.remove(name)
