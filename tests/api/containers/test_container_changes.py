"""What a container changed, as ``GET /containers/{id}/changes`` tells it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import docker
import pytest
from docker.models.containers import Container

MODIFIED, ADDED, DELETED = 0, 1, 2
MOMENT = "'2020-01-02 03:04:05'"
LOOP = "while :; do sleep 0.1; done"

Changes = dict[str, int]


def changes(container: Container) -> Changes | None:
    """Kinds by path, after a look at their order; None is null."""
    found = container.diff()
    if found is None:
        return None
    paths = [change["Path"] for change in found]
    assert len(paths) == len(set(paths))
    for position, path in enumerate(paths):
        parent = path.rpartition("/")[0]
        assert not parent or parent in paths[:position], f"{parent} has to come before {path}"
    return {change["Path"]: change["Kind"] for change in found}


@pytest.fixture(name="base")
def _base(client: docker.DockerClient, run: Any) -> Any:
    """An image with files to change."""
    container = run(
        "mkdir -p /d/sub /e; echo 1 >/d/a; echo 2 >/d/b; echo 3 >/d/sub/c; echo 4 >/e/f; mkdir /solid; echo >/solid/x;"
        f"touch -d {MOMENT} /d/a /d/b /d/sub/c /e/f /solid/x"
    )
    container.wait()
    container.commit("changes-base", "t")
    container.remove()
    yield "changes-base:t"
    for other in client.containers.list(all=True, ignore_removed=True):
        if other.attrs["Config"]["Image"] == "changes-base:t":
            other.remove(force=True, v=True)
    client.images.remove("changes-base:t")


@pytest.fixture(name="after", params=["running", "exited"])
def _after(request: pytest.FixtureRequest, run: Any, base: str, until: Any) -> Callable[[str], Changes | None]:
    """The changes of a container that did something."""

    def after(script: str) -> Changes | None:
        if request.param == "exited":
            container = run(script, image=base)
            assert container.wait()["StatusCode"] == 0, container.logs()
        else:
            container = run(f"{script}; echo did; {LOOP}", image=base)
            until(lambda: b"did" in container.logs())
        return changes(container)

    return after


def test_a_container_that_did_nothing_has_no_changes(run: Any, client: docker.DockerClient, busybox: str, api: Any) -> None:
    created = client.containers.create(busybox, ["true"])
    assert api("GET", f"/containers/{created.id}/changes").body.strip() == b"null"
    container = run("cat /etc/hosts /etc/mtab; echo >>/etc/hosts; echo >/dev/shm/x; : >/dev/null")
    container.wait()
    assert changes(container) is None


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo >/new", {"/new": ADDED}),
        ("mkdir -p /n/a; echo >/n/a/b", {"/n": ADDED, "/n/a": ADDED, "/n/a/b": ADDED}),
        ("echo >>/d/a", {"/d": MODIFIED, "/d/a": MODIFIED}),
        ("rm /d/a", {"/d": MODIFIED, "/d/a": DELETED}),
        ("rm -r /d", {"/d": DELETED}),
        ("rm -r /d/sub", {"/d": MODIFIED, "/d/sub": DELETED}),
        ("chmod 700 /d", {"/d": MODIFIED}),
        ("chmod 600 /d/sub/c", {"/d": MODIFIED, "/d/sub": MODIFIED, "/d/sub/c": MODIFIED}),
        ("chown 5:6 /d/a", {"/d": MODIFIED, "/d/a": MODIFIED}),
        ("touch -d '2021-01-01 00:00:00' /d/a", {"/d": MODIFIED, "/d/a": MODIFIED}),
        ("mv /d/a /d/z", {"/d": MODIFIED, "/d/a": DELETED, "/d/z": ADDED}),
        (
            "rm -r /d; mkdir /d; echo >/d/new",
            {"/d": MODIFIED, "/d/a": DELETED, "/d/b": DELETED, "/d/sub": DELETED, "/d/new": ADDED},
        ),
        ("rm -r /e; echo >/e", {"/e": MODIFIED}),
        ("rm /e/f; mkdir /e/f; echo >/e/f/in", {"/e": MODIFIED, "/e/f": MODIFIED, "/e/f/in": ADDED}),
        ("rm /e/f; ln -s x /e/f", {"/e": MODIFIED, "/e/f": MODIFIED}),
        ("ln /e/f /hard", {"/hard": ADDED}),
        ("mkfifo /e/p; ln -s /x /link", {"/e": MODIFIED, "/e/p": ADDED, "/link": ADDED}),
        ("rm /.dockerenv", {"/.dockerenv": DELETED}),
    ],
)
def test_each_kind_of_change_is_told(after: Any, script: str, expected: Changes) -> None:
    assert after(script) == expected


@pytest.mark.parametrize(
    "script",
    [
        "mkdir /n; rmdir /n; echo >/f; rm /f",
        f"touch -d {MOMENT} /d/a",
        "chmod 600 /d/b; chmod 644 /d/b",
        "chmod 700 /e; chmod 755 /e; touch /e",
    ],
)
def test_what_came_to_nothing_is_no_change(after: Any, script: str) -> None:
    assert after(script) is None


def test_a_directory_that_was_made_anew_with_the_same_content_is_compared_by_content(after: Any) -> None:
    found = after("cp -a /d /copy; rm -r /d; mkdir /d; cp -a /copy/a /d/a; rm -r /copy")
    assert found == {"/d": MODIFIED, "/d/b": DELETED, "/d/sub": DELETED}


def test_mount_points_that_had_to_be_made_are_told_and_what_is_mounted_is_not(
    client: docker.DockerClient, busybox: str, until: Any
) -> None:
    script = f"echo >/vol/deep/x; echo >/tm/y; echo made; {LOOP}"
    volume = client.volumes.create()
    container = client.containers.create(busybox, ["sh", "-c", script], volumes=[f"{volume.name}:/vol/deep"], tmpfs={"/tm": ""})
    container.start()
    until(lambda: b"made" in container.logs())
    assert changes(container) == {"/vol": ADDED, "/vol/deep": ADDED, "/tm": ADDED}
    container.remove(force=True)
    volume.remove()


def test_names_are_told_as_they_are(after: Any) -> None:
    found = after("mkdir '/a b'; echo >'/a b/ü\"\\'; echo >/.wh.no")
    assert found == {"/a b": ADDED, '/a b/ü"\\': ADDED, "/.wh.no": ADDED}


def test_an_unknown_container_has_no_changes(api: Any) -> None:
    answer = api("GET", "/containers/nobody/changes")
    assert (answer.status, answer.message) == (404, "No such container: nobody")
