"""Looks into the image in sight: configuration and layers at once, what is in vain once that is counted, files as opened."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from kitepy.gui.gateway.port import Gateway, GatewayError
from kitepy.gui.models.image_detail import Looking, with_folder, with_layer
from kitepy.gui.models.state import AppState, EnginePhase, LookingChanged, Page, Store
from kitepy.gui.models.volume import Folder
from kitepy.gui.tasks import Tasks


class ImageContentsController:
    def __init__(self, store: Store, gateway: Gateway, tasks: Tasks) -> None:
        self._store = store
        self._gateway = gateway
        self._tasks = tasks
        self._visible = True
        self._asked: set[tuple[str, str]] = set()
        self._work: asyncio.Task[None] | None = None
        store.subscribe(lambda state, _previous: self._follow(state))

    def set_visible(self, visible: bool) -> None:
        self._visible = visible
        self._follow(self._store.state)

    def refresh(self) -> None:
        """Reads the image in sight anew."""
        if self._store.state.route.page is Page.IMAGES and self._store.state.route.key:
            self._store.dispatch(LookingChanged(Looking()))

    def look_at_layer(self, layer: int, own: bool) -> None:
        looking = self._looking
        if looking.layers is None or not 0 <= layer < len(looking.layers.layers):
            return
        self._store.dispatch(LookingChanged(with_layer(looking, layer, own)))
        self.open_folder("/")

    def open_folder(self, path: str) -> None:
        looking = self._looking
        if looking.layers is not None and looking.layers.browsable and looking.layer >= 0:
            key = (looking.view, path)
            if key not in self._asked and path not in looking.folders:
                self._asked.add(key)
                self._tasks.spawn(self._read_folder(looking, path, ""), name=f"folder {path}")

    def more_files(self, path: str) -> None:
        """The next page of a folder."""
        looking = self._looking
        folder = looking.folders.get(path)
        key = (looking.view, path)
        if folder is not None and folder.following and key not in self._asked:
            self._asked.add(key)
            self._tasks.spawn(self._read_folder(looking, path, folder.following), name=f"more of {path}")

    @property
    def _looking(self) -> Looking:
        return self._store.state.looking

    def _follow(self, state: AppState) -> None:
        if state.route.page is not Page.IMAGES or not self._visible or state.engine.phase is not EnginePhase.READY:
            return
        image_id = state.route.key
        if image_id and image_id != state.looking.image_id:
            self._asked.clear()
            if self._work is not None:
                self._work.cancel()
            self._store.dispatch(LookingChanged(Looking(image_id)))
            self._work = self._tasks.spawn(self._look(image_id), name=f"look into {image_id}")

    async def _look(self, image_id: str) -> None:
        try:
            config = await self._gateway.image_config(image_id)
            layers = await self._gateway.image_layers(image_id, usage=False)
        except GatewayError as error:
            self._change(image_id, error=str(error))
            return
        self._change(image_id, config=config, layers=layers)
        self.look_at_layer(len(layers.layers) - 1, True)
        if not layers.browsable:
            return
        try:
            self._change(image_id, layers=await self._gateway.image_layers(image_id, usage=True))
        except GatewayError as error:
            self._change(image_id, usage_error=str(error))

    async def _read_folder(self, looking: Looking, path: str, after: str) -> None:
        try:
            folder = await self._gateway.image_folder(looking.image_id, path, layer=looking.layer, own=looking.own, after=after)
        except GatewayError as error:
            folder = Folder(error=str(error))
        finally:
            self._asked.discard((looking.view, path))
        if self._looking.view != looking.view:
            return  # something else is looked at by now
        before = self._looking.folders.get(path)
        if after and before is not None:
            following = folder.following if not folder.error else before.following
            folder = replace(before, entries=(*before.entries, *folder.entries), following=following)
        self._store.dispatch(LookingChanged(with_folder(self._looking, path, folder)))

    def _change(self, image_id: str, **changes: object) -> None:
        if self._looking.image_id == image_id:
            self._store.dispatch(LookingChanged(replace(self._looking, **changes)))  # type: ignore[arg-type]  # names are checked by replace
