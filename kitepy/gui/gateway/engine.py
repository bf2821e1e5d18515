"""The gateway over `kitepy.client`: starts the bundled engine, asks it, and turns its answers and errors into the app's."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from kitepy.client import (
    HELPER_LABEL,
    BundledEngine,
    EngineClient,
    EngineMode,
    EnginePaths,
    EngineStartError,
    Finding,
    PumpedStream,
    Transfer,
    prefer,
)
from kitepy.client.elevation import WHY
from kitepy.gui.gateway import translate
from kitepy.gui.gateway.failures import told
from kitepy.gui.gateway.images import ImageOperations
from kitepy.gui.gateway.logins import Logins
from kitepy.gui.gateway.port import (
    BindResult,
    Disconnected,
    EngineStarted,
    EngineUnavailable,
    LogChunk,
    OperationFailed,
    Progress,
)
from kitepy.gui.gateway.registries import RegistryCalls
from kitepy.gui.gateway.web import fetch_preview
from kitepy.gui.models.build import BuildEvent, BuildRequest, BuildReview
from kitepy.gui.models.container import Container, ContainerDetails
from kitepy.gui.models.network import Network, NetworkPlan
from kitepy.gui.models.ports import Listener
from kitepy.gui.models.preview import Preview
from kitepy.gui.models.state import EngineEvent
from kitepy.gui.models.system_check import SystemCheck
from kitepy.gui.models.volume import PREVIEW_LIMIT_BYTES, FilePreview, Folder, RestorePlan, Volume, preview_of


class EngineGateway(ImageOperations, RegistryCalls):
    def __init__(self, paths: EnginePaths) -> None:
        self._bundled = BundledEngine(paths)
        self._client = EngineClient(paths.socket)
        self._logins = Logins()
        self._swept = False

    async def start_engine(self) -> EngineStarted:
        try:
            info = await self._bundled.ensure_running()
            with told():
                await self._client.ping()
                if not self._swept:
                    # Later ones may be of a backup that goes on meanwhile.
                    self._swept = True
                    await self._client.remove_stale_helpers()
        except EngineStartError as error:
            check = self._as_check(error.findings) if error.findings else None
            raise EngineUnavailable(error.reason, error.hint, error.log_tail, check) from error
        except (OperationFailed, Disconnected) as error:
            raise EngineUnavailable(str(error)) from error
        why_root = f"{WHY} It was started as root with {info.elevated_by}." if info.elevated_by else ""
        return EngineStarted(info.version, info.adopted, why_root)

    async def check_system(self) -> SystemCheck:
        try:
            return self._as_check((await self._bundled.diagnose()).findings)
        except EngineStartError as error:
            raise OperationFailed(f"{error.reason} {error.hint}") from error

    async def choose_rights(self, *, as_root: bool) -> None:
        mode = EngineMode.ROOT if as_root else EngineMode.ROOTLESS
        try:
            await asyncio.to_thread(prefer, mode)
        except OSError as error:
            raise OperationFailed(f"The choice can't be stored: {error}.") from error
        await self._client.close()
        paths = EnginePaths.default(mode=mode)
        self._bundled = BundledEngine(paths)
        self._client = EngineClient(paths.socket)

    def _as_check(self, findings: tuple[Finding, ...]) -> SystemCheck:
        is_root = os.getuid() == 0
        as_root = not is_root and self._bundled.paths.mode is EngineMode.ROOT
        return translate.system_check(findings, is_root=is_root, engine_as_root=as_root)

    async def containers(self) -> tuple[Container, ...]:
        with told():
            listed = [translate.container_from_list(entry) for entry in await self._client.containers(all=True)]
            return tuple(container for container in listed if HELPER_LABEL not in container.labels)

    async def container(self, container_id: str) -> ContainerDetails:
        with told():
            return translate.details_from_inspect(await self._client.container(container_id))

    async def start(self, container_id: str) -> None:
        with told():
            await self._client.start(container_id)

    async def stop(self, container_id: str) -> None:
        with told():
            await self._client.stop(container_id)

    async def restart(self, container_id: str) -> None:
        with told():
            await self._client.restart(container_id)

    async def kill(self, container_id: str) -> None:
        with told():
            await self._client.kill(container_id)

    async def remove(self, container_id: str, *, force: bool) -> None:
        with told():
            await self._client.remove(container_id, force=force, volumes=True)

    async def rename(self, container_id: str, name: str) -> None:
        with told():
            await self._client.rename(container_id, name)

    async def run_image(self, reference: str, name: str) -> str:
        with told():
            return await self._client.run_image(reference, name, publish_all=True)

    async def logs(self, container_id: str, *, tail: int) -> AsyncIterator[LogChunk]:
        with told():
            async with self._client.logs(container_id, tail=tail, follow=True, timestamps=True) as stream:
                async for chunk in stream:
                    yield LogChunk(chunk.stream, chunk.data)

    async def events(self, *, since_s: float) -> AsyncIterator[EngineEvent]:
        with told():
            async with self._client.events(since=since_s) as stream:
                async for message in stream:
                    event = translate.event_from_message(message)
                    if HELPER_LABEL not in event.attributes:
                        yield event

    async def make_starter_image(self) -> None:
        with told():
            await self._client.ensure_starter_image()

    async def review(self, path: Path) -> BuildReview:
        from kitepy.gui.gateway.review import read_review

        return await asyncio.to_thread(read_review, path)

    async def build(self, request: BuildRequest) -> AsyncIterator[BuildEvent]:
        review = request.review
        dockerfile = os.path.relpath(review.dockerfile, review.context)
        with told():
            async with self._client.build(review.context, dockerfile, request.tag, request.nocache) as stream:
                async for event in stream:
                    yield translate.build_event(event)

    async def preview(self, url: str) -> Preview:
        return await fetch_preview(url)

    async def volumes(self) -> tuple[Volume, ...]:
        with told():
            return tuple(translate.volume_from_list(entry) for entry in await self._client.volumes())

    async def volume_sizes(self) -> Mapping[str, int]:
        with told():
            return await self._client.volume_sizes()

    async def create_volume(self, name: str, labels: Mapping[str, str], options: Mapping[str, str]) -> str:
        with told():
            return await self._client.create_volume(name, labels, options)

    async def remove_volume(self, name: str) -> None:
        with told():
            await self._client.remove_volume(name)

    async def list_folder(self, volume: str, path: str) -> Folder:
        with told():
            document = await self._client.volume_folder(volume, path)
        return await asyncio.to_thread(translate.folder_from_listing, document)

    async def preview_file(self, volume: str, path: str, size_bytes: int) -> FilePreview:
        with told():
            return preview_of(path, await self._client.volume_file(volume, path, PREVIEW_LIMIT_BYTES), size_bytes)

    def save_file(self, volume: str, path: str, target: Path) -> AsyncIterator[Progress]:
        return _progress(self._client.save_volume_path(volume, path, target))

    def back_up(self, volume: str, target: Path) -> AsyncIterator[Progress]:
        return _progress(self._client.back_up_volume(volume, target))

    def restore(self, plan: RestorePlan, source: Path) -> AsyncIterator[Progress]:
        return _progress(self._client.restore_volume(plan.volume, source, create=plan.create))

    async def networks(self) -> tuple[Network, ...]:
        with told():
            return tuple(translate.network_from_list(entry) for entry in await self._client.networks())

    async def create_network(self, plan: NetworkPlan) -> str:
        with told():
            return await self._client.create_network(translate.network_to_create(plan))

    async def remove_network(self, network_id: str) -> None:
        with told():
            await self._client.remove_network(network_id)

    async def connect_container(self, network_id: str, container_id: str, address: str) -> None:
        with told():
            await self._client.connect(network_id, container_id, address)

    async def disconnect_container(self, network_id: str, container_id: str) -> None:
        with told():
            await self._client.disconnect(network_id, container_id)

    async def host_ports(self) -> tuple[Listener, ...]:
        from kitepy.gui.gateway.host_ports import read_listeners

        return await asyncio.to_thread(read_listeners)

    async def try_port(self, port: int, protocol: str) -> BindResult:
        from kitepy.gui.gateway.host_ports import try_bind

        return await asyncio.to_thread(try_bind, port, protocol)

    async def move_port(self, container_id: str, protocol: str, old: int, new: int) -> str:
        with told():
            return await self._client.move_port(container_id, protocol, old, new)

    async def close(self) -> None:
        await self._client.close()


async def _progress(copy: PumpedStream[Transfer]) -> AsyncIterator[Progress]:
    with told():
        async with copy as stream:
            async for transfer in stream:
                yield Progress(transfer.done_bytes, transfer.total_bytes)
