"""Making a container: its configuration from request and image, its name, mounts, directories and record."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec

from kitepy.engine.model.container import ContainerRecord, MountKind, MountPoint
from kitepy.engine.model.container_config import ContainerCreateBody, HostConfig, Ulimit
from kitepy.engine.model.errors import EngineError, InvalidParameter, NotFound
from kitepy.engine.model.ids import new_id, short_id
from kitepy.engine.model.image import Image
from kitepy.engine.model.launch import OverlayRoot
from kitepy.engine.model.oci import ChainId, ImageConfig
from kitepy.engine.model.platform import parse_platform
from kitepy.engine.services import container_request as request_rules
from kitepy.engine.services.container_index import ContainerIndex, name_conflict
from kitepy.engine.services.container_mounts import WantedMount, check_source, inherited_mounts, inherits_read_only, wanted_mounts
from kitepy.engine.services.container_names import check_name, suggest_name
from kitepy.engine.services.images import ImageService
from kitepy.engine.services.links import links_of_request
from kitepy.engine.services.network_index import NetworkIndex, StoredNetwork
from kitepy.engine.services.remapping import check_user_namespace
from kitepy.engine.services.request_limits import EVERYTHING, LimitSupport
from kitepy.engine.services.request_namespaces import shared_container
from kitepy.engine.services.request_networking import check_network_combination, parse_network_mode, wanted_endpoints
from kitepy.engine.services.security_options import NO_DEFAULTS, SecurityDefaults
from kitepy.engine.services.signals import parse_signal
from kitepy.engine.services.volumes import VolumeService, check_driver
from kitepy.engine.storage.layers import LayerStore
from kitepy.engine.storage.overlay import OverlayStore
from kitepy.engine.volume.image_mounts import ImageMounts


class ContainerCreation:
    """Makes records; the only place where names are given out."""

    def __init__(
        self,
        *,
        index: ContainerIndex,
        networks: NetworkIndex,
        images: ImageService,
        layers: LayerStore,
        overlays: OverlayStore,
        volumes: VolumeService,
        image_mounts: ImageMounts,
        data_root: Path,
        default_ulimits: tuple[Ulimit, ...] = (),
        remapped: bool = False,
        limits: LimitSupport = EVERYTHING,
        security: SecurityDefaults = NO_DEFAULTS,
    ) -> None:
        """``remapped``: containers get user namespaces of their own unless they opt out."""
        self._remapped = remapped
        self.limits = limits
        self._security = security
        self._index = index
        self._networks = networks
        self._images = images
        self._layers = layers
        self._overlays = overlays
        self._volumes = volumes
        self._image_mounts = image_mounts
        self._data_root = data_root
        self._default_ulimits = default_ulimits
        self._names_being_created: set[str] = set()

    async def create(
        self, name: str | None, body: ContainerCreateBody, platform: str | None, *, flat_read_only: bool = False
    ) -> tuple[ContainerRecord, list[str]]:
        """Make a container; nothing of it remains when a step fails."""
        # As with dockerd a container can be made of no image: it then has an empty root file system.
        image = self._images.resolve(body.image) if body.image else None
        if image is not None:
            check_platform(image, body.image, platform)
        config = request_rules.merge_image(body.config(), image.config if image is not None else ImageConfig())
        request_rules.check_config(config)
        host = request_rules.fill_host_config(body.host_config, default_ulimits=self._default_ulimits)
        host, warnings = request_rules.check_host_config(host, support=self.limits)
        wanted_name = check_name(name) if name else None
        self._check_shared_namespaces(host)
        check_user_namespace(host, remapped=self._remapped)
        remapped = self._remapped and host.userns_mode != "host"
        self._security.check_capabilities(host.cap_add or (), remapped=remapped)
        warnings += check_network_combination(config, host)
        host = self._with_known_peer(host)
        endpoints, more_warnings = wanted_endpoints(config, host, body.networking_config, self._find_network)
        warnings += more_warnings
        # As with dockerd: on a user-defined network the endpoint's links count, and these don't.
        named = parse_network_mode(host.network_mode).kind == "named"
        links = links_of_request(() if named else host.links or (), self._index.resolve)
        wanted = [
            self._checked_bind(mount) if mount.point.kind is MountKind.BIND else mount
            for mount in wanted_mounts(config, host, self._inherited(host.volumes_from or ()))
        ]
        wanted = [self._resolved_image(mount) if mount.point.kind is MountKind.IMAGE else mount for mount in wanted]
        if any(mount.type == "image" for mount in host.mounts or ()):
            warnings.append("Image mount is an experimental feature")
        if config.stop_signal:
            parse_signal(config.stop_signal)
        container_id = new_id()
        record = ContainerRecord(
            id=container_id,
            name="",
            created_ns=time.time_ns(),
            image_id=image.id if image is not None else "",
            image_reference=body.image,
            config=msgspec.structs.replace(
                config,
                hostname=config.hostname or self._default_hostname(container_id, host.network_mode),
                mac_address="",  # it is the endpoint's
            ),
            host_config=msgspec.structs.replace(host, links=None),
            links=links,
            platform=image.os if image is not None else "linux",
            layers=tuple(image.layers) if image is not None else (),
            networks=endpoints,
        )
        top_layer = image.top_layer if image is not None else None
        with self.claimed_name(wanted_name) as chosen, contextlib.ExitStack() as held:
            for layer in (top_layer, *(ChainId(mount.point.top_layer) for mount in wanted if mount.point.top_layer)):
                held.enter_context(self._layers.hold(layer))
            record = replace(record, name=chosen)
            root = await asyncio.to_thread(self._overlays.create_for_container, container_id, top_layer)
            made: list[str] = []
            try:
                mounts = [await self._prepare_mount(mount, root, made) for mount in wanted]
                mounts = [
                    replace(point, source=self._image_mounts.place(container_id, number))
                    if point.kind is MountKind.IMAGE
                    else point
                    for number, point in enumerate(mounts)
                ]
                if flat_read_only:
                    mounts = [replace(mount, flat_read_only=True) for mount in mounts]
                record = replace(record, mounts=tuple(mounts))
                self._index.add(record)
            except BaseException:
                for volume in made:
                    await self._volumes.remove_if_unused(volume)
                await self._overlays.remove_container(container_id)
                raise
        return record, warnings

    @contextlib.contextmanager
    def claimed_name(self, wanted: str | None) -> Iterator[str]:
        """A free name that nobody else can take while the container is being made."""

        def taken(name: str) -> bool:
            return name in self._names_being_created or self._index.owner_of_name(name) is not None

        if wanted is None:
            wanted = next(name for name in map(suggest_name, itertools.count()) if not taken(name))
        elif taken(wanted):
            raise name_conflict(wanted, self._index.owner_of_name(wanted) or "")
        self._names_being_created.add(wanted)
        try:
            yield wanted
        finally:
            self._names_being_created.discard(wanted)

    @staticmethod
    def _default_hostname(container_id: str, network_mode: str) -> str:
        return os.uname().nodename if network_mode == "host" else short_id(container_id)

    def _with_known_peer(self, host: HostConfig) -> HostConfig:
        """The container whose network is to be shared is known by its id from now on, if it is there already."""
        mode = parse_network_mode(host.network_mode)
        if mode.kind != "container":
            return host
        try:
            return msgspec.structs.replace(host, network_mode=f"container:{self._index.resolve(mode.target).id}")
        except EngineError:  # the start says so
            return host

    def _find_network(self, ref: str) -> StoredNetwork | None:
        try:
            return self._networks.find(ref)
        except EngineError:  # the start says so
            return None

    def _check_shared_namespaces(self, host: HostConfig) -> None:
        """Another container whose processes or IPC are to be shared must be there at once; a network's only at the start."""
        for mode in (host.pid_mode, host.ipc_mode):
            if ref := shared_container(mode):
                try:
                    self._index.resolve(ref)
                except NotFound as error:
                    raise InvalidParameter(str(error)) from None

    def _inherited(self, sources: list[str] | tuple[str, ...]) -> list[MountPoint]:
        points = []
        for source in sources:
            ref, _, mode = source.partition(":")
            if not source:
                raise InvalidParameter("volumes-from specification cannot be an empty string")
            read_only = inherits_read_only(mode)
            if not ref:
                raise InvalidParameter('invalid name or ID supplied: ""')
            try:
                points += inherited_mounts(self._index.resolve(ref).mounts, read_only=read_only)
            except NotFound as error:
                raise InvalidParameter(str(error)) from None
        return points

    async def _prepare_mount(self, wanted: WantedMount, root: OverlayRoot, made: list[str]) -> MountPoint:
        """Make the volume behind a mount; the name of an anonymous one is added to ``made``.

        As with Docker it is filled now: what is in it at the start is the user's matter.
        """
        point = wanted.point
        if point.kind is not MountKind.VOLUME:
            return point
        check_driver(point.volume or new_id(), wanted.driver)
        if point.volume:
            await self._volumes.ensure(point.volume, wanted.volume_labels, wanted.driver_options)
        else:
            name = await self._volumes.create_anonymous(wanted.volume_labels, wanted.driver_options)
            made.append(name)
            point = replace(point, volume=name)
        if point.copy_up:
            await self._volumes.populate(point.volume, root, point.destination, point.subpath)
        return point

    def _resolved_image(self, wanted: WantedMount) -> WantedMount:
        if wanted.point.image_id:
            return wanted  # inherited: it stays that image, whatever its name means by now
        image = self._images.resolve(wanted.point.image)
        return replace(wanted, point=replace(wanted.point, image_id=image.id, top_layer=image.top_layer or ""))

    def _checked_bind(self, wanted: WantedMount) -> WantedMount:
        point = wanted.point
        if not point.create_source:
            check_source(point.source)
        if not self._data_root.is_relative_to(point.source):
            return wanted
        # As with dockerd: the engine's own mounts come and go below it, and must not be kept alive by the container.
        if wanted.default_propagation:
            return replace(wanted, point=replace(point, propagation="rslave"))
        if point.propagation not in ("rslave", "rshared"):
            raise InvalidParameter(
                'invalid mount config: must use either propagation mode "rslave" or "rshared" when mount source is within the '
                f'daemon root, daemon root: "{self._data_root}", bind mount source: "{point.source}", '
                f'propagation: "{point.propagation}"'
            )
        return wanted


def check_platform(image: Image, reference: str, platform: str | None) -> None:
    """Refuse an image of another platform than the one that was asked for."""
    if not platform:
        return
    image.check_platform(parse_platform(platform), reference)
