"""Fixtures that several folders of tests share, and the rules for tests that need root."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from support.engine import PEER, ROOTLESS, EngineUnderTest, PeerEngine, docker_info
from support.images import load_busybox
from support.ordinary_user import UID

TESTS = Path(__file__).parent
# Folders whose tests touch the kernel as root.
ROOT_FOLDERS = {"root", "e2e"}
ROOTLESS_FOLDERS = {"unit", "gui"}
# Workers are processes of their own: they have to be this checkout's, also where another one is installed.
os.environ["PYTHONPATH"] = ":".join([str(TESTS.parent), *filter(None, os.environ.get("PYTHONPATH", "").split(":"))])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs root: by folder, and whatever asks for a real engine."""
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0] if item.path.is_relative_to(TESTS) else ""
        uses_engine = folder not in ROOTLESS_FOLDERS and "engine" in getattr(item, "fixturenames", ())
        if folder in ROOT_FOLDERS or uses_engine:
            item.add_marker(pytest.mark.root)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Without root such a test says so; in CI it fails, because there nobody reads the list of skipped tests."""
    if item.get_closest_marker("root") and os.geteuid() != 0:
        if os.environ.get("CI") == "true":
            pytest.fail("this test needs root, and CI must run it as root", pytrace=False)
        pytest.skip("needs root: run `make test`, which uses sudo, or run pytest as root")


NEEDS = {
    "limits": "limits and pausing need control groups, and an ordinary user has none on this machine; `make test-vm` has them",
    "root engine": "only an engine with root can do this, or the test looks at what only root can see",
}
"""Why a test with ``@pytest.mark.needs(…)`` does not run with an ordinary user's engine."""


@pytest.fixture(autouse=True)
def _needs(request: pytest.FixtureRequest) -> None:
    """Skip, with the reason, what the engine under test can't do; the run lists the reasons."""
    if PEER and request.node.get_closest_marker("kitepy"):
        pytest.skip("Kitepy means to differ from its peers here")
    marker = request.node.get_closest_marker("needs")
    if marker is None or not ROOTLESS:
        return
    if marker.args[0] == "limits" and docker_info(request.getfixturevalue("session_engine"))["CgroupDriver"] != "none":
        return
    pytest.skip(NEEDS[marker.args[0]])


@pytest.fixture(name="tmp_path")
def _tmp_path(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """With an ordinary user's engine: a directory of that user, in a place that the user can reach."""
    # The edge is tested without an engine: its server is the test's own, and so are its directories.
    if not ROOTLESS or "edge" in request.node.path.parts:
        yield tmp_path
        return
    directory = Path(tempfile.mkdtemp(prefix="kt-", dir="/var/tmp"))
    os.chown(directory, UID, UID)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many of the tests that ran had root, so that a silent skip can't pass for green."""
    ran = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        if getattr(report, "when", None) == "call" and "root" in report.keywords
    ]
    skipped = [report for report in terminalreporter.getreports("skipped") if "root" in getattr(report, "keywords", {})]
    terminalreporter.write_line(f"root tests: {len(ran)} ran, {len(skipped)} did not run")


@pytest.fixture(scope="session")
def session_engine() -> Iterator[EngineUnderTest]:
    """One engine for all tests of a worker; stopped and searched for leaks at the end."""
    with PeerEngine(Path(PEER)) if PEER else EngineUnderTest() as running:
        yield running


@pytest.fixture
def engine(session_engine: EngineUnderTest, request: pytest.FixtureRequest) -> Iterator[EngineUnderTest]:
    """The worker's engine; what it logs during a test is shown when the test fails."""
    before = session_engine.log.stat().st_size
    yield session_engine
    with session_engine.log.open("rb") as log:
        log.seek(before)
        request.node.add_report_section("teardown", "engine log", log.read()[-8000:].decode(errors="replace"))


@pytest.fixture
def client(engine: EngineUnderTest) -> Iterator[docker.DockerClient]:
    """docker-py on the worker's engine; containers that a test leaves are removed."""
    with_api = engine.docker()
    before = {container.id for container in with_api.containers.list(all=True, ignore_removed=True)}
    yield with_api
    for container in with_api.containers.list(all=True, ignore_removed=True):
        if container.id not in before:
            container.remove(force=True, v=True)
    with_api.close()


@pytest.fixture
def busybox(client: docker.DockerClient) -> str:
    """The reference of a small image on the worker's engine."""
    try:
        client.images.get("busybox:latest")
    except docker.errors.ImageNotFound:
        load_busybox(client)
    return "busybox:latest"
