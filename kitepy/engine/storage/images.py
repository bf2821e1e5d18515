"""Images and tags in the database: finding, adding, tagging, deleting rows; rules of removal and events are the service's."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from kitepy.engine.model.errors import InvalidParameter, NotFound
from kitepy.engine.model.ids import is_id_prefix
from kitepy.engine.model.image import Image
from kitepy.engine.model.oci import ChainId, Digest, chain_ids, digest_of, parse_image_document
from kitepy.engine.model.reference import Reference, parse_reference
from kitepy.engine.model.timestamps import parse_time
from kitepy.engine.storage.database import Database
from kitepy.engine.storage.layers import LayerStore

_CACHED_IMAGES = 512


@dataclass(frozen=True)
class Listed:
    """An image with what only this machine knows about it."""

    image: Image
    tags: tuple[Reference, ...]
    last_tag_ns: int | None
    manifest: bytes | None
    digests: tuple[Reference, ...] = ()
    """``name@digest``: what registries are known to have the image as."""


@dataclass(frozen=True)
class StoredManifest:
    """A manifest or an index that led to an image, as a registry or an archive had it."""

    digest: Digest
    media_type: str
    raw: bytes


class ImageStore:
    """The image rows of one database."""

    def __init__(self, database: Database, layers: LayerStore) -> None:
        self._database = database
        self._layers = layers
        self._cache: dict[Digest, Image] = {}

    def together(self) -> AbstractContextManager[object]:
        """All or nothing of what is recorded within the block."""
        return self._database.transaction()

    def get(self, image_id: Digest) -> Image:
        """The image with this full id; raises ``NotFound``."""
        cached = self._cache.get(image_id)
        if cached is not None:
            return cached
        row = self._database.query_one("SELECT * FROM images WHERE id = ?", (image_id,))
        if row is None:
            raise NotFound(f"No such image: {image_id}")
        return self._remember(_image(row))

    def resolve(self, text: str) -> Image:
        """The image with this reference, id or unambiguous beginning of an id; names beat ids.

        Raises ``NotFound``, also when the text fits several ids, or ``InvalidParameter`` when it is no reference.
        """
        bare = text.removeprefix("sha256:")
        reference = self.as_reference(text)
        if reference is not None and (image := self.find(reference)) is not None:
            return image
        if is_id_prefix(bare) and (image := self._by_prefix(bare)) is not None:
            return image
        if is_id_prefix(bare) and len(bare) == 64:
            raise NotFound(f"No such image: sha256:{bare}")
        raise NotFound(f"No such image: {parse_reference(text).with_default_tag().familiar}")

    def as_reference(self, text: str) -> Reference | None:
        """The reference that the text stands for, tag included; None when it stands for an id, as in ``resolve``."""
        bare = text.removeprefix("sha256:")
        if is_id_prefix(bare) and (len(bare) == 64 or text != bare):
            return None
        reference = parse_reference(text).with_default_tag()
        return None if is_id_prefix(text) and self.find(reference) is None else reference

    def find(self, reference: Reference) -> Image | None:
        """The image a reference names, or None."""
        if reference.digest is not None:
            return self._find_by_digest(reference)
        row = self._database.query_one("SELECT image_id FROM tags WHERE reference = ?", (str(reference.with_default_tag()),))
        return None if row is None else self.get(Digest(row["image_id"]))

    def all(self) -> list[Listed]:
        """Every image, newest first."""
        tags, digests = (
            self._by_image("SELECT reference, image_id FROM tags ORDER BY reference"),
            self._by_image("SELECT reference, image_id FROM repository_digests ORDER BY reference"),
        )
        rows = self._database.query("SELECT * FROM images ORDER BY created_ns DESC, added_ns DESC, id")
        return [
            _listed(self._cached(row), row, tuple(tags.get(row["id"], ())), tuple(digests.get(row["id"], ()))) for row in rows
        ]

    def describe(self, image: Image) -> Listed:
        """An image together with its tags."""
        row = self._database.query_one("SELECT * FROM images WHERE id = ?", (image.id,))
        if row is None:
            raise NotFound(f"No such image: {image.id}")
        return _listed(image, row, self.tags(image.id), self.digests(image.id))

    def tags(self, image_id: Digest) -> tuple[Reference, ...]:
        """Tags of an image, sorted."""
        return self._references("SELECT reference FROM tags WHERE image_id = ? ORDER BY reference", image_id)

    def digests(self, image_id: Digest) -> tuple[Reference, ...]:
        """``name@digest`` of an image, sorted."""
        return self._references("SELECT reference FROM repository_digests WHERE image_id = ? ORDER BY reference", image_id)

    def references(self, image_id: Digest) -> tuple[Reference, ...]:
        """Tags and ``name@digest`` of an image, sorted."""
        return tuple(sorted((*self.tags(image_id), *self.digests(image_id)), key=str))

    def tags_of_repository(self, name: str) -> tuple[Reference, ...]:
        """All tags of ``domain/path``."""
        rows = self._database.query("SELECT reference FROM tags WHERE reference GLOB ? ORDER BY reference", (f"{name}:*",))
        return tuple(parse_reference(row["reference"]) for row in rows)

    def has_digests_of(self, name: str) -> bool:
        """Whether some image is known to be in the repository ``domain/path``."""
        query = "SELECT 1 FROM repository_digests WHERE reference GLOB ? LIMIT 1"
        return self._database.query_one(query, (f"{name}@*",)) is not None

    def children(self, image_id: Digest) -> list[Digest]:
        """Images that were built from this one."""
        return [Digest(row["id"]) for row in self._database.query("SELECT id FROM images WHERE parent_id = ?", (image_id,))]

    def count(self) -> int:
        row = self._database.query_one("SELECT count(*) AS number FROM images")
        return int(row["number"]) if row is not None else 0

    def add(
        self,
        raw_config: bytes,
        *,
        parent_id: Digest | None = None,
        manifest: bytes | None = None,
        expected_layers: Sequence[ChainId] | None = None,
    ) -> Image:
        """Record an image whose layers are in the layer store; an image that is known already stays as it is."""
        document = parse_image_document(raw_config)
        layers = chain_ids(document.diff_ids)
        if expected_layers is not None and tuple(expected_layers) != layers:
            raise InvalidParameter("the image configuration lists other layers than were given")
        image_id = digest_of(raw_config)
        stack = self._layers.stack(layers[-1]) if layers else ()
        now = time.time_ns()
        with self._database.transaction() as connection:
            connection.execute(
                """INSERT INTO images (id, config, manifest, top_layer, parent_id, size, created_ns, added_ns)
                   VALUES (?, ?, ?, ?, ?, ?, ?, ?)
                   ON CONFLICT (id) DO UPDATE SET manifest = coalesce(manifest, excluded.manifest),
                       parent_id = coalesce(parent_id, excluded.parent_id)""",
                (
                    image_id,
                    raw_config,
                    manifest,
                    stack[-1].number if stack else None,
                    parent_id,
                    sum(layer.size_bytes for layer in stack),
                    _created_ns(document.created),
                    now,
                ),
            )
        self._layers.claim(layers[-1] if layers else None)
        self._cache.pop(image_id, None)
        return self.get(image_id)

    def set_tag(self, reference: Reference, image_id: Digest, *, by_user: bool = False) -> Digest | None:
        """Point a tag at an image; returns the image it pointed at before. Only what users tag has a time of its last tag."""
        name = str(reference.with_default_tag())
        with self._database.transaction() as connection:
            row = connection.execute("SELECT image_id FROM tags WHERE reference = ?", (name,)).fetchone()
            connection.execute("INSERT OR REPLACE INTO tags VALUES (?, ?)", (name, image_id))
            if by_user:
                connection.execute("UPDATE images SET last_tag_ns = ? WHERE id = ?", (time.time_ns(), image_id))
        return None if row is None else Digest(row["image_id"])

    def set_parent(self, image_id: Digest, parent_id: Digest) -> None:
        """Say of which other image this one was made."""
        with self._database.transaction() as connection:
            connection.execute("UPDATE images SET parent_id = ? WHERE id = ?", (parent_id, image_id))
        self._cache.pop(image_id, None)

    def remove_tag(self, reference: Reference) -> bool:
        """Forget a tag; False when there was none."""
        with self._database.transaction() as connection:
            return connection.execute("DELETE FROM tags WHERE reference = ?", (str(reference.with_default_tag()),)).rowcount > 0

    def add_repository_digest(self, reference: Reference, image_id: Digest, *, replace: bool = False) -> None:
        """Remember that a repository has the image: ``reference`` is ``name@digest``, the digest its manifest's or index's.

        An index stands for several images, one a platform; the first that is here has its digest, unless another is to
        ``replace`` it.
        """
        with self._database.transaction() as connection:
            name = str(_with_digest_only(reference))
            if replace:
                connection.execute("DELETE FROM repository_digests WHERE reference = ?", (name,))
            connection.execute("INSERT OR IGNORE INTO repository_digests VALUES (?, ?)", (name, image_id))

    def remove_reference(self, reference: Reference) -> bool:
        """Forget a tag or a ``name@digest``; False when there was none."""
        if reference.digest is None:
            return self.remove_tag(reference)
        with self._database.transaction() as connection:
            name = str(_with_digest_only(reference))
            return connection.execute("DELETE FROM repository_digests WHERE reference = ?", (name,)).rowcount > 0

    def add_manifest(self, image_id: Digest, media_type: str, raw: bytes) -> None:
        """Keep a manifest of an image, or an index that lists one, byte by byte."""
        with self._database.transaction() as connection:
            row = (image_id, digest_of(raw), media_type, raw)
            connection.execute("INSERT OR REPLACE INTO manifests VALUES (?, ?, ?, ?)", row)

    def manifests(self, image_id: Digest) -> tuple[StoredManifest, ...]:
        """All that is kept of an image's manifests and indexes."""
        rows = self._database.query("SELECT * FROM manifests WHERE image_id = ? ORDER BY digest", (image_id,))
        return tuple(StoredManifest(Digest(row["digest"]), row["media_type"], row["raw"]) for row in rows)

    def manifest(self, digest: Digest) -> StoredManifest | None:
        """A manifest or an index by its digest, whichever image it is kept for."""
        row = self._database.query_one("SELECT * FROM manifests WHERE digest = ? LIMIT 1", (digest,))
        return None if row is None else StoredManifest(digest, row["media_type"], row["raw"])

    def images_of_manifest(self, digest: Digest) -> tuple[Digest, ...]:
        """The images that a manifest or an index led to."""
        rows = self._database.query("SELECT image_id FROM manifests WHERE digest = ? ORDER BY image_id", (digest,))
        return tuple(Digest(row["image_id"]) for row in rows)

    def add_layer_source(self, digest: Digest, repository: str) -> None:
        """Remember that a repository (``domain/path``) has a blob, so that another one of that registry can take it over."""
        with self._database.transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO layer_sources VALUES (?, ?)", (digest, repository))

    def layer_sources(self, digest: Digest) -> tuple[str, ...]:
        """Repositories that are known to have a blob, sorted."""
        rows = self._database.query("SELECT repository FROM layer_sources WHERE digest = ? ORDER BY repository", (digest,))
        return tuple(row["repository"] for row in rows)

    def remove_layer_source(self, digest: Digest, repository: str) -> None:
        """The repository turned out not to have the blob."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM layer_sources WHERE digest = ? AND repository = ?", (digest, repository))

    def add_compressed_layer(self, blob: Digest, digest: Digest, size: int) -> None:
        """Remember what a layer's blob became when it was compressed for a registry."""
        with self._database.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO compressed_layers VALUES (?, ?, ?)", (blob, digest, size))

    def compressed_layer(self, blob: Digest) -> tuple[Digest, int] | None:
        """Digest and size of what ``add_compressed_layer`` was told of, or None."""
        row = self._database.query_one("SELECT digest, size FROM compressed_layers WHERE blob = ?", (blob,))
        return None if row is None else (Digest(row["digest"]), row["size"])

    def delete(self, image_id: Digest) -> None:
        """Forget an image and its tags; its layers stay until the layer store collects them."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM images WHERE id = ?", (image_id,))
        self._cache.pop(image_id, None)

    def _by_prefix(self, prefix: str) -> Image | None:
        rows = self._database.query("SELECT id FROM images WHERE id GLOB ? LIMIT 2", (f"sha256:{prefix}*",))
        return self.get(Digest(rows[0]["id"])) if len(rows) == 1 else None

    def _find_by_digest(self, reference: Reference) -> Image | None:
        name = str(_with_digest_only(reference))
        row = self._database.query_one("SELECT image_id FROM repository_digests WHERE reference = ?", (name,))
        return None if row is None else self.get(Digest(row["image_id"]))

    def _references(self, query: str, image_id: Digest) -> tuple[Reference, ...]:
        return tuple(parse_reference(row["reference"]) for row in self._database.query(query, (image_id,)))

    def _by_image(self, query: str) -> dict[str, list[Reference]]:
        found: dict[str, list[Reference]] = {}
        for row in self._database.query(query):
            found.setdefault(row["image_id"], []).append(parse_reference(row["reference"]))
        return found

    def _cached(self, row: sqlite3.Row) -> Image:
        return self._cache.get(row["id"]) or self._remember(_image(row))

    def _remember(self, image: Image) -> Image:
        while len(self._cache) >= _CACHED_IMAGES:
            del self._cache[next(iter(self._cache))]
        self._cache[image.id] = image
        return image


def _image(row: sqlite3.Row) -> Image:
    document = parse_image_document(row["config"])
    return Image(
        id=Digest(row["id"]),
        document=document,
        raw_config=row["config"],
        layers=chain_ids(document.diff_ids),
        size_bytes=row["size"],
        created_ns=row["created_ns"],
        parent_id=Digest(row["parent_id"]) if row["parent_id"] else None,
    )


def _listed(image: Image, row: sqlite3.Row, tags: tuple[Reference, ...], digests: tuple[Reference, ...]) -> Listed:
    return Listed(image, tags, row["last_tag_ns"], row["manifest"], digests)


def _with_digest_only(reference: Reference) -> Reference:
    return Reference(reference.domain, reference.path, None, reference.digest)


def _created_ns(text: str) -> int:
    try:
        return parse_time(text, now_ns=0) if text else 0
    except InvalidParameter:
        # A builder's odd date must not make its image unusable.
        return 0
