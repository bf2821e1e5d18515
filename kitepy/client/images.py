"""The Engine API's images as asyncio operations: lists, names, archives, pushing, and what Kitepy's own engine tells of them."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kitepy.client.archives import ArchiveReader, FileWriter
from kitepy.client.connection import Connection, chunks, messages, open_response
from kitepy.client.errors import Cancelled, Invalid, NotFound, ServerFailure, Unsupported
from kitepy.client.lifeline import Lifeline
from kitepy.client.stream import Emit, PumpedStream
from kitepy.client.transfers import Transfer, reporter

_TAR = "application/x-tar"
_LOADED = ("Loaded image: ", "Loaded image ID: ")
_LOOKED_AT = 200
"""How many members of an archive tell what it is."""


@dataclass(frozen=True)
class ImagesLoaded:
    """The end of a load or an import: names, or ids of what has none."""

    names: tuple[str, ...]


class ImageCalls(Connection):
    """Images of one engine. Methods raise `ClientError`; streams end their work in the engine when they are closed."""

    async def images(self) -> list[dict[str, Any]]:
        """``GET /images/json``, with the bytes that each shares with others."""

        def ask(api: Any) -> list[dict[str, Any]]:
            with open_response(api, "get", "/images/json", params={"shared-size": 1}) as response:
                return list(response.json())

        return await self._call(ask)

    async def image(self, reference: str) -> dict[str, Any]:
        """``GET /images/{name}/json``."""
        return await self._call(lambda api: dict(api.inspect_image(reference)))

    async def history(self, reference: str) -> list[dict[str, Any]]:
        """``GET /images/{name}/history``."""
        return await self._call(lambda api: list(api.history(reference)))

    async def image_layers(self, reference: str, *, usage: bool = False) -> dict[str, Any]:
        """The steps of its making and its layers. Raises `Unsupported` on an engine that can't tell."""
        return await self._extension(reference, "layers", {"usage": int(usage)})

    async def image_files(
        self, reference: str, path: str, *, layer: int, own: bool, after: str = "", limit: int = 1000
    ) -> dict[str, Any]:
        """A page of a folder with all layers up to one, or (``own``) as that one alone has it."""
        query = {"path": path, "layer": layer, "own": int(own), "after": after, "limit": limit}
        return await self._extension(reference, "files", query)

    async def tag(self, reference: str, repository: str, tag: str = "latest") -> None:
        """Give an image another name."""
        await self._call(lambda api: api.tag(reference, repository, tag))

    async def remove_image(self, reference: str, force: bool = False) -> list[dict[str, Any]]:
        """Remove a name, and the image with its last one; gives what was untagged and deleted."""

        def ask(api: Any) -> list[dict[str, Any]]:
            with open_response(api, "delete", _path(reference), params={"force": int(force)}) as response:
                return list(response.json() or ())

        return await self._call(ask)

    def save_images(self, references: Sequence[str], target: Path) -> PumpedStream[Transfer]:
        """Write images to a tar archive, compressed when its name ends with ``gz``; nothing stays of one that isn't complete."""

        def produce(lifeline: Lifeline, emit: Emit[Transfer]) -> None:
            report = reporter(lifeline, emit)
            query = {"names": list(references)}
            with (
                FileWriter(target, compress=target.name.endswith("gz")) as writer,
                open_response(self._stream_api(lifeline), "get", "/images/get", params=query) as response,
            ):
                for data in chunks(response):
                    writer.write(data)
                    report(writer.size_bytes, 0)
                if lifeline.cut_off:
                    raise Cancelled("the copy was cancelled")
                writer.commit()
                report(writer.size_bytes, writer.size_bytes)

        return PumpedStream(produce, name="kitepy-save-image")

    def load_images(self, source: Path) -> PumpedStream[Transfer | ImagesLoaded]:
        """Load what ``docker save``, skopeo or a builder wrote. Ends with `ImagesLoaded`."""
        return self._send_archive("/images/load", {"quiet": 1}, source)

    def import_image(
        self, source: Path, repository: str, tag: str, changes: Sequence[str] = ()
    ) -> PumpedStream[Transfer | ImagesLoaded]:
        """Make an image of the tar of a root file system. Ends with `ImagesLoaded`."""
        query = {"fromSrc": "-", "repo": repository, "tag": tag, "changes": list(changes)}
        return self._send_archive("/images/create", query, source)

    def push_image(self, repository: str, tag: str, authorization: str = "") -> PumpedStream[dict[str, Any]]:
        """The messages of ``POST /images/{name}/push``; an empty tag means all of the repository's.

        Raises `ServerFailure` when it fails. ``authorization`` is the value of ``X-Registry-Auth``.
        """

        def produce(lifeline: Lifeline, emit: Emit[dict[str, Any]]) -> None:
            query = {"tag": tag} if tag else {}
            headers = {"X-Registry-Auth": authorization or "e30="}
            api = self._stream_api(lifeline)
            with open_response(api, "post", f"{_path(repository)}/push", params=query, headers=headers) as response:
                for message in _told(messages(response)):
                    emit(message)

        return PumpedStream(produce, name="kitepy-push")

    def _send_archive(self, path: str, query: Mapping[str, Any], source: Path) -> PumpedStream[Transfer | ImagesLoaded]:
        def produce(lifeline: Lifeline, emit: Emit[Transfer | ImagesLoaded]) -> None:
            names: list[str] = []
            with ArchiveReader(source, reporter(lifeline, emit), any_compression=True) as body:
                api = self._stream_api(lifeline)
                with open_response(api, "post", path, params=query, data=body, headers={"Content-Type": _TAR}) as response:
                    for message in _told(messages(response)):
                        names += _loaded_names(message)
            if lifeline.cut_off:
                raise Cancelled("the copy was cancelled")
            emit(ImagesLoaded(tuple(names)))

        return PumpedStream(produce, name="kitepy-load-image")

    async def _extension(self, reference: str, what: str, query: Mapping[str, Any]) -> dict[str, Any]:
        def ask(api: Any) -> dict[str, Any]:
            try:
                with open_response(api, "get", f"/kitepy{_path(reference)}/{what}", params=query) as response:
                    return dict(response.json())
            except NotFound as error:
                if str(error) == "page not found":
                    raise Unsupported("this engine can't show what is in images; Kitepy's own can") from error
                raise

        return await self._call(ask)


def looks_like_image_archive(source: Path) -> bool:
    """Whether a file is what ``docker save`` or an OCI tool wrote, as far as its first members tell; else it may be the tar of a
    root file system. One that can't be unpacked here (zstd) counts as one. Raises `Invalid` for what is no archive. Blocking."""
    try:
        with source.open("rb") as file:
            if file.read(4) == b"\x28\xb5\x2f\xfd":
                return True
        with tarfile.open(source) as archive:
            for number, member in enumerate(archive):
                if _of_an_image(member.name):
                    return True
                if number >= _LOOKED_AT:
                    return False
            return False
    except (tarfile.TarError, EOFError) as error:
        raise Invalid(f"{source} is not a tar archive") from error
    except OSError as error:
        raise Invalid(f"{source} can't be read: {error.strerror or error}") from error


def _of_an_image(name: str) -> bool:
    name = name.removeprefix("./").rstrip("/")
    hexadecimal = name.removesuffix(".json").removesuffix("/layer.tar")
    is_id = len(hexadecimal) == 64 and all(letter in "0123456789abcdef" for letter in hexadecimal)
    return is_id or name in ("manifest.json", "oci-layout", "blobs", "blobs/sha256") or name.startswith("blobs/sha256/")


def _path(reference: str) -> str:
    return f"/images/{quote(reference, safe='/:@')}"


def _told(stream: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Messages until one says that it failed."""
    for message in stream:
        if "error" in message or "errorDetail" in message:
            detail = message.get("errorDetail") or {}
            raise ServerFailure(str(message.get("error") or detail.get("message") or "the engine gave no reason"))
        yield message


def _loaded_names(message: Mapping[str, Any]) -> list[str]:
    """A load says `Loaded image: NAME`, an import the new image's id as its status."""
    text = str(message.get("stream") or "")
    for line in text.splitlines():
        for start in _LOADED:
            if line.startswith(start):
                return [line.removeprefix(start).strip()]
    status = str(message.get("status") or "").strip()
    return [status] if status.startswith("sha256:") else []
