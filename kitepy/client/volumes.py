"""The Engine API's volumes as asyncio operations: lists, files, and backups as tar archives.

A backup goes through a container that is created with the volume and never started, which works on every engine; it needs no
image and carries the label `HELPER_LABEL`. Looking at files asks an extension of Kitepy's own engine.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kitepy.client.archives import ArchiveReader, FileWriter, copy_member
from kitepy.client.connection import Connection, chunks, open_response
from kitepy.client.errors import Cancelled, ClientError, Invalid, NotFound, Unsupported
from kitepy.client.lifeline import Lifeline
from kitepy.client.stream import Emit, PumpedStream
from kitepy.client.transfers import Transfer, reporter

HELPER_LABEL = "org.kitepy.helper"
"""Containers with it are tools of front ends and not for lists."""

_HELPER = "volume"
_MOUNT_POINT = "/volume"
_TAR = "application/x-tar"
_AS_IT_IS = {"Accept-Encoding": "identity"}
"""dockerd compresses an archive for whoever takes that, and it is read here without being unpacked."""


class VolumeCalls(Connection):
    """Volumes of one engine. Methods raise `ClientError`; streams end their copy when they are closed."""

    async def volumes(self) -> list[dict[str, Any]]:
        """``GET /volumes``."""
        return await self._call(lambda api: list(api.volumes().get("Volumes") or ()))

    async def volume_sizes(self) -> dict[str, int]:
        """Bytes by volume, as far as the engine can tell (``GET /system/df``): it looks at every file."""

        def ask(api: Any) -> dict[str, int]:
            with open_response(api, "get", "/system/df", params={"type": "volume"}) as response:
                entries = response.json().get("Volumes") or ()
            sizes = {str(entry["Name"]): int((entry.get("UsageData") or {}).get("Size", -1)) for entry in entries}
            return {name: size for name, size in sizes.items() if size >= 0}

        return await self._call(ask)

    async def create_volume(self, name: str, labels: Mapping[str, str], options: Mapping[str, str], driver: str = "") -> str:
        """``POST /volumes/create``; gives the name, which the engine chooses when it is empty."""
        return await self._call(
            lambda api: str(api.create_volume(name or None, driver or None, dict(options) or None, dict(labels) or None)["Name"])
        )

    async def remove_volume(self, name: str) -> None:
        """``DELETE /volumes/{name}``: refused while a container uses it."""
        await self._call(lambda api: api.remove_volume(name))

    async def volume_folder(self, name: str, path: str) -> dict[str, Any]:
        """What is in a folder of a volume, one level deep. Raises `Unsupported` on an engine that can't tell."""

        def ask(api: Any) -> dict[str, Any]:
            try:
                with open_response(api, "get", _kitepy(name, "files"), params={"path": path}) as response:
                    return dict(response.json())
            except NotFound as error:
                raise _without_extension(error) from error

        return await self._call(ask)

    async def volume_file(self, name: str, path: str, limit_bytes: int) -> bytes:
        """The beginning of a file."""

        def ask(api: Any) -> bytes:
            with _opened_file(api, name, path) as response, _as_tar(response) as archive:
                member = archive.next()
                content = archive.extractfile(member) if member is not None and member.isfile() else None
                if content is None:
                    raise Invalid(f"{path} is not a file")
                return content.read(limit_bytes)

        return await self._call(ask)

    def save_volume_path(self, name: str, path: str, target: Path) -> PumpedStream[Transfer]:
        """Write a file of a volume to one of this machine, or a folder as a tar archive."""

        def produce(lifeline: Lifeline, emit: Emit[Transfer]) -> None:
            with _opened_file(self._stream_api(lifeline), name, path) as response, FileWriter(target) as writer:
                report = reporter(lifeline, emit)
                with _as_tar(response) as archive:
                    member = archive.next()
                    if member is not None and member.isfile():
                        copy_member(archive, member, writer, report)
                        writer.commit()
                        return
            if member is None or not member.isdir():
                raise Invalid(f"{path} is neither a file nor a folder")
            self._save_tar(lifeline, emit, lambda api: _opened_file(api, name, path), target)

        return PumpedStream(produce, name="kitepy-save-file")

    def back_up_volume(self, name: str, target: Path) -> PumpedStream[Transfer]:
        """Write all of a volume to a tar archive, compressed when its name ends with ``gz``; a file that is there is replaced
        when the archive is complete."""

        def produce(lifeline: Lifeline, emit: Emit[Transfer]) -> None:
            with self._helper(name) as helper:
                path, query = f"/containers/{helper}/archive", {"path": f"{_MOUNT_POINT}/."}
                self._save_tar(
                    lifeline, emit, lambda api: open_response(api, "get", path, params=query, headers=_AS_IT_IS), target
                )

        return PumpedStream(produce, name="kitepy-backup")

    def restore_volume(self, name: str, source: Path, *, create: bool) -> PumpedStream[Transfer]:
        """Unpack a tar archive into a volume. ``create`` makes it first, and it goes again when the archive doesn't arrive
        whole; in one that was there before, files with the same names are replaced and what was unpacked stays."""

        def produce(lifeline: Lifeline, emit: Emit[Transfer]) -> None:
            with ArchiveReader(source, reporter(lifeline, emit)) as body:
                if create:
                    self._api().create_volume(name)
                try:
                    with self._helper(name) as helper:
                        self._send(lifeline, helper, body)
                except BaseException:
                    if create:
                        self._api().remove_volume(name)
                    raise

        return PumpedStream(produce, name="kitepy-restore")

    async def remove_stale_helpers(self) -> None:
        """Remove what a front end that was killed has left."""

        def ask(api: Any) -> None:
            for entry in api.containers(all=True, filters={"label": [f"{HELPER_LABEL}={_HELPER}"]}):
                api.remove_container(entry["Id"], force=True)

        await self._call(ask)

    def _save_tar(self, lifeline: Lifeline, emit: Emit[Transfer], ask: Callable[[Any], Any], target: Path) -> None:
        report = reporter(lifeline, emit)
        with FileWriter(target, compress=target.name.endswith("gz")) as writer, ask(self._stream_api(lifeline)) as response:
            for data in chunks(response):
                writer.write(data)
                report(writer.size_bytes, 0)
            if lifeline.cut_off:
                raise Cancelled("the copy was cancelled")
            writer.commit()
            report(writer.size_bytes, writer.size_bytes)

    def _send(self, lifeline: Lifeline, helper: str, body: ArchiveReader) -> None:
        query = {"path": _MOUNT_POINT, "noOverwriteDirNonDir": "true"}
        with open_response(
            self._stream_api(lifeline),
            "put",
            f"/containers/{helper}/archive",
            params=query,
            data=body,
            headers={"Content-Type": _TAR},
        ):
            if lifeline.cut_off:
                raise Cancelled("the copy was cancelled")

    @contextmanager
    def _helper(self, volume: str) -> Iterator[str]:
        """The id of a container with the volume, that is never started and removed in any case."""
        api = self._api()
        mount = {"Type": "volume", "Source": volume, "Target": _MOUNT_POINT, "VolumeOptions": {"NoCopy": True}}
        body = {
            "Image": "",
            "Cmd": ["none"],
            "Labels": {HELPER_LABEL: _HELPER},
            "HostConfig": {"NetworkMode": "none", "Mounts": [mount]},
        }
        made = str(api.create_container_from_config(body)["Id"])
        try:
            yield made
        finally:
            api.remove_container(made, force=True)


def _kitepy(volume: str, what: str) -> str:
    from urllib.parse import quote

    return f"/kitepy/volumes/{quote(volume, safe='')}/{what}"


def _opened_file(api: Any, volume: str, path: str) -> Any:
    try:
        return open_response(api, "get", _kitepy(volume, "archive"), params={"path": path}, headers=_AS_IT_IS)
    except NotFound as error:
        raise _without_extension(error) from error


def _without_extension(error: ClientError) -> ClientError:
    if str(error) != "page not found":
        return error
    return Unsupported("this engine can't show the files of volumes; Kitepy's own can")


@contextmanager
def _as_tar(response: Any) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(fileobj=response.raw, mode="r|") as archive:
            yield archive
    except tarfile.TarError as error:
        raise Invalid(f"the engine's archive can't be read: {error}") from error
