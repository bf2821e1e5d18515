"""The engine's composition root: makes every part in order and takes it down in reverse; alone in naming them all."""

from __future__ import annotations

import asyncio
import grp
import logging
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from kitepy import __version__
from kitepy.engine.builder.changes import apply_changes
from kitepy.engine.config import EngineConfig
from kitepy.engine.distribution.endpoints import InsecureRegistries
from kitepy.engine.distribution.proxies import Proxies
from kitepy.engine.distribution.registries import Registries
from kitepy.engine.kernel import apparmor, cgroups
from kitepy.engine.kernel.capabilities import last_capability, own_permitted
from kitepy.engine.kernel.cgroups_none import NoCgroups
from kitepy.engine.kernel.port_holders import find_holder
from kitepy.engine.kernel.port_sockets import bind_port
from kitepy.engine.kernel.user_namespaces import in_user_namespace
from kitepy.engine.log_format import LineFormatter
from kitepy.engine.model.container_config import HostConfig, Ulimit
from kitepy.engine.model.errors import EngineError, InvalidParameter, Unsupported
from kitepy.engine.model.launch import OverlayFlavour
from kitepy.engine.model.network import NetworkRecord, SubnetConfig
from kitepy.engine.model.timestamps import format_time
from kitepy.engine.network.address_pools import AddressRange
from kitepy.engine.network.default_bridge import BridgeSettings
from kitepy.engine.network.ipam import AddressSpace
from kitepy.engine.network.naming import kernel_names
from kitepy.engine.network.networks import Networks
from kitepy.engine.network.parent_links import ParentLinks
from kitepy.engine.network.relay_process import RelayProcess
from kitepy.engine.network.resolver_process import ResolverProcess
from kitepy.engine.readiness import notify_ready
from kitepy.engine.rootless.remap import RemapError, find_mapping
from kitepy.engine.rootless.session import RootlessSession
from kitepy.engine.runtime.client import Runtime
from kitepy.engine.runtime.launcher import LauncherHandle
from kitepy.engine.runtime.user_networks import UserNetworks
from kitepy.engine.server.app import build_app, protection_of
from kitepy.engine.server.call import Services
from kitepy.engine.server.listeners import SocketAccess, exposure_warnings, parse_host
from kitepy.engine.server.tls import TlsFiles
from kitepy.engine.services.builds import BuildService
from kitepy.engine.services.capability_sets import DEFAULT_CAPABILITIES, lacking_capabilities
from kitepy.engine.services.container_adoption import ContainerAdoption
from kitepy.engine.services.container_archives import ContainerArchives
from kitepy.engine.services.container_content import ContainerContent
from kitepy.engine.services.container_creation import ContainerCreation
from kitepy.engine.services.container_index import ContainerIndex
from kitepy.engine.services.container_launch import ContainerLauncher
from kitepy.engine.services.container_links import ContainerLinks
from kitepy.engine.services.container_observer import ContainerObserver
from kitepy.engine.services.container_runs import ContainerRuns
from kitepy.engine.services.container_stops import ContainerStops
from kitepy.engine.services.container_waits import ContainerWaits
from kitepy.engine.services.containers import Containers
from kitepy.engine.services.disk_usage import DiskUsage
from kitepy.engine.services.events import EventBus
from kitepy.engine.services.execs import Execs
from kitepy.engine.services.host_facts import read_host_facts
from kitepy.engine.services.host_network import HostNetwork
from kitepy.engine.services.image_contents import ImageContents
from kitepy.engine.services.images import ImageService
from kitepy.engine.services.layer_transfers import LayerTransfers
from kitepy.engine.services.layer_uploads import LayerUploads
from kitepy.engine.services.limit_support import find_limit_support
from kitepy.engine.services.network_connections import NetworkConnections
from kitepy.engine.services.network_index import NetworkIndex
from kitepy.engine.services.networks import NetworkService, predefined_networks
from kitepy.engine.services.pulls import Pulls
from kitepy.engine.services.push_plan import PushPlanner
from kitepy.engine.services.pushes import Pushes
from kitepy.engine.services.registries import RegistryAccess
from kitepy.engine.services.registry_browsing import RegistryBrowsing
from kitepy.engine.services.remapping import Remapping
from kitepy.engine.services.seccomp_profiles import SeccompProfiles
from kitepy.engine.services.security_options import SecurityDefaults
from kitepy.engine.services.steps import Steps
from kitepy.engine.services.system import (
    ContainerCounts,
    SystemInfo,
    SystemSettings,
    SystemSources,
    read_or_create_engine_id,
)
from kitepy.engine.services.volumes import VolumeService
from kitepy.engine.storage.content import ContentStore
from kitepy.engine.storage.database import Database
from kitepy.engine.storage.images import ImageStore
from kitepy.engine.storage.layers import LayerStore
from kitepy.engine.storage.overlay import OverlayStore
from kitepy.engine.storage.probe import check_file_system, choose_flavour
from kitepy.engine.storage.worker import WorkerPool
from kitepy.engine.volume.image_mounts import ImageMounts
from kitepy.engine.volume.store import VolumeStore

logger = logging.getLogger(__name__)

_UNLIMITED = 1_000_000
_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
}


def run(config: EngineConfig, launcher: LauncherHandle, session: RootlessSession | None = None) -> int:
    """Run an engine until SIGTERM or SIGINT; gives the process's exit code. An engine without root has a ``session``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    logging.basicConfig(handlers=[handler], level=logging.DEBUG if config.debug else _LEVELS[config.log_level])
    _raise_file_limit()
    for name, value in (
        ("HTTP_PROXY", config.http_proxy),
        ("HTTPS_PROXY", config.https_proxy),
        ("NO_PROXY", config.no_proxy),
    ):
        if value:
            os.environ[name] = os.environ[name.lower()] = value
    try:
        asyncio.run(_serve(config, launcher, session))
    except EngineError as error:
        logger.critical("%s", error)
        return 1
    except OSError as error:
        logger.critical("the engine can't start: %s", error)
        return 1
    return 0


def _raise_file_limit() -> None:
    """Each published port takes two descriptors, each follower of a log one; the soft limit is 1,024 on most machines."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(config: EngineConfig, launcher: LauncherHandle, session: RootlessSession | None) -> None:
    tls = _tls_files(config)
    hosts = [parse_host(text, tls=tls is not None) for text in config.hosts]
    access = SocketAccess(config.socket_owner, _group_id(config.group))
    async with AsyncExitStack() as stack:
        services, warm_up = await _compose(config, launcher, session, stack)
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        server = build_app(services, access=access, tls=tls, insecure_tcp=config.insecure_tcp)
        await server.start(hosts)
        stack.push_async_callback(server.stop)
        logger.info("kitepy-engine %s is ready", __version__)
        notify_ready(os.environ)
        warming = asyncio.create_task(warm_up())
        stack.callback(warming.cancel)
        await stop.wait()
        logger.info("stopping")


def _tls_files(config: EngineConfig) -> TlsFiles | None:
    if config.tls_certificate is None or config.tls_key is None:
        return None
    return TlsFiles(config.tls_certificate, config.tls_key, config.tls_client_ca)


def _exposure_warnings(config: EngineConfig) -> list[str]:
    tls = _tls_files(config)
    return exposure_warnings([parse_host(text, tls=tls is not None) for text in config.hosts], protection_of(tls))


def _group_id(name: str | None) -> int | None:
    if name is None:
        return None
    if name.isdecimal():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise InvalidParameter(f"there is no group {name} for the socket") from None


WarmUp = Callable[[], Coroutine[None, None, None]]


async def _compose(
    config: EngineConfig, launcher: LauncherHandle, session: RootlessSession | None, stack: AsyncExitStack
) -> tuple[Services, WarmUp]:
    """Make everything and bring it into the state of before; ``stack`` learns how to end it.

    The second result does what the first container or build would wait for otherwise; it can run beside requests.
    """
    # Files in layers and volumes belong to root on the disk also where containers are remapped, set-user-ID programs included:
    # only who may pass this directory can reach them.
    for directory, mode in ((config.data_root, 0o710), (config.exec_root, 0o711)):
        directory.mkdir(mode=mode, parents=True, exist_ok=True)
        directory.chmod(mode)
        (directory / "containers").mkdir(mode=0o711, exist_ok=True)
    # Root of a user namespace may not write overlay's usual marks.
    flavour, overlay_problem = OverlayFlavour.TRUSTED if session is None else OverlayFlavour.USER, ""
    await asyncio.to_thread(check_file_system, config.data_root, flavour)
    default_ulimits = tuple(Ulimit(name=limit.name, soft=limit.soft, hard=limit.hard) for limit in config.default_ulimits)
    database = Database(config.data_root / "state.db")
    stack.callback(database.close)
    workers = WorkerPool()
    stack.push_async_callback(workers.close)
    events = EventBus()
    content = ContentStore(config.data_root)
    registries = Registries(
        user_agent=f"Kitepy/{__version__}",
        insecure=InsecureRegistries(config.insecure_registries),
        mirrors=config.registry_mirrors,
        proxies=Proxies.of_environment(os.environ),
        loopback=session.connect_loopback if session is not None else None,
        lookup=session.look_up if session is not None else None,
        certificates=_certificates_directories(session),
    )
    if session is not None:
        flavour, overlay_problem = await choose_flavour(config.data_root, workers)
    if overlay_problem:
        logger.warning("overlays are served by fuse-overlayfs, which is slower: the kernel refuses them: %s", overlay_problem)
    layers = LayerStore(config.data_root, database, content, workers, flavour=flavour)
    stack.push_async_callback(layers.close)
    overlays = OverlayStore(config.data_root, layers, workers)

    driver = cgroups.detect() if session is None else cgroups.detect(session.delegation.base, session.delegation.reason)
    runtime = Runtime(launcher, config.exec_root, driver)
    stack.push_async_callback(_reap_launcher, launcher.pid)
    stack.push_async_callback(runtime.close)
    remapping = _remapping(config, launcher, stack)

    outside = await asyncio.to_thread(session.status) if session is not None else None
    make_network = remapping.make_network if remapping is not None else None
    names = kernel_names(config.data_root)
    if config.bridge not in ("", "none"):
        names = replace(names, bridge=config.bridge)
    created = format_time(time.time_ns() // 1_000 * 1_000)
    connections = Networks(
        names,
        _bridge_settings(config, outside.mtu if outside else 0),
        RelayProcess(config.exec_root),
        created=created,
        resolver=ResolverProcess(config.exec_root),
        parents=ParentLinks(names.tag, rootless=session is not None),
        space=AddressSpace(
            [AddressRange(pool.base, pool.size) for pool in config.default_address_pools],
            read_or_create_engine_id(config.data_root),
        ),
        make_namespace=make_network,
        bind=session.bind if session is not None else bind_port,
        find_holder=session.find_holder if session is not None else find_holder,
    )
    index = ContainerIndex(database)
    index.load()
    network_index = NetworkIndex(database)
    network_index.load()
    waits = ContainerWaits()
    containers: Containers

    image_store = ImageStore(database, layers)
    images = ImageService(
        config.data_root,
        image_store,
        layers,
        content,
        workers,
        emit=events.emit,
        in_use=lambda image_id, mounts: containers.using_image(image_id, mounts),
        images_in_use=lambda: (record.image_id for record in index),
        open_web_file=registries.web_file,
        apply_changes=apply_changes,
    )
    volume_store = VolumeStore(config.data_root, database, workers)
    volumes = VolumeService(
        volume_store,
        workers,
        emit=events.emit,
        references=lambda name: containers.using_volume(name),
    )
    image_mounts = ImageMounts(config.data_root, workers)
    seccomp = SeccompProfiles(config.seccomp_profile)
    security = SecurityDefaults(
        config.no_new_privileges,
        await asyncio.to_thread(_apparmor_profile),
        lacking_capabilities(own_permitted(), last_capability()),
        lacking_capabilities(-1, last_capability()),
    )
    container_launcher = ContainerLauncher(
        networks=connections,
        links=ContainerLinks(index, connections, lambda container_id: config.data_root / "containers" / container_id),
        network_index=network_index,
        overlays=overlays,
        content=ContainerContent(volumes, image_mounts, overlays, config.data_root, remapping),
        seccomp=seccomp,
        security=security,
        init=config.init,
        data_root=config.data_root,
        exec_root=config.exec_root,
        host_network=HostNetwork(
            (lambda: session.status().host_address) if session is not None else (lambda: _gateway_of(connections.default)),
            outside.dns if outside is not None else "",
        ),
        dns=config.dns,
        dns_search=config.dns_search,
        dns_options=config.dns_opts,
        remapping=remapping,
    )
    runs = ContainerRuns(
        index=index,
        waits=waits,
        runtime=runtime,
        launcher=container_launcher,
        networks=connections,
        network_index=network_index,
        events=events,
    )
    stops = ContainerStops(index, runs)
    adoption = ContainerAdoption(
        index=index,
        runs=runs,
        stops=stops,
        runtime=runtime,
        launcher=container_launcher,
        networks=connections,
        network_index=network_index,
    )
    containers = Containers(
        index=index,
        runs=runs,
        stops=stops,
        launcher=container_launcher,
        creation=ContainerCreation(
            index=index,
            networks=network_index,
            images=images,
            layers=layers,
            overlays=overlays,
            volumes=volumes,
            image_mounts=image_mounts,
            data_root=config.data_root,
            default_ulimits=default_ulimits,
            remapped=remapping is not None,
            limits=await asyncio.to_thread(find_limit_support, driver),
            security=security,
        ),
        waits=waits,
        images=images,
        layers=layers,
        overlays=overlays,
        volumes=volumes,
        events=events,
        data_root=config.data_root,
        exec_root=config.exec_root,
    )
    observer = ContainerObserver(
        index=index, running_of=lambda container_id: runs.live(container_id).running, driver=driver, events=events
    )
    stack.push_async_callback(observer.close)
    runs.forgotten = observer.forget
    layers.add_holder(containers.held_layers)
    archives = ContainerArchives(
        index=index,
        runs=runs,
        stops=stops,
        launcher=container_launcher,
        images=images,
        layers=layers,
        workers=workers,
        events=events,
    )
    execs = Execs(index=index, runs=runs, launcher=container_launcher, events=events)
    containers.inspection.exec_ids = execs.ids_of
    pulls = Pulls(
        registries,
        image_store,
        layers,
        content,
        LayerTransfers(
            content,
            layers,
            downloads=config.max_concurrent_downloads or _UNLIMITED,
            unpackers=max(os.cpu_count() or 1, 2),
            attempts=config.max_download_attempts,
        ),
        emit=events.emit,
    )
    pushes = Pushes(
        registries,
        image_store,
        layers,
        PushPlanner(image_store, layers, content),
        LayerUploads(
            content,
            image_store,
            workers,
            empty=config.data_root / "layers" / "empty",
            uploads=config.max_concurrent_uploads or _UNLIMITED,
        ),
        emit=events.emit,
    )
    builds = BuildService(
        config.data_root,
        images,
        layers,
        overlays,
        workers,
        database,
        Steps(runtime=runtime, launcher=container_launcher, pid_of=runs.pid_of, default_ulimits=default_ulimits),
        puller=pulls,
        emit=events.emit,
    )
    stack.push_async_callback(builds.close)

    await connections.set_up([network.record for network in network_index if not network.config_only])
    default_network = connections.default if config.bridge != "none" else None
    network_index.set_predefined(predefined_networks(default_network, names.tag, created))
    stack.push_async_callback(_close_networks, connections, index, session)
    await adoption.adopt_all()
    await container_launcher.content.adopt([record for record in index if record.state.pid])
    stack.push_async_callback(adoption.shut_down, keep=config.live_restore, timeout_s=config.shutdown_timeout_s)
    await containers.finish_removals()
    await overlays.reconcile()
    await layers.reconcile()
    layers.mark_garbage()
    await layers.remove_marked(set_aside=True)
    volume_store.reconcile()
    await adoption.start_wanted()

    limits_problem = driver.reason if isinstance(driver, NoCgroups) else ""
    controllers = driver.controllers() if session is not None else None
    facts = await asyncio.to_thread(read_host_facts, config.data_root, controllers=controllers, limits_problem=limits_problem)
    system = SystemInfo(
        facts,
        SystemSettings(
            engine_id=read_or_create_engine_id(config.data_root),
            data_root=config.data_root,
            debug=config.debug,
            labels=config.labels,
            registry_mirrors=config.registry_mirrors,
            insecure_registries=config.insecure_registries,
            live_restore=config.live_restore,
            uses_rules=config.iptables,
            rootless=session is not None,
            overlay=flavour,
            remapped=remapping is not None,
            seccomp_profile=seccomp.default_name,
            no_new_privileges=security.no_new_privileges,
            apparmor=bool(security.apparmor_profile),
            address_pools=tuple((str(pool.base), pool.size) for pool in config.default_address_pools),
        ),
        SystemSources(
            containers=lambda: _counts(containers),
            images=images.count,
            event_listeners=lambda: events.listeners,
            warnings=lambda: (
                *connections.warnings,
                *_outside_warnings(session),
                *_overlay_warnings(overlay_problem),
                *_exposure_warnings(config),
                *_capability_warnings(security, remapped=remapping is not None),
            ),
        ),
    )

    async def warm_up() -> None:
        await asyncio.to_thread(seccomp.program, HostConfig())

    services = Services(
        system=system,
        events=events,
        containers=containers,
        observer=observer,
        registries=RegistryAccess(registries),
        registry_browsing=RegistryBrowsing(registries, image_store, layers, content),
        disk_usage=DiskUsage(index=index, listing=containers.listing, images=images, volumes=volumes, builds=builds),
        execs=execs,
        images=images,
        pulls=pulls,
        pushes=pushes,
        image_contents=ImageContents(config.data_root, image_store, layers, workers),
        builds=builds,
        volumes=volumes,
        networks=NetworkService(
            index=network_index,
            networks=connections,
            containers=index,
            connections=NetworkConnections(
                index=network_index,
                networks=connections,
                containers=index,
                runs=runs,
                launcher=container_launcher,
                emit=events.emit,
            ),
            emit=events.emit,
            default_options=[(given.driver, given.key, given.value) for given in config.default_network_opts],
        ),
        archives=archives,
    )
    return services, warm_up


def _bridge_settings(config: EngineConfig, outer_mtu: int) -> BridgeSettings:
    """``outer_mtu`` is that of an ordinary user's way out, else 0."""
    return BridgeSettings(
        enabled=config.bridge != "none",
        foreign=config.bridge not in ("", "none"),
        gateway=config.bip,
        fixed=config.fixed_cidr,
        route=config.default_gateway,
        ipv6=config.ipv6,
        gateway6=config.bip6,
        fixed6=config.fixed_cidr_v6,
        route6=config.default_gateway_v6,
        host_ip=config.ip,
        mtu=config.mtu or outer_mtu or None,
        icc=config.icc,
        use_rules=config.iptables,
        forward=config.ip_forward,
        masquerade=config.ip_masq,
    )


def _gateway_of(network: NetworkRecord) -> str:
    """The host's address in a network; empty when it has none there."""
    subnet = network.subnets[0] if network.subnets else SubnetConfig()
    return subnet.gateway or subnet.implied_gateway


def _remapping(config: EngineConfig, launcher: LauncherHandle, stack: AsyncExitStack) -> Remapping | None:
    """What ``--userns-remap`` asks for; raises InvalidParameter and Unsupported where it can't be had."""
    if not config.userns_remap:
        return None
    if in_user_namespace():
        raise Unsupported("--userns-remap needs an engine with root of the machine, not of a user namespace")
    try:
        mapping = find_mapping(config.userns_remap)
    except RemapError as error:
        raise InvalidParameter(str(error)) from error
    if mapping is None:
        logger.warning("--userns-remap: root can't be remapped to itself, user namespaces are off")
        return None
    networks = UserNetworks(launcher.fd, *mapping)
    stack.callback(networks.close)
    return Remapping(*mapping, networks)


def _certificates_directories(session: RootlessSession | None) -> tuple[Path, ...]:
    """Where the certificates of registries lie, by host: dockerd's place and our own."""
    configuration = Path("/etc")
    if session is not None:
        configuration = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return configuration / "docker/certs.d", configuration / "kitepy/certs.d"


def _apparmor_profile() -> str:
    """The profile for containers, loaded; empty where the host has no AppArmor or, in a user namespace, no way to load one."""
    if in_user_namespace() or not apparmor.is_enabled():
        return ""
    try:
        apparmor.load_default_profile()
    except (OSError, subprocess.SubprocessError) as error:
        # As with dockerd the other layers still hold; `docker info` doesn't name AppArmor then.
        logger.error("the AppArmor profile %s can't be loaded, containers run without one: %s", apparmor.DEFAULT_PROFILE, error)
        return ""
    return apparmor.DEFAULT_PROFILE


async def _reap_launcher(pid: int) -> None:
    """The launcher ends when the runtime is closed; where process 1 reaps nothing it would stay as a zombie."""
    for _ in range(100):
        if os.waitpid(pid, os.WNOHANG)[0]:
            return
        await asyncio.sleep(0.01)
    logger.warning("the launcher, process %d, does not end", pid)


async def _close_networks(networks: Networks, index: ContainerIndex, session: RootlessSession | None) -> None:
    """Leave the network in place for containers that go on running."""
    keep = any(record.state.status.has_process for record in index)
    await networks.close(keep=keep)
    if session is not None:
        if keep:
            session.close()
        else:
            await asyncio.to_thread(session.end)


def _outside_warnings(session: RootlessSession | None) -> tuple[str, ...]:
    problem = session.status().problem if session is not None else ""
    return (f"WARNING: containers reach no other network: {problem}",) if problem else ()


def _overlay_warnings(problem: str) -> tuple[str, ...]:
    if not problem:
        return ()
    return (f"WARNING: fuse-overlayfs serves the containers' files, which is slow: the kernel refuses overlays: {problem}",)


def _capability_warnings(security: SecurityDefaults, *, remapped: bool) -> tuple[str, ...]:
    lacking = security.unknown_capabilities if remapped else security.lacking_capabilities
    missing = [name for name in DEFAULT_CAPABILITIES if name in lacking]
    if not missing:
        return ()
    return (f"WARNING: containers go without {', '.join(missing)}: the engine hasn't got it itself",)


def _counts(containers: Containers) -> ContainerCounts:
    counts = containers.counts()
    return ContainerCounts(counts["running"], counts["paused"], counts["stopped"])
