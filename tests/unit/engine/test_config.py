"""The engine's options."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path

import pytest

from kitepy.engine.config import ConfigError, EngineConfig, UlimitDefault, default_file, parse_config
from kitepy.engine.config_networks import AddressPoolOption, NetworkDefault


def _parse(*argv: str, uid: int = 1000, file: object = None, tmp_path: Path | None = None) -> EngineConfig:
    arguments = list(argv)
    if file is not None:
        assert tmp_path is not None
        path = tmp_path / "engine.json"
        path.write_text(file if isinstance(file, str) else json.dumps(file))
        arguments += ["--config-file", str(path)]
    return parse_config(arguments, uid=uid, environ={"HOME": "/home/u", "XDG_RUNTIME_DIR": "/run/user/1000"})


def test_root_and_users_have_their_own_places() -> None:
    assert _parse(uid=0).hosts == ("unix:///run/kitepy/engine.sock",)
    assert _parse(uid=0).data_root == Path("/var/lib/kitepy")
    assert _parse().data_root == Path("/home/u/.local/share/kitepy")
    assert _parse().exec_root == Path("/run/user/1000/kitepy")


def test_a_user_s_engine_finds_its_options_in_the_user_s_home_and_not_root_s(tmp_path: Path) -> None:
    assert default_file(0, {"XDG_CONFIG_HOME": str(tmp_path)}) == Path("/etc/kitepy/engine.json")
    environ = {"HOME": "/home/u", "XDG_RUNTIME_DIR": "/run/user/1000", "XDG_CONFIG_HOME": str(tmp_path)}
    assert parse_config([], uid=1000, environ=environ).insecure_registries == ()
    default_file(1000, environ).parent.mkdir()
    default_file(1000, environ).write_text('{"insecure-registries": ["r:5000"]}')
    assert parse_config([], uid=1000, environ=environ).insecure_registries == ("r:5000",)
    assert default_file(1000, {**environ, "XDG_CONFIG_HOME": "relative"}) == Path("/home/u/.config/kitepy/engine.json")


def test_dockerds_names_are_understood() -> None:
    config = _parse(
        "-H", "unix:///a", "--host=tcp://127.0.0.1:1", "--data-root", "/d", "--exec-root=/e", "-p", "/p", "--bip", "10.1.0.1/24",
        "--icc=false", "--iptables=false", "--ip6tables=false",
        "--ip-forward", "--dns", "8.8.8.8", "--dns", "::1", "--mtu", "1400", "--label", "a=b",
        "-l", "warn", "-D", "--group", "docker", "--socket-owner", "1000", "--registry-mirror", "https://m",
        "--insecure-registry", "r:5000", "--default-ulimit", "nofile=1:2", "--live-restore", "--init", "--shutdown-timeout", "3",
        "--ipv6", "--bip6", "fd00::1/64", "--fixed-cidr", "10.1.0.129/25", "--fixed-cidr-v6", "fd00::100/120",
        "--ip", "127.0.0.1",
        "--default-gateway", "10.1.0.9", "--default-gateway-v6", "fd00::9", "--userland-proxy=false",
        "--default-address-pool", "base=10.10.0.0/16,size=24", "--default-address-pool", "size=64,base=fd01::/48",
        "--default-network-opt", "bridge=com.docker.network.driver.mtu=1400",
    )  # fmt: skip
    assert config.hosts == ("unix:///a", "tcp://127.0.0.1:1")
    assert (config.data_root, config.exec_root, config.pidfile) == (Path("/d"), Path("/e"), Path("/p"))
    assert config.bip == ipaddress.IPv4Interface("10.1.0.1/24")
    assert (config.icc, config.iptables, config.ip_forward) == (False, False, True)
    assert config.dns == ("8.8.8.8", "::1")
    assert (config.mtu, config.labels, config.log_level, config.debug) == (1400, ("a=b",), "warn", True)
    assert (config.group, config.socket_owner) == ("docker", 1000)
    assert (config.ipv6, config.bip6) == (True, ipaddress.IPv6Interface("fd00::1/64"))
    assert (str(config.fixed_cidr), str(config.fixed_cidr_v6)) == ("10.1.0.128/25", "fd00::100/120")
    assert (str(config.default_gateway), str(config.default_gateway_v6)) == ("10.1.0.9", "fd00::9")
    assert (config.ip, config.userland_proxy) == ("127.0.0.1", False)
    assert config.default_address_pools == (
        AddressPoolOption(ipaddress.ip_network("10.10.0.0/16"), 24),
        AddressPoolOption(ipaddress.ip_network("fd01::/48"), 64),
    )
    assert config.default_network_opts == (NetworkDefault("bridge", "com.docker.network.driver.mtu", "1400"),)
    assert config.default_ulimits == (UlimitDefault("nofile", 1, 2),)
    assert config.live_restore
    assert config.init
    assert config.shutdown_timeout_s == 3


def test_the_file_has_the_same_keys_with_plural_lists(tmp_path: Path) -> None:
    file = {
        "hosts": ["unix:///a"],
        "labels": ["a=b"],
        "dns": ["1.1.1.1"],
        "mtu": 1400,
        "debug": True,
        "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 5, "Hard": 6}},
        "insecure-registries": ["r"],
    }
    config = _parse(file=file, tmp_path=tmp_path)
    assert (config.hosts, config.labels, config.dns, config.mtu, config.debug) == (
        ("unix:///a",),
        ("a=b",),
        ("1.1.1.1",),
        1400,
        True,
    )
    assert config.default_ulimits == (UlimitDefault("nofile", 5, 6),)


def test_an_option_given_both_ways_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"both as a flag and in the configuration file: mtu: \(from flag: 9000, from file: 1400\)"
    ):
        _parse("--mtu", "9000", file={"mtu": 1400}, tmp_path=tmp_path)


def test_an_unknown_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="don't match any configuration option: colour"):
        _parse(file={"colour": "red"}, tmp_path=tmp_path)


@pytest.mark.parametrize("file", ["{", "[]", '{"mtu": "many"}', '{"dns": "1.1.1.1"}', '{"debug": 1}', '{"default-ulimits": []}'])
def test_a_broken_file_is_named(tmp_path: Path, file: str) -> None:
    with pytest.raises(ConfigError, match=r"engine\.json"):
        _parse(file=file, tmp_path=tmp_path)


def test_a_missing_file_is_an_error_when_it_was_named() -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        _parse("--config-file", "/nowhere/x.json")


@pytest.mark.parametrize(
    "argv",
    [
        ("--colour", "red"),
        ("--mtu", "x"),
        ("--mtu", "70000"),
        ("--bip", "10.0.0.0/24"),
        ("--bip", "10.0.0.1"),
        ("--bip", "fd00::1/64"),
        ("--dns", "name"),
        ("--label", "x"),
        ("--label", "a=1", "--label", "a=2"),
        ("--log-level", "loud"),
        ("--icc=maybe",),
        ("--data-root", "relative"),
        ("--default-ulimit", "nofile"),
        ("--default-ulimit", "nofile=3:2"),
        ("--default-ulimit", "nothing=3"),
        ("--storage-opt", "overlay2.size=1G"),
        ("--socket-owner", "-1"),
        ("stray",),
    ],
)
def test_malformed_options_are_refused(argv: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError):
        _parse(*argv)


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (("--ip6tables=false",), "--ip6tables=false needs --iptables=false"),
        (("--bridge", "br9", "--bip", "10.1.0.1/24"), "You specified -b & --bip, mutually exclusive options"),
        (("--bip", "10.1.0.1/24", "--fixed-cidr", "10.2.0.0/24"), "--fixed-cidr 10.2.0.0/24 is not within"),
        (("--ipv6", "--bip6", "fd77::5/64", "--fixed-cidr-v6", "fd78::/64"), "--fixed-cidr-v6 fd78::/64 is not within"),
        (("--bip", "10.1.0.1/24", "--default-gateway", "10.3.0.1"), "--default-gateway 10.3.0.1 is not within"),
        (("--bip6", "fd77::5/64"), "--bip6 needs --ipv6"),
        (("--fixed-cidr-v6", "fd77::/64"), "--fixed-cidr-v6 needs --ipv6"),
        (("--default-gateway-v6", "fd77::9"), "--default-gateway-v6 needs --ipv6"),
        (("--fixed-cidr-v6", "x"), "expected an IPv6 subnet"),
        (("--fixed-cidr-v6", "10.0.0.0/8"), "invalid value '10.0.0.0/8' for --fixed-cidr-v6"),
        (("--fixed-cidr", "x"), "expected an IPv4 subnet"),
        (("--default-gateway", "fd00::1"), "invalid value 'fd00::1' for --default-gateway"),
        (("--ip", "fd00::1"), "invalid value 'fd00::1' for --ip"),
        (("--bridge", "../../x"), "expected the name of an interface"),
        (("--mtu", "-1"), "expected a number from 0 to 65535"),
        (("--default-address-pool", "base=10.10.0.0/16,size=8"), "size 8 is no prefix length of subnets of 10.10.0.0/16"),
        (("--default-address-pool", "base=10.10.0.0/16,size=33"), "size 33 is no prefix length"),
        (("--default-address-pool", "base=10.10.0.0/16,size=32"), "no room for containers"),
        (("--default-address-pool", "base=10.10.0.0/16"), "base and size are both needed"),
        (("--default-address-pool", "size=24"), "base and size are both needed"),
        (("--default-address-pool", "base=x,size=24"), "base: expected a subnet"),
        (("--default-address-pool", "base=10.10.0.0/16,size=24,foo=1"), "unknown key foo"),
        (("--default-address-pool", "foo"), "expected base=<subnet>,size=<prefix length>"),
        (("--default-network-opt", "bridge=foo"), "expected driver=key=value"),
        (("--default-network-opt", "foo=a=b"), "there is no network driver foo"),
    ],
)
def test_network_options_that_make_no_sense(argv: tuple[str, ...], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _parse(*argv)
    assert problem in str(caught.value)


def test_network_options_of_the_file_have_dockerds_form(tmp_path: Path) -> None:
    config = _parse(
        file={
            "default-address-pools": [{"base": "10.10.0.0/16", "size": 24}],
            "default-network-opts": {"bridge": {"com.docker.network.driver.mtu": "1400"}, "macvlan": {"parent": "eth0"}},
            "ipv6": True,
            "fixed-cidr-v6": "fd00::/64",
            "bridge": "none",
        },
        tmp_path=tmp_path,
    )
    assert config.default_address_pools == (AddressPoolOption(ipaddress.ip_network("10.10.0.0/16"), 24),)
    assert config.default_network_opts == (
        NetworkDefault("bridge", "com.docker.network.driver.mtu", "1400"),
        NetworkDefault("macvlan", "parent", "eth0"),
    )
    assert (config.ipv6, config.fixed_cidr_v6, config.bridge) == (True, ipaddress.IPv6Network("fd00::/64"), "none")


@pytest.mark.parametrize(
    "file",
    [
        {"default-address-pools": {"base": "10.10.0.0/16", "size": 24}},
        {"default-address-pools": [{"base": "10.10.0.0/16", "size": "24"}]},
        {"default-address-pools": [{"base": "x", "size": 8}]},
        {"default-address-pools": [{"base": "10.10.0.0/16", "size": True}]},
        {"default-network-opts": {"bridge": "x"}},
        {"default-network-opts": {"bridge": {"a": 1}}},
        {"default-network-opts": []},
        {"ip": 5},
        {"default-gateway": "x"},
        {"ipv6": "x"},
    ],
)
def test_network_options_of_the_file_that_are_malformed(file: object, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        _parse(file=file, tmp_path=tmp_path)


def test_tls_false_allows_open_ports(tmp_path: Path) -> None:
    assert not _parse().insecure_tcp
    assert _parse("--tls=false").insecure_tcp
    assert _parse(file={"tls": False}, tmp_path=tmp_path).insecure_tcp


def test_tlsverify_turns_tls_on_with_the_files_of_the_docker_command_line(tmp_path: Path) -> None:
    config = parse_config(["--tlsverify"], uid=1000, environ={"HOME": "/home/u"})
    assert (config.tls_client_ca, config.tls_certificate, config.tls_key) == tuple(
        Path("/home/u/.docker", name) for name in ("ca.pem", "cert.pem", "key.pem")
    )
    assert not config.insecure_tcp
    config = parse_config(["--tlsverify"], uid=1000, environ={"HOME": "/home/u", "DOCKER_CERT_PATH": "/c"})
    assert config.tls_key == Path("/c/key.pem")
    named = {"tlsverify": True, "tlscacert": "/a", "tlscert": "/b", "tlskey": "/k"}
    config = _parse(file=named, tmp_path=tmp_path)
    assert (config.tls_client_ca, config.tls_certificate, config.tls_key) == (Path("/a"), Path("/b"), Path("/k"))


def test_without_tlsverify_clients_are_not_verified_and_only_saying_so_allows_that() -> None:
    silent, explicit = _parse("--tls", "--tlscert=/b", "--tlskey=/k"), _parse("--tlsverify=false", "--tlscert=/b", "--tlskey=/k")
    assert silent.tls_client_ca is explicit.tls_client_ca is None
    assert silent.tls_certificate == explicit.tls_certificate == Path("/b")
    assert not silent.insecure_tcp
    assert explicit.insecure_tcp


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--tls=false", "--tlsverify"), "contradicts"),
        (("--tlscert=/b",), "need --tlsverify or --tls"),
        (("--tls", "--tlscacert=/a"), "needs --tlsverify"),
        (("--tls=maybe",), "true or false"),
    ],
)
def test_tls_options_that_make_no_sense_are_refused(argv: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _parse(*argv)


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _parse("--version")
    assert "Kitepy engine version" in capsys.readouterr().out
