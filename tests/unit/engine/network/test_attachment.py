"""Which endpoint leads out, what interfaces are called, and the parameters of one interface."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from kitepy.engine.model.network import Endpoint
from kitepy.engine.network.attachment import (
    Attachment,
    choose_gateways,
    free_interface_name,
    gateway_order,
    interface_parameters,
)


def attachment(name: str, *, internal: bool = False, itself: bool = False, **endpoint: Any) -> Attachment:
    values = {"address": "10.0.0.2", "gateway": "" if internal or itself else "10.0.0.1", **endpoint}
    carrier = SimpleNamespace(record=SimpleNamespace(internal=internal), leads_out_itself=itself)
    found = Endpoint(name, "c", name, prefix_length=24, mac="", host_interface="", **values)
    return Attachment(found, carrier)  # type: ignore[arg-type]  # a fake


@pytest.mark.parametrize(
    ("attachments", "order"),
    [
        ([attachment("b"), attachment("a")], ["a", "b"]),
        ([attachment("a"), attachment("b", gateway_priority=1)], ["b", "a"]),
        ([attachment("a", gateway_priority=-1), attachment("b")], ["b", "a"]),
        ([attachment("a", internal=True), attachment("b")], ["b", "a"]),
        ([attachment("a", internal=True, gateway_priority=5), attachment("b")], ["a", "b"]),
        ([attachment("a"), attachment("b", address6="fd00::2", gateway6="fd00::1")], ["b", "a"]),
    ],
)
def test_networks_are_ordered_by_priority_way_out_families_and_name(attachments: list[Attachment], order: list[str]) -> None:
    assert [found.endpoint.network for found in gateway_order(attachments)] == order


def test_each_family_leads_over_the_first_endpoint_that_can() -> None:
    only4, only6 = (
        attachment("a", gateway_priority=1),
        attachment("b", address="", gateway="", address6="fd00::2", gateway6="fd00::1"),
    )
    inner = attachment("c", internal=True, gateway_priority=9)
    assert choose_gateways([inner, only6, only4]) == (only4, only6)
    assert choose_gateways([inner]) == (None, None)
    assert choose_gateways([]) == (None, None)
    routed = attachment("l3", itself=True)
    assert choose_gateways([routed, inner]) == (routed, None)


def test_the_first_free_interface_name_is_taken() -> None:
    assert free_interface_name("eth", []) == "eth0"
    assert free_interface_name("eth", ["eth0", "eth2", "lan1"]) == "eth1"


def test_parameters_are_of_the_interface_and_of_nothing_above_it() -> None:
    found = interface_parameters("net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.IFNAME.accept_ra=0", "eth0.5")
    assert found == [("net/ipv4/conf/eth0.5/log_martians", "1"), ("net/ipv6/conf/eth0.5/accept_ra", "0")]
    assert interface_parameters("", "eth0") == []
    for hostile in ("net.ipv4.conf.IFNAME.../../../kernel/x=1", "../../x=1", "net/../../x=1"):
        assert all(".." not in name.split("/") for name, _ in interface_parameters(hostile, "eth0"))
