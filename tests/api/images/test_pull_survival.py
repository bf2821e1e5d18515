"""What becomes of pulls when their engine dies, their disk is full, or images are removed meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator

import pytest
from api.containers.conftest import RawApi
from support.docker_registry import DockerRegistry
from support.engine import EngineUnderTest
from support.fault_proxy import FaultProxy
from support.oci import Made, noise, put, tar, unlike_others
from support.transfers import Transfers

SIZE = 200_000

pytestmark = pytest.mark.kitepy


@pytest.fixture(name="mortal")
def _mortal(session_engine: EngineUnderTest) -> EngineUnderTest:
    """The worker's engine, which a test may kill and start again."""
    return session_engine


def partials(engine: EngineUnderTest, image: Made) -> list[int]:
    """How much of an image's layers has been received and is no blob yet."""
    paths = [engine.data_root / "content/partial" / blob.digest.removeprefix("sha256:") for blob in image.blobs]
    return [path.stat().st_size for path in paths if path.exists()]


def test_a_killed_engine_asks_only_for_what_it_has_not_got(
    mortal: EngineUnderTest, registry: DockerRegistry, proxy: FaultProxy
) -> None:
    image = unlike_others("killed", layers=3, size=SIZE)
    put(registry, "survival/killed", "1", image)
    name, transfers = f"{proxy.host}/survival/killed:1", Transfers(mortal.listens_at)
    # Above and below the layer that hangs all has arrived: the one below is placed already, the one above waits for its turn.
    proxy.add(f"/blobs/{image.blobs[1].digest}", hold_after=SIZE // 2)
    with transfers.begin_pull(name) as pull:
        pull.wait_for(lambda message: message.get("progressDetail", {}).get("current") == SIZE // 2)
        for number, status in ((0, "Pull complete"), (2, "Download complete")):
            short = image.blobs[number].digest.removeprefix("sha256:")[:12]
            pull.wait_for(lambda message, short=short, status=status: (message.get("id"), message["status"]) == (short, status))
        mortal.kill()
    proxy.release()
    mortal.start()
    assert RawApi(mortal.listens_at)("GET", f"/images/{image.id}/json").status == 404
    assert transfers.pull(name).summary == f"Status: Downloaded newer image for {name}"
    asked = [[request.headers.get("range") for request in proxy.asked("GET", f"/blobs/{blob.digest}")] for blob in image.blobs]
    assert asked == [[None], [None, f"bytes={SIZE // 2}-"], [None]]
    assert partials(mortal, image) == []


def test_what_a_power_cut_made_of_a_beginning_is_not_believed(
    mortal: EngineUnderTest, registry: DockerRegistry, proxy: FaultProxy
) -> None:
    image = unlike_others("zeros", layers=1, size=SIZE)
    put(registry, "survival/zeros", "1", image)
    digest = image.blobs[0].digest
    begun = mortal.data_root / "content/partial" / digest.removeprefix("sha256:")
    begun.write_bytes(bytes(SIZE // 2))
    owner = begun.parent.stat()
    os.chown(begun, owner.st_uid, owner.st_gid)
    done = Transfers(mortal.listens_at).pull(f"{proxy.host}/survival/zeros:1")
    assert not done.error
    assert done.of(digest)[-1] == "Pull complete"
    ranges = [request.headers.get("range") for request in proxy.asked("GET", f"/blobs/{digest}")]
    assert ranges == [f"bytes={SIZE // 2}-", None]
    assert not begun.exists()


def test_a_pull_that_was_left_is_cleared_away_by_a_prune(
    mortal: EngineUnderTest, registry: DockerRegistry, proxy: FaultProxy
) -> None:
    image = unlike_others("pruned", layers=1, size=SIZE)
    put(registry, "survival/pruned", "1", image)
    proxy.add(f"/blobs/{image.blobs[0].digest}", hold_after=SIZE // 2)
    with Transfers(mortal.listens_at).begin_pull(f"{proxy.host}/survival/pruned:1") as pull:
        pull.wait_for(lambda message: message.get("progressDetail", {}).get("current") == SIZE // 2)
        assert RawApi(mortal.listens_at)("POST", "/images/prune").status == 200
        kept = partials(mortal, image)
    assert kept == [SIZE // 2], "it is being received"


def test_an_image_may_be_removed_while_its_layers_are_pulled_for_another(
    mortal: EngineUnderTest, registry: DockerRegistry, proxy: FaultProxy
) -> None:
    below = unlike_others("below", layers=2, size=SIZE)
    above = Made([*below.layers, tar({"above": noise(SIZE, "above")})])
    put(registry, "survival/below", "1", below)
    put(registry, "survival/above", "1", above)
    transfers, api = Transfers(mortal.listens_at), RawApi(mortal.listens_at)
    assert not transfers.pull(f"{proxy.host}/survival/below:1").error
    proxy.add(f"/blobs/{above.blobs[2].digest}", hold_after=SIZE // 2)
    with transfers.begin_pull(f"{proxy.host}/survival/above:1") as pull:
        proxy.wait_until_held()
        assert api("DELETE", f"/images/{below.id}?force=1").status == 200
        assert api("POST", '/images/prune?filters={"dangling":["false"]}').status == 200
        proxy.release()
        assert not pull.end().error
    created = api("POST", "/containers/create", {"Image": above.id, "Cmd": ["x"]})
    assert created.status == 201
    changes = api("GET", f"/containers/{created.json['Id']}/archive?path=/below-0")
    assert changes.status == 200
    assert api("DELETE", f"/containers/{created.json['Id']}").status == 204


@contextlib.contextmanager
def running(engine: EngineUnderTest) -> Iterator[None]:
    """An engine whose directory is mounted, and stays so until it has ended."""
    engine.start()
    try:
        yield
    finally:
        engine.stop()


@pytest.mark.root
def test_a_full_disk_ends_a_pull_and_not_the_engine(registry: DockerRegistry) -> None:
    full, fits = unlike_others("full", layers=3, size=6_000_000, compression=""), unlike_others("fits", layers=1, size=SIZE)
    put(registry, "survival/full", "1", full)
    put(registry, "survival/fits", "1", fits)
    engine = EngineUnderTest("--bridge", "none", rootless=False)
    engine.data_root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=18m", "tmpfs", str(engine.data_root)], check=True)
    try:
        with running(engine):
            transfers = Transfers(engine.listens_at)
            assert "no space left on device" in transfers.pull(f"{registry.host}/survival/full:1").error
            assert RawApi(engine.listens_at)("GET", "/images/json").json == []
            assert not transfers.pull(f"{registry.host}/survival/fits:1").error
            found = RawApi(engine.listens_at)("GET", "/images/json").json
            assert [image["Id"] for image in found] == [fits.id], json.dumps(found)
            assert partials(engine, full) == []
    finally:
        subprocess.run(["umount", str(engine.data_root)], check=True)
        engine.remove_files()
