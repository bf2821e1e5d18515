"""macvlan networks through the API; without a parent, since an ordinary user's engine has no others. Parents: tests/root."""

from __future__ import annotations

import pytest
from api.containers.conftest import RawApi
from api.networks.conftest import Lab


@pytest.mark.kitepy  # dockerd needs dummy interfaces for it, which this kernel may lack
def test_a_macvlan_network_without_parent_joins_its_containers_only(lab: Lab, api: RawApi) -> None:
    network = lab.network("lan", Driver="macvlan", EnableIPv6=True, IPAM={"Config": [{"Subnet": "10.186.0.0/24"}]})
    shown = api("GET", f"/networks/{network}").json
    assert (shown["Driver"], shown["Options"], shown["IPAM"]["Config"][0]) == ("macvlan", {}, {"Subnet": "10.186.0.0/24"})
    assert "Gateway" not in shown["IPAM"]["Config"][1], "nothing leads out of it"
    first = lab.joined("a", network, Endpoint={"MacAddress": "02:00:00:00:12:34", "Aliases": ["db"]})
    second = lab.joined("b", network, HostConfig={"PortBindings": {"80/tcp": [{}]}})
    endpoint = lab.endpoint(first, network)
    assert (endpoint["IPAddress"], endpoint["Gateway"], endpoint["IPv6Gateway"]) == ("10.186.0.1", "", "")
    assert endpoint["MacAddress"] == "02:00:00:00:12:34"
    assert not any(lab.inspect(second)["NetworkSettings"]["Ports"].values()), "such a network has no way in"
    for target in ("db", "10.186.0.1", endpoint["GlobalIPv6Address"]):
        status, output = lab.sh_status(second, f"ping -c1 -W5 {target}")
        assert status == 0, output
    assert "default" not in lab.sh(second, "ip route; ip -6 route")
    other = lab.network("other")
    assert api("POST", f"/networks/{other}/connect", {"Container": second}).status == 200
    assert "default via" in lab.sh(second, "ip route")
    assert api("POST", f"/networks/{network}/disconnect", {"Container": second}).status == 200
    assert lab.sh_status(second, "ping -c1 -W1 10.186.0.1")[0] != 0
