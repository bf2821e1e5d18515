"""The nftables scripts as text."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

from kitepy.engine.model.network import PublishedPort
from kitepy.engine.network.firewall import forward_obstacles
from kitepy.engine.network.naming import DEFAULT_DATA_ROOT, kernel_names
from kitepy.engine.network.rules import (
    MapElement,
    RuleContext,
    add_elements,
    delete_elements,
    port_elements,
    replace_table,
)

CONTEXT = RuleContext(table="kitepy", bridge="kitepy0", subnet=IPv4Network("172.17.0.0/16"))
WEB = MapElement("0.0.0.0", "tcp", 8080, "172.17.0.2", 80)
DNS = MapElement("192.0.2.7", "udp", 53, "172.17.0.3", 5353)


def test_a_port_on_all_addresses_and_one_on_a_certain_address_go_into_different_maps() -> None:
    assert add_elements("t", [WEB, DNS]) == (
        "add element ip t any_ports { 6 . 8080 : 172.17.0.2 . 80 }\n"
        "add element ip t ports { 192.0.2.7 . 17 . 53 : 172.17.0.3 . 5353 }\n"
    )
    assert delete_elements("t", [WEB, DNS]) == (
        "delete element ip t any_ports { 6 . 8080 }\ndelete element ip t ports { 192.0.2.7 . 17 . 53 }\n"
    )
    assert add_elements("t", []) == ""


def test_ipv6_ports_need_no_element() -> None:
    ports = [PublishedPort(80, "tcp", "0.0.0.0", 8080), PublishedPort(80, "tcp", "::", 8080), PublishedPort(80, "tcp", "::1", 81)]
    assert port_elements("172.17.0.2", ports) == [WEB]


def test_the_table_is_replaced_in_one_script_that_works_whether_or_not_it_exists() -> None:
    script = replace_table(CONTEXT, [WEB])
    assert script.startswith("add table ip kitepy\ndelete table ip kitepy\ntable ip kitepy {\n")
    assert script.endswith("}\nadd element ip kitepy any_ports { 6 . 8080 : 172.17.0.2 . 80 }\n")


def test_options_change_just_their_rules() -> None:
    def lines(context: RuleContext) -> set[str]:
        return {line.strip() for line in replace_table(context, []).splitlines()}

    plain = lines(CONTEXT)
    no_icc = lines(RuleContext("kitepy", "kitepy0", CONTEXT.subnet, icc=False))
    assert (plain - no_icc, no_icc - plain) == ({'iifname "kitepy0" accept'}, {'iifname "kitepy0" drop'})
    assert plain - lines(RuleContext("kitepy", "kitepy0", CONTEXT.subnet, masquerade=False)) == {
        'ip saddr 172.17.0.0/16 oifname != "kitepy0" masquerade'
    }
    relayed = replace_table(RuleContext("kitepy", "kitepy0", CONTEXT.subnet, loopback=False), [])
    assert relayed.count("ip daddr 127.0.0.0/8 return") == replace_table(CONTEXT, []).count("ip daddr 127.0.0.0/8 return") + 1


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
    [sentence] = forward_obstacles(objects, "kitepy0")
    assert "'nft insert rule ip filter FORWARD iifname kitepy0 accept'" in sentence
