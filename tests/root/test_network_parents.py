"""macvlan and ipvlan in the real kernel: who reaches whom, and that nothing stays behind."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import ExitStack
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface

import pytest
from support.private_netns import Place, run_in_private_netns

from kitepy.engine.kernel.netlink import (
    Message,
    RouteSocket,
    add_address,
    add_default_link_route,
    add_default_route,
    add_ipvlan,
    add_veth,
    add_vlan,
    delete_default_route,
    delete_link,
    set_link,
)
from kitepy.engine.kernel.netns import in_new_namespace, open_current_namespace
from kitepy.engine.model.errors import SystemFailure
from kitepy.engine.model.network import NetworkDriver, NetworkRecord
from kitepy.engine.network.parent_links import ParentLinks

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]

ID = "0123456789ab" + "c" * 52
LINKS = ParentLinks("test")


def record(driver: NetworkDriver = NetworkDriver.MACVLAN, network_id: str = ID, **options: str) -> NetworkRecord:
    return NetworkRecord(network_id=network_id, name="t", driver=driver, created="", options=tuple(options.items()))


def interfaces() -> list[str]:
    with RouteSocket() as route:
        return [link.name for link in route.links()]


def new_place(undo: ExitStack) -> Place:
    fd = in_new_namespace(open_current_namespace)
    undo.callback(os.close, fd)
    return Place(fd)


def set_up(place: Place, name: str, *addresses: str, gateway: str = "") -> None:
    def inside() -> None:
        with RouteSocket() as route:
            link = route.link(name)
            assert link is not None
            assert not link.up
            route.execute(
                [
                    *(add_address(link.index, ip_interface(address)) for address in addresses),
                    set_link(link.index, up=True),
                    *((add_default_route(link.index, ip_address(gateway)),) if gateway else ()),
                ]
            )

    place.inside(inside)


def pings(place: Place, address: str) -> bool:
    """Whether there is an answer. An interface that has just come up may lose the first question for an IPv6 neighbour."""
    return place.run("ping", "-c1", f"-W{3 if ':' in address else 1}", address).returncode == 0


def wire(undo: ExitStack) -> Place:
    """``lan0`` here, with a neighbour at the other end of the wire: 10.7.0.1 and fd07::1."""
    neighbour = new_place(undo)
    assert neighbour.netns_fd is not None
    with RouteSocket() as host:
        host.execute([add_veth("lan0", mtu=1500, peer_name="lan1", peer_netns_fd=neighbour.netns_fd)])
    set_up(neighbour, "lan1", "10.7.0.1/24", "fd07::1/64")
    return neighbour


def in_private_netns(scenario: Callable[[ExitStack], None]) -> None:
    async def run() -> None:
        with ExitStack() as undo:
            scenario(undo)

    run_in_private_netns(run)


def index_of(name: str) -> int:
    with RouteSocket() as host:
        link = host.link(name)
        assert link is not None
        return link.index


def has_kind(request: Message) -> bool:
    """Whether the kernel can make such a link; the one that was made to see is removed again."""
    with RouteSocket() as host:
        try:
            host.execute([request])
        except OSError as error:
            return error.errno != errno.EOPNOTSUPP
        host.execute([delete_link(name) for name in interfaces() if name.startswith("probe")], tolerate=(errno.ENODEV,))
        return True


def container(undo: ExitStack, network: NetworkRecord, number: int) -> Place:
    place = new_place(undo)
    assert place.netns_fd is not None
    LINKS.add_interface(network, place.netns_fd, "tmp0", f"02:00:00:00:00:{number:02x}")
    set_up(place, "tmp0", f"10.7.0.{number}/24", f"fd07::{number}/64", gateway="10.7.0.1")
    return place


@pytest.mark.parametrize(("mode", "each_other"), [("bridge", True), ("private", False), ("vepa", False)])
def test_macvlan_containers_are_machines_of_their_own_on_the_wire(mode: str, each_other: bool) -> None:
    def scenario(undo: ExitStack) -> None:
        neighbour = wire(undo)
        network = LINKS.create(record(parent="lan0", macvlan_mode=mode))
        assert network.device == "lan0"
        first, second = container(undo, network, 2), container(undo, network, 3)
        assert pings(neighbour, "10.7.0.2")
        assert pings(first, "10.7.0.1")
        assert pings(first, "fd07::1")
        assert pings(second, "10.7.0.2") is each_other
        assert "default via 10.7.0.1" in first.run("ip", "route").stdout
        LINKS.remove(network)
        assert "lan0" in interfaces(), "the parent is the host's"

    in_private_netns(scenario)


def test_a_passthru_network_has_one_container_and_its_parent_no_other_network() -> None:
    def scenario(undo: ExitStack) -> None:
        neighbour = wire(undo)
        network = LINKS.create(record(parent="lan0", macvlan_mode="passthru"))
        container(undo, network, 2)
        assert pings(neighbour, "10.7.0.2")
        with pytest.raises(SystemFailure, match=r"^failed to create the macvlan port: invalid argument$"):
            container(undo, network, 3)
        with pytest.raises(SystemFailure, match=r"lan0 in mode passthru$"):
            LINKS.create(record(network_id="d" * 64, parent="lan0"), [network])

    in_private_netns(scenario)


def test_a_network_without_parent_joins_its_containers_only_and_leaves_nothing() -> None:
    def scenario(undo: ExitStack) -> None:
        before = interfaces()
        network = LINKS.create(record())
        assert network.device == "dm-0123456789ab"
        assert LINKS.create(network) == network, "a second time finds it"
        first = container(undo, network, 2)
        container(undo, network, 3)
        assert pings(first, "10.7.0.3")
        assert pings(first, "fd07::3")
        crashed = LINKS.create(record(network_id="e" * 64))
        assert ParentLinks("other").remove_strays([]) == [], "what another engine made is its own"
        assert LINKS.remove_strays([ID]) == [crashed.device]
        LINKS.remove(network)
        LINKS.remove(network)
        assert interfaces() == before

    in_private_netns(scenario)


def test_a_parent_that_is_gone_and_one_that_never_was() -> None:
    def scenario(undo: ExitStack) -> None:
        network = LINKS.create(record())
        LINKS.remove(network)
        with pytest.raises(SystemFailure, match="parent interface dm-0123456789ab of network t was not found"):
            container(undo, network, 2)
        with pytest.raises(SystemFailure, match=r"^invalid subinterface vlan name nope"):
            LINKS.create(record(parent="nope"))
        with pytest.raises(SystemFailure, match="doesn't see the machine's interfaces"):
            ParentLinks("test", rootless=True).create(record(parent="eth0"))
        wire(undo)
        with pytest.raises(SystemFailure, match="MTU 9000 exceeds"):
            container(undo, LINKS.create(record(parent="lan0", **{"com.docker.network.driver.mtu": "9000"})), 2)

    in_private_netns(scenario)


def test_a_vlan_is_made_and_removed_again_where_the_kernel_has_them() -> None:
    def scenario(undo: ExitStack) -> None:
        wire(undo)
        before = interfaces()
        if has_kind(add_vlan("probe.9", parent_index=index_of("lan0"), vlan_id=9)):
            network = LINKS.create(record(parent="lan0.10"))
            assert "lan0.10" in interfaces()
            LINKS.remove(network)
        else:
            with pytest.raises(SystemFailure, match=r"^failed to create lan0\.10 vlan link: operation not supported$"):
                LINKS.create(record(parent="lan0.10"))
        assert interfaces() == before

    in_private_netns(scenario)


@pytest.mark.parametrize("mode", ["l2", "l3"])
def test_ipvlan_containers_share_their_parents_mac_where_the_kernel_has_ipvlan(mode: str) -> None:
    def scenario(undo: ExitStack) -> None:
        neighbour = wire(undo)
        network = LINKS.create(record(NetworkDriver.IPVLAN, parent="lan0", ipvlan_mode=mode))
        place = new_place(undo)
        assert place.netns_fd is not None
        if has_kind(add_ipvlan("probe", parent_index=index_of("lan0"), mode="l2", flag="bridge", netns_fd=place.netns_fd)):
            LINKS.add_interface(network, place.netns_fd, "tmp0")
            set_up(place, "tmp0", "10.7.0.2/24")
            assert pings(neighbour, "10.7.0.2") is (mode == "l2")
        else:
            with pytest.raises(SystemFailure, match=r"^failed to create the ipvlan port: operation not supported$"):
                LINKS.add_interface(network, place.netns_fd, "tmp0")

    in_private_netns(scenario)


def test_default_routes_come_and_go_in_both_families() -> None:
    def scenario(undo: ExitStack) -> None:
        wire(undo)
        with RouteSocket() as host:
            link = host.link("lan0")
            assert link is not None
            addresses = [IPv4Interface("10.7.0.9/24"), IPv6Interface("fd07::9/64")]
            host.execute([set_link(link.index, up=True), *(add_address(link.index, address) for address in addresses)])
            assert set(addresses) <= {address.interface for address in host.addresses() if address.index == link.index}
            for version, gateway in ((4, "10.7.0.1"), (6, "fd07::1")):

                def defaults(wanted: int = version) -> int:
                    routes = [route.destination for route in host.routes()]
                    return sum(1 for route in routes if not route.prefixlen and route.version == wanted)

                host.execute([add_default_route(link.index, ip_address(gateway))])
                assert defaults() == 1
                host.execute([delete_default_route(link.index, version)])
                assert defaults() == 0
                host.execute([add_default_link_route(link.index, version)])
                assert defaults() == 1
                host.execute([delete_default_route(link.index, version)])

    in_private_netns(scenario)
