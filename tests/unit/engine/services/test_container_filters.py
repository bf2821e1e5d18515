"""Filters of the list of containers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from kitepy.engine.model.container import ContainerRecord, ContainerState, ContainerStatus, MountKind, MountPoint
from kitepy.engine.model.container_config import ContainerConfig, EndpointSettings, HostConfig
from kitepy.engine.model.errors import InvalidParameter, NotFound
from kitepy.engine.model.filters import Filters
from kitepy.engine.model.network import Endpoint, PublishedPort
from kitepy.engine.services.container_filters import ContainerFilter, PruneFilter
from kitepy.engine.services.container_index import ContainerIndex
from kitepy.engine.services.images import ImageService
from kitepy.engine.storage.database import Database


@dataclass
class _Image:
    id: str
    parent_id: str | None


class _Images:
    """Two images, ``child`` built from ``base``."""

    _known = {"base": _Image("sha256:base", None), "child": _Image("sha256:child", "sha256:base")}  # noqa: RUF012  # a fake

    def resolve(self, ref: str) -> _Image:
        if ref not in self._known:
            raise NotFound(f"No such image: {ref}")
        return self._known[ref]

    def get(self, image_id: str) -> _Image:
        return self.resolve(image_id.removeprefix("sha256:"))


@pytest.fixture(name="index")
def _index(tmp_path: Path) -> Iterator[ContainerIndex]:
    database = Database(tmp_path / "state.db")
    index = ContainerIndex(database)
    first = ContainerRecord(
        id="a" * 64,
        name="shop-web",
        created_ns=100,
        image_id="sha256:child",
        image_reference="child",
        config=ContainerConfig(labels={"team": "x", "tier": "1"}, exposed_ports={"80/tcp": {}, "53/udp": {}}),
        host_config=HostConfig(network_mode="bridge"),
        platform="linux",
        layers=(),
        mounts=(MountPoint(MountKind.VOLUME, "/data", volume="stock"), MountPoint(MountKind.BIND, "/b", source="/srv")),
        state=ContainerState(ContainerStatus.RUNNING, pid=3),
        endpoints=(
            Endpoint("e", "a" * 64, "bridge", "10.0.0.2", 24, "10.0.0.1", "", "", (PublishedPort(80, "tcp", "0.0.0.0", 8080),)),
        ),
        networks={"bridge": EndpointSettings()},
    )
    index.add(first)
    index.add(
        replace(
            first,
            id="b" * 64,
            name="shop-db",
            created_ns=200,
            image_id="sha256:base",
            config=ContainerConfig(labels={"team": "y"}),
            host_config=HostConfig(network_mode="none"),
            networks={"none": EndpointSettings(network_id="f" * 64)},
            mounts=(),
            state=ContainerState(ContainerStatus.EXITED, exit_code=3),
            endpoints=(),
        )
    )
    index.add(
        replace(
            first,
            id="c" * 64,
            name="new",
            created_ns=300,
            image_id="sha256:gone",
            mounts=(),
            state=ContainerState(),
            endpoints=(),
        )
    )
    yield index
    database.close()


def chosen(index: ContainerIndex, **filters: Any) -> set[str]:
    values = {key.replace("_", "-"): tuple(value) for key, value in filters.items()}
    chooser = ContainerFilter(Filters(values), index, cast(ImageService, _Images()), lambda _: None)
    return {record.name for record in index if chooser.matches(record)}


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, {"shop-web", "shop-db", "new"}),
        ({"id": ["a", "bbb"]}, {"shop-web", "shop-db"}),
        ({"name": ["shop"]}, {"shop-web", "shop-db"}),
        ({"name": ["^/shop-d"]}, {"shop-db"}),
        ({"name": ["^new$"]}, {"new"}),
        ({"label": ["team"]}, {"shop-web", "shop-db", "new"}),
        ({"label": ["team=x", "tier=1"]}, {"shop-web", "new"}),
        ({"status": ["running"]}, {"shop-web"}),
        ({"status": ["exited", "created"]}, {"shop-db", "new"}),
        ({"exited": ["3"]}, {"shop-db"}),
        ({"exited": ["0"]}, set()),
        ({"ancestor": ["base"]}, {"shop-web", "shop-db"}),
        ({"ancestor": ["child"]}, {"shop-web"}),
        ({"ancestor": ["unknown"]}, set()),
        ({"before": ["shop-db"]}, {"shop-web"}),
        ({"since": ["shop-web"]}, {"shop-db", "new"}),
        ({"volume": ["stock"]}, {"shop-web"}),
        ({"volume": ["/data"]}, {"shop-web"}),
        ({"volume": ["other"]}, set()),
        ({"network": ["none"]}, {"shop-db"}),
        ({"network": ["ffff"]}, {"shop-db"}),
        ({"network": ["bridge"]}, {"shop-web", "new"}),
        ({"expose": ["80"]}, {"shop-web"}),
        ({"expose": ["50-60/udp"]}, {"shop-web"}),
        ({"expose": ["81/tcp"]}, set()),
        ({"expose": ["80/sctp"]}, set()),
        ({"publish": ["80"]}, set()),
        ({"publish": ["8000-9000"]}, {"shop-web"}),
        ({"publish": ["8080/tcp"]}, {"shop-web"}),
        ({"publish": ["8080/udp"]}, set()),
        ({"publish": ["0/udp"]}, {"shop-web"}),
        ({"isolation": ["anything"]}, {"shop-web", "shop-db", "new"}),
        ({"health": ["none"]}, {"shop-web", "shop-db", "new"}),
        ({"health": ["healthy"]}, set()),
        ({"is_task": ["true"]}, set()),
    ],
)
def test_filters(index: ContainerIndex, filters: dict[str, list[str]], names: set[str]) -> None:
    assert chosen(index, **filters) == names


@pytest.mark.parametrize(
    "filters",
    [
        {"colour": ["red"]},
        {"status": ["happy"]},
        {"exited": ["many"]},
        {"expose": ["x"]},
        {"publish": ["70000"]},
        {"health": ["fine"]},
        {"is_task": ["maybe"]},
        {"until": ["1h"]},
        {"expose": ["9-1"]},
    ],
)
def test_wrong_filters_are_refused(index: ContainerIndex, filters: dict[str, list[str]]) -> None:
    with pytest.raises(InvalidParameter):
        chosen(index, **filters)


def test_an_unknown_container_to_compare_with_is_not_found(index: ContainerIndex) -> None:
    with pytest.raises(NotFound, match="No such container: nobody"):
        chosen(index, before=["nobody"])


def test_prune_can_be_told_labels_and_an_age(index: ContainerIndex) -> None:
    def pruned(**values: tuple[str, ...]) -> set[str]:
        chooser = PruneFilter(Filters(values), 10**18)
        return {record.name for record in index if chooser.matches(record)}

    assert pruned(label=("team=y",)) == {"shop-db"}
    assert pruned(**{"label!": ("team=y",)}) == {"shop-web", "new"}
    assert pruned(until=("1h",)) == {"shop-web", "shop-db", "new"}
