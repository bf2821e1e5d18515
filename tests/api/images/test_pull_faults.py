"""Pulls when the registry, or what is between, goes wrong: what is repaired, what refused, and that nothing of it is visible."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from api.containers.conftest import RawApi
from support.docker_registry import DockerRegistry
from support.fault_proxy import FaultProxy
from support.oci import Made, put, tar, unlike_others
from support.transfers import Transfers

SIZE = 200_000
_MANIFEST = "/manifests/"
_NAME = "<name>"


def _layer(image: Made, number: int = 0) -> str:
    """A layer's path at a registry."""
    return f"/blobs/{image.blobs[number].digest}"


@pytest.fixture(name="here")
def _here(api: RawApi) -> Callable[[Made], bool]:
    """Whether an image is to be seen on the engine, in whatever way."""

    def here(image: Made) -> bool:
        listed = image.id in {found["Id"] for found in api("GET", "/images/json?all=1").json}
        assert (api("GET", f"/images/{image.id}/json").status == 200) == listed
        return listed

    return here


def _put(registry: DockerRegistry, seed: str, layers: int = 1, size: int = SIZE) -> Made:
    image = unlike_others(f"fault-{seed}", layers=layers, size=size)
    put(registry, f"fault/{seed}", "1", image)
    return image


def test_a_layer_that_is_cut_goes_on_where_it_was(transfers: Transfers, registry: DockerRegistry, proxy: FaultProxy) -> None:
    image = _put(registry, "cut")
    cut = proxy.add(_layer(image), cut_after=SIZE // 2)
    pulled = transfers.pull(f"{proxy.host}/fault/cut:1")
    assert pulled.summary == f"Status: Downloaded newer image for {proxy.host}/fault/cut:1", pulled
    assert cut.happened == 1
    assert pulled.of(image.blobs[0].digest)[-1] == "Pull complete"


@pytest.mark.kitepy  # dockerd waits for five seconds, then for ten, and so on
def test_a_layer_is_asked_for_from_where_it_was_cut(transfers: Transfers, registry: DockerRegistry, proxy: FaultProxy) -> None:
    # So much at a time that it is worth to go on at once.
    image, part = _put(registry, "range", size=SIZE * 6), SIZE * 2
    proxy.add(_layer(image), cut_after=part, times=2)
    assert not transfers.pull(f"{proxy.host}/fault/range:1").error
    asked = proxy.asked("GET", _layer(image))
    assert [request.headers.get("range") for request in asked] == [
        None,
        f"bytes={part}-",
        f"bytes={part * 2}-",
    ]
    assert [request.status for request in asked] == [[200], [206], [206]]
    assert sum(request.sent[0] for request in asked) == len(image.blobs[0].content)


@pytest.mark.kitepy  # dockerd waits for fifteen seconds first
def test_a_registry_that_knows_no_ranges_begins_anew(
    transfers: Transfers, registry: DockerRegistry, proxy: FaultProxy, here: Callable[[Made], bool]
) -> None:
    image = _put(registry, "no-range")
    proxy.add(_layer(image), cut_after=SIZE // 2)
    proxy.add(_layer(image), no_range=True, times=-1)
    assert not transfers.pull(f"{proxy.host}/fault/no-range:1").error
    assert [request.status for request in proxy.asked("GET", _layer(image))] == [[200], [200]]
    assert here(image)


@pytest.mark.parametrize("fault", ["flip", "short", "long"])
def test_a_layer_of_other_bytes_than_its_digests_is_refused_and_leaves_nothing(
    transfers: Transfers, registry: DockerRegistry, proxy: FaultProxy, here: Callable[[Made], bool], fault: str
) -> None:
    image = _put(registry, f"bytes-{fault}", layers=2)
    digest = image.blobs[1].digest
    spoilt: dict[str, Any] = {
        "flip": {"flip": SIZE // 2},
        "short": {"body_size": SIZE // 2},
        "long": {"change": lambda body: body + b"x"},
    }[fault]
    proxy.add(_layer(image, 1), times=-1, **spoilt)
    pulled = transfers.pull(f"{proxy.host}/fault/bytes-{fault}:1")
    assert pulled.status == 200
    assert pulled.error == f"filesystem layer verification failed for digest {digest}"
    assert pulled.messages[-1]["errorDetail"] == {"message": pulled.error}
    assert "Download complete" not in pulled.of(digest)
    assert not here(image)
    proxy.faults.clear()
    assert not transfers.pull(f"{proxy.host}/fault/bytes-{fault}:1").error
    assert here(image)


def test_a_configuration_of_other_bytes_than_its_digests_is_refused(
    transfers: Transfers, registry: DockerRegistry, proxy: FaultProxy, here: Callable[[Made], bool]
) -> None:
    image = _put(registry, "config")
    proxy.add(f"/blobs/{image.id}", flip=20, times=-1)
    pulled = transfers.pull(f"{proxy.host}/fault/config:1")
    assert pulled.error == (f"error pulling image configuration: image config verification failed for digest {image.id}")
    assert not here(image)


def test_a_manifest_of_other_bytes_than_its_digests_is_refused(
    transfers: Transfers, registry: DockerRegistry, proxy: FaultProxy, here: Callable[[Made], bool]
) -> None:
    image = _put(registry, "manifest")
    proxy.add(_MANIFEST, change=lambda body: body + b" ")
    pulled = transfers.pull(f"{proxy.host}/fault/manifest", tag=image.manifest.digest)
    assert pulled.error == f"manifest verification failed for digest {image.manifest.digest}"
    assert not here(image)


@pytest.mark.parametrize("fault", ["truncated", "html", "empty", "number"])
def test_a_manifest_that_is_none_is_refused(
    transfers: Transfers, registry: DockerRegistry, proxy: FaultProxy, here: Callable[[Made], bool], fault: str
) -> None:
    image = _put(registry, f"none-{fault}")
    broken: dict[str, Any] = {
        "truncated": {"body_size": 100},
        "html": {"headers": {"Content-Type": "text/html"}, "change": lambda _: b"<html>sign in</html>"},
        "empty": {"change": lambda _: b""},
        "number": {"change": lambda _: b"17"},
    }[fault]
    proxy.add(_MANIFEST, method="GET", times=-1, **broken)
    pulled = transfers.pull(f"{proxy.host}/fault/none-{fault}:1")
    assert pulled.error
    assert not here(image)


def test_a_registry_that_fails_for_a_moment_is_asked_again(
    transfers: Transfers, registry: DockerRegistry, proxy: FaultProxy, here: Callable[[Made], bool]
) -> None:
    image = _put(registry, "moment")
    failed = proxy.add(_layer(image), status=503, body=b"overloaded")
    assert not transfers.pull(f"{proxy.host}/fault/moment:1").error
    assert failed.happened == 1
    assert here(image)


@pytest.mark.kitepy  # dockerd gives up
def test_a_rate_limit_is_waited_for_and_told(transfers: Transfers, registry: DockerRegistry, proxy: FaultProxy) -> None:
    _put(registry, "limit")
    proxy.add(_MANIFEST, status=429, headers={"Retry-After": "2", "Content-Type": "text/plain"}, body=b"slow down")
    pulled = transfers.pull(f"{proxy.host}/fault/limit:1")
    assert pulled.messages[0] == {"status": f"Rate limited by {proxy.host}, trying again in 2 s"}
    assert not pulled.error


@pytest.mark.parametrize(
    ("status", "code", "answered", "told"),
    [
        (
            403,
            "DENIED",
            404,
            "pull access denied for <name>, repository does not exist or may require 'docker login': denied: no",
        ),
        (401, "UNAUTHORIZED", 401, "unauthorized: no"),
        (404, "MANIFEST_UNKNOWN", 404, f"manifest for {_NAME}:1 not found: manifest unknown: no"),
        (429, "TOOMANYREQUESTS", 429, "toomanyrequests: no"),
    ],
)
def test_what_a_registry_refuses_is_told_as_it_does(
    transfers: Transfers, registry: DockerRegistry, proxy: FaultProxy, status: int, code: str, answered: int, told: str
) -> None:
    _put(registry, f"refused-{status}")
    body = f'{{"errors": [{{"code": "{code}", "message": "no"}}]}}'.encode()
    # An hour is more than anybody waits.
    headers = {"Content-Type": "application/json", "Retry-After": "3600"}
    proxy.add(_MANIFEST, method="GET|HEAD", status=status, headers=headers, body=body, times=-1)
    name = f"{proxy.host}/fault/refused-{status}"
    pulled = transfers.pull(f"{name}:1")
    assert (pulled.status, pulled.error) == (answered, told.replace(_NAME, name))


@pytest.mark.parametrize("where", ["layer", "config", "manifest"])
@pytest.mark.kitepy  # dockerd tries six times
def test_an_endless_redirect_ends(
    transfers: Transfers, registry: DockerRegistry, proxy: FaultProxy, here: Callable[[Made], bool], where: str
) -> None:
    image = _put(registry, f"redirect-{where}")
    path = {"layer": _layer(image), "config": f"/blobs/{image.id}", "manifest": _MANIFEST}[where]
    proxy.add(path, status=307, headers={"Location": "?again"}, times=-1)
    pulled = transfers.pull(f"{proxy.host}/fault/redirect-{where}:1")
    assert "stopped after 10 redirects" in pulled.error
    assert len(proxy.asked("GET", path)) <= 40
    assert not here(image)


def test_a_client_that_leaves_ends_its_pull_and_the_next_one_is_whole(
    transfers: Transfers, registry: DockerRegistry, proxy: FaultProxy, here: Callable[[Made], bool]
) -> None:
    image = _put(registry, "leave", layers=2)
    name = f"{proxy.host}/fault/leave:1"
    proxy.add(_layer(image, 1), hold_after=SIZE // 2)
    with transfers.begin_pull(name) as pull:
        pull.wait_for_status("Pulling fs layer")
        proxy.wait_until_held()
    assert not here(image)
    # Whoever comes before the engine knows that the first is gone shares what the first one began.
    proxy.release()
    assert transfers.pull(name).summary == f"Status: Downloaded newer image for {name}"
    assert here(image)


@pytest.mark.kitepy
def test_what_has_arrived_of_a_pull_that_was_left_is_not_asked_for_again(
    transfers: Transfers, registry: DockerRegistry, proxy: FaultProxy
) -> None:
    image = _put(registry, "kept")
    _put(registry, "kept-not")
    name = f"{proxy.host}/fault/kept:1"
    proxy.add(_layer(image), hold_after=SIZE // 2)
    with transfers.begin_pull(name) as pull:
        # Nothing is told of bytes that come too soon after others, so these may be fewer.
        pull.wait_for(lambda message: message.get("progressDetail", {}).get("current", 0) > 0)
    assert not transfers.pull(f"{proxy.host}/fault/kept-not:1").error
    assert not transfers.pull(name).error
    first, second = proxy.asked("GET", _layer(image))
    assert 0 < int(second.headers["range"].removeprefix("bytes=").rstrip("-")) <= first.sent[0]
    assert second.status == [206]


def test_pulls_that_want_the_same_share_what_is_fetched(
    transfers: Transfers, registry: DockerRegistry, proxy: FaultProxy
) -> None:
    first = _put(registry, "shared", layers=2)
    _put(registry, "shared-not")
    second = Made([*first.layers, tar({"more": first.layers[0][:2000]})])
    put(registry, "fault/shared", "2", second)
    proxy.add(_layer(first, 1), hold_after=SIZE // 2)
    with transfers.begin_pull(f"{proxy.host}/fault/shared:1") as one:
        proxy.wait_until_held()
        with (
            transfers.begin_pull(f"{proxy.host}/fault/shared:1") as same,
            transfers.begin_pull(f"{proxy.host}/fault/shared:2") as other,
        ):
            short = first.blobs[1].digest.removeprefix("sha256:")[:12]
            for pull in (same, other):
                pull.wait_for(lambda message: message.get("id") == short)
            one.hang_up()
            # By the time that another pull is through, the engine knows that the first client is gone.
            assert not transfers.pull(f"{proxy.host}/fault/shared-not:1").error
            proxy.release()
            assert not same.end().error
            assert other.end().of(second.blobs[2].digest)[-1] == "Pull complete"
    for blob in (*first.blobs, second.blobs[2]):
        assert len(proxy.asked("GET", f"/blobs/{blob.digest}")) == 1


def test_many_pulls_at_once_agree(transfers: Transfers, registry: DockerRegistry, proxy: FaultProxy) -> None:
    image = _put(registry, "many", layers=3)
    name = f"{proxy.host}/fault/many:1"
    with ThreadPoolExecutor(6) as pool:
        pulled = list(pool.map(transfers.pull, [name] * 6))
    assert not any(each.error for each in pulled)
    assert all(each.summary.endswith(name) for each in pulled)
    for blob in image.blobs:
        assert len(proxy.asked("GET", f"/blobs/{blob.digest}")) == 1
