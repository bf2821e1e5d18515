"""Looks for images in registries: searches that give way to newer ones, tags page by page, and what a pull would bring."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from kitepy.gui.controllers.engine import EngineController
from kitepy.gui.gateway.port import Gateway, GatewayError
from kitepy.gui.models.discover import (
    SEARCH_LIMIT,
    TAGS_A_PAGE,
    Discover,
    Hit,
    RepositoryView,
    Search,
    Source,
    SourcePhase,
    Tag,
    answered,
    preferred_tag,
    tag_of_preview,
    with_page,
    with_tag,
)
from kitepy.gui.models.pull import PullPhase
from kitepy.gui.models.reference import DOCKER_HUB, Reference, clean_query, parse_reference, split_query
from kitepy.gui.models.state import AppState, DiscoverChanged, EnginePhase, Page, Store
from kitepy.gui.models.trouble import Trouble
from kitepy.gui.tasks import Tasks

# A pause in typing, before registries are asked.
DEBOUNCE_S = 0.25
_LEAST_LETTERS = 2
# Manifests of tags that are read at once, to tell their sizes.
_READ_AT_ONCE = 3
_ANSWERS_KEPT = 64


class DiscoverController:
    def __init__(
        self, store: Store, gateway: Gateway, tasks: Tasks, engine: EngineController, debounce_s: float = DEBOUNCE_S
    ) -> None:
        self._store = store
        self._gateway = gateway
        self._tasks = tasks
        self._engine = engine
        self._debounce_s = debounce_s
        self._searching: asyncio.Task[None] | None = None
        self._listing: asyncio.Task[None] | None = None
        self._previewing: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._answers: dict[tuple[str, str], tuple[Hit, ...]] = {}
        store.subscribe(self._follow)

    # Search

    def search(self, query: str) -> None:
        """Asks the registries once typing pauses; the search before it is given up."""
        query = clean_query(query)
        search = self._discover.search
        if query == search.query:
            return
        self._stop(self._searching)
        host, words = split_query(query)
        sources: tuple[Source, ...] = ()
        if query and (host or len(words) >= _LEAST_LETTERS):
            hosts = [host] if host else [registry.host for registry in self._store.state.registries.known]
            sources = tuple(self._known_answer(each, words) for each in hosts)
        self._show(replace(self._discover, search=Search(query, sources)))
        if any(source.phase is SourcePhase.SEARCHING for source in sources):
            self._searching = self._spawn(self._search(query, self._debounce_s), f"search {query}")

    def search_again(self) -> None:
        """Asks those once more that couldn't be asked."""
        search = self._discover.search
        self._stop(self._searching)
        sources = tuple(Source(source.registry) if source.phase is SourcePhase.FAILED else source for source in search.sources)
        self._show(replace(self._discover, search=replace(search, sources=sources)))
        self._searching = self._spawn(self._search(search.query, 0), f"search {search.query}")

    def registries_changed(self) -> None:
        """Others are asked, or another login sees other things: what is in sight is asked for anew."""
        self._answers.clear()
        query = self._discover.search.query
        if query:
            self._stop(self._searching)
            self._show(replace(self._discover, search=Search()))
            self.search(query)
        view = self._discover.repository
        if view.trouble is not None:
            self._list_tags("", 0)
        if view.preview_trouble is not None:
            self.preview_again()

    async def _search(self, query: str, pause_s: float) -> None:
        await asyncio.sleep(pause_s)
        await self._engine.ready()
        waiting = [source.registry for source in self._discover.search.sources if source.phase is SourcePhase.SEARCHING]
        async with asyncio.TaskGroup() as group:
            for registry in waiting:
                group.create_task(self._ask(query, registry))

    async def _ask(self, query: str, registry: str) -> None:
        words = split_query(query)[1]
        hits: tuple[Hit, ...] = ()
        trouble: Trouble | None = None
        if registry == DOCKER_HUB and not words:
            self._show(replace(self._discover, search=answered(self._discover.search, query, registry)))
            return
        try:
            hits = await self._gateway.search(registry, words, SEARCH_LIMIT)
        except GatewayError as error:
            trouble = self._store.state.registries.explain(str(error), registry)
        else:
            self._answers[registry, words] = hits
            while len(self._answers) > _ANSWERS_KEPT:
                self._answers.pop(next(iter(self._answers)))
        self._show(replace(self._discover, search=answered(self._discover.search, query, registry, hits, trouble)))

    def _known_answer(self, registry: str, words: str) -> Source:
        hits = self._answers.get((registry, words))
        return Source(registry) if hits is None else Source(registry, SourcePhase.DONE, hits)

    # One repository

    def filter_tags(self, words: str) -> None:
        """The registry's tags that contain `words`, once typing pauses."""
        view = self._discover.repository
        if words.strip() != view.filter:
            self._change(filter=words.strip())
            self._list_tags("", self._debounce_s)

    def more_tags(self) -> None:
        view = self._discover.repository
        if view.next and not view.loading:
            self._list_tags(view.next, 0)

    def list_again(self) -> None:
        self._list_tags("", 0)
        self.preview_again()

    def choose_tag(self, tag: str) -> None:
        view = self._discover.repository
        if view.reference is not None and tag and (tag != view.chosen or view.preview is None):
            self._change(chosen=tag, preview=None, preview_trouble=None)
            self._preview()

    def choose_platform(self, platform: str) -> None:
        if platform != self._discover.repository.platform:
            self._change(platform=platform, preview_trouble=None)
            self._preview()

    def preview_again(self) -> None:
        self._change(preview_trouble=None)
        self._preview()

    def _open(self, key: str, reference: Reference) -> None:
        for task in (self._listing, self._previewing, self._reading):
            self._stop(task)
        hits = (hit for found in self._answers.values() for hit in found)
        hit = next((hit for hit in hits if (hit.registry, hit.repository) == (reference.registry, reference.repository)), None)
        view = RepositoryView(key, reference, hit, chosen=reference.digest or reference.tag)
        self._show(replace(self._discover, repository=view))
        self._list_tags("", 0)
        if view.chosen:
            self._preview()

    def _list_tags(self, after: str, pause_s: float) -> None:
        self._stop(self._listing)
        self._stop(self._reading)
        self._change(loading=True, trouble=None)
        self._listing = self._spawn(self._read_tags(after, pause_s), "tags")

    async def _read_tags(self, after: str, pause_s: float) -> None:
        await asyncio.sleep(pause_s)
        await self._engine.ready()
        view = self._discover.repository
        reference = view.reference
        if reference is None:
            return
        try:
            page = await self._gateway.tags(reference, after=after, words=view.filter, limit=TAGS_A_PAGE)
        except GatewayError as error:
            trouble = self._store.state.registries.explain(str(error), Reference(reference.registry, reference.repository))
            self._change(loading=False, loaded=True, trouble=trouble)
            return
        self._show(replace(self._discover, repository=with_page(self._discover.repository, page, first=not after)))
        if not self._discover.repository.chosen and page.tags:
            self.choose_tag(preferred_tag(page.tags))
        unknown = [tag for tag in self._discover.repository.tags if not tag.known]
        if unknown and reference.registry != DOCKER_HUB:
            # Docker Hub counts every manifest against the user's pulls, and tells sizes with its list.
            self._reading = self._spawn(self._read_sizes(reference, unknown), "sizes of tags")

    async def _read_sizes(self, reference: Reference, tags: list[Tag]) -> None:
        gate = asyncio.Semaphore(_READ_AT_ONCE)

        async def read(tag: Tag) -> None:
            async with gate:
                try:
                    known = tag_of_preview(tag.name, await self._gateway.preview_pull(reference.tagged(tag.name), ""))
                except GatewayError as error:
                    explained = self._store.state.registries.explain(str(error), reference.tagged(tag.name))
                    known = replace(tag, note=explained.title)
            self._show(replace(self._discover, repository=with_tag(self._discover.repository, known)))

        async with asyncio.TaskGroup() as group:
            for tag in tags:
                group.create_task(read(tag))

    def _preview(self) -> None:
        self._stop(self._previewing)
        self._previewing = self._spawn(self._read_preview(), "pull preview")

    async def _read_preview(self) -> None:
        await self._engine.ready()
        view = self._discover.repository
        reference = view.chosen_reference
        if reference is None:
            return
        try:
            preview = await self._gateway.preview_pull(reference, view.platform)
        except GatewayError as error:
            trouble = self._store.state.registries.explain(str(error), reference)
            self._change(preview=None, preview_trouble=trouble)
            return
        self._change(preview=preview, preview_trouble=None)
        if reference.tag and not view.platform:
            known = tag_of_preview(reference.tag, preview)
            self._show(replace(self._discover, repository=with_tag(self._discover.repository, known)))

    # Following the state

    def _follow(self, state: AppState, previous: AppState) -> None:
        if state.route.page is Page.DISCOVER and state.route.key and state.route.key != state.discover.repository.key:
            reference = parse_reference(state.route.key)
            if reference is not None:
                self._open(state.route.key, reference)
                return
        if state.pulls is not previous.pulls and self._one_has_come(state, previous):
            self.preview_again()
        if previous.engine.phase is not EnginePhase.READY and state.engine.phase is EnginePhase.READY:
            self._answers.clear()

    def _one_has_come(self, state: AppState, previous: AppState) -> bool:
        """A pull of the repository in sight has ended: its layers are here now."""
        reference = state.discover.repository.reference
        if reference is None:
            return False
        for key, pull in state.pulls.items():
            before = previous.pulls.get(key)
            if pull.phase is PullPhase.DONE and (before is None or before.phase is not PullPhase.DONE):
                parsed = parse_reference(pull.reference)
                if parsed and (parsed.registry, parsed.repository) == (reference.registry, reference.repository):
                    return True
        return False

    @property
    def _discover(self) -> Discover:
        return self._store.state.discover

    def _show(self, discover: Discover) -> None:
        self._store.dispatch(DiscoverChanged(discover))

    def _change(self, **fields: Any) -> None:
        self._show(replace(self._discover, repository=replace(self._discover.repository, **fields)))

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        return self._tasks.spawn(work, name=name)

    def _stop(self, task: asyncio.Task[None] | None) -> None:
        if task is not None:
            task.cancel()
