"""Turns a create request and an image's defaults into the configuration that is stored; pure, so every rule can be tested alone.

Source: Engine API v1.51 ContainerCreate, and what dockerd 28 gives back from inspect for the same request.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import cast

import msgspec

from kitepy.engine.model.container_config import (
    ContainerConfig,
    HealthConfig,
    HostConfig,
    LogConfig,
    RestartPolicy,
    Ulimit,
)
from kitepy.engine.model.errors import InvalidParameter, Unsupported
from kitepy.engine.model.network import PortRequest, Protocol
from kitepy.engine.model.oci import HealthCheck, ImageConfig
from kitepy.engine.services.capability_sets import effective_capabilities
from kitepy.engine.services.log_options import check_log_config
from kitepy.engine.services.security_options import parse_security_options

MIN_MEMORY_BYTES = 6 * 1024 * 1024
DEFAULT_SHM_BYTES = 64 * 1024 * 1024
DEFAULT_RUNTIME = "kitepy"
PROTOCOLS = ("tcp", "udp", "sctp")
RESTART_POLICIES = ("no", "always", "unless-stopped", "on-failure")

MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_DOMAIN_LABEL = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9_-]{0,62}[a-zA-Z0-9])?")
# int() alone would take signs, underscores, blanks and the digits of any script.
_PORT_NUMBER = re.compile(r"[0-9]{1,9}")
_NAMES = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,252}")
_RESOLVER_OPTION = re.compile(r"[a-zA-Z0-9_-]+(:[a-zA-Z0-9_.-]*)?")
_SYSCTL = re.compile(r"[a-z0-9_]+([./][a-zA-Z0-9_*-]+)+")


def merge_image(config: ContainerConfig, image: ImageConfig) -> ContainerConfig:
    """The user's wishes over the image's defaults, with the rules of dockerd for each field."""
    entrypoint, cmd = config.entrypoint, config.cmd
    if not entrypoint:
        if not cmd:
            cmd = list(image.cmd) if image.cmd is not None else None
        if entrypoint is None:
            entrypoint = list(image.entrypoint) if image.entrypoint is not None else None
    if entrypoint == [""]:  # how a client says "no entrypoint, whatever the image has"
        entrypoint = None
    return msgspec.structs.replace(
        config,
        user=config.user or image.user,
        exposed_ports={**{port: {} for port in image.exposed_ports}, **(config.exposed_ports or {})} or None,
        env=_merged_environment(config.env or [], image.env),
        labels={**image.labels, **(config.labels or {})},
        entrypoint=entrypoint,
        cmd=cmd,
        working_dir=config.working_dir or image.working_dir,
        volumes={**{path: {} for path in image.volumes}, **(config.volumes or {})} or None,
        stop_signal=config.stop_signal or image.stop_signal,
        shell=config.shell or (list(image.shell) if image.shell else None),
        on_build=None,
        healthcheck=_merged_healthcheck(config.healthcheck, image.healthcheck),
    )


def _merged_environment(wanted: Iterable[str], defaults: Iterable[str]) -> list[str]:
    """The user's variables first, then the image's whose names the user didn't mention.

    A bare name, ``-e NAME``, means "without this variable" and is kept until the environment is made.
    """
    merged = list(wanted)
    names = {variable.partition("=")[0] for variable in merged}
    return merged + [variable for variable in defaults if variable.partition("=")[0] not in names]


def _merged_healthcheck(wanted: HealthConfig | None, default: HealthCheck | None) -> HealthConfig | None:
    if default is None:
        return wanted
    wanted = wanted or HealthConfig()
    if wanted.test == ["NONE"]:
        return wanted
    return HealthConfig(
        test=wanted.test or list(default.test) or None,
        interval=wanted.interval or default.interval_ns,
        timeout=wanted.timeout or default.timeout_ns,
        start_period=wanted.start_period or default.start_period_ns,
        start_interval=wanted.start_interval or default.start_interval_ns,
        retries=wanted.retries or default.retries,
    )


def fill_host_config(
    host: HostConfig, *, default_log_driver: str = "json-file", default_ulimits: Sequence[Ulimit] = ()
) -> HostConfig:
    """The host configuration with the defaults that inspect shows; nothing is checked here.

    ``default_ulimits`` are the engine's (``--default-ulimit``); a limit that the request names wins.
    """
    named = {limit.name for limit in host.ulimits or ()}
    inherited = [limit for limit in default_ulimits if limit.name not in named]
    security = parse_security_options(host.security_opt or ())
    masked, readonly = list(MASKED_PATHS), list(READONLY_PATHS)
    if host.privileged or security.unmasked_paths:
        masked, readonly = [], []
    return msgspec.structs.replace(
        host,
        log_config=LogConfig(type=host.log_config.type or default_log_driver, config=host.log_config.config or {}),
        network_mode="bridge" if host.network_mode in ("", "default") else host.network_mode,
        restart_policy=RestartPolicy(
            name=host.restart_policy.name or "no", maximum_retry_count=host.restart_policy.maximum_retry_count
        ),
        ipc_mode=host.ipc_mode or "private",
        cgroupns_mode=host.cgroupns_mode or "private",
        shm_size=host.shm_size or DEFAULT_SHM_BYTES,
        runtime=host.runtime or DEFAULT_RUNTIME,
        masked_paths=masked if host.masked_paths is None else host.masked_paths,
        readonly_paths=readonly if host.readonly_paths is None else host.readonly_paths,
        oom_kill_disable=bool(host.oom_kill_disable),
        ulimits=[*(host.ulimits or ()), *inherited] if inherited else host.ulimits,
        # Docker's command line sends -1 for "not given".
        memory_swappiness=None if host.memory_swappiness == -1 else host.memory_swappiness,
        memory_swap=host.memory_swap or (2 * host.memory if host.memory > 0 else 0),
    )


def check_config(config: ContainerConfig) -> None:
    """Raise InvalidParameter for what can't be run."""
    if not (config.entrypoint or config.cmd):
        raise InvalidParameter("no command specified")
    argv = [*(config.entrypoint or ()), *(config.cmd or ())]
    for word in (*argv, *(config.env or ())):
        if "\0" in word:
            raise InvalidParameter("a command or an environment variable can't contain a NUL character")
    if not argv[0]:
        raise InvalidParameter("the command to run is an empty word")
    for variable in config.env or ():
        if variable.startswith("=") or not variable:
            raise InvalidParameter(f"invalid environment variable: {variable}")
    if config.working_dir and not config.working_dir.startswith("/"):
        raise InvalidParameter(f"the working directory '{config.working_dir}' is invalid, it needs to be an absolute path")
    if config.hostname and (len(config.hostname) > 63 or not _DOMAIN_LABEL.fullmatch(config.hostname.replace(".", "a"))):
        raise InvalidParameter(f"invalid hostname format: {config.hostname}")
    if config.domainname and (len(config.domainname) > 64 or not _NAMES.fullmatch(config.domainname)):
        raise InvalidParameter(f"invalid domain name: {config.domainname}")
    if config.stop_timeout is not None and config.stop_timeout < -1:
        raise InvalidParameter(f"invalid stop timeout: {config.stop_timeout}")
    if config.network_disabled:
        raise Unsupported("NetworkDisabled is not supported: use the network mode 'none'")
    for port in config.exposed_ports or ():
        parse_port(port)
    for path in config.volumes or ():
        if not path.startswith("/"):
            raise InvalidParameter(f"invalid volume specification: '{path}': mount path must be absolute")
    check_healthcheck(config.healthcheck)


def check_healthcheck(health: HealthConfig | None) -> None:
    """dockerd's lower bounds: a duration is zero (inherit) or at least a millisecond."""
    if health is None:
        return
    for name in ("interval", "timeout", "start_period", "start_interval"):
        value = getattr(health, name)
        if value and value < 1_000_000:
            words = name.title().replace("_", "")
            raise InvalidParameter(f"{words} in Healthcheck cannot be less than 1ms")
    if health.retries < 0:
        raise InvalidParameter("Retries in Healthcheck cannot be negative")


def check_host_config(host: HostConfig) -> list[str]:
    """Raise InvalidParameter or Unsupported for what can't be honoured; gives warnings for the user."""
    _check_limits(host)
    _check_restart(host.restart_policy, host.auto_remove)
    _check_namespaces(host)
    _check_unsupported(host)
    effective_capabilities(host.cap_add or (), host.cap_drop or (), host.privileged)
    check_log_config(host.log_config)
    parse_security_options(host.security_opt or ())
    requested_ports({}, host)
    for name in host.sysctls or ():
        if not _SYSCTL.fullmatch(name):
            raise InvalidParameter(f"invalid sysctl name: {name}")
    for entry in host.extra_hosts or ():
        parse_extra_host(entry)
    _check_resolver(host)
    for limit in host.ulimits or ():
        if limit.hard != -1 and (limit.soft == -1 or limit.soft > limit.hard):
            raise InvalidParameter(
                f"invalid ulimit {limit.name}: the soft limit {limit.soft} "
                f"must be less than or equal to the hard limit {limit.hard}"
            )
    warnings = []
    if host.oom_kill_disable and not host.memory:
        warnings.append(
            "OOM killer is disabled for the container, but no memory limit is set, "
            "this can result in the system running out of resources."
        )
    return warnings


def _check_resolver(host: HostConfig) -> None:
    """What goes into resolv.conf is one word each: a blank or a line end would begin another entry there."""
    for server in host.dns or ():
        try:
            ip_address(server)
        except ValueError:
            raise InvalidParameter(f"{server} is not an ip address") from None
        if not _NAMES.fullmatch(server.replace(":", "").replace("%", "")):
            raise InvalidParameter(f"{server} is not an ip address")
    for domain in host.dns_search or ():
        if domain != "." and not _NAMES.fullmatch(domain):
            raise InvalidParameter(f"{domain} is not a valid domain")
    for option in host.dns_options or ():
        if not _RESOLVER_OPTION.fullmatch(option):
            raise InvalidParameter(f"{option!r} is not a valid resolver option")


def _check_limits(host: HostConfig) -> None:
    memory, swap = host.memory, host.memory_swap
    if 0 < memory < MIN_MEMORY_BYTES:
        raise InvalidParameter("Minimum memory limit allowed is 6MB")
    if memory < 0:
        raise InvalidParameter(f"invalid memory limit: {memory}")
    if memory > 0 and swap > 0 and swap < memory:
        raise InvalidParameter("Minimum memoryswap limit should be larger than memory limit, see usage")
    if memory == 0 and swap > 0:
        raise InvalidParameter("You should always set the Memory limit when using Memoryswap limit, see usage")
    if 0 < memory < host.memory_reservation:
        raise InvalidParameter("Minimum memory limit can not be less than memory reservation limit, see usage")
    if host.memory_swappiness is not None and not -1 <= host.memory_swappiness <= 100:
        raise InvalidParameter(f"Invalid value: {host.memory_swappiness}, valid memory swappiness range is 0-100")
    if host.nano_cpus < 0:
        raise InvalidParameter("Range of CPUs is from 0.01: a negative number of CPUs was given")
    if host.nano_cpus and (host.cpu_period or host.cpu_quota):
        raise InvalidParameter("Conflicting options: Nano CPUs and CPU Period or CPU Quota cannot both be set")
    if host.cpu_period and not 1_000 <= host.cpu_period <= 1_000_000:
        raise InvalidParameter("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if 0 < host.cpu_quota < 1_000:
        raise InvalidParameter("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if host.blkio_weight and not 10 <= host.blkio_weight <= 1000:
        raise InvalidParameter("Range of blkio weight is from 10 to 1000")
    if not -1000 <= host.oom_score_adj <= 1000:
        raise InvalidParameter(f"Invalid value {host.oom_score_adj}, range for oom score adj is [-1000, 1000]")
    if host.shm_size < 0:
        raise InvalidParameter("SHM size can not be less than 0")
    for name, cpus in (("cpus", host.cpuset_cpus), ("mems", host.cpuset_mems)):
        if cpus and not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", cpus):
            raise InvalidParameter(f"Invalid value {cpus} for cpuset {name}")


def _check_restart(policy: RestartPolicy, auto_remove: bool) -> None:
    if policy.name not in RESTART_POLICIES:
        raise InvalidParameter(
            f"invalid restart policy: unknown policy '{policy.name}'; "
            "use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )
    if policy.maximum_retry_count < 0:
        raise InvalidParameter("invalid restart policy: maximum retry count cannot be negative")
    if policy.maximum_retry_count and policy.name != "on-failure":
        raise InvalidParameter("invalid restart policy: maximum retry count can only be used with 'on-failure'")
    if auto_remove and policy.name != "no":
        raise InvalidParameter("can't create 'AutoRemove' container with restart policy")


def _check_namespaces(host: HostConfig) -> None:
    """A mode that isn't understood must not turn into the default one silently."""
    if host.pid_mode not in ("", "host") and not _names_container(host.pid_mode):
        raise InvalidParameter(f"invalid PID mode: {host.pid_mode}")
    if host.uts_mode not in ("", "host"):
        raise InvalidParameter(f"invalid UTS mode: {host.uts_mode}")
    if host.cgroupns_mode not in ("", "private", "host"):
        raise InvalidParameter(f"invalid cgroup namespace mode: {host.cgroupns_mode}")
    if _names_container(host.ipc_mode):
        raise Unsupported(f"The IPC mode '{host.ipc_mode}' is not supported by this version of Kitepy")
    if host.ipc_mode not in ("", "none", "private", "shareable", "host"):
        raise InvalidParameter(f"invalid IPC mode: {host.ipc_mode}")


def _names_container(mode: str) -> bool:
    return mode.startswith("container:") and mode != "container:"


def _check_unsupported(host: HostConfig) -> None:
    """Refuse what is not built yet: an option must never be ignored silently."""
    refused = {
        "links between containers (--link)": bool(host.links),
        "an init process (--init)": bool(host.init),
        "device requests (--gpus)": bool(host.device_requests),
        "storage options (--storage-opt)": bool(host.storage_opt),
        "real-time CPU scheduling": bool(host.cpu_realtime_period or host.cpu_realtime_runtime),
        "block device limits": bool(
            host.blkio_weight_device
            or host.blkio_device_read_bps
            or host.blkio_device_write_bps
            or host.blkio_device_read_iops
            or host.blkio_device_write_iops
        ),
        "kernel memory limits for TCP": bool(host.kernel_memory_tcp),
        "limits of Windows containers": bool(
            host.cpu_count or host.cpu_percent or host.io_maximum_bandwidth or host.io_maximum_iops
        ),
        f"the runtime '{host.runtime}'": host.runtime not in ("", DEFAULT_RUNTIME, "runc", "io.containerd.runc.v2"),
        f"the isolation technology '{host.isolation}'": host.isolation not in ("", "default"),
        f"the volume driver '{host.volume_driver}'": host.volume_driver not in ("", "local"),
        "a parent cgroup (--cgroup-parent)": bool(host.cgroup_parent),
        "the cgroup option of linked containers": bool(host.cgroup),
    }
    for what, given in refused.items():
        if given:
            raise Unsupported(f"{what[0].upper()}{what[1:]}: not supported by this version of Kitepy")


def parse_port(text: str) -> tuple[int, Protocol]:
    """``80/tcp`` or ``80``: number and protocol."""
    number, _, protocol = text.partition("/")
    protocol = protocol.lower() or "tcp"
    if not _PORT_NUMBER.fullmatch(number) or not 0 < int(number) < 65536 or protocol not in PROTOCOLS:
        raise InvalidParameter(f'invalid port specification: "{text}"')
    return int(number), cast(Protocol, protocol)


def parse_host_port(text: str) -> tuple[int, int] | None:
    """A host port, a range ``8000-8010``, or None for "any free one"."""
    if not text or text == "0":
        return None
    first, dash, last = text.partition("-")
    last = last if dash else first
    if _PORT_NUMBER.fullmatch(first) and _PORT_NUMBER.fullmatch(last) and 0 < int(first) <= int(last) < 65536:
        return int(first), int(last)
    raise InvalidParameter(f'invalid port specification: "{text}"')


def requested_ports(exposed: Mapping[str, object], host: HostConfig) -> tuple[PortRequest, ...]:
    """The ports to publish: each binding, and with PublishAllPorts the exposed ones that have none."""
    requests: list[PortRequest] = []
    bound: set[tuple[int, Protocol]] = set()
    for port_text, bindings in (host.port_bindings or {}).items():
        port, protocol = parse_port(port_text)
        for binding in bindings or ():
            bound.add((port, protocol))
            requests.append(
                PortRequest(
                    container_port=port,
                    protocol=protocol,
                    host_ip=binding.host_ip,
                    host_port=parse_host_port(binding.host_port),
                )
            )
    if host.publish_all_ports:
        for port_text in exposed:
            port, protocol = parse_port(port_text)
            if (port, protocol) not in bound:
                requests.append(PortRequest(container_port=port, protocol=protocol, host_ip="", host_port=None))
    return tuple(requests)


def parse_extra_host(entry: str) -> tuple[str, str]:
    """``name:address`` (or ``name=address``) of ``--add-host``; the address may be ``host-gateway``."""
    separator = "=" if "=" in entry else ":"
    name, found, address = entry.partition(separator)
    address = address.strip("[]")
    # Beyond what Docker allows would be no name, but a comment or a second entry in /etc/hosts.
    if not found or not _NAMES.fullmatch(name) or not address or any(character.isspace() for character in address):
        raise InvalidParameter(f'bad format for add-host: "{entry}"')
    if address != "host-gateway":
        try:
            if not ip_address(address) or not address.isprintable() or "#" in address:
                raise ValueError
        except ValueError:
            raise InvalidParameter(f'invalid IP address in add-host: "{address}"') from None
    return name, address


@dataclass(frozen=True)
class NetworkMode:
    """What ``HostConfig.NetworkMode`` asks for."""

    kind: str
    """``bridge``, ``host``, ``none``, ``container`` or ``named``."""
    target: str = ""
    """The other container, or the network's name."""


def parse_network_mode(text: str) -> NetworkMode:
    """Split a network mode; unknown words are names of networks."""
    if text in ("", "default", "bridge"):
        return NetworkMode("bridge")
    if text in ("host", "none"):
        return NetworkMode(text)
    kind, colon, target = text.partition(":")
    if kind == "container" and colon:
        if not target:
            raise InvalidParameter("invalid network mode: a container name or id is missing after 'container:'")
        return NetworkMode("container", target)
    return NetworkMode("named", text)


def check_network_combination(config: ContainerConfig, host: HostConfig) -> None:
    """Options that make no sense together; worded as dockerd's."""
    mode = parse_network_mode(host.network_mode)
    if mode.kind == "container":
        if config.hostname:
            raise InvalidParameter("conflicting options: hostname and the network mode")
        if any((host.port_bindings or {}).values()) or host.publish_all_ports:
            raise InvalidParameter("conflicting options: port publishing and the container type network mode")
        if host.extra_hosts:
            raise InvalidParameter("conflicting options: custom host-to-IP mapping and the network mode")
        if config.exposed_ports:
            raise InvalidParameter("conflicting options: port exposing and the container type network mode")
    if host.uts_mode == "host" and config.hostname:
        raise InvalidParameter("conflicting options: hostname and the UTS mode")
