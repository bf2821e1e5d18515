"""What may be wished for in a network, what has no effect here and is refused, and what containers are called there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kitepy.engine.model.container import ContainerRecord
from kitepy.engine.model.container_config import (
    ContainerConfig,
    EndpointIPAMConfig,
    EndpointSettings,
    HostConfig,
    NetworkingConfig,
)
from kitepy.engine.model.errors import Forbidden, InvalidParameter, NotFound, SystemFailure, Unsupported
from kitepy.engine.model.network import NetworkDriver, NetworkRecord
from kitepy.engine.services.endpoints import (
    check_endpoint,
    check_interface,
    dns_names,
    endpoint_request,
    joined_settings,
)
from kitepy.engine.services.network_index import StoredNetwork
from kitepy.engine.services.request_networking import networks_to_join, wanted_endpoints


def network(name: str, *subnets: str, **more: Any) -> StoredNetwork:
    driver = {"host": NetworkDriver.HOST, "none": NetworkDriver.NULL}.get(name, NetworkDriver.BRIDGE)
    return StoredNetwork(NetworkRecord(f"id-of-{name}", name, driver, ""), configured=subnets, **more)


def record(mode: str = "bridge", networks: dict[str, EndpointSettings] | None = None, **config: Any) -> ContainerRecord:
    return ContainerRecord(
        id="c" * 64,
        name="web",
        created_ns=0,
        image_id="",
        image_reference="",
        config=ContainerConfig(**config),
        host_config=HostConfig(network_mode=mode),
        platform="linux",
        layers=(),
        networks=networks or {},
    )


def addressed(v4: str = "", v6: str = "") -> EndpointSettings:
    return EndpointSettings(ipam_config=EndpointIPAMConfig(ipv4_address=v4, ipv6_address=v6))


_IFNAME = "com.docker.network.endpoint.ifname"
_SYSCTLS = "com.docker.network.endpoint.sysctls"


def test_options_of_endpoints_that_nobody_honours_are_refused() -> None:
    with pytest.raises(Unsupported, match=r"com\.docker\.network\.endpoint\.other"):
        check_endpoint("bridge", EndpointSettings(driver_opts={"com.docker.network.endpoint.other": "x"}), None)
    check_endpoint("bridge", EndpointSettings(driver_opts={"somebody.elses": "option", _IFNAME: "lan0"}), None)


@pytest.mark.parametrize(
    "setting", ["x", "", " ", "net.ipv4.ip_forward=1", "net.ipv4.conf.eth0.x=1", "kernel.shmmax=1", "net.IFNAME.x=1"]
)
def test_only_parameters_of_the_interface_can_be_set(setting: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        check_endpoint("mine", EndpointSettings(driver_opts={_SYSCTLS: setting}), None)
    assert str(refused.value) == (
        f"invalid endpoint settings:\nunrecognised network interface sysctl '{setting}'; "
        "represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'"
    )


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        (_SYSCTLS, "net.ipv4.conf.IFNAME.log_martians", "to have format name=value"),
        (_SYSCTLS, "net.ipv4.conf.IFNAME.a.b=1", "to have format net.X.Y.IFNAME.Z"),
        (_SYSCTLS, "net.ipv4.conf.IFNAME.../../../kernel/core_pattern=x", "to have format net.X.Y.IFNAME.Z"),
        *((_IFNAME, name, "error renaming interface to") for name in ("a/b", "../x", ".", "lo", "x" * 16, "a b", "a\n")),
    ],
)
def test_what_the_kernel_would_misunderstand_fails_the_start(option: str, value: str, message: str) -> None:
    check_endpoint("mine", EndpointSettings(driver_opts={option: value}), None)
    with pytest.raises(SystemFailure, match=message):
        check_interface(EndpointSettings(driver_opts={option: value}))
    check_interface(EndpointSettings(driver_opts={_IFNAME: "lan0", _SYSCTLS: "net.ipv4.conf.IFNAME.log_martians=1"}))


def test_link_local_addresses_are_addresses() -> None:
    config = EndpointIPAMConfig(link_local_ips=["169.254.1.1", "fe80::1"])
    check_endpoint("x", EndpointSettings(ipam_config=config), None)
    for text, told in (("here", ": here"), ("", ":")):
        with pytest.raises(InvalidParameter, match=f"invalid link-local IP address{told}$"):
            check_endpoint("x", EndpointSettings(ipam_config=EndpointIPAMConfig(link_local_ips=[text])), None)


_ONLY = "user specified IP address is supported only when connecting to networks with user configured subnets"


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("mine", addressed("10.1.0.9"), ""),
        ("mine", addressed("10.2.0.9"), "no configured subnet or ip-range contain the IP address 10.2.0.9"),
        ("mine", addressed("x"), "* invalid IPv4 address: x\n* no configured subnet or ip-range contain the IP address x"),
        (
            "mine",
            addressed("0.0.0.0"),
            "* invalid IPv4 address: 0.0.0.0\n* no configured subnet or ip-range contain the IP address 0.0.0.0",
        ),
        ("mine", addressed(v6="fd00::7"), _ONLY),
        ("auto", addressed("172.18.0.5"), _ONLY),
        (
            "bridge",
            EndpointSettings(aliases=["a"]),
            "network-scoped alias is supported only for containers in user defined networks",
        ),
        (
            "bridge",
            addressed("172.17.0.9"),
            f"* user specified IP address is supported on user defined networks only\n* {_ONLY}",
        ),
    ],
)
def test_addresses_are_had_where_the_networks_maker_chose_the_subnet(name: str, settings: EndpointSettings, message: str) -> None:
    made = network(name, *(["10.1.0.0/16"] if name == "mine" else []))
    if not message:
        check_endpoint(name, settings, made)
        return
    with pytest.raises(InvalidParameter) as refused:
        check_endpoint(name, settings, made)
    assert str(refused.value) == f"invalid endpoint settings:\n{message}"


def test_names_are_those_of_docker_in_its_order() -> None:
    box = record(hostname="box")
    assert dns_names(box, ["db", "store", "db"]) == ["web", "db", "store", "c" * 12, "box"]
    assert dns_names(record(hostname="c" * 12), None) == ["web", "c" * 12]
    joined = joined_settings(box, network("mine"), EndpointSettings(aliases=["db"]))
    assert (joined.network_id, joined.dns_names) == ("id-of-mine", ["web", "db", "c" * 12, "box"])
    assert joined_settings(box, network("bridge"), EndpointSettings()).dns_names is None


def test_wishes_become_a_request() -> None:
    settings = EndpointSettings(
        ipam_config=EndpointIPAMConfig(ipv4_address="10.1.0.9", ipv6_address="fd00::9"),
        mac_address="02-42-AC-11-00-09",
        gw_priority=7,
        driver_opts={"a": "b"},
    )
    request = endpoint_request(record(), network("mine"), settings)
    assert (str(request.address), str(request.address6), request.mac) == ("10.1.0.9", "fd00::9", "02:42:ac:11:00:09")
    assert (request.gateway_priority, request.options, request.names) == (7, (("a", "b"),), ("web", "c" * 12))


def test_networks_are_known_by_name_however_a_client_calls_them() -> None:
    known = {"mine": network("mine", "10.1.0.0/16"), "id-of-mine": network("mine", "10.1.0.0/16")}
    wishes = NetworkingConfig(endpoints_config={"id-of-mine": EndpointSettings(aliases=["q"], network_id="forged")})
    endpoints, _ = wanted_endpoints(ContainerConfig(), HostConfig(network_mode="mine"), wishes, known.get)
    assert endpoints == {"mine": EndpointSettings(aliases=["q"])}
    endpoints, _ = wanted_endpoints(ContainerConfig(), HostConfig(network_mode="nowhere"), NetworkingConfig(), known.get)
    assert list(endpoints) == ["nowhere"]
    with pytest.raises(InvalidParameter, match="invalid config for network mine: invalid endpoint settings:\nno configured"):
        wanted_endpoints(
            ContainerConfig(), HostConfig(), NetworkingConfig(endpoints_config={"mine": addressed("10.9.9.9")}), known.get
        )


_PRIVATE = "container cannot be connected to multiple networks with one of the networks in private ({}) mode"


@pytest.mark.parametrize(
    ("mode", "names", "error", "message"),
    [
        ("mine", ["none", "mine"], InvalidParameter, _PRIVATE.format("none")),
        ("none", ["none", "mine"], InvalidParameter, _PRIVATE.format("none")),
        (
            "mine",
            ["host", "mine"],
            InvalidParameter,
            "cannot connect container to host network - container must be created in host network mode",
        ),
        ("mine", ["nowhere"], NotFound, "network nowhere not found"),
        ("plan", ["plan"], Forbidden, "cannot create endpoint on configuration-only network"),
    ],
)
def test_a_start_refuses_networks_that_do_not_go_together(
    mode: str, names: list[str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as refused:
        networks_to_join(record(mode, {name: EndpointSettings() for name in names}), _find)
    assert str(refused.value) == message


def _find(ref: str) -> StoredNetwork:
    if ref == "nowhere":
        raise NotFound(f"network {ref} not found")
    return network(ref.removeprefix("id-of-"), config_only=ref == "plan")


def test_a_start_joins_the_default_network_first_and_knows_networks_by_their_ids() -> None:
    joined = networks_to_join(
        record("mine", {"mine": EndpointSettings(), "bridge": EndpointSettings(), "other": EndpointSettings()}), _find
    )
    assert [found.name for found, _ in joined] == ["bridge", "mine", "other"]
    moved = replace(record("mine"), networks={"mine": EndpointSettings(network_id="nowhere")})
    with pytest.raises(NotFound, match="network nowhere not found"):
        networks_to_join(moved, _find)
