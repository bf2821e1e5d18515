"""Looking containers up, and storing them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kitepy.engine.model.container import ContainerRecord, ContainerState, ContainerStatus, MountKind, MountPoint
from kitepy.engine.model.container_config import ContainerConfig, HostConfig
from kitepy.engine.model.errors import Conflict, InvalidParameter, NotFound
from kitepy.engine.model.network import Endpoint, PublishedPort
from kitepy.engine.services.container_index import ContainerIndex
from kitepy.engine.storage.database import Database


def make(container_id: str, name: str) -> ContainerRecord:
    return ContainerRecord(
        id=container_id.ljust(64, "0"),
        name=name,
        created_ns=1,
        image_id="sha256:1",
        image_reference="x",
        config=ContainerConfig(cmd=["sh"], hostname="h"),
        host_config=HostConfig(memory=5),
        platform="linux",
        layers=("sha256:2",),
    )


@pytest.fixture(name="database")
def _database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "state.db")
    yield database
    database.close()


@pytest.fixture(name="index")
def _index(database: Database) -> ContainerIndex:
    index = ContainerIndex(database)
    index.load()
    return index


def test_a_container_is_found_by_id_prefix_and_name(index: ContainerIndex) -> None:
    record = make("abc1", "web")
    index.add(record)
    for ref in (record.id, "abc1", "a", "web", "/web"):
        assert index.resolve(ref) is record


def test_an_ambiguous_prefix_is_an_error_of_its_own(index: ContainerIndex) -> None:
    index.add(make("abc1", "one"))
    index.add(make("abc2", "two"))
    with pytest.raises(InvalidParameter, match="multiple IDs found with provided prefix: abc"):
        index.resolve("abc")
    assert index.resolve("abc2").name == "two"


def test_a_name_beats_the_beginning_of_an_id(index: ContainerIndex) -> None:
    index.add(make("abc1", "one"))
    index.add(make("def1", "abc1"))
    assert index.resolve("abc1").id.startswith("def1")


def test_a_full_id_beats_a_name(index: ContainerIndex) -> None:
    first = make("abc1", "one")
    index.add(first)
    index.add(make("def1", first.id))
    assert index.resolve(first.id) is first


@pytest.mark.parametrize("ref", ["", "/", "web", "abd", "zzz", "ABC1", "x" * 300])
def test_what_is_not_there_is_not_found(index: ContainerIndex, ref: str) -> None:
    index.add(make("abc1", "one"))
    with pytest.raises(NotFound, match="No such container: "):
        index.resolve(ref)


def test_a_taken_name_is_a_conflict_that_names_its_owner(index: ContainerIndex) -> None:
    owner = make("abc1", "web")
    index.add(owner)
    with pytest.raises(Conflict) as raised:
        index.add(make("abc2", "web"))
    assert str(raised.value) == (
        f'Conflict. The container name "/web" is already in use by container "{owner.id}". '
        "You have to remove (or rename) that container to be able to reuse that name."
    )
    index.add(make("abc2", "other"))
    with pytest.raises(Conflict):
        index.save(replace(make("abc2", "other"), name="web"))


def test_a_new_name_replaces_the_old_one(index: ContainerIndex) -> None:
    record = make("abc1", "web")
    index.add(record)
    index.save(replace(record, name="shop"))
    assert index.resolve("shop").id == record.id
    assert index.owner_of_name("web") is None
    index.add(make("abc2", "web"))


def test_a_removed_container_leaves_id_and_name_free(index: ContainerIndex) -> None:
    record = make("abc1", "web")
    index.add(record)
    index.remove(record.id)
    assert len(index) == 0
    assert index.get(record.id) is None
    index.add(record)


def test_a_list_survives_changes_while_it_is_walked(index: ContainerIndex) -> None:
    index.add(make("abc1", "one"))
    index.add(make("abc2", "two"))
    for record in index:
        index.remove(record.id)
    assert len(index) == 0


def test_everything_comes_back_after_a_restart(database: Database, index: ContainerIndex) -> None:
    record = replace(
        make("abc1", "web"),
        mounts=(MountPoint(MountKind.TMPFS, "/t", tmpfs_options=("size=1",)), MountPoint(MountKind.VOLUME, "/v", volume="v")),
        state=ContainerState(ContainerStatus.PAUSED, pid=5, started_at_ns=7, restart_count=2, stopped_by_user=True),
        endpoints=(
            Endpoint(
                container_id="abc1".ljust(64, "0"),
                endpoint_id="e" * 64,
                network="bridge",
                address="10.0.0.2",
                prefix_length=24,
                gateway="10.0.0.1",
                mac="02:00:00:00:00:02",
                host_interface="v1",
                ports=(PublishedPort(80, "tcp", "0.0.0.0", 8080),),
            ),
        ),
    )
    index.add(record)
    again = ContainerIndex(database)
    again.load()
    assert list(again) == [record]
    assert again.resolve("web") == record
