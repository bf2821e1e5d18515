"""What a link is asked for as, and what comes of it: names, environment, /etc/hosts, what may pass."""

from __future__ import annotations

from typing import Any

import pytest

from kitepy.engine.model.container import ContainerRecord, ContainerState, ContainerStatus, Link
from kitepy.engine.model.container_config import ContainerConfig, HostConfig
from kitepy.engine.model.errors import InvalidParameter, NotFound, SystemFailure
from kitepy.engine.model.network import Endpoint
from kitepy.engine.services import links

RUNNING = ContainerState(ContainerStatus.RUNNING, pid=1)


def _record(
    name: str, address: str = "10.0.0.2", *, mode: str = "bridge", network: str = "bridge", **more: Any
) -> ContainerRecord:
    endpoint = Endpoint(
        endpoint_id="e" + name,
        container_id=name * 8,
        network=network,
        address=address,
        prefix_length=24,
        gateway="10.0.0.1",
        mac="02:00:00:00:00:01",
        host_interface=f"veth-{name}",
        address6=more.pop("address6", ""),
    )
    config = {key: more.pop(key) for key in ("env", "exposed_ports", "hostname") if key in more}
    return ContainerRecord(
        id=name * 8,
        name=name,
        created_ns=0,
        image_id="sha256:x",
        image_reference="x",
        config=ContainerConfig(**config),
        host_config=HostConfig(network_mode=mode),
        platform="linux",
        layers=(),
        endpoints=(endpoint,) if address else (),
        **{"state": RUNNING, **more},
    )


DB = _record("db", hostname="dbhost", exposed_ports={"80/tcp": {}, "53/udp": {}})
HOST = _record("onhost", "", mode="host")
SHARED = _record("shared", "", mode="container:db")
LOST = _record("lost", "", mode="container:gone")
KNOWN = {record.name: record for record in (DB, HOST, SHARED, LOST)}


def _find(ref: str) -> ContainerRecord:
    if (record := KNOWN.get(ref.removeprefix("/"))) is None:
        raise NotFound(f"No such container: {ref}")
    return record


@pytest.mark.parametrize(
    ("texts", "aliases"),
    [
        ([], []),
        (["db:a"], ["a"]),
        (["db"], ["db"]),
        (["/db"], ["db"]),
        (["/db:/parent/alias"], ["alias"]),
        (["db:a", "db:a", "db:B", "shared:a"], ["a", "B"]),
        (["shared:a"], ["a"]),
        (["db:"], []),
        (["db:a/b"], ["a/b"]),
    ],
)
def test_links_are_asked_for_in_several_forms(texts: list[str], aliases: list[str]) -> None:
    found = links.links_of_request(texts, _find)
    assert [link.alias for link in found] == aliases
    assert {link.target_id for link in found} <= {DB.id}


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("", SystemFailure, "empty string specified for links"),
        ("a:b:c", SystemFailure, "bad format for links: a:b:c"),
        ("nope:x", InvalidParameter, "could not get container for nope: No such container: nope"),
        (":x", InvalidParameter, 'could not get container for : invalid name or ID supplied: ""'),
        ("lost:x", InvalidParameter, "could not get container for gone: No such container: gone"),
        ("onhost:x", InvalidParameter, "conflicting options: host type networking can't be used with links."),
        ("db:x\n10.9.9.9 bank", InvalidParameter, "must be one word"),
        ("db:x y", InvalidParameter, "must be one word"),
        ("db:x#y", InvalidParameter, "must be one word"),
        ("db:../x", InvalidParameter, "must be one word"),
    ],
)
def test_what_is_no_link_is_refused(text: str, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind) as caught:
        links.links_of_request([text], _find)
    assert words in str(caught.value)


def test_links_of_a_user_defined_network_are_aliases() -> None:
    assert links.endpoint_links(["db:a", "/db:b", "db", "db:", ":x"]) == (("a", "db"), ("b", "db"), ("db", "db"))
    assert links.endpoint_links(None) == ()
    with pytest.raises(SystemFailure, match="bad format for links: a:b:c"):
        links.endpoint_links(["a:b:c"])


def _variables(alias: str, *ports: str, env: list[str] | None = None, address: str = "10.0.0.2") -> list[str]:
    target = _record("db", address, exposed_ports={port: {} for port in ports}, env=env)
    return links.link_variables("web", [(Link(alias, target.id, target.name), target)])


@pytest.mark.parametrize(
    ("alias", "ports", "wanted"),
    [
        ("d", ["53/udp", "9/udp"], "D_PORT=udp://10.0.0.2:9"),
        ("d", ["90/tcp", "9/udp", "80/tcp"], "D_PORT=tcp://10.0.0.2:80"),
        ("d", ["80/sctp"], "D_PORT_80_SCTP=sctp://10.0.0.2:80"),
        ("my-al.x_y", ["80/tcp"], "MY_AL.X_Y_PORT_80_TCP_ADDR=10.0.0.2"),
        ("a/b", ["80/tcp"], "B_NAME=/web/a/b"),
        ("d", ["80/tcp", "81/tcp", "82/tcp"], "D_PORT_80_TCP_END=tcp://10.0.0.2:82"),
        ("d", ["80/tcp", "81/tcp", "82/tcp"], "D_PORT_80_TCP_PORT_START=80"),
        ("d", ["80/tcp", "81/tcp", "82/tcp"], "D_PORT_80_TCP_PORT_END=82"),
    ],
)
def test_variables_tell_of_ports(alias: str, ports: list[str], wanted: str) -> None:
    assert wanted in _variables(alias, *ports)


def test_variables_of_a_link_are_these_and_no_others() -> None:
    assert _variables("d", "80/tcp", env=["A=1", "HOME=/h", "PATH=/p", "B=x=y", "BARE"]) == [
        "D_PORT=tcp://10.0.0.2:80",
        "D_PORT_80_TCP=tcp://10.0.0.2:80",
        "D_PORT_80_TCP_ADDR=10.0.0.2",
        "D_PORT_80_TCP_PORT=80",
        "D_PORT_80_TCP_PROTO=tcp",
        "D_NAME=/web/d",
        "D_ENV_A=1",
        "D_ENV_B=x=y",
    ]
    assert _variables("d", "80/tcp", address="") == ["D_NAME=/web/d"], "it waits for its restart"
    assert not [variable for variable in _variables("d", "80/tcp", "81/udp", "82/tcp") if "_START" in variable]


def test_a_linked_container_must_run_on_the_default_bridge() -> None:
    parent = _record("web", links=(Link("a", DB.id, "db"),))
    found = {DB.id: DB}
    assert links.check_links(parent, found.get) == [(parent.links[0], DB)]
    found[DB.id] = _record("db", "", state=ContainerState())
    with pytest.raises(SystemFailure, match="Cannot link to a non running container: /db AS /web/a"):
        links.check_links(parent, found.get)
    found[DB.id] = _record("db", network="other")
    with pytest.raises(SystemFailure, match=f"container {DB.id} not attached to default bridge network"):
        links.check_links(parent, found.get)
    with pytest.raises(SystemFailure, match="Cannot link to a non running container: /db AS /web/a"):
        links.check_links(parent, {}.get)


def test_hosts_has_the_alias_the_host_name_and_the_name() -> None:
    assert links.link_entries([(Link("a", DB.id, "db"), DB)]) == ["10.0.0.2\ta dbhost db"]
    assert links.link_entries([(Link("db", DB.id, "db"), DB)]) == ["10.0.0.2\tdb dbhost"]
    both = _record("db", address6="fd00::2")
    assert links.link_entries([(Link("a", both.id, "db"), both)]) == ["10.0.0.2\ta dbdbdbdbdbdb db", "fd00::2\ta dbdbdbdbdbdb db"]


@pytest.mark.parametrize(
    ("before", "target", "after"),
    [
        ("1.1.1.1\tx\n10.0.0.9\ta dbhost db\n10.0.0.3\tweb\n", DB, "1.1.1.1\tx\n10.0.0.2\ta dbhost db\n10.0.0.3\tweb\n"),
        ("10.0.0.9\ta dbhost db\n10.0.0.9\ta dbhost db\n", DB, "10.0.0.2\ta dbhost db\n"),
        ("10.0.0.3\tweb", DB, "10.0.0.3\tweb\n10.0.0.2\ta dbhost db\n"),
        ("10.0.0.9\ta dbhost db\n10.0.0.3\tab\n", None, "10.0.0.3\tab\n"),
        ("10.0.0.9\ta dbhost db\n", _record("db", ""), "10.0.0.9\ta dbhost db\n"),
        ("# a\n\n10.0.0.9 a\n\t\n", None, "# a\n\n10.0.0.9 a\n\t\n"),
    ],
)
def test_hosts_follows_what_becomes_of_a_linked_container(before: str, target: ContainerRecord | None, after: str) -> None:
    assert links.followed_hosts(before, [(Link("a", DB.id, "db"), target)]) == after


def test_only_exposed_ports_of_linked_containers_may_be_reached() -> None:
    web = _record("web", "10.0.0.3")
    twice = [(Link("a", DB.id, "db"), DB), (Link("b", DB.id, "db"), DB)]
    opened = links.linked_ports(links.default_endpoint(web), twice)
    assert [(port.source.address, port.target.address, port.protocol, port.port) for port in opened] == [
        ("10.0.0.3", "10.0.0.2", "tcp", 80),
        ("10.0.0.3", "10.0.0.2", "udp", 53),
    ]
    assert links.linked_ports(None, twice) == ()


def test_linked_containers_have_names_with_those_that_link_to_them() -> None:
    web = _record("web", links=(Link("a", DB.id, "old"), Link("b", HOST.id, "onhost")))
    assert links.all_names(DB, [web]) == ["/db", "/web/a"]
    assert links.shown_links(web) == ["/old:/web/a", "/onhost:/web/b"]
    assert links.shown_links(DB) is None
