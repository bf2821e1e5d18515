"""The structs say what the API says."""

from __future__ import annotations

import msgspec

from kitepy.engine.model.container_config import ContainerConfig, ContainerCreateBody, HostConfig, RestartPolicy


def test_inspect_leaves_out_what_dockerd_leaves_out_while_it_is_empty() -> None:
    document = ContainerConfig(image="x").document()
    assert "ExposedPorts" not in document
    assert "StopTimeout" not in document
    assert document["Env"] is None
    assert document["Volumes"] is None
    host = HostConfig().document()
    assert "Init" not in host
    assert "Tmpfs" not in host
    assert host["RestartPolicy"] == {"Name": "", "MaximumRetryCount": 0}
    assert host["PortBindings"] is None


def test_zero_and_false_are_values_where_docker_has_them() -> None:
    assert ContainerConfig(stop_timeout=0).document()["StopTimeout"] == 0
    assert HostConfig(init=False).document()["Init"] is False


def test_a_record_gives_back_what_was_stored() -> None:
    host = HostConfig(memory=1, restart_policy=RestartPolicy(name="always"), console_size=(24, 80))
    assert msgspec.json.decode(msgspec.json.encode(host), type=HostConfig) == host


def test_the_portable_part_of_a_request_is_separable() -> None:
    body = ContainerCreateBody(image="x", labels={"a": "b"}, host_config=HostConfig(memory=1))
    assert body.config() == ContainerConfig(image="x", labels={"a": "b"})
