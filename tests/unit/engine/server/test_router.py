"""Paths find their routes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitepy.engine.server.app import ROUTES
from kitepy.engine.server.errors import PageNotFound
from kitepy.engine.server.router import Match, Router


@pytest.fixture(name="router")
def _router() -> Router[str]:
    router: Router[str] = Router()
    for route in ROUTES:
        router.add(route.method, route.template, f"{route.method} {route.template}")
    return router


@pytest.mark.parametrize(
    ("method", "path", "template", "argument"),
    [
        ("GET", "/containers/json", "/containers/json", ""),
        ("GET", "/containers/abc/json", "/containers/{id}/json", "abc"),
        ("GET", "/containers/json/json", "/containers/{id}/json", "json"),
        ("DELETE", "/containers/json", "/containers/{id}", "json"),
        ("GET", "/containers/abc/attach/ws", "/containers/{id}/attach/ws", "abc"),
        ("GET", "/images/json", "/images/json", ""),
        ("GET", "/images/a:5000/b/c@sha256:1/json", "/images/{name}/json", "a:5000/b/c@sha256:1"),
        ("GET", "/images/json/json", "/images/{name}/json", "json"),
        ("DELETE", "/images/a/b:1", "/images/{name}", "a/b:1"),
        ("DELETE", "/images/a/json", "/images/{name}", "a/json"),
        ("GET", "/images/get", "/images/get", ""),
        ("GET", "/images/a/get", "/images/{name}/get", "a"),
        ("GET", "/volumes/x", "/volumes/{name}", "x"),
        ("GET", "/nodes/x", "/nodes/{id}", "x"),
        ("GET", "/containers/a/b/json", "/containers/{id}/json", "a/b"),
        ("GET", "/containers/a/b/attach/ws", "/containers/{id}/attach/ws", "a/b"),
        ("DELETE", "/containers/a/b", "/containers/{id}", "a/b"),
        ("DELETE", "/containers/", "/containers/{id}", ""),
    ],
)
def test_a_path_finds_its_route(router: Router[str], method: str, path: str, template: str, argument: str) -> None:
    assert router.resolve(method, path) == Match(f"{method} {template}", argument)


@pytest.mark.parametrize(
    "path", ["", "/", "/nothing", "/containers", "/containers//json", "/containers/a/b/c", "/containers/a/nothing"]
)
def test_an_unknown_path_is_not_found(router: Router[str], path: str) -> None:
    with pytest.raises(PageNotFound):
        router.resolve("GET", path)


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/containers/x/start"), ("POST", "/containers/json"), ("GET", "/containers/create"), ("BREW", "/info")],
)
def test_a_path_with_another_method_is_not_found(router: Router[str], method: str, path: str) -> None:
    with pytest.raises(PageNotFound):
        router.resolve(method, path)


def test_head_is_answered_where_docker_answers_it(router: Router[str]) -> None:
    assert router.resolve("HEAD", "/containers/x/archive").target == "HEAD /containers/{id}/archive"
    assert router.resolve("HEAD", "/_ping").target == "HEAD /_ping"
    with pytest.raises(PageNotFound):
        router.resolve("HEAD", "/version")


def test_no_route_can_be_registered_twice(router: Router[str]) -> None:
    with pytest.raises(ValueError, match="twice"):
        router.add("GET", "/containers/json", "again")
    with pytest.raises(ValueError, match="unsupported"):
        router.add("GET", "/a/{id}/b/{other}", "two placeholders")


@given(st.text(alphabet="/abc{}.%jsonimagescontainers", max_size=40), st.sampled_from(["GET", "POST", "DELETE", "BREW"]))
def test_any_path_is_found_or_refused(path: str, method: str) -> None:
    router: Router[int] = Router()
    router.add("GET", "/images/{name}/json", 1)
    router.add("DELETE", "/images/{name}", 2)
    router.add("GET", "/containers/{id}/json", 3)
    router.add("GET", "/containers/json", 4)
    try:
        match = router.resolve(method, path)
    except PageNotFound:
        return
    assert match.target in (1, 2, 3, 4)
    assert match.argument or match.target == 4 or path.endswith("/")
