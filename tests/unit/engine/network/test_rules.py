"""The nftables scripts as text."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import pytest

from kitepy.engine.model.network import PublishedPort
from kitepy.engine.network.firewall import forward_obstacles
from kitepy.engine.network.link_rules import LinkException, bridged_entries, routed_entries
from kitepy.engine.network.naming import DEFAULT_DATA_ROOT, kernel_names
from kitepy.engine.network.rules import (
    Families,
    GatewayMode,
    MapElement,
    RuleContext,
    add_elements,
    delete_elements,
    open_entries,
    port_elements,
    port_entries,
    relay_target,
    replace_table,
)

ONE = Families.BOTH_IN_ONE
CONTEXT = RuleContext("kitepy0", (IPv4Network("172.17.0.0/16"),))
DUAL = RuleContext("br-1", (IPv4Network("172.18.0.0/16"), IPv6Network("fd00:1::/64")))
WEB = MapElement("0.0.0.0", "tcp", 8080, "172.17.0.2", 80)
WEB6 = MapElement("::", "tcp", 8080, "fd00:1::2", 80)
DNS = MapElement("192.0.2.7", "udp", 53, "172.17.0.3", 5353)
LOCAL6 = MapElement("::1", "tcp", 81, "fd00:1::2", 80)
LOCAL = MapElement("127.0.0.1", "tcp", 81, "172.17.0.3", 80)


def lines(*contexts: RuleContext, families: Families = ONE) -> set[str]:
    return {line.strip() for line in replace_table("t", families, contexts, {}).splitlines()}


def changed(context: RuleContext, base: RuleContext = CONTEXT) -> tuple[set[str], set[str]]:
    """What is gone and what is new, compared with a base."""
    return lines(base) - lines(context), lines(context) - lines(base)


def test_a_port_on_all_addresses_and_one_on_a_certain_address_go_into_different_maps() -> None:
    assert add_elements("t", ONE, [WEB, DNS, WEB6]) == (
        "add element inet t any_ports4 { 6 . 8080 : 172.17.0.2 . 80 }\n"
        "add element inet t any_ports6 { 6 . 8080 : fd00:1::2 . 80 }\n"
        "add element inet t ports4 { 192.0.2.7 . 17 . 53 : 172.17.0.3 . 5353 }\n"
    )
    assert delete_elements("t", Families.ONE_EACH, [WEB, DNS, WEB6]) == (
        "delete element ip t any_ports4 { 6 . 8080 }\n"
        "delete element ip6 t any_ports6 { 6 . 8080 }\n"
        "delete element ip t ports4 { 192.0.2.7 . 17 . 53 }\n"
    )
    assert add_elements("t", Families.IPV4_ONLY, [WEB6]) == add_elements("t", ONE, []) == ""


def test_a_port_on_loopback_is_kept_from_the_wire() -> None:
    assert add_elements("t", ONE, [LOCAL]).startswith("add element inet t loopback4 { 127.0.0.1 . 6 . 81 }\n")


PORTS = [PublishedPort(80, "tcp", "0.0.0.0", 8080), PublishedPort(80, "tcp", "::", 8080), PublishedPort(80, "tcp", "::1", 81)]


@pytest.mark.parametrize(
    ("address", "address6", "elements", "targets"),
    [
        ("172.17.0.2", "", [WEB], ["172.17.0.2"] * 3),
        ("172.17.0.2", "fd00:1::2", [WEB, WEB6, LOCAL6], ["172.17.0.2", "fd00:1::2", "fd00:1::2"]),
        ("", "fd00:1::2", [WEB6, LOCAL6], ["", "fd00:1::2", "fd00:1::2"]),
    ],
)
def test_ports_are_translated_within_a_family_and_relayed_from_ipv6_to_ipv4(
    address: str, address6: str, elements: list[MapElement], targets: list[str]
) -> None:
    assert port_elements(address, PORTS, address6) == elements
    assert [relay_target(port, address, address6) for port in PORTS] == targets


def test_the_table_is_replaced_in_one_script_that_works_whether_or_not_it_exists() -> None:
    script = replace_table("t", ONE, [CONTEXT], port_entries([WEB]))
    assert script.startswith("add table inet t\ndelete table inet t\nadd table ip t\ndelete table ip t\n")
    assert script.endswith("}\nadd element inet t any_ports4 { 6 . 8080 : 172.17.0.2 . 80 }\n")
    assert "ip6" not in replace_table("t", Families.IPV4_ONLY, [DUAL], port_entries([WEB6]))
    assert "table ip6 t {" in replace_table("t", Families.ONE_EACH, [DUAL], {})


def test_options_change_just_their_rules() -> None:
    within = 'map within {{ type ifname . ifname : verdict; elements = {{ "kitepy0" . "kitepy0" : {} }}; }}'
    assert changed(replace(CONTEXT, icc=False)) == ({within.format("accept")}, {within.format("jump linked")})
    masquerade = 'ip saddr 172.17.0.0/16 oifname != "kitepy0" masquerade'
    assert changed(replace(CONTEXT, masquerade=False)) == ({masquerade}, set())
    assert changed(replace(CONTEXT, source4="192.0.2.9")) == (
        {masquerade},
        {masquerade.replace("masquerade", "snat ip to 192.0.2.9")},
    )
    relayed = replace_table("t", ONE, [replace(CONTEXT, loopback=False)], {})
    assert (
        relayed.count("ip daddr 127.0.0.0/8 return")
        == replace_table("t", ONE, [CONTEXT], {}).count("ip daddr 127.0.0.0/8 return") + 1
    )
    gone, new = changed(replace(CONTEXT, internal=True))
    assert masquerade in gone
    assert 'set internal { type ifname; elements = { "kitepy0" }; }' in new


def test_gateway_modes_of_the_two_families_are_independent() -> None:
    mixed = replace(DUAL, gateway_mode4=GatewayMode.ROUTED, gateway_mode6=GatewayMode.NAT_UNPROTECTED)
    assert changed(mixed, DUAL) == (
        {'ip saddr 172.18.0.0/16 oifname != "br-1" masquerade'},
        {
            'oifname "br-1" meta nfproto ipv4 jump into_bridge',
            'oifname "br-1" meta nfproto ipv4 meta l4proto icmp accept',
            'oifname "br-1" ip daddr . meta l4proto . th dport @open4 accept',
            'oifname "br-1" meta nfproto ipv6 accept',
        },
    )
    routed = MapElement("0.0.0.0", "tcp", 0, "172.18.0.2", 80)
    assert port_entries([routed]) == {}
    assert open_entries([mixed], [routed, WEB]) == {"open4": {"172.18.0.2 . 6 . 80"}}
    assert open_entries([CONTEXT, DUAL], [WEB, WEB6]) == {}
    assert open_entries([replace(CONTEXT, trusted_interfaces=("eth1",))], [WEB]) == {"open4": {"172.17.0.2 . 6 . 80"}}


def test_more_networks_add_no_rule_that_packets_within_the_host_have_to_pass() -> None:
    def rules(count: int) -> int:
        contexts = [RuleContext(f"br-{number}", (IPv4Network((0x0A000000 + (number << 8), 24)),)) for number in range(count)]
        return sum(1 for line in lines(*contexts) if "masquerade" not in line)

    assert rules(2) == rules(50)


def test_a_link_names_its_containers_by_port_and_address() -> None:
    link = LinkException("kitepy0", "kv0-p", "172.17.0.3", "kv0-c", "172.17.0.2", "tcp", 80)
    assert routed_entries([link]) == {"links4": {"172.17.0.3 . 172.17.0.2 . 6 . 80"}}
    assert bridged_entries([link]) == {
        "opened": {'"kv0-c"'},
        "links": {'"kv0-p" . "kv0-c" . 6 . 80'},
        "pairs": {'"kv0-p" . "kv0-c"', '"kv0-c" . "kv0-p"'},
        "owners": {"172.17.0.3", "172.17.0.2"},
        "addresses": {'172.17.0.3 . "kv0-p"', '172.17.0.2 . "kv0-c"'},
    }
    assert routed_entries([]) == bridged_entries([]) == {}


def test_names_fit_the_kernel_and_differ_between_data_roots() -> None:
    default, one, two = (kernel_names(path) for path in (DEFAULT_DATA_ROOT, Path("/srv/one"), Path("/srv/two")))
    assert (default.bridge, default.table) == ("kitepy0", "kitepy")
    assert len({default.bridge, one.bridge, two.bridge}) == len({default.table, one.table, two.table}) == 3
    for names in (default, one, two):
        assert len(names.bridge) <= 15
        assert len(names.new_veth()) <= 15
        assert names.new_veth().startswith(names.veth_prefix)
    assert not one.new_veth().startswith(default.veth_prefix)


def test_only_chains_that_drop_forwarded_packets_are_obstacles() -> None:
    chain = {"family": "ip", "table": "filter", "name": "FORWARD", "hook": "forward", "policy": "drop"}
    objects = [
        {"metainfo": {}},
        {"chain": chain},
        {"chain": {**chain, "policy": "accept"}},
        {"chain": {**chain, "hook": "input"}},
        {"chain": {**chain, "family": "ip6"}},
        {"chain": {"family": "ip", "table": "filter", "name": "DOCKER-USER"}},
    ]
    [sentence] = forward_obstacles(objects, {}, ["kitepy0"])
    assert "'nft insert rule ip filter FORWARD iifname kitepy0 accept'" in sentence
    four, six = forward_obstacles(objects, {}, ["kitepy0", "br-1"], ipv6=True)
    assert "'nft insert rule ip filter FORWARD oifname { kitepy0, br-1 } accept'" in four
    assert "'nft insert rule ip6 filter FORWARD iifname { kitepy0, br-1 } accept'" in six
    [old] = forward_obstacles([], {4: "drop", 6: "drop"}, ["kitepy0"])
    assert "'iptables-legacy -I FORWARD -i kitepy0 -j ACCEPT' and 'iptables-legacy -I FORWARD -o kitepy0 -j ACCEPT'" in old
    assert forward_obstacles([], {4: "accept", 6: ""}, ["kitepy0"]) == []
