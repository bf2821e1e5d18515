"""Options of macvlan and ipvlan networks, in dockerd's words."""

from __future__ import annotations

import pytest

from kitepy.engine.model.errors import EngineError, InvalidParameter, SystemFailure
from kitepy.engine.model.network import NetworkDriver, NetworkRecord
from kitepy.engine.network.parent_links import ParentOptions, check_neighbours, parse_options, parse_vlan


def record(driver: NetworkDriver, network_id: str = "n" * 64, device: str = "", **options: str) -> NetworkRecord:
    return NetworkRecord(
        network_id=network_id,
        name="t",
        driver=driver,
        created="",
        options=tuple((name.replace("__", "."), value) for name, value in options.items()),
        device=device,
    )


@pytest.mark.parametrize(
    ("driver", "options", "expected"),
    [
        (NetworkDriver.MACVLAN, {"parent": "eth0"}, ParentOptions("bridge", "", "eth0", None)),
        (NetworkDriver.MACVLAN, {"macvlan_mode": ""}, ParentOptions("bridge", "", "", None)),
        (NetworkDriver.MACVLAN, {"macvlan_mode": "vepa", "foo": "bar"}, ParentOptions("vepa", "", "", None)),
        (NetworkDriver.MACVLAN, {"com__docker__network__driver__mtu": "1400"}, ParentOptions("bridge", "", "", 1400)),
        (NetworkDriver.IPVLAN, {"parent": "eth0.5"}, ParentOptions("l2", "bridge", "eth0.5", None)),
        (NetworkDriver.IPVLAN, {"ipvlan_mode": "l3s", "ipvlan_flag": "private"}, ParentOptions("l3s", "private", "", None)),
    ],
)
def test_options_that_are_fine(driver: NetworkDriver, options: dict[str, str], expected: ParentOptions) -> None:
    assert parse_options(record(driver, **options)) == expected


@pytest.mark.parametrize(
    ("driver", "options", "kind", "message"),
    [
        (
            NetworkDriver.MACVLAN,
            {"parent": "lo", "macvlan_mode": "BRIDGE"},
            SystemFailure,
            "requested macvlan mode 'BRIDGE' is not valid, 'bridge' mode is the macvlan driver default",
        ),
        (
            NetworkDriver.IPVLAN,
            {"ipvlan_mode": "x", "ipvlan_flag": "x"},
            SystemFailure,
            "requested ipvlan mode 'x' is not valid, 'l2' mode is the ipvlan driver default",
        ),
        (
            NetworkDriver.IPVLAN,
            {"ipvlan_flag": "x"},
            SystemFailure,
            "requested ipvlan flag 'x' is not valid, 'bridge' is the ipvlan driver default",
        ),
        (NetworkDriver.IPVLAN, {"parent": "lo"}, SystemFailure, "loopback interface is not a valid ipvlan parent link"),
        (
            NetworkDriver.MACVLAN,
            {"com__docker__network__driver__mtu": "x"},
            InvalidParameter,
            'failed to parse com.docker.network.driver.mtu value: x (strconv.Atoi: parsing "x": invalid syntax)',
        ),
    ],
)
def test_options_that_are_refused(driver: NetworkDriver, options: dict[str, str], kind: type[EngineError], message: str) -> None:
    with pytest.raises(kind) as caught:
        parse_options(record(driver, **options))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nope", "invalid subinterface vlan name nope, example formatting is eth0.10"),
        ("a.b.c", "required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead received a.b.c"),
        ("nope.10", "-o parent interface was not found on the host: nope"),
        ("nope.9999", "-o parent interface was not found on the host: nope"),
        ("nope.x", "unable to parse a valid vlan id from: x (ex. eth0.10 for vlan 10)"),
        ("eth0.", "unable to parse a valid vlan id from:  (ex. eth0.10 for vlan 10)"),
        ("eth0. 5", "unable to parse a valid vlan id from:  5 (ex. eth0.10 for vlan 10)"),
        ("eth0.5000", "vlan id must be between 1-4094, received: 5000"),
        ("eth0.-1", "vlan id must be between 1-4094, received: -1"),
    ],
)
def test_names_of_vlans_that_are_refused(name: str, message: str) -> None:
    with pytest.raises(SystemFailure) as caught:
        parse_vlan(name, ["eth0"])
    assert str(caught.value) == message


def test_a_vlan() -> None:
    assert parse_vlan("eth0.10", ["lo", "eth0"]) == ("eth0", 10)


def test_who_may_share_a_parent() -> None:
    macvlan = record(NetworkDriver.MACVLAN, "a" * 64, "eth0")
    passthru = record(NetworkDriver.MACVLAN, "b" * 64, "eth0", macvlan_mode="passthru")
    ipvlan = record(NetworkDriver.IPVLAN, "c" * 64, "eth0")
    new = record(NetworkDriver.MACVLAN)
    check_neighbours(new, ParentOptions("bridge", "", "eth0", None), "eth0", [macvlan, ipvlan])
    check_neighbours(new, ParentOptions("passthru", "", "eth1", None), "eth1", [macvlan, passthru])
    with pytest.raises(SystemFailure, match=f"^cannot use mode passthru, macvlan network {'a' * 64} is already using parent"):
        check_neighbours(new, ParentOptions("passthru", "", "eth0", None), "eth0", [macvlan])
    with pytest.raises(SystemFailure, match=rf"^macvlan network {'b' * 64} .* interface eth0 in mode passthru$"):
        check_neighbours(new, ParentOptions("bridge", "", "eth0", None), "eth0", [passthru])
    with pytest.raises(SystemFailure, match=rf"^network di-{'c' * 12} is already using parent interface eth0$"):
        check_neighbours(record(NetworkDriver.IPVLAN), ParentOptions("l3", "", "eth0", None), "eth0", [ipvlan])
