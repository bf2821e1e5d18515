"""What a client may ask of a container, field by field as the Engine API v1.51 names it; whether it makes sense is for services.

The same structs check the body of a request, are stored in a container's record and are given back by inspect. A value
that the client left out stays at the zero value that dockerd would show: lists and maps are None (``null``) unless sent.
Docker leaves a few fields out of its answers while they are empty: ``document()`` does so, ``msgspec.json.encode`` doesn't.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta, Struct, field

Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
UInt64 = Annotated[int, Meta(ge=0, le=2**63 - 1)]
UInt16 = Annotated[int, Meta(ge=0, le=2**16 - 1)]

ONE_OR_MANY = "one string stands for a list of one"
"""Marks list fields for which clients may send a plain string; the reader of bodies turns it into a list."""

Words = Annotated[list[str], Meta(extra={ONE_OR_MANY: True})]


class HealthConfig(Struct, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    """How to probe a container's health; durations in nanoseconds, zero inherits from the image."""

    test: list[str] | None = None
    interval: Int64 = 0
    timeout: Int64 = 0
    start_period: Int64 = 0
    start_interval: Int64 = 0
    retries: int = 0


class ContainerConfig(Struct, frozen=True, kw_only=True, rename="pascal"):
    """What of a container is the same on any host."""

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: dict[str, dict[str, Any]] | None = None
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: list[str] | None = None
    cmd: Words | None = None
    healthcheck: HealthConfig | None = None
    args_escaped: bool = False
    image: str = ""
    volumes: dict[str, dict[str, Any]] | None = None
    working_dir: str = ""
    entrypoint: Words | None = None
    network_disabled: bool = False
    mac_address: str = ""
    on_build: list[str] | None = None
    labels: dict[str, str] | None = None
    stop_signal: str = ""
    stop_timeout: Int64 | None = None
    shell: Words | None = None

    LEFT_OUT_WHEN_EMPTY: ClassVar[tuple[str, ...]] = (
        "ExposedPorts",
        "ArgsEscaped",
        "NetworkDisabled",
        "MacAddress",
        "StopSignal",
        "Shell",
    )

    def document(self) -> dict[str, Any]:
        """The ``Config`` of an inspect answer, with the keys that dockerd shows."""
        document = _without_empty(self, self.LEFT_OUT_WHEN_EMPTY)
        for name in ("StopTimeout", "Healthcheck"):  # zero, and an empty object, are values here
            if document[name] is None:
                del document[name]
        return document


class WeightDevice(Struct, frozen=True, kw_only=True, rename="pascal"):
    """A device's share of block input and output."""

    path: str = ""
    weight: UInt16 = 0


class ThrottleDevice(Struct, frozen=True, kw_only=True, rename="pascal"):
    """A device's limit of block input or output, in bytes or operations a second."""

    path: str = ""
    rate: UInt64 = 0


class DeviceMapping(Struct, frozen=True, kw_only=True, rename="pascal"):
    """A device node of the host, under its name in the container."""

    path_on_host: str = ""
    path_in_container: str = ""
    cgroup_permissions: str = ""


class DeviceRequest(Struct, frozen=True, kw_only=True, rename="pascal"):
    """Devices (GPUs, mostly) asked of a driver instead of by path."""

    driver: str = ""
    count: int = 0
    device_ids: list[str] | None = field(default=None, name="DeviceIDs")
    capabilities: list[list[str]] | None = None
    options: dict[str, str] | None = None


class Ulimit(Struct, frozen=True, kw_only=True, rename="pascal"):
    """A resource limit of setrlimit(2); -1 is unlimited."""

    name: str = ""
    hard: Int64 = 0
    soft: Int64 = 0


class RestartPolicy(Struct, frozen=True, kw_only=True, rename="pascal"):
    """When to start a container again that ended."""

    name: str = ""
    maximum_retry_count: int = 0


class Resources(Struct, frozen=True, kw_only=True, rename="pascal"):
    """Limits; bytes, microseconds of a CPU, or 10^-9 CPUs as the name says."""

    cpu_shares: Int64 = 0
    memory: Int64 = 0
    nano_cpus: Int64 = 0
    cgroup_parent: str = ""
    blkio_weight: UInt16 = 0
    blkio_weight_device: list[WeightDevice] | None = None
    blkio_device_read_bps: list[ThrottleDevice] | None = None
    blkio_device_write_bps: list[ThrottleDevice] | None = None
    blkio_device_read_iops: list[ThrottleDevice] | None = field(default=None, name="BlkioDeviceReadIOps")
    blkio_device_write_iops: list[ThrottleDevice] | None = field(default=None, name="BlkioDeviceWriteIOps")
    cpu_period: Int64 = 0
    cpu_quota: Int64 = 0
    cpu_realtime_period: Int64 = 0
    cpu_realtime_runtime: Int64 = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    devices: list[DeviceMapping] | None = None
    device_cgroup_rules: list[str] | None = None
    device_requests: list[DeviceRequest] | None = None
    kernel_memory_tcp: Int64 = field(default=0, name="KernelMemoryTCP")
    memory_reservation: Int64 = 0
    memory_swap: Int64 = 0
    memory_swappiness: Int64 | None = None
    oom_kill_disable: bool | None = None
    pids_limit: Int64 | None = None
    ulimits: list[Ulimit] | None = None
    cpu_count: Int64 = 0
    cpu_percent: Int64 = 0
    io_maximum_iops: UInt64 = field(default=0, name="IOMaximumIOps")
    io_maximum_bandwidth: UInt64 = field(default=0, name="IOMaximumBandwidth")


class LogConfig(Struct, frozen=True, kw_only=True, rename="pascal"):
    """Where output goes: a driver's name and its options."""

    type: str = ""
    config: dict[str, str] | None = None


class PortBinding(Struct, frozen=True, kw_only=True, rename="pascal"):
    """One address of the host for a port; ``host_port`` is empty, a number or a range."""

    host_ip: str = ""
    host_port: str = ""


class BindOptions(Struct, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    """What only a mount of type bind knows."""

    propagation: str = ""
    non_recursive: bool = False
    create_mountpoint: bool = False
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False


class DriverConfig(Struct, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    """A volume driver and its options."""

    name: str = ""
    options: dict[str, str] | None = None


class VolumeOptions(Struct, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    """What only a mount of type volume knows."""

    no_copy: bool = False
    labels: dict[str, str] | None = None
    subpath: str = ""
    driver_config: DriverConfig | None = None


class ImageOptions(Struct, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    """What only a mount of type image knows."""

    subpath: str = ""


class TmpfsOptions(Struct, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    """What only a mount of type tmpfs knows; ``mode`` is the number itself (493 for rwxr-xr-x)."""

    size_bytes: Int64 = 0
    mode: int = 0
    options: list[list[str]] | None = None


class Mount(Struct, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    """One mount in the long form (``--mount``)."""

    type: str = ""
    source: str = ""
    target: str = ""
    read_only: bool = False
    consistency: str = ""
    bind_options: BindOptions | None = None
    volume_options: VolumeOptions | None = None
    image_options: ImageOptions | None = None
    tmpfs_options: TmpfsOptions | None = None


class HostConfig(Resources, frozen=True, kw_only=True, rename="pascal"):
    """What of a container depends on its host: limits, mounts, namespaces, privileges."""

    binds: list[str] | None = None
    container_id_file: str = field(default="", name="ContainerIDFile")
    log_config: LogConfig = LogConfig()
    network_mode: str = ""
    port_bindings: dict[str, list[PortBinding] | None] | None = None
    restart_policy: RestartPolicy = RestartPolicy()
    auto_remove: bool = False
    volume_driver: str = ""
    volumes_from: list[str] | None = None
    console_size: tuple[UInt64, UInt64] = (0, 0)
    annotations: dict[str, str] | None = None
    cap_add: Words | None = None
    cap_drop: Words | None = None
    cgroupns_mode: str = ""
    dns: list[str] | None = None
    dns_options: list[str] | None = None
    dns_search: list[str] | None = None
    extra_hosts: list[str] | None = None
    group_add: list[str] | None = None
    ipc_mode: str = ""
    cgroup: str = ""
    links: list[str] | None = None
    oom_score_adj: int = 0
    pid_mode: str = ""
    privileged: bool = False
    publish_all_ports: bool = False
    readonly_rootfs: bool = False
    security_opt: list[str] | None = None
    storage_opt: dict[str, str] | None = None
    tmpfs: dict[str, str] | None = None
    uts_mode: str = field(default="", name="UTSMode")
    userns_mode: str = ""
    shm_size: Int64 = 0
    sysctls: dict[str, str] | None = None
    runtime: str = ""
    isolation: str = ""
    mounts: list[Mount] | None = None
    masked_paths: list[str] | None = None
    readonly_paths: list[str] | None = None
    init: bool | None = None

    LEFT_OUT_WHEN_EMPTY: ClassVar[tuple[str, ...]] = (
        "Annotations",
        "StorageOpt",
        "Tmpfs",
        "Sysctls",
        "Runtime",
        "Mounts",
        "KernelMemoryTCP",
    )

    def document(self) -> dict[str, Any]:
        """The ``HostConfig`` of an inspect answer, with the keys that dockerd shows."""
        document = _without_empty(self, self.LEFT_OUT_WHEN_EMPTY)
        if self.init is None:  # false is a value here
            del document["Init"]
        return document


class EndpointIPAMConfig(Struct, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    """Addresses that the client wants for an endpoint."""

    ipv4_address: str = field(default="", name="IPv4Address")
    ipv6_address: str = field(default="", name="IPv6Address")
    link_local_ips: list[str] | None = field(default=None, name="LinkLocalIPs")


class EndpointSettings(Struct, frozen=True, kw_only=True, rename="pascal"):
    """A container's place in one network: what was wished for, then what it got."""

    ipam_config: EndpointIPAMConfig | None = field(default=None, name="IPAMConfig")
    links: list[str] | None = None
    aliases: list[str] | None = None
    mac_address: str = ""
    driver_opts: dict[str, str] | None = None
    gw_priority: int = 0
    network_id: str = field(default="", name="NetworkID")
    endpoint_id: str = field(default="", name="EndpointID")
    gateway: str = ""
    ip_address: str = field(default="", name="IPAddress")
    ip_prefix_len: int = field(default=0, name="IPPrefixLen")
    ipv6_gateway: str = field(default="", name="IPv6Gateway")
    global_ipv6_address: str = field(default="", name="GlobalIPv6Address")
    global_ipv6_prefix_len: int = field(default=0, name="GlobalIPv6PrefixLen")
    dns_names: list[str] | None = field(default=None, name="DNSNames")


class NetworkingConfig(Struct, frozen=True, kw_only=True, rename="pascal"):
    """The networks that a new container joins, by network name."""

    endpoints_config: dict[str, EndpointSettings | None] | None = None


class ContainerCreateBody(ContainerConfig, frozen=True, kw_only=True, rename="pascal"):
    """The body of ``POST /containers/create``."""

    host_config: HostConfig = HostConfig()
    networking_config: NetworkingConfig = NetworkingConfig()

    def config(self) -> ContainerConfig:
        """The portable part alone, as it is stored."""
        return ContainerConfig(**{name: getattr(self, name) for name in ContainerConfig.__struct_fields__})


class ContainerUpdateBody(Resources, frozen=True, kw_only=True, rename="pascal"):
    """The body of ``POST /containers/{id}/update``; zero and None leave a limit as it is."""

    restart_policy: RestartPolicy = RestartPolicy()


class ExecCreateBody(Struct, frozen=True, kw_only=True, rename="pascal"):
    """The body of ``POST /containers/{id}/exec``."""

    user: str = ""
    privileged: bool = False
    tty: bool = False
    console_size: tuple[UInt64, UInt64] | None = None
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    detach_keys: str = ""
    env: list[str] | None = None
    working_dir: str = ""
    cmd: list[str] | None = None


class ExecStartBody(Struct, frozen=True, kw_only=True, rename="pascal"):
    """The body of ``POST /exec/{id}/start``; ``console_size`` is rows, columns."""

    detach: bool = False
    tty: bool = False
    console_size: tuple[UInt64, UInt64] | None = None


def _without_empty(struct: Struct, names: tuple[str, ...]) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(struct)
    for name in names:
        if not document[name]:
            del document[name]
    return document
