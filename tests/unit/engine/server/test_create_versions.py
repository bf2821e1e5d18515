"""What a create request of an older client means."""

from __future__ import annotations

import pytest

from kitepy.engine.model.container_config import (
    BindOptions,
    ContainerCreateBody,
    EndpointSettings,
    HealthConfig,
    HostConfig,
    Mount,
    NetworkingConfig,
    VolumeOptions,
)
from kitepy.engine.server.api_version import ApiVersion
from kitepy.engine.server.create_versions import adapt_create, read_only_is_flat
from kitepy.engine.server.errors import BadRequest

MAC = "02:42:ac:11:00:09"


def _adapted(body: ContainerCreateBody, minor: int) -> ContainerCreateBody:
    return adapt_create(body, None, ApiVersion(1, minor))[0]


def _mount(mount: Mount) -> ContainerCreateBody:
    return ContainerCreateBody(host_config=HostConfig(mounts=[mount]))


def _endpoints(**settings: EndpointSettings) -> NetworkingConfig:
    return NetworkingConfig(endpoints_config=dict(settings))


def test_the_newest_version_is_taken_as_it_is() -> None:
    body = ContainerCreateBody(mac_address=MAC, networking_config=_endpoints(bridge=EndpointSettings(gw_priority=5)))
    assert adapt_create(body, "linux/amd64", ApiVersion(1, 51)) == (body, "linux/amd64")


@pytest.mark.parametrize(
    ("minor", "ipc", "cgroup", "platform"), [(39, "shareable", "host", None), (40, "", "host", None), (41, "", "", "linux")]
)
def test_defaults_of_namespaces_were_wider(minor: int, ipc: str, cgroup: str, platform: str | None) -> None:
    body, wanted = adapt_create(ContainerCreateBody(), "linux", ApiVersion(1, minor))
    assert (body.host_config.ipc_mode, body.host_config.cgroupns_mode, wanted) == (ipc, cgroup, platform)


def test_what_a_version_did_not_know_is_dropped() -> None:
    body = ContainerCreateBody(
        healthcheck=HealthConfig(test=["CMD", "a"], start_interval=5),
        host_config=HostConfig(annotations={"a": "b"}, console_size=(1, 2), kernel_memory_tcp=5),
        networking_config=_endpoints(bridge=EndpointSettings(gw_priority=5)),
    )
    old = _adapted(body, 39)
    assert old.healthcheck == HealthConfig(test=["CMD", "a"])
    host = old.host_config
    assert (host.annotations, host.console_size, host.kernel_memory_tcp) == (None, (0, 0), 0)
    assert old.networking_config == _endpoints(bridge=EndpointSettings())
    assert _adapted(body, 47).healthcheck == body.healthcheck
    assert _adapted(body, 42).host_config.console_size == (1, 2)


@pytest.mark.parametrize("mode", ["", "default", "bridge"])
def test_the_containers_mac_address_was_that_of_its_network(mode: str) -> None:
    body = ContainerCreateBody(
        mac_address=MAC,
        host_config=HostConfig(network_mode=mode),
        networking_config=_endpoints(bridge=EndpointSettings(mac_address="02:42:ac:11:00:10")),
    )
    old = _adapted(body, 43)
    assert old.mac_address == ""
    assert old.networking_config == _endpoints(bridge=EndpointSettings(mac_address=MAC))
    assert _adapted(body, 44).mac_address == MAC


def test_several_networks_are_too_many_for_old_versions() -> None:
    body = ContainerCreateBody(networking_config=_endpoints(a=EndpointSettings(), b=EndpointSettings()))
    with pytest.raises(BadRequest, match="multiple network endpoints: a, b"):
        _adapted(body, 43)
    assert _adapted(body, 44).networking_config == body.networking_config


@pytest.mark.parametrize(
    ("mount", "minor", "words"),
    [
        (Mount(type="image", source="a", target="/t"), 47, 'Mount type "Image" needs API v1.48 or newer'),
        (
            Mount(type="volume", source="ab", target="/t", volume_options=VolumeOptions(subpath="a")),
            44,
            "Subpath needs API",
        ),
        (
            Mount(type="bind", source="/a", target="/t", bind_options=BindOptions(read_only_force_recursive=True)),
            43,
            "BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer",
        ),
    ],
)
def test_mounts_that_a_version_did_not_know_are_refused(mount: Mount, minor: int, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        _adapted(_mount(mount), minor)
    assert _adapted(_mount(mount), minor + 1).host_config.mounts == [mount]


def test_options_of_binds_that_a_version_did_not_know_are_dropped() -> None:
    mount = Mount(type="bind", source="/a", target="/t", bind_options=BindOptions(non_recursive=True, create_mountpoint=True))
    (old,) = _adapted(_mount(mount), 39).host_config.mounts or []
    assert old.bind_options == BindOptions()
    (newer,) = _adapted(_mount(mount), 41).host_config.mounts or []
    assert newer.bind_options == BindOptions(non_recursive=True)


def test_read_only_binds_were_flat() -> None:
    assert read_only_is_flat(ApiVersion(1, 43))
    assert not read_only_is_flat(ApiVersion(1, 44))
