"""Images to registries: which tags, which manifest or index, in which order; how layers get there, ``layer_uploads`` knows.

Order: layers, configuration, manifest (and those of other platforms, then the index that lists them); then what is known of the
repository goes to the database; then the event. A push belongs to whoever reads its messages, and ends with them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from kitepy.engine.distribution.credentials import Credentials
from kitepy.engine.distribution.failures import RegistryError
from kitepy.engine.distribution.registries import Registries
from kitepy.engine.distribution.repository import Repository
from kitepy.engine.model.errors import InvalidParameter, NotFound
from kitepy.engine.model.image import Image
from kitepy.engine.model.oci import Descriptor, Digest, digest_of, parse_index
from kitepy.engine.model.platform import Platform
from kitepy.engine.model.reference import Reference
from kitepy.engine.model.registry import AuthConfigBody
from kitepy.engine.services.events import Emit
from kitepy.engine.services.layer_uploads import LayerUploads
from kitepy.engine.services.message_queue import messages_of, telling_pauses
from kitepy.engine.services.push_plan import PushedImage, PushPlanner
from kitepy.engine.services.transfer_progress import Message, Tell, status
from kitepy.engine.storage.images import ImageStore
from kitepy.engine.storage.layers import LayerStore

logger = logging.getLogger(__name__)

_MOST_MANIFESTS = 200


@dataclass(frozen=True)
class _Written:
    """What stands for a tag in the registry now."""

    media_type: str
    raw: bytes


class Pushes:
    """All pushes of the engine. Belongs to one event loop."""

    def __init__(
        self,
        registries: Registries,
        images: ImageStore,
        layers: LayerStore,
        planner: PushPlanner,
        uploads: LayerUploads,
        *,
        emit: Emit,
    ) -> None:
        self._registries = registries
        self._images = images
        self._layers = layers
        self._planner = planner
        self._uploads = uploads
        self._emit = emit

    def push(self, reference: Reference, platform: Platform | None, auth: AuthConfigBody) -> AsyncIterator[Message]:
        """Messages of a push, in dockerd's words; a reference without a tag stands for all of its tags.

        Raises NotFound here and now for an image that is not for the ``platform``. Closing the iterator ends the push.
        """
        if platform is not None:
            image = self._images.resolve(str(reference.with_default_tag()))
            image.check_platform(platform, reference.familiar)
        return messages_of(lambda tell: self._push(reference, platform, Credentials.of(auth), tell), name=f"push {reference}")

    async def _push(self, reference: Reference, platform: Platform | None, credentials: Credentials, tell: Tell) -> None:
        tell({"status": f"The push refers to repository [{reference.name}]"})
        tags = self._images.tags_of_repository(reference.name)
        if not tags and not self._images.has_digests_of(reference.name):
            raise NotFound(f"An image does not exist locally with the tag: {reference.familiar_name}")

        async with self._registries.repository(reference, credentials, ("pull", "push"), telling_pauses(tell)) as repository:
            await repository.reach()
            if reference.digest is not None:
                raise InvalidParameter("cannot push a digest reference")
            if reference.tag is not None:
                if reference not in tags:
                    raise NotFound(f"tag does not exist: {reference.familiar}")
                tags = (reference,)
            elif not tags:
                raise NotFound(f"no tags to push for {reference.familiar_name}")
            for tag in tags:
                await self._push_tag(repository, tag, platform, tell)
        with suppress(NotFound):
            image = self._images.resolve(str(reference.with_default_tag()))
            labels = image.config.labels
            self._emit("image", "push", reference.familiar, {**labels, "name": reference.familiar_name})
            return
        self._emit("image", "push", reference.familiar, {"name": reference.familiar_name})

    async def _push_tag(self, repository: Repository, tag: Reference, platform: Platform | None, tell: Tell) -> None:
        image = self._images.find(tag)
        if image is None:
            raise NotFound(f"tag does not exist: {tag.familiar}")
        written = None if platform is not None else await self._push_index(repository, tag, image, tell)
        if written is None:
            plan = self._planner.image(image)
            media_type, raw = await self._push_blobs(repository, plan, tell)
            written = _Written(media_type, raw)
        assert tag.tag is not None
        await repository.put_manifest(tag.tag, written.raw, written.media_type)
        digest = digest_of(written.raw)
        with suppress(NotFound):  # removed meanwhile
            self._images.add_repository_digest(Reference(tag.domain, tag.path, None, digest), self._images.get(image.id).id)
        tell({"status": f"{tag.tag}: digest: {digest} size: {len(written.raw)}"})
        tell({"progressDetail": {}, "aux": {"Tag": tag.tag, "Digest": digest, "Size": len(written.raw)}})

    async def _push_index(self, repository: Repository, tag: Reference, image: Image, tell: Tell) -> _Written | None:
        """Bring all platforms of an image; None when it has only this one, or others are neither here nor there."""
        for media_type, raw in self._planner.indexes(image, tag.name):
            parts = parse_index(raw).manifests
            if len(parts) > _MOST_MANIFESTS:  # whoever made such an index doesn't get to have the registry asked so often
                continue
            own = {part.digest: found for part in parts if (found := self._planner.behind(part.digest)) is not None}
            if image.id not in {found.id for found in own.values()}:
                continue
            missing = [part.digest for part in parts if part.digest not in own]
            if not all([await self._is_there(repository, digest) for digest in missing]):
                logger.info("%s is pushed for one platform: others of its index are neither here nor there", tag)
                continue
            for digest, found in own.items():
                kind, manifest = await self._push_blobs(repository, self._planner.image(found), tell)
                await repository.put_manifest(digest, manifest, kind)
            return _Written(media_type, raw)
        return None

    async def _is_there(self, repository: Repository, digest: Digest) -> bool:
        try:
            return await repository.head_manifest(digest) is not None
        except RegistryError as error:
            logger.info("%s is not known to be in %s: %s", digest, repository.reference.name, error)
            return False

    async def _push_blobs(self, repository: Repository, plan: PushedImage, tell: Tell) -> tuple[str, bytes]:
        """Bring layers, topmost first, and configuration; gives the manifest, which may be written then."""
        with ExitStack() as holds:
            holds.enter_context(self._layers.hold(plan.image.top_layer))
            wanted = {layer.diff_id: layer for layer in plan.layers}
            for layer in reversed(plan.layers):
                tell(status(layer.short_id, "Preparing"))
            first_to_last = list(dict.fromkeys(layer.diff_id for layer in reversed(plan.layers)))
            tasks = {
                diff_id: asyncio.create_task(self._uploads.send(wanted[diff_id], repository, tell)) for diff_id in first_to_last
            }
            sent = dict(zip(tasks, await _all_of(list(tasks.values())), strict=True))
            await self._push_config(repository, plan)
            return plan.manifest(sent)

    async def _push_config(self, repository: Repository, plan: PushedImage) -> None:
        raw, digest = plan.image.raw_config, plan.image.id
        if await repository.head_blob(digest) is not None:
            return

        async def source(offset: int) -> AsyncIterator[bytes]:
            yield raw[offset:]

        await repository.upload_blob(digest, len(raw), source, lambda _: None)


async def _all_of(tasks: Sequence[asyncio.Task[Descriptor]]) -> list[Descriptor]:
    """Wait for all; raises the first failure as soon as it happens, when all have ended."""
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            if not task.cancelling():  # those that are being ended already are let finish that
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
