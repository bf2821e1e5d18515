"""The engine's options about networks: each is seen in what containers and networks get."""

from __future__ import annotations

import pytest
from support.engine import EngineUnderTest
from support.images import load_busybox

pytestmark = pytest.mark.root


def test_an_engine_without_default_network_has_all_others_with_its_pools_and_options() -> None:
    options = (
        *("--bridge", "none", "--default-network-opt", "bridge=com.docker.network.driver.mtu=1400"),
        *("--default-address-pool", "base=10.190.0.0/16,size=28", "--default-address-pool", "base=fd13::/60,size=64"),
    )
    with EngineUnderTest(*options) as engine:
        client = engine.docker()
        image = load_busybox(client)
        assert sorted(network.name for network in client.networks.list()) == ["host", "none"]
        assert client.info()["DefaultAddressPools"] == [
            {"Base": "10.190.0.0/16", "Size": 28},
            {"Base": "fd13::/60", "Size": 64},
        ]
        assert "eth0" not in client.containers.run(image, ["ip", "addr"], remove=True).decode()
        made = [client.networks.create(f"own{number}", enable_ipv6=True) for number in range(2)]
        for number, network in enumerate(made):
            network.reload()
            assert network.attrs["Options"] == {"com.docker.network.driver.mtu": "1400"}
            assert [config["Subnet"] for config in network.attrs["IPAM"]["Config"]] == [
                f"10.190.0.{16 * number}/28",
                f"fd13:0:0:{number}::/64" if number else "fd13::/64",
            ]
        told = client.containers.run(image, ["ip", "addr", "show", "eth0"], network="own1", remove=True).decode()
        assert "10.190.0.18/28" in told
        assert "fd13:0:0:1::2/64" in told
        assert "mtu 1400" in told
        for network in made:
            network.remove()
        client.close()


def test_addresses_of_the_default_bridge_follow_the_options() -> None:
    options = (
        *("--bip", "10.191.0.1/24", "--fixed-cidr", "10.191.0.128/25", "--default-gateway", "10.191.0.9", "--ip", "127.0.0.1"),
        *("--ipv6", "--bip6", "fd14::1/64", "--fixed-cidr-v6", "fd14::100/120", "--default-gateway-v6", "fd14::9"),
    )
    with EngineUnderTest(*options) as engine:
        client = engine.docker()
        image = load_busybox(client)
        bridge = client.networks.get("bridge").attrs
        assert bridge["EnableIPv6"] is True
        assert bridge["IPAM"]["Config"] == [
            {
                "Subnet": "10.191.0.0/24",
                "IPRange": "10.191.0.128/25",
                "Gateway": "10.191.0.1",
                "AuxiliaryAddresses": {"DefaultGatewayIPv4": "10.191.0.9"},
            },
            {
                "Subnet": "fd14::/64",
                "IPRange": "fd14::100/120",
                "Gateway": "fd14::1",
                "AuxiliaryAddresses": {"DefaultGatewayIPv6": "fd14::9"},
            },
        ]
        command = ["sh", "-c", "ip route; ip -6 route; ping -c1 -W2 10.191.0.1 >&2; ping -c1 -W3 fd14::1 >&2 && sleep 600"]
        container = client.containers.run(image, command, detach=True, ports={"80/tcp": None}, init=True)
        container.reload()
        settings = container.attrs["NetworkSettings"]
        endpoint = settings["Networks"]["bridge"]
        assert (endpoint["IPAddress"], endpoint["Gateway"]) == ("10.191.0.128", "10.191.0.9")
        assert (endpoint["GlobalIPv6Address"], endpoint["IPv6Gateway"]) == ("fd14::100", "fd14::9")
        assert [binding["HostIp"] for binding in settings["Ports"]["80/tcp"]] == ["127.0.0.1"]
        for line in container.logs(stream=True):
            if b"fd14::1" in line and b"PING" in line:
                break
        told = container.logs(stderr=False).decode()
        assert "default via 10.191.0.9" in told
        assert "default via fd14::9" in told
        assert container.attrs["State"]["Running"]
        container.remove(force=True)
        client.close()
