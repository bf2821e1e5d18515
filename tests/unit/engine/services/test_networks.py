"""Networks as they are asked for, kept, found, filtered and shown."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kitepy.engine.model.errors import Conflict, EngineError, Forbidden, InvalidParameter, NotFound, SystemFailure
from kitepy.engine.model.filters import Filters
from kitepy.engine.model.network import Endpoint, NetworkDriver, NetworkRecord, SubnetConfig
from kitepy.engine.model.network_config import IPAM, ConfigReference, IPAMConfig, NetworkCreateBody
from kitepy.engine.services.container_index import ContainerIndex
from kitepy.engine.services.network_index import AmbiguousNetwork, NetworkIndex, StoredNetwork
from kitepy.engine.services.network_request import check_bridge_options, wanted_families, wanted_network, with_default_options
from kitepy.engine.services.network_view import Attached, NetworkFilter, NetworkPruneFilter, network_document
from kitepy.engine.services.networks import NetworkService, predefined_networks
from kitepy.engine.storage.database import Database

CREATED = "2026-01-01T00:00:00Z"
DEFAULT = NetworkRecord(
    network_id="d" * 64,
    name="bridge",
    driver=NetworkDriver.BRIDGE,
    created=CREATED,
    subnets=(SubnetConfig("172.17.0.0/16", "172.17.0.1"),),
    options=(("com.docker.network.bridge.enable_icc", "false"), ("com.docker.network.bridge.name", "kitepy0")),
)
ENDPOINT = Endpoint(
    "e" * 64, "c" * 64, "mine", "10.1.0.2", 16, "10.1.0.1", "02:42:0a:01:00:02", "kv0-abcdef", network_id="1" * 64
)


def mine(name: str = "mine", digit: str = "1", **more: Any) -> StoredNetwork:
    return StoredNetwork(NetworkRecord(digit * 64, name, NetworkDriver.BRIDGE, CREATED, **more))


class FakeNetworks:
    """Takes and forgets networks; says who is in them."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.removed: list[str] = []
        self.attached: list[Endpoint] = []
        self.failure: EngineError | None = None

    async def create(self, record: NetworkRecord) -> NetworkRecord:
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        self.made.append(record.name)
        return replace(record, subnets=(SubnetConfig("10.1.0.0/16", "10.1.0.1"),))

    async def remove(self, network_id: str) -> None:
        self.removed.append(network_id)

    def endpoints(self, network_id: str) -> list[Endpoint]:
        return [endpoint for endpoint in self.attached if endpoint.network_id == network_id]


@pytest.fixture(name="database")
def _database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "state.db")
    yield database
    database.close()


@pytest.fixture(name="index")
def _index(database: Database) -> NetworkIndex:
    index = NetworkIndex(database)
    index.load()
    index.set_predefined(predefined_networks(DEFAULT, "0", DEFAULT.created))
    return index


@pytest.fixture(name="real")
def _real() -> FakeNetworks:
    return FakeNetworks()


@pytest.fixture(name="told")
def _told() -> list[tuple[str, str]]:
    return []


@pytest.fixture(name="service")
def _service(index: NetworkIndex, database: Database, real: FakeNetworks, told: list[tuple[str, str]]) -> NetworkService:
    return NetworkService(
        index=index,
        networks=real,  # type: ignore[arg-type]  # a fake
        containers=ContainerIndex(database),
        connections=None,  # type: ignore[arg-type]  # not called here
        emit=lambda _, action, __, attributes: told.append((action, attributes.get("name", ""))),
    )


# --- requests ---


def test_options_of_the_engine_hold_for_networks_that_say_nothing_of_them() -> None:
    defaults = [("bridge", "mtu", "1400"), ("bridge", "icc", "false"), ("macvlan", "parent", "eth0")]

    def options(**fields: Any) -> dict[str, str] | None:
        return with_default_options(NetworkCreateBody(name="mine", **fields), defaults).options

    assert options() == {"mtu": "1400", "icc": "false"}
    assert options(driver="bridge", options={"mtu": "9000"}) == {"mtu": "9000", "icc": "false"}
    assert options(driver="macvlan") == {"parent": "eth0"}
    assert options(driver="ipvlan", options={"a": "b"}) == {"a": "b"}
    assert not options(config_only=True)


def wanted(**fields: Any) -> StoredNetwork:
    body = NetworkCreateBody(name="mine", **fields)
    plan = StoredNetwork(
        NetworkRecord("2" * 64, "plan", NetworkDriver.NULL, CREATED, options=(("a", "b"),), labels=(("l", "m"),)),
        config_only=True,
    )
    return wanted_network(body, network_id="1" * 64, created=CREATED, find={"plan": plan, "mine": mine()}.get)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"driver": "host"}, Forbidden, 'only one instance of "host" network is allowed'),
        ({"driver": "null"}, Forbidden, 'only one instance of "null" network is allowed'),
        ({"driver": "none"}, NotFound, 'plugin "none" not found'),
        ({"driver": "BRIDGE"}, NotFound, 'plugin "BRIDGE" not found'),
        ({"scope": "swarm"}, Forbidden, "cannot create a swarm scoped network when swarm is not active"),
        ({"ingress": True}, Forbidden, "Ingress network can only be global scope network"),
        (
            {"config_only": True, "internal": True},
            Forbidden,
            "configuration network can only contain network specific fields. "
            "Network operator fields like [ ingress | internal | attachable | scope ] are not supported.",
        ),
        (
            {"config_only": True, "config_from": ConfigReference(network="plan")},
            Forbidden,
            "a configuration network cannot depend on another configuration network",
        ),
        ({"config_from": ConfigReference(network="nope")}, NotFound, 'configuration network "nope" does not exist'),
        ({"config_from": ConfigReference(network="mine")}, NotFound, 'configuration network "mine" does not exist'),
        *(
            (
                {"config_from": ConfigReference(network="plan"), **more},
                Forbidden,
                "user specified configurations are not supported if the network depends on a configuration network",
            )
            for more in (
                {"labels": {"a": "b"}},
                {"enable_ipv6": True},
                {"enable_ipv4": False},
                {"ipam": IPAM(driver="null")},
                {"ipam": IPAM(config=[IPAMConfig(subnet="10.0.0.0/8")])},
            )
        ),
        (
            {"config_from": ConfigReference(network="plan"), "options": {"a": "b"}},
            Forbidden,
            "network driver options are not supported if the network depends on a configuration network",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(fields: dict[str, Any], error: type[EngineError], message: str) -> None:
    with pytest.raises(error) as refused:
        wanted(**fields)
    assert str(refused.value) == message


def test_a_network_may_take_its_configuration_from_another() -> None:
    made = wanted(config_from=ConfigReference(network="plan"), internal=True)
    assert (made.config_from, made.record.options, made.record.labels) == ("plan", (("a", "b"),), (("l", "m"),))
    assert made.record.driver is NetworkDriver.BRIDGE
    assert made.record.internal
    assert wanted(config_only=True, driver="bridge").record.driver is NetworkDriver.NULL


@pytest.mark.parametrize(
    ("fields", "families"),
    [
        ({}, (True, False)),
        ({"enable_ipv6": True}, (True, True)),
        ({"enable_ipv4": False, "enable_ipv6": True}, (False, True)),
        ({"options": {"com.docker.network.enable_ipv6": "1"}}, (True, True)),
        ({"options": {"com.docker.network.enable_ipv4": "false"}}, (False, False)),
        ({"enable_ipv6": False, "options": {"com.docker.network.enable_ipv6": "true"}}, (True, False)),
    ],
)
def test_families_are_chosen_by_field_or_option(fields: dict[str, Any], families: tuple[bool, bool]) -> None:
    assert wanted_families(NetworkCreateBody(**fields)) == families


def test_a_family_option_that_is_no_boolean_is_refused() -> None:
    with pytest.raises(InvalidParameter, match=r'driver-opt "com\.docker\.network\.enable_ipv6" is not a valid bool'):
        wanted_families(NetworkCreateBody(options={"com.docker.network.enable_ipv6": "x"}))


_BRIDGE = "com.docker.network.bridge."
_MTU = "com.docker.network.driver.mtu"


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        (_BRIDGE + "enable_icc", "no", 'strconv.ParseBool: parsing "no": invalid syntax'),
        (_BRIDGE + "enable_ip_masquerade", "", 'strconv.ParseBool: parsing "": invalid syntax'),
        (_BRIDGE + "host_binding_ipv4", "x", "nil ip"),
        ("com.docker.network.host_ipv4", "", "nil ip"),
        (_BRIDGE + "gateway_mode_ipv4", "foo", "unknown gateway mode foo"),
        (_MTU, "x", 'strconv.Atoi: parsing "x": invalid syntax'),
    ],
)
def test_options_of_bridges_are_read_as_docker_reads_them(key: str, value: str, reason: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        check_bridge_options({key: value})
    assert str(refused.value) == f"failed to parse {key} value: {value} ({reason})"
    check_bridge_options({_BRIDGE + "enable_icc": "T", _BRIDGE + "host_binding_ipv4": "::1", _MTU: "1400", "others": "x"})
    with pytest.raises(InvalidParameter, match="invalid MTU number: -1"):
        check_bridge_options({_MTU: "-1"})


# --- the index ---


def test_networks_are_found_by_name_id_and_beginning_of_an_id(index: NetworkIndex) -> None:
    index.add(mine())
    index.add(mine("11", "2"))
    index.add(mine("third", "1111" + "3"))
    for ref in ("mine", "1" * 64, "1" * 7):
        assert index.find(ref).name == "mine"
    assert index.find("11").name == "11"  # a name beats the beginning of an id
    with pytest.raises(AmbiguousNetwork, match=r"network 1111 is ambiguous \(2 matches found based on ID prefix\)"):
        index.find("1111")
    for ref in ("nowhere", "MINE", "", "abc/d"):
        with pytest.raises(NotFound, match=f"network {ref} not found"):
            index.find(ref)


def test_networks_outlive_the_engine(index: NetworkIndex, database: Database) -> None:
    whole = replace(
        mine(ipv6=True, labels=(("a", "b"),), subnets=(SubnetConfig("10.1.0.0/16", "", "10.1.2.0/24", (("x", "10.1.0.9"),)),)),
        configured=("10.1.0.0/16",),
        config_from="plan",
    )
    index.add(whole)
    index.add(mine("gone", "2"))
    index.remove("2" * 64)
    again = NetworkIndex(database)
    again.load()
    assert list(again) == [whole]
    again.set_predefined(predefined_networks(DEFAULT, "0", DEFAULT.created))
    assert [network.name for network in again] == ["bridge", "host", "none", "mine"]


# --- the service ---


def test_a_name_is_given_out_once_also_to_several_at_the_same_time(service: NetworkService, told: list[tuple[str, str]]) -> None:
    async def create() -> list[Any]:
        body = NetworkCreateBody(name="mine")
        return await asyncio.gather(*(service.create(body) for _ in range(5)), return_exceptions=True)

    answers = asyncio.run(create())
    assert [type(answer) for answer in answers if not isinstance(answer, str)] == [Conflict] * 4
    assert told == [("create", "mine")]


def test_nothing_stays_of_a_network_that_could_not_be_made(
    service: NetworkService, real: FakeNetworks, index: NetworkIndex, told: list[tuple[str, str]]
) -> None:
    real.failure = SystemFailure("operation not supported")
    with pytest.raises(SystemFailure):
        asyncio.run(service.create(NetworkCreateBody(name="mine")))
    assert index.named("mine") is None
    assert told == []
    real.failure = None
    asyncio.run(service.create(NetworkCreateBody(name="mine")))


@pytest.mark.parametrize("name", ["bridge", "host", "none", "default"])
def test_predefined_networks_can_be_neither_made_nor_removed(service: NetworkService, name: str) -> None:
    with pytest.raises(Forbidden, match=f"operation is not permitted on predefined {name} network "):
        asyncio.run(service.create(NetworkCreateBody(name=name)))
    if name != "default":
        with pytest.raises(Forbidden, match=f"{name} is a pre-defined network and cannot be removed"):
            asyncio.run(service.remove(name))


@pytest.mark.parametrize("name", ["a\n", "a\x1b[31m", "\x00", "a\u2028b"])
def test_names_that_would_forge_lines_are_refused(service: NetworkService, name: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid name"):
        asyncio.run(service.create(NetworkCreateBody(name=name)))


def test_networks_in_use_stay(service: NetworkService, real: FakeNetworks, told: list[tuple[str, str]]) -> None:
    network_id = asyncio.run(service.create(NetworkCreateBody(name="mine")))
    asyncio.run(service.create(NetworkCreateBody(name="free")))
    real.attached = [replace(ENDPOINT, network_id=network_id)]
    with pytest.raises(Forbidden) as refused:
        asyncio.run(service.remove("mine"))
    assert str(refused.value) == (
        f'error while removing network: network mine has active endpoints (name:"{"c" * 12}" id:"{"e" * 12}")'
    )
    assert asyncio.run(service.prune(Filters()))["NetworksDeleted"] == ["free"]
    real.attached = []
    asyncio.run(service.remove(network_id[:12]))
    assert told[-3:] == [("destroy", "free"), ("prune", ""), ("destroy", "mine")]
    assert asyncio.run(service.prune(Filters()))["NetworksDeleted"] is None


def test_a_configuration_stays_while_a_network_depends_on_it(service: NetworkService, real: FakeNetworks) -> None:
    asyncio.run(service.create(NetworkCreateBody(name="plan", config_only=True)))
    asyncio.run(service.create(NetworkCreateBody(name="mine", config_from=ConfigReference(network="plan"))))
    assert real.made == ["mine"]
    with pytest.raises(Forbidden, match='error while removing network: configuration network "plan" is in use'):
        asyncio.run(service.remove("plan"))
    asyncio.run(service.remove("mine"))
    asyncio.run(service.remove("plan"))


# --- documents and filters ---


def test_a_network_shows_what_its_maker_said_and_who_is_there() -> None:
    made = mine(
        subnets=(
            SubnetConfig("10.1.0.0/16", "", "10.1.2.0/24", (("x", "10.1.0.9"),), implied_gateway="10.1.2.0"),
            SubnetConfig("fd00::/64", "fd00::1"),
        ),
        ipv6=True,
    )
    document = network_document(made, [Attached("c" * 64, "web", replace(ENDPOINT, address6="fd00::2", prefix_length6=64))])
    assert document["IPAM"] == {
        "Driver": "default",
        "Options": None,
        "Config": [
            {"Subnet": "10.1.0.0/16", "IPRange": "10.1.2.0/24", "AuxiliaryAddresses": {"x": "10.1.0.9"}},
            {"Subnet": "fd00::/64", "Gateway": "fd00::1"},
        ],
    }
    assert document["Containers"] == {
        "c" * 64: {
            "Name": "web",
            "EndpointID": "e" * 64,
            "MacAddress": "02:42:0a:01:00:02",
            "IPv4Address": "10.1.0.2/16",
            "IPv6Address": "fd00::2/64",
        }
    }


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ("", ["bridge", "host", "none", "mine", "used"]),
        ('{"driver": ["null"]}', ["none"]),
        ('{"driver": ["bri"]}', []),
        ('{"name": ["o"]}', ["host", "none"]),
        ('{"name": ["^mine$", "["]}', ["mine"]),
        ('{"id": ["1111"]}', ["mine"]),
        ('{"type": ["custom"]}', ["mine", "used"]),
        ('{"type": ["builtin"], "driver": ["bridge", "host"]}', ["bridge", "host"]),
        ('{"label": ["a=b"]}', ["mine"]),
        ('{"label": ["a", "z"]}', []),
        ('{"dangling": ["true"]}', ["mine"]),
        ('{"dangling": ["0"]}', ["bridge", "host", "none", "used"]),
        ('{"scope": ["swarm"]}', []),
    ],
)
def test_lists_are_filtered(filters: str, expected: list[str]) -> None:
    networks = [
        *map(StoredNetwork, predefined_networks(DEFAULT, "0", DEFAULT.created)),
        mine(labels=(("a", "b"),)),
        mine("used", "2"),
    ]
    chooser = NetworkFilter(Filters.parse(filters))
    assert [network.name for network in networks if chooser.matches(network, in_use=network.name == "used")] == expected


@pytest.mark.parametrize(
    ("filters", "error", "message"),
    [
        ('{"colour": ["red"]}', InvalidParameter, "invalid filter 'colour'"),
        ('{"dangling": ["x"]}', InvalidParameter, "invalid value for filter 'dangling'"),
        ('{"dangling": ["true", "false"]}', InvalidParameter, 'got more than one value for filter key "dangling"'),
        ('{"type": ["foo"]}', SystemFailure, "invalid filter: 'type'='foo'"),
    ],
)
def test_unknown_filters_are_refused(filters: str, error: type[EngineError], message: str) -> None:
    with pytest.raises(error, match=message):
        NetworkFilter(Filters.parse(filters))


@pytest.mark.parametrize(
    ("filters", "pruned"),
    [
        ("", True),
        ('{"until": ["2026-01-02"]}', True),
        ('{"until": ["2025-12-31"]}', False),
        ('{"label": ["a=b"]}', True),
        ('{"label!": ["a=b"]}', False),
    ],
)
def test_prune_spares_what_the_filters_spare(filters: str, pruned: bool) -> None:
    chooser = NetworkPruneFilter(Filters.parse(filters), 0)
    assert chooser.matches(mine(labels=(("a", "b"),))) is pruned
    assert not chooser.matches(StoredNetwork(DEFAULT))
    assert not chooser.matches(replace(mine(labels=(("a", "b"),)), config_only=True))
