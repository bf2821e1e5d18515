"""What front ends ask about registries: what goes to the engine, what comes back, and what a pause is."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest
from aiohttp import web
from support.fake_engine import FakeEngine, drive, json_lines, stream

from kitepy.client import EngineClient, Forbidden, Invalid, NotFound, ServerFailure, Unsupported
from kitepy.client.credentials import CredentialStore
from kitepy.gui.gateway.logins import Logins
from kitepy.gui.gateway.registries import (
    RegistryCalls,
    config_from,
    hit_from_search,
    local_from_inspect,
    preview_from,
    tag_from,
    transfer_message,
)
from kitepy.gui.models.discover import Hit
from kitepy.gui.models.items import plain_tip
from kitepy.gui.models.reference import Reference
from kitepy.gui.models.transfer import TransferMessage

WHO = base64.urlsafe_b64encode(json.dumps({"username": "ada", "password": "x"}).encode()).decode()


def test_a_search_goes_out_with_the_login_and_without_empty_fields(fake: FakeEngine) -> None:
    seen: list[str] = []

    async def search(request: web.Request) -> web.StreamResponse:
        seen.append(request.headers.get("X-Registry-Auth", ""))
        return web.json_response([{"name": "team/web", "star_count": 3}])

    fake.on("GET", "/images/search", search)
    fake.answer("GET", "/kitepy/registries/tags", {"Name": "x", "Tags": [{"Name": "1"}], "Next": "1"})

    async def story(client: EngineClient) -> None:
        assert (await client.search("localhost:5000/web", 25, WHO))[0]["name"] == "team/web"
        await client.search("web", 25)
        assert (await client.tags("localhost:5000/x", limit=10))["Next"] == "1"

    drive(fake, story)
    assert seen == [WHO, ""]
    assert [request[2] for request in fake.requests if request[1].startswith(("/images", "/kitepy"))] == [
        {"term": "localhost:5000/web", "limit": "25"},
        {"term": "web", "limit": "25"},
        {"repository": "localhost:5000/x", "n": "10"},
    ]


def test_another_engine_says_that_it_can_not_look_into_registries(fake: FakeEngine) -> None:
    fake.answer("GET", "/kitepy/registries/preview", {"message": "manifest for x:1 not found: manifest unknown"}, 404)

    async def story(client: EngineClient) -> None:
        with pytest.raises(Unsupported, match="Kitepy's own can"):
            await client.tags("x")
        with pytest.raises(NotFound, match="manifest unknown"):
            await client.preview_pull("x:1")

    drive(fake, story)


def test_a_pull_hands_over_its_messages_and_ends_with_the_engine_s_reason(fake: FakeEngine) -> None:
    async def pull(request: web.Request) -> web.StreamResponse:
        assert request.headers["X-Registry-Auth"] == WHO
        lines = json_lines({"status": "Pulling fs layer", "id": "a"}, {"errorDetail": {"message": "cut"}, "error": "cut"})
        return await stream(request, lines)

    fake.on("POST", "/images/create", pull)

    async def story(client: EngineClient) -> None:
        messages = client.pull("web:1", "linux/arm64", WHO)
        assert await anext(messages) == {"status": "Pulling fs layer", "id": "a"}
        with pytest.raises(ServerFailure, match="cut"):
            await anext(messages)

    drive(fake, story)
    assert fake.requests[-1][2] == {"fromImage": "web:1", "platform": "linux/arm64"}


def test_a_refused_pull_tells_why(fake: FakeEngine) -> None:
    fake.answer("POST", "/images/create", {"message": "pull access denied for x"}, 404)

    async def story(client: EngineClient) -> None:
        with pytest.raises(NotFound, match="pull access denied"):
            await anext(client.pull("x:1"))

    drive(fake, story)


def test_pausing_a_pull_closes_its_connection(fake: FakeEngine) -> None:
    async def pull(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(json.dumps({"status": "Waiting", "id": "a"}).encode() + b"\n")
        await asyncio.sleep(3600)
        return response

    fake.on("POST", "/images/create", pull)

    async def story(client: EngineClient) -> None:
        async with client.pull("web:1") as messages:
            async for _ in messages:
                break

    drive(fake, story)
    assert fake.wait_until_idle()


def test_a_login_is_tried_with_what_is_known_of_it(fake: FakeEngine) -> None:
    bodies: list[dict[str, str]] = []

    async def auth(request: web.Request) -> web.StreamResponse:
        bodies.append(await request.json())
        if bodies[-1].get("password") == "wrong":
            return web.json_response({"message": "unauthorized: incorrect username or password"}, status=401)
        return web.json_response({"Status": "Login Succeeded", "IdentityToken": "long"})

    fake.on("POST", "/auth", auth)

    async def story(client: EngineClient) -> None:
        assert await client.log_in("localhost:5000", "ada", "right") == "long"
        with pytest.raises(Forbidden, match="incorrect"):
            await client.log_in("localhost:5000", "ada", "wrong")
        await client.check_login("ghcr.io", WHO)
        await client.check_login("quay.io")

    drive(fake, story)
    assert bodies[0] == {"username": "ada", "password": "right", "serveraddress": "localhost:5000"}
    assert bodies[2:] == [{"username": "ada", "password": "x", "serveraddress": "ghcr.io"}, {"serveraddress": "quay.io"}]


def test_an_answer_that_is_no_json_is_no_crash(fake: FakeEngine) -> None:
    async def nonsense(_: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>")

    fake.on("GET", "/images/search", nonsense)

    async def story(client: EngineClient) -> None:
        with pytest.raises((ServerFailure, Invalid)):
            await client.search("x", 5)

    drive(fake, story)


@pytest.mark.parametrize(
    ("registry", "name", "hit"),
    [
        ("docker.io", "nginx", Hit("docker.io", "library/nginx", "web", 5, True)),
        ("localhost:5000", "team/web", Hit("localhost:5000", "team/web", "web", 5, True)),
        ("localhost:5000", "localhost:5000/team/web", Hit("localhost:5000", "team/web", "web", 5, True)),
        ("localhost:5000", "../etc", None),
        ("docker.io", "evil.example/x", None),
        ("docker.io", "", None),
    ],
)
def test_results_are_taken_only_under_names_that_can_be_pulled_from_that_registry(registry, name, hit) -> None:
    entry = {"name": name, "description": " web ", "star_count": 5, "is_official": True}
    assert hit_from_search(registry, entry) == hit


def test_documents_about_images_are_read_and_odd_fields_do_no_harm() -> None:
    document = {
        "Digest": "sha256:1",
        "ID": "sha256:2",
        "Platform": "linux/amd64",
        "Platforms": ["linux/amd64"],
        "Layers": [{"Digest": "sha256:a", "Size": 5, "Here": True}, {"Digest": "sha256:b", "Size": 7}],
        "Size": 12,
        "Fetch": 7,
        "Config": {"User": "app", "ExposedPorts": {"80/tcp": {}}, "Env": ["A=1"], "Cmd": ["x"], "Entrypoint": None},
    }
    local = local_from_inspect({"Id": "sha256:2", "RepoDigests": ["web@sha256:1"], "Config": {}})
    preview = preview_from("web:1", document, local)
    assert (preview.fetch_bytes, [layer.here for layer in preview.layers], preview.is_here) == (7, [True, False], True)
    assert (preview.config.user, preview.config.exposed, preview.config.entrypoint) == ("app", ("80/tcp",), ())
    assert preview_from("x", {}, None).layers == ()
    assert config_from({}).user == ""
    assert tag_from({"Name": "1", "Size": None}).size_bytes == 0
    assert transfer_message({"status": "Downloading", "id": "a", "progressDetail": {"current": 1, "total": 2}}) == (
        TransferMessage("Downloading", "a", 1, 2)
    )
    assert transfer_message({"progressDetail": [], "id": None}) == TransferMessage("")


def test_what_strangers_write_is_shown_as_plain_text_of_bearable_length() -> None:
    entry = {"name": "team/web", "description": "A\u202e\n<img src='file:///etc/passwd'>\x1b[31m" + "x" * 9000, "star_count": -5}
    hit = hit_from_search("docker.io", entry)
    assert hit is not None
    assert hit.stars == 0
    assert len(hit.description) == 400
    assert hit.description.isprintable()
    assert hit.description.startswith("A\ufffd <img src='file:///etc/passwd'>")
    assert plain_tip(hit.description).startswith('<span style="white-space: pre-wrap">A\ufffd &lt;img')
    assert plain_tip("1.27") == "1.27"
    config = config_from(
        {"User": "u" * 9000, "Env": ["A=" + "y" * 9000] * 5000, "ExposedPorts": {f"{n}/tcp": {} for n in range(5000)}}
    )
    assert (len(config.user), len(config.environment), len(config.environment[0]), len(config.exposed)) == (400, 64, 400, 64)


def test_tags_that_no_pull_could_name_are_left_out(fake: FakeEngine) -> None:
    names = ["1.27", "", "../x", "a b", "<b>", "-x", "x" * 129, "ok"]
    fake.answer("GET", "/kitepy/registries/tags", {"Tags": [{"Name": name} for name in names], "Next": ""})

    async def story(client: EngineClient) -> None:
        calls = RegistryCalls()
        calls._client, calls._logins = client, Logins(CredentialStore({"HOME": "/nonexistent"}))
        page = await calls.tags(Reference("localhost:5000", "x"), after="", words="", limit=10)
        assert [tag.name for tag in page.tags] == ["1.27", "ok"]

    drive(fake, story)
