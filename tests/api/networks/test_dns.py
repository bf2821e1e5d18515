"""Names on user-defined networks: who finds whom, and what is asked elsewhere."""

from __future__ import annotations

import os
import re

from api.containers.conftest import RawApi
from api.networks.conftest import Lab
from support.name_server import outside, saying
from support.private_netns import Place

from kitepy.engine.kernel.netns import open_namespace_of


def _pointer(address: str) -> str:
    return ".".join(reversed(address.split("."))) + ".in-addr.arpa"


def _endpoint(*aliases: str, **more: object) -> dict[str, object]:
    return {"Aliases": list(aliases), **more}


def test_containers_find_each_other_on_their_networks_and_nowhere_else(lab: Lab, api: RawApi) -> None:
    front, back = lab.network("front"), lab.network("back")
    one = lab.joined("one", front, Hostname="Boxhost", Endpoint=_endpoint("web", "al.one", "Mixed"))
    two = lab.joined("two", front, Endpoint=_endpoint("web"))
    three = lab.joined("three", back, Endpoint=_endpoint("web", "only"))
    both = lab.joined("both", front, Endpoint=_endpoint(Links=[f"{one}:lnk", f"/{two}:two"]))
    answer = api("POST", f"/networks/{back}/connect", {"Container": both, "EndpointConfig": _endpoint("bb")})
    assert answer.status == 200, answer.body
    address = {name: lab.address(name, network) for name, network in ((one, front), (two, front), (three, back))}
    short_id = lab.inspect(one)["Id"][:12]
    assert lab.endpoint(one, front)["DNSNames"] == [one, "web", "al.one", "Mixed", short_id, "Boxhost"]

    for name in (one, one.upper(), f"{one}.{front}", "al.one", f"al.one.{front}", "mixed", "boxhost", short_id):
        assert lab.lookup(two, name) == [address[one]], name
    assert lab.lookup(two, "web") == lab.lookup(both, f"web.{front}") == sorted((address[one], address[two]))
    firsts = set(
        re.findall(r"answer:\n+Name:\s+web\nAddress: (\S+)", lab.sh(two, "for i in $(seq 30); do nslookup -type=a web; done"))
    )
    assert firsts == {address[one], address[two]}, "every address comes first at times"
    # A name that is known has no address of the other family, and that is all there is to say.
    assert lab.sh_status(two, f"nslookup -type=aaaa {one}")[0] == lab.sh_status(two, f"nslookup -type=mx {one}")[0] == 0
    assert lab.lookup(two, _pointer(address[one]), "ptr") == [f"{one}.{front}"]
    assert lab.sh(two, f"ping -c 1 -W 2 {one}").startswith(f"PING {one} ({address[one]})")

    assert lab.lookup(both, three) == lab.lookup(both, "only") == lab.lookup(both, f"web.{back}") == [address[three]]
    assert lab.lookup(both, "lnk") == lab.lookup(both, f"lnk.{front}") == [address[one]]
    assert lab.lookup(both, "two") == [address[two]]
    assert lab.lookup(both, _pointer(address[three]), "ptr") == [f"{three}.{back}"]
    assert lab.lookup(three, "bb") == [lab.address(both, back)]

    # Names follow what happens.
    renamed = lab.name("renamed")
    assert api("POST", f"/containers/{two}/rename?name={renamed}").status == 204
    assert lab.lookup(one, renamed) == [address[two]]
    lab.stop(renamed)
    assert lab.lookup(one, "web") == [address[one]]
    assert api("POST", f"/containers/{renamed}/start").status == 204
    assert lab.lookup(one, renamed) == [lab.address(renamed, front)]
    assert api("POST", f"/networks/{back}/disconnect", {"Container": both}).status == 200
    assert lab.lookup(both, one) == [address[one]]
    assert api("DELETE", f"/containers/{renamed}?force=1").status == 204
    assert lab.lookup(one, "web") == [address[one]]


def test_other_names_are_asked_of_the_servers_that_were_named(lab: Lab, api: RawApi) -> None:
    front, inner = lab.network("front"), lab.network("inner", Internal=True)
    server = lab.joined("server", front, HostConfig={"Dns": ["127.0.0.1"]})
    assert api("POST", f"/networks/{inner}/connect", {"Container": server}).status == 200
    reached, inside = lab.address(server, front), lab.address(server, inner)
    netns_fd = open_namespace_of(lab.inspect(server)["State"]["Pid"])
    try:
        # It has port 53 of all its addresses, and its own loopback as its server; the networks' names stay.
        with outside(Place(netns_fd), "0.0.0.0", saying("192.0.2.7")) as asked:
            _ask_named_servers(lab, api, front, inner, server, reached, inside)
    finally:
        os.close(netns_fd)
    names = {question.split()[2] for question in asked}
    assert {"known.example.", "single."} <= names
    assert not names & {f"{lab.name('client')}.", f"{server}."}, "what is known here is asked nobody else"


def _ask_named_servers(lab: Lab, api: RawApi, front: str, inner: str, server: str, reached: str, inside: str) -> None:
    options = {"Dns": [reached], "DnsSearch": ["example", "."], "DnsOptions": ["ndots:1", "rotate"]}
    client = lab.joined("client", front, HostConfig=options)
    hidden = lab.joined("hidden", inner, HostConfig={"Dns": [inside]})
    late = lab.start("late", HostConfig={"Dns": [reached]})
    assert f"nameserver {reached}\n" in lab.sh(late, "cat /etc/resolv.conf")
    assert api("POST", f"/networks/{front}/connect", {"Container": late}).status == 200

    for name in (server, client, hidden, late):
        assert lab.lookup(name, "known.example") == ["192.0.2.7"], name
        assert lab.lookup(name, f"{server}.") in ([reached], [inside])
        assert lab.sh(name, "grep ^name /etc/resolv.conf") == "nameserver 127.0.0.11\n", name
    assert lab.lookup(hidden, "single.") == ["192.0.2.7"]
    # Who sets the number of dots appends the search domains himself: a name without a dot stays here.
    assert lab.lookup(client, "single.") == []
    lines = lab.sh(client, "grep -v '^# [GTh]' /etc/resolv.conf").splitlines()
    assert lines == [
        "",
        "nameserver 127.0.0.11",
        "search example",
        "options ndots:1 rotate",
        "",
        "# Based on host file: '/etc/resolv.conf' (internal resolver)",
        f"# ExtServers: [{reached}]",
        "# Overrides: [nameservers search options]",
        "# Option ndots from: override",
    ]
    # A file that the container's user has changed is left alone.
    other = lab.start("other")
    lab.sh(other, "echo nameserver 192.0.2.1 >/etc/resolv.conf")
    assert api("POST", f"/networks/{front}/connect", {"Container": other}).status == 200
    assert lab.sh(other, "cat /etc/resolv.conf") == "nameserver 192.0.2.1\n"


def test_names_lead_to_addresses_of_both_families(lab: Lab) -> None:
    dual, six = lab.network("dual", EnableIPv6=True), lab.network("six", EnableIPv6=True, EnableIPv4=False)
    first, second, lonely = lab.joined("first", dual), lab.joined("second", dual), lab.joined("lonely", six)
    address = lab.endpoint(first, dual)
    assert lab.lookup(second, first, "aaaa") == [address["GlobalIPv6Address"]]
    assert lab.lookup(second, first) == [address["IPAddress"]]
    assert lab.lookup(lonely, lonely, "aaaa") == [lab.endpoint(lonely, six)["GlobalIPv6Address"]]
    assert lab.sh_status(lonely, f"nslookup -type=a {lonely}")[0] == 0
    assert lab.lookup(lonely, lonely) == []
