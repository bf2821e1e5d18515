"""Making a container: its configuration from request and image, its name, mounts, directories and record."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import time
from collections.abc import Iterator
from dataclasses import replace

import msgspec

from kitepy.engine.model.container import ContainerRecord, MountKind, MountPoint
from kitepy.engine.model.container_config import ContainerCreateBody, NetworkingConfig, Ulimit
from kitepy.engine.model.errors import InvalidParameter, NotFound, Unsupported
from kitepy.engine.model.ids import new_id, short_id
from kitepy.engine.model.image import Image
from kitepy.engine.services import container_request as request_rules
from kitepy.engine.services.container_index import ContainerIndex, name_conflict
from kitepy.engine.services.container_mounts import WantedMount, inherited_mounts, wanted_mounts
from kitepy.engine.services.container_names import check_name, suggest_name
from kitepy.engine.services.images import ImageService
from kitepy.engine.services.remapping import check_user_namespace
from kitepy.engine.services.security_options import NO_DEFAULTS, SecurityDefaults
from kitepy.engine.services.signals import parse_signal
from kitepy.engine.services.volumes import VolumeService
from kitepy.engine.storage.layers import LayerStore
from kitepy.engine.storage.overlay import OverlayStore


class ContainerCreation:
    """Makes records; the only place where names are given out."""

    def __init__(
        self,
        *,
        index: ContainerIndex,
        images: ImageService,
        layers: LayerStore,
        overlays: OverlayStore,
        volumes: VolumeService,
        default_ulimits: tuple[Ulimit, ...] = (),
        remapped: bool = False,
        security: SecurityDefaults = NO_DEFAULTS,
    ) -> None:
        """``remapped``: containers get user namespaces of their own unless they opt out."""
        self._remapped = remapped
        self._security = security
        self._index = index
        self._images = images
        self._layers = layers
        self._overlays = overlays
        self._volumes = volumes
        self._default_ulimits = default_ulimits
        self._names_being_created: set[str] = set()

    async def create(
        self, name: str | None, body: ContainerCreateBody, platform: str | None
    ) -> tuple[ContainerRecord, list[str]]:
        """Make a container; nothing of it remains when a step fails."""
        wanted_name = check_name(name) if name else None
        if not body.image:
            raise InvalidParameter("no image was specified: the field Image is empty")
        image = self._images.resolve(body.image)
        check_platform(image, platform)
        config = request_rules.merge_image(body.config(), image.config)
        request_rules.check_config(config)
        host = request_rules.fill_host_config(body.host_config, default_ulimits=self._default_ulimits)
        warnings = request_rules.check_host_config(host)
        check_user_namespace(host, remapped=self._remapped)
        remapped = self._remapped and host.userns_mode != "host"
        self._security.check_capabilities(host.cap_add or (), remapped=remapped)
        request_rules.check_network_combination(config, host)
        self._check_networks(host.network_mode, body.networking_config)
        wanted = wanted_mounts(config, host, self._inherited(host.volumes_from or ()))
        if config.stop_signal:
            parse_signal(config.stop_signal)
        container_id = new_id()
        record = ContainerRecord(
            id=container_id,
            name="",
            created_ns=time.time_ns(),
            image_id=image.id,
            image_reference=body.image,
            config=msgspec.structs.replace(
                config, hostname=config.hostname or self._default_hostname(container_id, host.network_mode)
            ),
            host_config=host,
            platform=image.os,
            layers=tuple(image.layers),
        )
        with self.claimed_name(wanted_name) as chosen, self._layers.hold(image.top_layer):
            record = replace(record, name=chosen)
            await asyncio.to_thread(self._overlays.create_for_container, container_id, image.top_layer)
            try:
                record = replace(record, mounts=tuple([await self._prepare_mount(mount) for mount in wanted]))
                self._index.add(record)
            except BaseException:
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

    def _check_networks(self, network_mode: str, networking: NetworkingConfig) -> None:
        mode = request_rules.parse_network_mode(network_mode)
        if mode.kind == "named":
            raise NotFound(f"network {mode.target} not found")
        if mode.kind == "container":
            self._index.resolve(mode.target)
        for name, settings in (networking.endpoints_config or {}).items():
            if name not in ("default", mode.kind):
                raise NotFound(f"network {name} not found")
            if settings is None:
                continue
            if settings.aliases:
                raise InvalidParameter("network-scoped alias is supported only for containers in user defined networks")
            if settings.ipam_config and (settings.ipam_config.ipv4_address or settings.ipam_config.ipv6_address):
                raise InvalidParameter("user specified IP address is supported on user defined networks only")
            if settings.links:
                raise Unsupported("Links between containers are not supported by this version of Kitepy")

    def _inherited(self, sources: list[str] | tuple[str, ...]) -> list[MountPoint]:
        points = []
        for source in sources:
            ref, _, mode = source.partition(":")
            if mode not in ("", "ro", "rw"):
                raise InvalidParameter(f"invalid mode for volumes-from: {mode}")
            points += inherited_mounts(self._index.resolve(ref).mounts, mode)
        return points

    async def _prepare_mount(self, wanted: WantedMount) -> MountPoint:
        """Make the volume or host directory behind a mount."""
        point = wanted.point
        if point.kind is MountKind.VOLUME and not point.volume:
            return replace(point, volume=await self._volumes.create_anonymous())
        if point.kind is MountKind.VOLUME:
            await self._volumes.ensure(point.volume, wanted.volume_labels)
        elif point.kind is MountKind.BIND and not os.path.lexists(point.source):
            if not wanted.create_source:
                raise InvalidParameter(f'invalid mount config for type "bind": bind source path does not exist: {point.source}')
            try:
                await asyncio.to_thread(os.makedirs, point.source, 0o755, exist_ok=True)
            except OSError as error:
                reason = (error.strerror or str(error)).lower()
                raise InvalidParameter(
                    f"error while creating mount source path '{point.source}': mkdir {error.filename}: {reason}"
                ) from None
        return point


def check_platform(image: Image, platform: str | None) -> None:
    """Refuse an image of another platform than the one that was asked for."""
    if not platform:
        return
    system, _, rest = platform.partition("/")
    architecture = rest.partition("/")[0]
    if system != image.os or (architecture and architecture != image.architecture):
        raise NotFound(
            f"image with reference {image.id} was found but its platform ({image.os}/{image.architecture}) "
            f"does not match the specified platform ({platform})"
        )
