"""The engine's options."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path

import pytest

from kitepy.engine.config import ConfigError, EngineConfig, UlimitDefault, parse_config


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


def test_dockerds_names_are_understood() -> None:
    config = _parse(
        "-H", "unix:///a", "--host=tcp://127.0.0.1:1", "--data-root", "/d", "--exec-root=/e", "-p", "/p", "--bip", "10.1.0.1/24",
        "--icc=false", "--iptables=false", "--ip-forward", "--dns", "8.8.8.8", "--dns", "::1", "--mtu", "1400", "--label", "a=b",
        "-l", "warn", "-D", "--group", "docker", "--socket-owner", "1000", "--registry-mirror", "https://m",
        "--insecure-registry", "r:5000", "--default-ulimit", "nofile=1:2", "--live-restore", "--init", "--shutdown-timeout", "3",
        "--bridge", "none",
    )  # fmt: skip
    assert config.hosts == ("unix:///a", "tcp://127.0.0.1:1")
    assert (config.data_root, config.exec_root, config.pidfile) == (Path("/d"), Path("/e"), Path("/p"))
    assert config.bip == ipaddress.IPv4Interface("10.1.0.1/24")
    assert (config.icc, config.iptables, config.ip_forward) == (False, False, True)
    assert config.dns == ("8.8.8.8", "::1")
    assert (config.mtu, config.labels, config.log_level, config.debug) == (1400, ("a=b",), "warn", True)
    assert (config.group, config.socket_owner, config.bridge) == ("docker", 1000, "none")
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


@pytest.mark.parametrize("argv", [("--ipv6",)])
def test_what_kitepy_cant_do_yet_is_said_clearly(argv: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="is not supported"):
        _parse(*argv)


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
