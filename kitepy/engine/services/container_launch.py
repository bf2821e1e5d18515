"""What a container's process needs before it can start: its network, volumes, files and specification."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from kitepy.engine.kernel.id_limits import own_id_limits
from kitepy.engine.kernel.user_namespaces import own_gid_map
from kitepy.engine.model.container import ContainerRecord
from kitepy.engine.model.container_config import EndpointSettings, HostConfig
from kitepy.engine.model.errors import EngineError, InvalidParameter, StartFailed
from kitepy.engine.model.ids import short_id
from kitepy.engine.model.launch import LaunchRequest, LogTarget, OverlayRoot
from kitepy.engine.model.network import Endpoint, NetworkDriver, SandboxRequest
from kitepy.engine.model.oci import ChainId
from kitepy.engine.network.networks import Networks
from kitepy.engine.services.accounts import Account, resolve_account
from kitepy.engine.services.container_content import ContainerContent
from kitepy.engine.services.container_files import (
    hosts_after,
    hosts_content,
    own_lines,
    read_host_hosts,
    read_identity_file,
    write_identity_file,
    write_identity_files,
)
from kitepy.engine.services.container_links import ContainerLinks
from kitepy.engine.services.devices import block_limits_for, devices_for, refuse_device_requests
from kitepy.engine.services.endpoints import addresses_of, endpoint_request, has_name_service, joined_settings
from kitepy.engine.services.host_network import HostNetwork
from kitepy.engine.services.links import endpoint_links
from kitepy.engine.services.log_options import LoggedContainer, log_target
from kitepy.engine.services.network_index import NetworkIndex
from kitepy.engine.services.process_spec import Surroundings, build_spec
from kitepy.engine.services.remapping import Remapping, check_owner
from kitepy.engine.services.request_namespaces import shared_container
from kitepy.engine.services.request_networking import networks_to_join, parse_network_mode, requested_ports
from kitepy.engine.services.resolv_conf import ResolvConf, ResolverOptions, ResolverPlace, read_host_resolv, resolv_conf
from kitepy.engine.services.root_files import read_root_file
from kitepy.engine.services.seccomp_profiles import SeccompProfiles
from kitepy.engine.services.security_options import NO_DEFAULTS, SecurityDefaults, parse_security_options
from kitepy.engine.storage.overlay import OverlayStore

PidOf = Callable[[str, str], int]
"""Process 1 of another container, by reference and purpose (for the error message)."""


_NOT_STARTED_CODE = 128


@dataclass(frozen=True)
class NetworkSandbox:
    """The network a container starts in; without a descriptor it is the host's."""

    netns_fd: int | None = None
    endpoints: tuple[Endpoint, ...] = ()
    owned_fd: int | None = None
    """The descriptor, when it isn't the networks' to close."""
    networks: dict[str, EndpointSettings] = field(default_factory=dict)
    """The networks that were joined, by name, with what is to be remembered of each."""


class ContainerLauncher:
    """Prepares containers; stateless beside its collaborators."""

    def __init__(
        self,
        *,
        networks: Networks,
        links: ContainerLinks,
        network_index: NetworkIndex,
        overlays: OverlayStore,
        content: ContainerContent,
        seccomp: SeccompProfiles,
        data_root: Path,
        exec_root: Path,
        host_network: HostNetwork,
        remapping: Remapping | None = None,
        init: bool = False,
        security: SecurityDefaults = NO_DEFAULTS,
        dns: tuple[str, ...] = (),
        dns_search: tuple[str, ...] = (),
        dns_options: tuple[str, ...] = (),
    ) -> None:
        self._networks = networks
        self.links = links
        self._network_index = network_index
        self._overlays = overlays
        self.content = content
        self.seccomp = seccomp
        self.security = security
        self._data_root = data_root
        self._exec_root = exec_root
        self._host_network = host_network
        self._ids = own_id_limits()
        self._in_user_namespace = self._ids is not None
        self._last_group = own_gid_map().last
        self._remapping = remapping
        self._init = init
        self._dns = dns
        self._dns_search = dns_search
        self._dns_options = dns_options

    def log_path(self, record: ContainerRecord) -> Path:
        """Where the container's output is written, if its log driver writes any."""
        directory = self.directory(record.id)
        if record.host_config.log_config.type == "local":
            return directory / "local-logs" / "container.log"
        return directory / f"{record.id}-json.log"

    def readable_log(self, record: ContainerRecord) -> Path | None:
        """The log, when it can be read; None when the driver keeps nothing."""
        return None if record.host_config.log_config.type == "none" else self.log_path(record)

    def directory(self, container_id: str) -> Path:
        """What of the container outlives a reboot."""
        return self._data_root / "containers" / container_id

    def bundle(self, container_id: str) -> Path:
        """The OCI bundle, and the monitor's state."""
        return self._exec_root / "containers" / container_id

    def apparmor_profile(self, record: ContainerRecord) -> str:
        """The AppArmor profile that confines the container; empty without AppArmor."""
        options = parse_security_options(record.host_config.security_opt or ())
        return self.security.apparmor_profile_for(options, privileged=record.host_config.privileged)

    async def remove_bundle(self, container_id: str) -> None:
        """Remove the bundle; safe to call twice."""
        await asyncio.to_thread(shutil.rmtree, self.bundle(container_id), ignore_errors=True)

    def root(self, record: ContainerRecord) -> OverlayRoot:
        """The container's root file system, as a value to be mounted."""
        return self._overlays.for_container(record.id, top_layer(record), volatile=record.host_config.auto_remove)

    def account(self, record: ContainerRecord, user: str | None = None) -> Account:
        """The identity that a ``--user`` value stands for in this container."""
        return self._existing(account_in(self.root(record), record, user))

    def _existing(self, account: Account) -> Account:
        """The account, if processes can have its ids here; raises InvalidParameter."""
        for gid in (account.gid, *account.additional_gids):
            problem = self._ids.problem(account.uid, gid) if self._ids is not None else None
            if problem is not None:
                raise InvalidParameter(f"unable to find user: {problem}")
        return account

    async def enter_network(self, record: ContainerRecord, pid_of: PidOf, undo: AsyncExitStack) -> NetworkSandbox:
        """Join the container's networks, or another container's namespace; ``undo`` learns how to leave again."""
        remapping = self.remapping_of(record)
        mode = parse_network_mode(record.host_config.network_mode)
        if mode.kind == "container":
            pid = pid_of(mode.target, "network")
            fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            undo.callback(os.close, fd)
            if remapping is not None:
                check_owner(fd, "network")
            return NetworkSandbox(fd, owned_fd=fd)
        with _setting_up():
            places = networks_to_join(record, self._network_index.find)
            joined = {network.name: joined_settings(record, network, settings) for network, settings in places}
            networks = {**record.networks, **joined}
            if mode.kind == "host":
                return NetworkSandbox(networks=networks)
            wishes = tuple(
                endpoint_request(record, network, settings, endpoint_links(settings.links))
                for network, settings in places
                if network.record.driver is not NetworkDriver.NULL
            )
            resolver = self.resolver_of(replace(record, networks=networks))
            endpoints = await self._networks.start(
                SandboxRequest(
                    record.id,
                    record.name,
                    wishes,
                    ports=requested_ports(record.config.exposed_ports or {}, record.host_config) if wishes else (),
                    plain=remapping is None,
                    upstream=resolver.upstream,
                    keeps_single_labels=resolver.keeps_single_labels,
                )
            )
        undo.push_async_callback(self._networks.stop, record.id)
        return NetworkSandbox(self._networks.netns_fd(record.id), endpoints, networks=networks)

    def remapping_of(self, record: ContainerRecord) -> Remapping | None:
        """What the container's ids are mapped to; None in the engine's own user namespace."""
        return None if record.host_config.userns_mode == "host" else self._remapping

    @property
    def remapped(self) -> bool:
        """Whether containers get user namespaces of their own unless they opt out."""
        return self._remapping is not None

    def request(
        self,
        record: ContainerRecord,
        netns_fd: int | None,
        pid_of: PidOf,
        *,
        root: OverlayRoot | None = None,
        directory: Path | None = None,
        peer: ContainerRecord | None = None,
    ) -> LaunchRequest:
        """Write the container's files and its bundle; a build step brings its own ``root`` and ``directory``.

        ``peer`` is the container whose network this one shares: it shares its name and name service, too.
        """
        root = root or self.root(record)
        directory = directory or self.directory(record.id)
        account = self._existing(account_in(root, record))
        bundle = self.bundle(record.id)
        hostname = self.hostname(peer or record)
        own_network = netns_fd is not None
        host = record.host_config
        remapping = self.remapping_of(record)
        # Again, because an engine that was started another way since may lack what that one had.
        self.security.check_capabilities(host.cap_add or (), remapped=remapping is not None)
        refuse_device_requests(host)
        namespace_paths = _namespace_paths(record, pid_of)
        if "ipc" in namespace_paths and os.path.samefile(namespace_paths["ipc"], "/proc/self/ns/ipc"):
            # The other container shares the host's: there is nothing to join, and in a user namespace it could not be.
            del namespace_paths["ipc"]
            record = replace(record, host_config=msgspec.structs.replace(host, ipc_mode="host"))
        if peer is None:
            self._write_identity(record, directory, hostname, own_network=own_network)
        rootfs = bundle / "rootfs"
        rootfs.mkdir(parents=True, exist_ok=True)
        spec = build_spec(
            record,
            Surroundings(
                rootfs=rootfs,
                files=directory if peer is None else self.directory(peer.id),
                account=account,
                hostname=hostname,
                own_network=own_network,
                security=self.security,
                devices=devices_for(host),
                block_limits=block_limits_for(host),
                bind_devices=self._in_user_namespace or remapping is not None,
                namespace_paths=namespace_paths,
                remapping=remapping,
                user_namespace_path=_user_namespace_beside(namespace_paths.get("pid", "")) if remapping is not None else "",
                host_queues=os.path.isdir("/dev/mqueue"),
                last_group=self._last_group if remapping is None else remapping.gids.last,
                sources={point.destination: self.content.source(point) for point in record.mounts},
                linked=self.links.variables(record),
            ),
        )
        (bundle / "config.json").write_bytes(msgspec.json.encode(spec))
        return LaunchRequest(
            container_id=record.id,
            bundle=bundle,
            state_dir=bundle,
            rootfs=root,
            log=self._log_target(record),
            netns_fd=netns_fd,
            seccomp_program=self.seccomp.program(host),
            open_stdin=record.config.open_stdin,
            stdin_once=record.config.stdin_once,
            init=self._has_init(host),
        )

    def _log_target(self, record: ContainerRecord) -> LogTarget:
        container = LoggedContainer(
            id=record.id,
            name=record.name,
            image_name=record.image_reference,
            image_id=record.image_id,
            command=" ".join([*(record.config.entrypoint or ()), *(record.config.cmd or ())]),
            labels=record.config.labels or {},
            env=record.config.env or (),
        )
        try:
            target = log_target(record.host_config.log_config, self.log_path(record), container)
        except InvalidParameter as error:
            words = "failed to create task for container: failed to initialize logging driver"
            raise StartFailed(f"{words}: {error}", _NOT_STARTED_CODE) from None
        if target.path is not None:
            target.path.parent.mkdir(mode=0o700, exist_ok=True)
        return target

    def _has_init(self, host: HostConfig) -> bool:
        """As with Docker only process 1 of a PID namespace can be an init."""
        return host.pid_mode == "" and (self._init if host.init is None else host.init)

    def _write_identity(self, record: ContainerRecord, directory: Path, hostname: str, *, own_network: bool) -> None:
        write_identity_files(
            directory,
            hosts_content(
                record,
                addresses_of(record.endpoints),
                self._host_network.address(),
                None if own_network else read_host_hosts(),
                self.links.entries(record),
            ),
            hostname,
            self.resolv_conf(record, _resolver_place(record, own_network=own_network)).content,
        )

    def resolver_of(self, record: ContainerRecord) -> ResolvConf:
        """What the networks' name service has to know of a container, which may join one of them at any time."""
        return self.resolv_conf(record, ResolverPlace.NAMED)

    def resolv_conf(self, record: ContainerRecord, place: ResolverPlace) -> ResolvConf:
        """The container's file, and what the networks' name service does for it."""
        host = record.host_config
        content, source = read_host_resolv(behind_stub=place is not ResolverPlace.HOST)
        return resolv_conf(
            content,
            ResolverOptions(
                host.dns or self._dns or None,
                host.dns_search or self._dns_search or None,
                host.dns_options or self._dns_options or None,
            ),
            place,
            ipv6=any(endpoint.address6 for endpoint in record.endpoints),
            source=source,
            stand_in=self._host_network.nameserver,
        )

    def rewrite_identity(self, before: ContainerRecord, now: ContainerRecord) -> None:
        """Let the files of a running container tell which networks it is in now; what its user wrote there stays."""
        directory = self.directory(now.id)
        hosts = directory / "hosts"
        lines = [own_lines(record, addresses_of(record.endpoints)) for record in (before, now)]
        write_identity_file(hosts, hosts_after(read_identity_file(hosts), *lines))
        resolv = directory / "resolv.conf"
        # As with dockerd the engine goes on answering when the last network that needs it is left.
        needed = not has_name_service(before.networks) and has_name_service(now.networks)
        if needed and read_identity_file(resolv) == self.resolv_conf(before, ResolverPlace.LEGACY).content:
            write_identity_file(resolv, self.resolv_conf(now, ResolverPlace.NAMED).content)

    @staticmethod
    def hostname(record: ContainerRecord) -> str:
        if record.config.hostname:
            return record.config.hostname
        return short_id(record.id)


def _resolver_place(record: ContainerRecord, *, own_network: bool) -> ResolverPlace:
    if not own_network:
        return ResolverPlace.HOST
    return ResolverPlace.NAMED if has_name_service(record.networks) else ResolverPlace.LEGACY


@contextlib.contextmanager
def _setting_up() -> Iterator[None]:
    """Errors say what they kept from happening, in the words that users of Docker know."""
    try:
        yield
    except EngineError as error:
        error.args = (f"failed to set up container networking: {error}", *error.args[1:])
        raise


def account_in(root: OverlayRoot, record: ContainerRecord, user: str | None = None) -> Account:
    """The identity that the container's user, or another one, has in a root file system."""
    return resolve_account(
        record.config.user if user is None else user,
        read_root_file(root, "etc/passwd"),
        read_root_file(root, "etc/group"),
        record.host_config.group_add or (),
    )


def _namespace_paths(record: ContainerRecord, pid_of: PidOf) -> dict[str, str]:
    """Namespaces of other containers that this one joins."""
    paths = {}
    for kind, mode in (("pid", record.host_config.pid_mode), ("ipc", record.host_config.ipc_mode)):
        if donor := shared_container(mode):
            paths[kind] = f"/proc/{pid_of(donor, kind.upper())}/ns/{kind}"
    return paths


def _user_namespace_beside(pid_namespace: str) -> str:
    """The user namespace that a PID namespace belongs to, by path: who shares the one must share the other."""
    if not pid_namespace:
        return ""
    fd = os.open(pid_namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        check_owner(fd, "PID namespace")
    finally:
        os.close(fd)
    return os.path.join(os.path.dirname(pid_namespace), "user")


def top_layer(record: ContainerRecord) -> ChainId | None:
    """The chain id to mount; None for an image without layers."""
    return ChainId(record.layers[-1]) if record.layers else None
