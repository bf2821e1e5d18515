"""The engine's options: dockerd's names, on the command line or as keys of a JSON file, checked once and then frozen.

Runs before anything heavy is imported, so it knows the standard library only. What the values mean for a subsystem is that
subsystem's matter; here they are only well-formed. An option that is given both ways is an error, as dockerd has it.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from kitepy import __version__
from kitepy.engine import config_networks as networks
from kitepy.engine import config_registries as registries
from kitepy.engine.config_networks import AddressPoolOption, NetworkDefault

LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")
_ULIMITS = frozenset(
    {"as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue"}
    | {"nice", "nofile", "nproc", "rss", "rtprio", "rttime", "sigpending", "stack"}
)
_TRUE = frozenset({"1", "t", "true"})
_FALSE = frozenset({"0", "f", "false"})


class ConfigError(Exception):
    """The engine can't start with these options; ``str(error)`` is for the person who typed them."""


@dataclass(frozen=True)
class UlimitDefault:
    """A resource limit that containers get unless they ask for another; -1 is unlimited."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True)
class EngineConfig:
    """All that can be chosen about an engine."""

    hosts: tuple[str, ...]
    data_root: Path
    exec_root: Path
    pidfile: Path
    bip: ipaddress.IPv4Interface | None = None
    """Address of the default bridge and its subnet; None lets the network choose."""
    bridge: str = ""
    """Name of the default bridge, or ``none`` for no default network; empty is Kitepy's own."""
    icc: bool = True
    iptables: bool = True
    """False touches no packet filter rules at all."""
    ip6tables: bool = True
    ip_forward: bool = True
    ip_masq: bool = True
    ip: str = "0.0.0.0"
    """Where ports of the default bridge's containers are published that name no address."""
    ipv6: bool = False
    """Whether the default bridge has IPv6 as well."""
    bip6: ipaddress.IPv6Interface | None = None
    fixed_cidr: ipaddress.IPv4Network | None = None
    """Where addresses on the default bridge are chosen from."""
    fixed_cidr_v6: ipaddress.IPv6Network | None = None
    default_gateway: ipaddress.IPv4Address | None = None
    """Where containers of the default bridge send what leaves it; None is the bridge itself."""
    default_gateway_v6: ipaddress.IPv6Address | None = None
    default_address_pools: tuple[AddressPoolOption, ...] = ()
    default_network_opts: tuple[NetworkDefault, ...] = ()
    userland_proxy: bool = True
    """False changes nothing: only what the kernel can't translate is ever relayed."""
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_opts: tuple[str, ...] = ()
    mtu: int = 0
    """0 is the network's default."""
    labels: tuple[str, ...] = ()
    log_level: str = "info"
    debug: bool = False
    group: str | None = None
    """Name or number of the group that may use the unix sockets."""
    socket_owner: int | None = None
    """User id that owns the unix sockets, for an engine that is started as root on a user's behalf."""
    tls_certificate: Path | None = None
    """The certificate that TCP ports show, with ``tls_key``; None leaves them without encryption."""
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    """Clients need a certificate of this authority; None lets in everyone."""
    insecure_tcp: bool = False
    """``--tls=false`` or ``--tlsverify=false`` was said in so many words: ports may let in everyone who reaches them."""
    registry_mirrors: tuple[str, ...] = ()
    insecure_registries: tuple[str, ...] = ()
    http_proxy: str = ""
    """Proxies stand in for those of the environment, on the way to registries and where a build fetches files."""
    https_proxy: str = ""
    no_proxy: str = ""
    max_concurrent_downloads: int = 3
    max_concurrent_uploads: int = 5
    """Of blobs from registries; 0 is as many as there are."""
    max_download_attempts: int = 5
    """How often a blob is asked for that doesn't come."""
    default_ulimits: tuple[UlimitDefault, ...] = ()
    storage_opts: tuple[str, ...] = ()
    userns_remap: str = ""
    """Whose subordinate ids containers get, in dockerd's words; empty maps nothing."""
    live_restore: bool = False
    init: bool = False
    """Containers outlive a crash in any case; False stops them when the engine is stopped in order, as dockerd does."""
    shutdown_timeout_s: int = 15
    seccomp_profile: str = "builtin"
    """For containers that name none: ``builtin``, ``unconfined``, or the path of a JSON file."""
    no_new_privileges: bool = False
    """Whether containers start with no-new-privileges unless they say otherwise."""


# what an option's value may be, from text or from JSON


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("expected a string")
    return value


def _path(value: object) -> Path:
    text = _text(value)
    if not text.startswith("/"):
        raise ValueError("expected an absolute path")
    return Path(text)


def _file(value: object) -> Path:
    return Path(_text(value)).absolute()


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    word = _text(value).lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise ValueError("expected true or false")


def _integer(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    text = _text(value)
    if not text.lstrip("-").isdecimal() or len(text) > 18:
        raise ValueError("expected a number")
    return int(text)


def _between(lowest: int, highest: int) -> Callable[[object], int]:
    def check(value: object) -> int:
        number = _integer(value)
        if not lowest <= number <= highest:
            raise ValueError(f"expected a number from {lowest} to {highest}")
        return number

    return check


def _log_level(value: object) -> str:
    if _text(value) not in LOG_LEVELS:
        raise ValueError(f"expected one of {', '.join(LOG_LEVELS)}")
    return _text(value)


def _address(value: object) -> str:
    return str(ipaddress.ip_address(_text(value)))


def _seccomp_profile(value: object) -> str:
    text = _text(value)
    if text not in ("", "builtin", "unconfined") and not text.startswith("/"):
        raise ValueError("expected builtin, unconfined or an absolute path")
    return text or "builtin"


def _label(value: object) -> str:
    name, equals, _ = _text(value).partition("=")
    if not name or not equals:
        raise ValueError("expected name=value")
    return _text(value)


def _storage_opt(value: object) -> str:
    name, equals, _ = _text(value).partition("=")
    if not equals or name != "overlay2.override_kernel_check":
        raise ValueError("this storage option is not supported; only overlay2.override_kernel_check is accepted")
    return _text(value)


def _ulimit(value: object) -> UlimitDefault:
    name, equals, limits = _text(value).partition("=")
    soft, _, hard = limits.partition(":")
    if not equals:
        raise ValueError("expected name=soft[:hard]")
    return _checked_ulimit(name, _integer(soft), _integer(hard or soft))


def _checked_ulimit(name: str, soft: int, hard: int) -> UlimitDefault:
    if name not in _ULIMITS:
        raise ValueError(f"unknown limit {name}")
    if hard != -1 and (soft > hard or soft == -1):
        raise ValueError("the soft limit exceeds the hard limit")
    return UlimitDefault(name, soft, hard)


@dataclass(frozen=True)
class _Option:
    """One line of the table below. ``attribute`` names the field of EngineConfig."""

    flag: str
    attribute: str
    kind: Callable[[object], Any]
    help: str
    short: str | None = None
    key: str | None = None
    """The key in the file where it differs from the flag (lists are plural there)."""
    repeatable: bool = False

    @property
    def file_key(self) -> str:
        return self.key or self.flag

    @property
    def is_boolean(self) -> bool:
        return self.kind is _boolean


_OPTIONS = (
    _Option("host", "hosts", _text, "where to listen: unix:///path or tcp://address:port", "-H", "hosts", repeatable=True),
    _Option("data-root", "data_root", _path, "where images, containers and volumes are kept"),
    _Option("exec-root", "exec_root", _path, "where the state of running containers is kept"),
    _Option("pidfile", "pidfile", _path, "file for the engine's process id", "-p"),
    _Option("group", "group", _text, "group that may use the unix sockets", "-G"),
    _Option("socket-owner", "socket_owner", _between(0, 2**32 - 2), "user id that owns the unix sockets"),
    _Option("tls", "tls", _boolean, "encrypt TCP ports; implied by --tlsverify; false allows ports without encryption"),
    _Option("tlsverify", "tls_verify", _boolean, "encrypt TCP ports and let in only who has a certificate of the CA"),
    _Option("tlscacert", "tls_ca", _file, "CA whose certificates clients must have (~/.docker/ca.pem)"),
    _Option("tlscert", "tls_certificate", _file, "certificate of TCP ports (~/.docker/cert.pem)"),
    _Option("tlskey", "tls_key", _file, "private key of TCP ports (~/.docker/key.pem)"),
    _Option("bip", "bip", networks.bip, "address and subnet of the default bridge"),
    _Option("bip6", "bip6", networks.bip6, "IPv6 address and subnet of the default bridge"),
    _Option("bridge", "bridge", networks.bridge_name, "an existing bridge to use as the default one, or none", "-b"),
    _Option("ipv6", "ipv6", _boolean, "give the default bridge IPv6 as well"),
    _Option("fixed-cidr", "fixed_cidr", networks.fixed_cidr, "part of the default bridge's subnet that containers get"),
    _Option("fixed-cidr-v6", "fixed_cidr_v6", networks.fixed_cidr_v6, "IPv6 subnet of the default bridge's containers"),
    _Option("default-gateway", "default_gateway", networks.ipv4_address, "default gateway of the default bridge's containers"),
    _Option("default-gateway-v6", "default_gateway_v6", networks.ipv6_address, "the same for IPv6"),
    _Option(
        "default-address-pool",
        "default_address_pools",
        networks.address_pool,
        "base=<subnet>,size=<prefix length>: where networks get subnets from",
        key="default-address-pools",
        repeatable=True,
    ),
    _Option(
        "default-network-opt",
        "default_network_opts",
        networks.network_default,
        "driver=key=value: option of networks that don't set it",
        key="default-network-opts",
        repeatable=True,
    ),
    _Option("ip", "ip", networks.ipv4_text, "where ports are published that name no address"),
    _Option("userland-proxy", "userland_proxy", _boolean, "accepted; only what the kernel can't translate is ever relayed"),
    _Option("icc", "icc", _boolean, "let containers on the default bridge talk to each other"),
    _Option("iptables", "iptables", _boolean, "set packet filter rules"),
    _Option("ip6tables", "ip6tables", _boolean, "set packet filter rules for IPv6, which --iptables does as well"),
    _Option("ip-forward", "ip_forward", _boolean, "enable forwarding in the kernel"),
    _Option("ip-masq", "ip_masq", _boolean, "hide containers behind the machine's address"),
    _Option("dns", "dns", _address, "name server for containers", repeatable=True),
    _Option("dns-search", "dns_search", _text, "search domain for containers", repeatable=True),
    _Option("dns-opt", "dns_opts", _text, "resolver option for containers", key="dns-opts", repeatable=True),
    _Option("mtu", "mtu", _between(0, 65535), "largest packet on container networks"),
    _Option("label", "labels", _label, "name=value that describes this engine", key="labels", repeatable=True),
    _Option("log-level", "log_level", _log_level, "what to log", "-l"),
    _Option("debug", "debug", _boolean, "log everything", "-D"),
    _Option(
        "registry-mirror",
        "registry_mirrors",
        registries.mirror,
        "preferred mirror of Docker Hub",
        key="registry-mirrors",
        repeatable=True,
    ),
    _Option(
        "insecure-registry",
        "insecure_registries",
        registries.insecure_registry,
        "registry that may be used without TLS",
        key="insecure-registries",
        repeatable=True,
    ),
    _Option("http-proxy", "http_proxy", registries.proxy, "proxy for addresses with http"),
    _Option("https-proxy", "https_proxy", registries.proxy, "proxy for addresses with https"),
    _Option("no-proxy", "no_proxy", registries.proxy, "hosts and networks that are reached without a proxy"),
    _Option("max-concurrent-downloads", "max_concurrent_downloads", _between(0, 1_000), "how many layers are received at once"),
    _Option("max-concurrent-uploads", "max_concurrent_uploads", _between(0, 1_000), "how many layers are sent at once"),
    _Option("max-download-attempts", "max_download_attempts", _between(1, 1_000), "how often a layer is asked for"),
    _Option(
        "default-ulimit", "default_ulimits", _ulimit, "resource limit for containers", key="default-ulimits", repeatable=True
    ),
    _Option("storage-opt", "storage_opts", _storage_opt, "option of the layer store", key="storage-opts", repeatable=True),
    _Option("userns-remap", "userns_remap", _text, "user[:group] whose subordinate ids containers get, or default"),
    _Option("init", "init", _boolean, "give containers that don't say otherwise an init, which hands on signals and reaps"),
    _Option("live-restore", "live_restore", _boolean, "keep containers running while the engine is stopped"),
    _Option("seccomp-profile", "seccomp_profile", _seccomp_profile, "builtin, unconfined or the path of a profile"),
    _Option("no-new-privileges", "no_new_privileges", _boolean, "containers gain no privileges by exec unless they ask to"),
    _Option("shutdown-timeout", "shutdown_timeout_s", _between(-1, 86_400), "seconds containers get to stop"),
)


def parse_config(argv: Sequence[str], *, uid: int, environ: Mapping[str, str]) -> EngineConfig:
    """The configuration of a command line and the file it names; raises ConfigError.

    ``--version`` and ``--help`` print and raise SystemExit.
    """
    given = vars(_parser().parse_args(list(argv)))
    config_file = given.pop("config-file", None)
    flags = {name: value for name, value in given.items() if value is not None}
    from_flags = _read_flags(flags)
    from_file = _read_file(Path(config_file) if config_file else None, default_file(uid, environ))
    _check_conflicts(from_flags, from_file)
    merged = {**_defaults(uid, environ), **_to_attributes(from_file), **_to_attributes(from_flags)}
    merged |= _tls_of(merged, environ)
    _check_labels(merged.get("labels", ()))
    if uid != 0 and merged.get("userns_remap"):
        raise ConfigError("--userns-remap needs an engine that root starts: without root all containers are remapped anyway")
    if problem := networks.contradiction(merged):
        raise ConfigError(problem)
    return EngineConfig(**merged)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="kitepy-engine", description="Runs containers; speaks the Docker Engine API.", allow_abbrev=False, add_help=True
    )
    parser.add_argument("-v", "--version", action="version", version=f"Kitepy engine version {__version__}")
    parser.add_argument("--config-file", dest="config-file", metavar="FILE", help="JSON file with these options as keys")
    for option in _OPTIONS:
        names = [name for name in (option.short, f"--{option.flag}") if name]
        settings: dict[str, Any] = {"dest": option.flag, "help": option.help}
        if option.is_boolean:
            settings |= {"nargs": "?", "const": "true", "metavar": "true|false"}
        elif option.repeatable:
            settings |= {"action": "append", "metavar": option.flag.rpartition("-")[2].upper()}
        else:
            settings["metavar"] = option.flag.rpartition("-")[2].upper()
        parser.add_argument(*names, **settings)
    return parser


def _tls_of(merged: dict[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """Attributes by dockerd's TLS options, which are taken out of ``merged``.

    As there, saying ``--tlsverify`` at all turns TLS on, and missing file names stand for those of the docker command line.
    """
    tls, verify = merged.pop("tls", None), merged.pop("tls_verify", None)
    ca, certificate, key = (merged.pop(name, None) for name in ("tls_ca", "tls_certificate", "tls_key"))
    if tls is False and verify:
        raise ConfigError("--tls=false contradicts --tlsverify")
    if not tls and verify is None:
        if ca or certificate or key:
            raise ConfigError("--tlscacert, --tlscert and --tlskey need --tlsverify or --tls")
        return {"insecure_tcp": tls is False}
    directory = environ.get("DOCKER_CERT_PATH") or environ.get("DOCKER_CONFIG") or f"{environ.get('HOME') or ''}/.docker"
    if ca and not verify:
        raise ConfigError("--tlscacert verifies clients, which needs --tlsverify")
    return {
        "tls_certificate": certificate or Path(directory, "cert.pem"),
        "tls_key": key or Path(directory, "key.pem"),
        "tls_client_ca": (ca or Path(directory, "ca.pem")) if verify else None,
        "insecure_tcp": verify is False or tls is False,
    }


def _read_flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Checked values by file key."""
    values: dict[str, Any] = {}
    for option in _OPTIONS:
        if option.flag in flags:
            values[option.file_key] = _checked(option, flags[option.flag], f"--{option.flag}")
    return values


def _checked(option: _Option, value: object, name: str) -> Any:
    try:
        if option.repeatable:
            items = value if isinstance(value, list) else None
            if items is None:
                raise ValueError("expected a list")
            return tuple(option.kind(item) for item in items)
        return option.kind(value)
    except ValueError as error:
        raise ConfigError(f"invalid value {registries.without_credentials(repr(value))} for {name}: {error}") from None


def default_file(uid: int, environ: Mapping[str, str]) -> Path:
    """Where an engine that is told nothing looks for options: root's below /etc, a user's below the home directory."""
    if uid == 0:
        return Path("/etc/kitepy/engine.json")
    configured = environ.get("XDG_CONFIG_HOME", "")
    home = Path(configured) if configured.startswith("/") else Path(environ.get("HOME") or "/") / ".config"
    return home / "kitepy/engine.json"


def _read_file(path: Path | None, default: Path) -> dict[str, Any]:
    """Checked values by key; the default file may be missing, one that was named may not."""
    if path is None:
        if not default.exists():
            return {}
        path = default
    try:
        document = json.loads(path.read_text(encoding="utf-8") or "{}")
    except OSError as error:
        raise ConfigError(f"the configuration file {path} can't be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the configuration file {path} is not valid JSON: {error}") from None
    if not isinstance(document, dict):
        raise ConfigError(f"the configuration file {path} is not a JSON object")
    try:
        return _read_keys(document)
    except ConfigError as error:
        raise ConfigError(f"unable to configure the engine with file {path}: {error}") from None


def _read_keys(document: dict[str, Any]) -> dict[str, Any]:
    options = {option.file_key: option for option in _OPTIONS}
    try:
        document = registries.flat(document)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    unknown = sorted(key for key in document if key not in options)
    if unknown:
        raise ConfigError(f"the following directives don't match any configuration option: {', '.join(unknown)}")
    values: dict[str, Any] = {}
    for key, value in document.items():
        if key == "default-ulimits":
            values[key] = _ulimits_of_file(value)
        elif key == "default-network-opts":
            try:
                values[key] = networks.network_defaults_of_file(value)
            except ValueError as error:
                raise ConfigError(f"invalid value for {key}: {error}") from None
        else:
            values[key] = _checked(options[key], value, key)
    return values


def _ulimits_of_file(value: object) -> tuple[UlimitDefault, ...]:
    """dockerd's form: ``{"nofile": {"Name": "nofile", "Soft": 1, "Hard": 2}}``."""
    if not isinstance(value, dict):
        raise ConfigError("invalid value for default-ulimits: expected an object of limits by name")
    limits = []
    for name, limit in value.items():
        try:
            limits.append(_checked_ulimit(name, _integer(limit["Soft"]), _integer(limit.get("Hard", limit["Soft"]))))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"invalid value for default-ulimits, {name}: {error}") from None
    return tuple(limits)


def _check_conflicts(from_flags: Mapping[str, Any], from_file: Mapping[str, Any]) -> None:
    conflicts = [
        registries.without_credentials(f"{key}: (from flag: {from_flags[key]}, from file: {from_file[key]})")
        for key in sorted(from_flags)
        if key in from_file
    ]
    if conflicts:
        raise ConfigError(
            f"the following directives are specified both as a flag and in the configuration file: {', '.join(conflicts)}"
        )


def _check_labels(labels: Iterable[str]) -> None:
    seen: dict[str, str] = {}
    for label in labels:
        name, _, value = label.partition("=")
        if seen.setdefault(name, value) != value:
            raise ConfigError(f"conflict labels for {name}={value} and {name}={seen[name]}")


def _to_attributes(values: Mapping[str, Any]) -> dict[str, Any]:
    attributes = {option.file_key: option.attribute for option in _OPTIONS}
    return {attributes[key]: value for key, value in values.items()}


def _defaults(uid: int, environ: Mapping[str, str]) -> dict[str, Any]:
    if uid == 0:
        run, data = Path("/run/kitepy"), Path("/var/lib/kitepy")
    else:
        run = Path(environ.get("XDG_RUNTIME_DIR") or f"/run/user/{uid}") / "kitepy"
        home = Path(environ.get("HOME") or "/")
        data = Path(environ.get("XDG_DATA_HOME") or home / ".local/share") / "kitepy"
    return {
        "hosts": (f"unix://{run / 'engine.sock'}",),
        "data_root": data,
        "exec_root": run,
        "pidfile": run / "engine.pid",
    }
