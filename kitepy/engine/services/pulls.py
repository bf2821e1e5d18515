"""Images from registries: what a name stands for there, which platform's image, and when it is one here.

Order: manifests, configuration, layers; then image, manifests and names in the database; then the event. How layers come is
``layer_transfers``' business. A pull belongs to whoever reads its messages, and ends with them.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from kitepy.engine.distribution.credentials import Credentials
from kitepy.engine.distribution.failures import CutOff, RegistryError, Unreachable, WrongManifest, prefixed, pull_error
from kitepy.engine.distribution.registries import Registries
from kitepy.engine.distribution.repository import FetchedManifest, Repository, refuse_schema_1
from kitepy.engine.model.errors import EngineError, Forbidden, InvalidParameter, NotFound, SystemFailure
from kitepy.engine.model.image import Image
from kitepy.engine.model.oci import (
    DOCKER_MANIFEST,
    INDEX_TYPES,
    Descriptor,
    Digest,
    ImageDocument,
    Manifest,
    chain_ids,
    digest_of,
    parse_image_document,
    parse_index,
    parse_manifest,
)
from kitepy.engine.model.platform import Platform, host_platform
from kitepy.engine.model.reference import Reference, check_tag
from kitepy.engine.model.registry import AuthConfigBody
from kitepy.engine.services.events import Emit
from kitepy.engine.services.layer_transfers import MISMATCH, LayerTransfer, LayerTransfers, WantedLayer, silent
from kitepy.engine.services.message_queue import messages_of, telling_pauses
from kitepy.engine.services.registries import LARGEST_CONFIG
from kitepy.engine.services.transfer_progress import Message, Tell, status
from kitepy.engine.storage.content import ContentStore
from kitepy.engine.storage.images import ImageStore
from kitepy.engine.storage.layers import LayerStore, Lease

logger = logging.getLogger(__name__)

_MOST_LAYERS = 1_000
_DEEPEST_INDEX = 4
_ATTEMPTS = 5
_IMAGE_TYPES = (
    "application/vnd.oci.image",
    "application/vnd.docker",
    "application/octet-stream",
    "application/json",
    "text/html",
    "",
)
"""What configurations and layers of images are called, or begin with before a dot; the last ones by mistakes of long ago."""
_DOCKER_CONFIG_TYPES = (
    "application/vnd.docker.container.image.v1+json",
    "application/vnd.oci.image.config.v1+json",
    *_IMAGE_TYPES[2:],
)

NOBODY = AuthConfigBody()


class Pulls:
    """All pulls of the engine. Belongs to one event loop."""

    def __init__(
        self,
        registries: Registries,
        images: ImageStore,
        layers: LayerStore,
        content: ContentStore,
        transfers: LayerTransfers,
        *,
        emit: Emit,
    ) -> None:
        self._registries = registries
        self._images = images
        self._layers = layers
        self._content = content
        self._transfers = transfers
        self._emit = emit

    def pull(
        self, reference: Reference, platform: Platform | None = None, auth: AuthConfigBody = NOBODY
    ) -> AsyncGenerator[Message, None]:
        """Messages of a pull, in dockerd's words; a reference that is only a name stands for all of its tags.

        What fails before the registry knows the name is raised before the first message. Closing the iterator ends the pull.
        """
        return messages_of(lambda tell: self._pull(reference, platform, Credentials.of(auth), tell), name=f"pull {reference}")

    async def image(
        self, reference: Reference, platform: Platform | None, credentials: Credentials, tell: Tell = silent
    ) -> Image:
        """Pull on behalf of another service, which passes the messages on; gives the image."""
        reference = reference.with_default_tag()
        await self._pull(reference, platform, credentials, tell)
        image = self._images.find(reference)
        if image is None:
            raise NotFound(f"No such image: {reference.familiar}")  # removed a moment ago
        return image

    async def _pull(self, reference: Reference, platform: Platform | None, credentials: Credentials, tell: Tell) -> None:
        if reference.familiar_name == "scratch":
            raise Forbidden("'scratch' is a reserved name")

        async with self._registries.repository(reference, credentials, ("pull",), telling_pauses(tell)) as repository:
            if reference.is_name_only:
                renewed = False
                async for page in repository.tags():
                    for tag in page:
                        tagged = reference.with_tag(check_tag(tag))
                        renewed = await self._pull_one(repository, tagged, platform, tell) or renewed
            else:
                renewed = await self._pull_one(repository, reference, platform, tell)
        verb = "Downloaded newer image for" if renewed else "Image is up to date for"
        tell({"status": f"Status: {verb} {reference.familiar}"})
        image = None if reference.is_name_only else self._images.find(reference)
        labels = {} if image is None else image.config.labels
        self._emit("image", "pull", reference.familiar, {**labels, "name": reference.familiar_name})
        if platform is not None and image is not None:
            try:
                image.check_platform(platform, reference.familiar)
            except NotFound as error:
                tell({"status": f"WARNING: {error}"})

    async def _pull_one(self, repository: Repository, reference: Reference, platform: Platform | None, tell: Tell) -> bool:
        """One tag or digest; whether it stands for another image now."""
        shown = str(reference) if reference.digest is not None else reference.tag
        begun = {"status": f"Pulling from {reference.path}", "id": shown}
        try:
            kept = await self._kept(repository, reference)
            found = kept or await _manifest(repository, reference.digest or reference.tag or "")
        except WrongManifest:
            tell(begun)
            raise
        if found.media_type == DOCKER_MANIFEST:
            _check_docker_config(parse_manifest(found.raw))
        tell(begun)
        refuse_schema_1(found, reference)
        path = [found]
        while path[-1].media_type in INDEX_TYPES:
            if len(path) > _DEEPEST_INDEX:
                raise InvalidParameter("image indexes are nested too deeply")
            chosen = choose_manifest(path[-1].raw, platform or host_platform()).digest
            path.append(self._stored(chosen) or await _manifest(repository, chosen))
        manifest = parse_manifest(path[-1].raw)
        with self._layers.lease() as lease:
            try:
                image = await self._take(repository, manifest, lease, tell)
            except EngineError as error:
                raise pull_error(error, reference) from None
            tell({"status": f"Digest: {found.digest}"})
            return self._name(reference, found.digest, path, manifest, image)

    async def _kept(self, repository: Repository, reference: Reference) -> FetchedManifest | None:
        """The manifest of a tag that still stands for what is here.

        Docker Hub's limits count those who fetch a manifest, but not those who only ask which one it is.
        """
        image = None if reference.digest is not None else self._images.find(reference)
        if image is None:
            return None
        described = await repository.head_manifest(reference.tag or "")
        known = {name.digest for name in self._images.digests(image.id) if name.name == reference.name}
        return self._stored(described.digest) if described is not None and described.digest in known else None

    def _stored(self, digest: Digest) -> FetchedManifest | None:
        stored = self._images.manifest(digest)
        return None if stored is None else FetchedManifest(stored.raw, stored.media_type, stored.digest)

    def _name(
        self, reference: Reference, digest: Digest, path: Sequence[FetchedManifest], manifest: Manifest, image: Image
    ) -> bool:
        before = self._images.find(reference)
        canonical = Reference(reference.domain, reference.path, None, digest)
        with self._images.together():
            for step in path:
                self._images.add_manifest(image.id, step.media_type, step.raw)
            for layer in manifest.layers:
                self._images.add_layer_source(layer.digest, reference.name)
            self._images.add_repository_digest(canonical, image.id, replace=reference.digest is not None)
            if reference.digest is None:
                self._images.set_tag(reference, image.id)
        return before is None or before.id != image.id

    async def _take(self, repository: Repository, manifest: Manifest, lease: Lease, tell: Tell) -> Image:
        """The image of a manifest: the one that is here already, or a new one."""
        with suppress(NotFound):
            return self._images.get(manifest.config.digest)
        for descriptor in (manifest.config, *manifest.layers):
            _check_image_type(descriptor.media_type)
        if len(manifest.layers) > _MOST_LAYERS:
            raise InvalidParameter(f"the image has {len(manifest.layers)} layers, more than {_MOST_LAYERS}")
        raw_config, document = await self._config(repository, manifest)
        await self._take_layers(repository, manifest, document, lease, tell)
        return self._images.add(raw_config, manifest=manifest.raw)

    async def _config(self, repository: Repository, manifest: Manifest) -> tuple[bytes, ImageDocument]:
        try:
            raw = await self._read_config(repository, manifest.config)
        except EngineError as error:
            raise prefixed(error, "error pulling image configuration: ") from error
        document = parse_image_document(raw)
        if not isinstance(json.loads(raw).get("rootfs"), dict):
            raise InvalidParameter("invalid rootfs in image configuration")
        if document.os != "linux":
            raise InvalidParameter(
                f'image operating system "{document.os}" cannot be used on this platform: operating system is not supported'
            )
        if len(document.diff_ids) != len(manifest.layers):
            raise InvalidParameter(MISMATCH)
        return raw, document

    async def _read_config(self, repository: Repository, descriptor: Descriptor) -> bytes:
        if descriptor.size > LARGEST_CONFIG:
            raise InvalidParameter(f"it has {descriptor.size} bytes, more than {LARGEST_CONFIG}")
        failures = 0
        while True:
            pieces: list[bytes] = []
            try:
                async with repository.open_blob(descriptor.digest, descriptor.size) as stream:
                    if stream.size > LARGEST_CONFIG:
                        raise InvalidParameter(f"it has {stream.size} bytes, more than {LARGEST_CONFIG}")
                    async for piece in stream:
                        pieces.append(piece)
                break
            except CutOff as error:
                failures += 1
                if failures == _ATTEMPTS:
                    raise CutOff(f"download failed after attempts={failures}: {error}") from error
            except RegistryError as error:
                if error.status == 404:
                    raise NotFound(f"download failed after attempts={failures + 1}: unknown blob") from error
                raise
        raw = b"".join(pieces)
        if digest_of(raw) != descriptor.digest:
            raise SystemFailure(f"image config verification failed for digest {descriptor.digest}")
        return raw

    async def _take_layers(
        self, repository: Repository, manifest: Manifest, document: ImageDocument, lease: Lease, tell: Tell
    ) -> None:
        chains = chain_ids(document.diff_ids)
        lease.layers.update(chains)
        lease.blobs.update(layer.digest for layer in manifest.layers)
        wanted = [
            WantedLayer(blob, diff_id, chains[index - 1] if index else None)
            for index, (blob, diff_id) in enumerate(zip(manifest.layers, document.diff_ids, strict=True))
        ]
        present = 0
        while present < len(wanted) and self._layers.find(wanted[present].chain_id) is not None:
            tell(status(wanted[present].short_id, "Already exists"))
            present += 1
        joined: list[_Joined] = []
        try:
            told: set[Digest] = set()
            for layer in wanted[present:]:
                if layer.blob.digest not in told:
                    told.add(layer.blob.digest)
                    tell(status(layer.short_id, "Pulling fs layer"))
            for layer in wanted[present:]:
                # A layer that occurs twice is told of once.
                hears = tell if layer.blob.digest in told else silent
                told.discard(layer.blob.digest)
                below = joined[-1].transfer if joined else None
                joined.append(_Joined(self._transfers.join(layer, repository, hears, below), hears))
            await _all_done([item.transfer for item in joined])
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError | Unreachable | RegistryError):
                # Whoever tries again finds what has arrived whole.
                for digest in lease.blobs:
                    self._content.set_aside(digest)
            raise
        finally:
            for item in reversed(joined):
                await item.transfer.leave(repository, item.tell)


@dataclass(frozen=True)
class _Joined:
    transfer: LayerTransfer
    tell: Tell


async def _all_done(transfers: Sequence[LayerTransfer]) -> None:
    """Wait for all; raises the first failure as soon as it happens."""
    tasks = [asyncio.create_task(transfer.done()) for transfer in transfers]
    try:
        for task in asyncio.as_completed(tasks):
            await task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _manifest(repository: Repository, ref: str) -> FetchedManifest:
    for _ in range(_ATTEMPTS - 1):
        try:
            return await repository.manifest(ref)
        except CutOff as error:
            logger.info("asking again for the manifest %s: %s", ref, error)
    return await repository.manifest(ref)


def choose_manifest(raw_index: bytes, platform: Platform) -> Descriptor:
    """The manifest of an index that suits a platform best; raises NotFound. One without a platform suits all, but worst."""
    best: tuple[int, Descriptor] | None = None
    for descriptor in parse_index(raw_index).manifests:
        told = any(descriptor.platform.values())
        rank = platform.rank(Platform.of(descriptor.platform)) if told else len(platform.suitable)
        if rank is not None and (best is None or rank < best[0]):
            best = rank, descriptor
    if best is None:
        raise NotFound(f"no matching manifest for {platform} in the manifest list entries")
    return best[1]


def _check_image_type(media_type: str) -> None:
    lowered = media_type.lower()
    if lowered.startswith("application/vnd.docker.ai."):
        raise InvalidParameter('AI models are not yet supported by the Engine, please use "docker model pull/run" instead')
    if not any(lowered == known or (known and lowered.startswith(f"{known}.")) for known in _IMAGE_TYPES):
        raise InvalidParameter(f"unsupported media type {media_type}")


def _check_docker_config(manifest: Manifest) -> None:
    found = manifest.config.media_type
    if found not in _DOCKER_CONFIG_TYPES:
        kind = "plugin" if found == "application/vnd.docker.plugin.v1+json" else "unknown"
        raise InvalidParameter(f'Encountered remote "{found}"({kind}) when fetching')
