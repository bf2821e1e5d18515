"""What inspect, list and events show."""

from __future__ import annotations

from typing import Any

import pytest

from kitepy.engine.model.container import ContainerRecord, ContainerState, ContainerStatus, MountKind, MountPoint
from kitepy.engine.model.container_config import ContainerConfig, HostConfig
from kitepy.engine.model.network import Endpoint, PublishedPort
from kitepy.engine.services import container_view as view

SECOND = 1_000_000_000
NOW = 1_700_000_000 * SECOND
S = ContainerStatus


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "Less than a second"),
        (0.5, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (46 * 60, "46 minutes"),
        (3599, "59 minutes"),
        (3600, "About an hour"),
        (5399, "About an hour"),
        (5400, "2 hours"),
        (47 * 3600, "47 hours"),
        (48 * 3600, "2 days"),
        (13 * 86400, "13 days"),
        (14 * 86400, "2 weeks"),
        (59 * 86400, "8 weeks"),
        (60 * 86400, "2 months"),
        (729 * 86400, "24 months"),
        (730 * 86400, "2 years"),
    ],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert view.human_duration(int(seconds * SECOND)) == words


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (ContainerState(), "Created"),
        (ContainerState(S.RUNNING, started_at_ns=NOW - 5 * SECOND), "Up 5 seconds"),
        (ContainerState(S.PAUSED, started_at_ns=NOW - 120 * SECOND), "Up 2 minutes (Paused)"),
        (ContainerState(S.EXITED, exit_code=137, finished_at_ns=NOW - SECOND), "Exited (137) 1 second ago"),
        (ContainerState(S.RESTARTING, exit_code=1, finished_at_ns=NOW), "Restarting (1) Less than a second ago"),
        (ContainerState(S.REMOVING), "Removal In Progress"),
        (ContainerState(S.DEAD), "Dead"),
    ],
)
def test_status_texts(state: ContainerState, text: str) -> None:
    assert view.status_text(state, NOW) == text


@pytest.mark.parametrize(
    ("status", "running", "paused", "restarting"),
    [
        (S.CREATED, False, False, False),
        (S.RUNNING, True, False, False),
        (S.PAUSED, True, True, False),
        (S.RESTARTING, True, False, True),
        (S.EXITED, False, False, False),
    ],
)
def test_the_booleans_follow_from_the_status(status: ContainerStatus, running: bool, paused: bool, restarting: bool) -> None:
    document = view.state_document(ContainerState(status))
    assert document["Status"] == status.value
    assert (document["Running"], document["Paused"], document["Restarting"]) == (running, paused, restarting)
    assert document["StartedAt"] == "0001-01-01T00:00:00Z"


def record(**config: Any) -> ContainerRecord:
    return ContainerRecord(
        id="c" * 64,
        name="web",
        created_ns=NOW,
        image_id="sha256:i",
        image_reference="shop",
        config=ContainerConfig(**config),
        host_config=HostConfig(network_mode="bridge"),
        platform="linux",
        layers=(),
        state=ContainerState(S.RUNNING, pid=5),
        endpoints=(
            Endpoint(
                endpoint_id="e",
                container_id="c" * 64,
                network="bridge",
                address="10.0.0.2",
                prefix_length=24,
                gateway="10.0.0.1",
                mac="02:00:00:00:00:02",
                host_interface="v",
                ports=(
                    PublishedPort(80, "tcp", "0.0.0.0", 8080),
                    PublishedPort(80, "tcp", "::", 8080),
                    PublishedPort(53, "udp", "127.0.0.1", 5353),
                ),
            ),
        ),
    )


def test_ports_list_every_address_and_the_unpublished_ones() -> None:
    shown = record(exposed_ports={"80/tcp": {}, "443/tcp": {}})
    assert view.port_map(shown) == {
        "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}],
        "443/tcp": None,
        "53/udp": [{"HostIp": "127.0.0.1", "HostPort": "5353"}],
    }
    assert view.port_list(shown) == [
        {"IP": "127.0.0.1", "PrivatePort": 53, "PublicPort": 5353, "Type": "udp"},
        {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
        {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
        {"PrivatePort": 443, "Type": "tcp"},
    ]


def test_mounts_show_where_they_come_from() -> None:
    bind = MountPoint(MountKind.BIND, "/b", source="/a", mode="ro", read_only=True, propagation="rprivate")
    volume = MountPoint(MountKind.VOLUME, "/v", volume="data", mode="z")
    assert view.mount_document(bind, {}) == {
        "Type": "bind", "Source": "/a", "Destination": "/b", "Mode": "ro", "RW": False, "Propagation": "rprivate"
    }  # fmt: skip
    assert view.mount_document(volume, {"data": "/vol/data"}) == {
        "Type": "volume", "Name": "data", "Source": "/vol/data", "Destination": "/v", "Driver": "local", "Mode": "z", "RW": True,
        "Propagation": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("argv", "text"),
    [(["sh"], "sh"), (["sh", "-c", "echo a b"], "sh -c 'echo a b'"), ([], ""), (["a\nb"], "a\nb"), (["a b"], "a b")],
)
def test_a_command_on_one_line(argv: list[str], text: str) -> None:
    assert view.command_text(argv) == text


def test_events_carry_labels_image_and_name() -> None:
    shown = record(labels={"team": "x", "name": "a label that loses"})
    assert view.event_attributes(shown, exitCode="3") == {"team": "x", "image": "shop", "name": "web", "exitCode": "3"}
