"""Turns a create request and an image's defaults into the configuration that is stored; pure, so every rule can be tested alone.

Source: Engine API v1.51 ContainerCreate, and what dockerd 28 gives back from inspect for the same request.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence

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
from kitepy.engine.model.oci import HealthCheck, ImageConfig
from kitepy.engine.services.capability_sets import effective_capabilities
from kitepy.engine.services.log_options import check_log_config
from kitepy.engine.services.request_limits import EVERYTHING, LimitSupport, checked_limits
from kitepy.engine.services.request_namespaces import check_namespaces, implied_security_options
from kitepy.engine.services.request_networking import check_resolver, parse_extra_host, requested_ports
from kitepy.engine.services.security_options import parse_security_options

DEFAULT_SHM_BYTES = 64 * 1024 * 1024
DEFAULT_RUNTIME = "kitepy"
RUNTIMES = ("", DEFAULT_RUNTIME, "runc", "io.containerd.runc.v2")
MAX_HOST_NAME = 64
"""sethostname(2)"""
RESTART_POLICIES = ("no", "always", "unless-stopped", "on-failure")

MASKED_PATHS = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

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
        env=_merged_environment(config.env, image.env),
        labels={**image.labels, **(config.labels or {})},
        entrypoint=entrypoint,
        cmd=cmd,
        working_dir=_clean_directory(config.working_dir or image.working_dir),
        volumes={**{path: {} for path in image.volumes}, **(config.volumes or {})} or None,
        stop_signal=config.stop_signal or image.stop_signal,
        shell=config.shell or (list(image.shell) if image.shell else None),
        healthcheck=_merged_healthcheck(config.healthcheck, image.healthcheck),
    )


def _clean_directory(path: str) -> str:
    return posixpath.normpath("/" + path.lstrip("/")) if path.startswith("/") else path


def _merged_environment(wanted: Sequence[str] | None, defaults: Iterable[str]) -> list[str] | None:
    """The user's variables first, then the image's whose names the user didn't mention.

    A bare name, ``-e NAME``, means "without this variable" and is kept until the environment is made.
    """
    merged = list(wanted or ())
    names = {variable.partition("=")[0] for variable in merged}
    merged += [variable for variable in defaults if variable.partition("=")[0] not in names]
    return merged or None


def _merged_healthcheck(wanted: HealthConfig | None, default: HealthCheck | None) -> HealthConfig | None:
    if default is None:
        return wanted and msgspec.structs.replace(wanted, test=wanted.test or None)
    wanted = wanted or HealthConfig()
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
    masked: list[str] | None = list(MASKED_PATHS)
    readonly: list[str] | None = list(READONLY_PATHS)
    if host.privileged:
        masked = readonly = None
    elif security.unmasked_paths:
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
        security_opt=[*(host.security_opt or ()), *implied] if (implied := implied_security_options(host)) else host.security_opt,
        links=host.links or None,
        oom_kill_disable=bool(host.oom_kill_disable),
        ulimits=[*(host.ulimits or ()), *inherited] if inherited else host.ulimits,
        # Docker's command line sends -1 for "not given".
        memory_swappiness=None if host.memory_swappiness == -1 else host.memory_swappiness,
        memory_swap=host.memory_swap or (min(2 * host.memory, 2**63 - 1) if host.memory > 0 else 0),
    )


def check_config(config: ContainerConfig) -> None:
    """Raise InvalidParameter for what can't be run."""
    if not (config.entrypoint or config.cmd):
        raise InvalidParameter("no command specified")
    argv = [*(config.entrypoint or ()), *(config.cmd or ())]
    for word in (*argv, *(config.env or ()), config.working_dir, config.user):
        if "\0" in word:
            raise InvalidParameter("a command, a path, a user or an environment variable can't contain a NUL character")
    for variable in config.env or ():
        if variable.startswith("=") or not variable:
            raise InvalidParameter(f"invalid environment variable: {variable}")
    if config.working_dir and not config.working_dir.startswith("/"):
        raise InvalidParameter(f"the working directory '{config.working_dir}' is invalid, it needs to be an absolute path")
    for what, name in (("hostname", config.hostname), ("domainname", config.domainname)):
        # It goes into /etc/hosts, where a blank, a line break or a comment sign would begin something else.
        if len(name) > MAX_HOST_NAME or any(not sign.isprintable() or sign in " #" for sign in name):
            raise InvalidParameter(f"invalid {what} format: {name}")
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


def check_host_config(host: HostConfig, *, support: LimitSupport = EVERYTHING) -> tuple[HostConfig, list[str]]:
    """The configuration as it will be kept, without limits that this machine lacks, and warnings about those.

    Raises InvalidParameter or Unsupported for what can't be honoured.
    """
    host, warnings = checked_limits(host, support)
    _check_restart(host.restart_policy, host.auto_remove)
    check_namespaces(host)
    _check_platform_options(host)
    effective_capabilities(host.cap_add or (), host.cap_drop or (), host.privileged)
    check_log_config(host.log_config)
    parse_security_options(host.security_opt or ())
    requested_ports({}, host)
    for name in host.sysctls or ():
        if not _SYSCTL.fullmatch(name):
            raise InvalidParameter(f"invalid sysctl name: {name}")
    for entry in host.extra_hosts or ():
        parse_extra_host(entry)
    check_resolver(host)
    for key in host.annotations or ():
        if not key:
            raise InvalidParameter("invalid Annotations: the empty string is not permitted as an annotation key")
    if not -1000 <= host.oom_score_adj <= 1000:
        raise InvalidParameter(f"Invalid value {host.oom_score_adj}, range for oom score adj is [-1000, 1000]")
    if host.shm_size < 0:
        raise InvalidParameter("SHM size can not be less than 0")
    return host, warnings


def _check_restart(policy: RestartPolicy, auto_remove: bool) -> None:
    if policy.name not in RESTART_POLICIES:
        raise InvalidParameter(
            f"invalid restart policy: unknown policy '{policy.name}'; "
            "use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )
    if policy.maximum_retry_count and policy.name != "on-failure":
        negative = " and cannot be negative" if policy.maximum_retry_count < 0 else ""
        raise InvalidParameter(f"invalid restart policy: maximum retry count can only be used with 'on-failure'{negative}")
    if policy.maximum_retry_count < 0:
        raise InvalidParameter("invalid restart policy: maximum retry count cannot be negative")
    if auto_remove and policy.name != "no":
        raise InvalidParameter("can't create 'AutoRemove' container with restart policy")


def _check_platform_options(host: HostConfig) -> None:
    """What belongs to other platforms or isn't built: an option must never be ignored silently."""
    if host.runtime not in RUNTIMES:
        raise InvalidParameter(f"unknown or invalid runtime name: {host.runtime}")
    if host.isolation.lower() not in ("", "default"):
        raise InvalidParameter(f"invalid isolation ({host.isolation}): linux only supports 'default'")
    if any(character in "\0\n" for character in host.cgroup_parent):
        raise InvalidParameter(f"invalid cgroup parent: {host.cgroup_parent!r}")
    if host.storage_opt:
        name = next((name for name in host.storage_opt if name.lower() != "size"), None)
        if name is not None:
            raise InvalidParameter(f"Unknown option {name}")
        raise Unsupported(
            "--storage-opt is supported only for overlay over xfs with 'pquota' mount option: Kitepy sets no quotas"
        )
