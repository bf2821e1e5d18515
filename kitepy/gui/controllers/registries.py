"""Keeps the list of registries: which the user added, who is logged in where, and whether they answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from kitepy.gui.controllers.controller import Controller
from kitepy.gui.controllers.engine import EngineController
from kitepy.gui.controllers.memory import Memory
from kitepy.gui.controllers.presenter import Presenter
from kitepy.gui.gateway.port import Gateway, GatewayError
from kitepy.gui.models.reference import DOCKER_HUB
from kitepy.gui.models.registry import EngineRegistries, Keeper, NewLogin, Registries, Registry, put_together, with_registry
from kitepy.gui.models.state import AppState, EnginePhase, Page, RegistriesChanged, Store
from kitepy.gui.models.trouble import Cause, Trouble, refused_login
from kitepy.gui.tasks import Tasks


class RegistriesController(Controller):
    def __init__(
        self,
        store: Store,
        gateway: Gateway,
        tasks: Tasks,
        engine: EngineController,
        presenter: Presenter,
        memory: Memory,
        changed: Callable[[], None],
    ) -> None:
        super().__init__(store, gateway, tasks, engine, presenter)
        self._memory = memory
        self._changed = changed
        self._reading: asyncio.Task[None] | None = None
        self._looked_at = False
        store.subscribe(self._follow)

    def start(self) -> None:
        """What the user added is known at once; logins are read beside, since a keyring may want to be unlocked first."""
        state = self._store.state.registries
        self._show_registries(replace(put_together(state, self._memory.registries, (), EngineRegistries()), loaded=False))
        self.refresh()

    def refresh(self) -> None:
        if self._reading is None or self._reading.done():
            self._reading = self._tasks.spawn(self._read(), name="registries")

    def add(self) -> None:
        known = self._store.state.registries
        self._presenter.ask_new_registry({registry.host for registry in known.known}, known.keepers, self._add, self._try_login)

    def log_in(self, host: str) -> None:
        """Also for a registry that isn't listed yet."""
        known = self._store.state.registries
        registry = known.find(host) or Registry(host)
        self._presenter.ask_login(registry, known.keepers, self._try_login)

    def log_out(self, host: str) -> None:
        registry = self._store.state.registries.find(host)
        if registry is None or registry.login is None:
            return
        where = registry.kept_in
        also = " Docker's own commands are logged out there, too." if registry.login.keeper in _SHARED else ""
        self._presenter.confirm(
            f"Log out of {registry.title}?",
            f"The login of {registry.account} is deleted from {where}.{also} Images stay.",
            "Log out",
            lambda: self._spawn(self._log_out(host), f"log out of {host}"),
        )

    def remove(self, host: str) -> None:
        registry = self._store.state.registries.find(host)
        if registry is None or not registry.can_go:
            return
        login = f" The login of {registry.account} is deleted from {registry.kept_in}." if registry.login else ""
        self._presenter.confirm(
            f"Remove {registry.title} from the list?",
            f"It is no longer searched.{login} Its images on this machine stay, and it can be added again.",
            "Remove",
            lambda: self._spawn(self._remove(host), f"remove registry {host}"),
        )

    def check(self, host: str) -> None:
        registry = self._store.state.registries.find(host)
        if registry is not None and not registry.checking:
            self._spawn(self._check(host), f"check {host}")

    def _add(self, host: str) -> None:
        if host != DOCKER_HUB and host not in self._memory.registries:
            self._memory.registries = (*self._memory.registries, host)
        self._spawn(self._added(host), f"add {host}")

    async def _added(self, host: str) -> None:
        await self._read()
        self._changed()
        await self._check(host)

    def _try_login(self, login: NewLogin, answer: Callable[[Trouble | None], None]) -> Callable[[], None]:
        task = self._tasks.spawn(self._log_in(login, answer), name=f"log in to {login.host}")

        def stop() -> None:
            task.cancel()

        return stop

    async def _log_in(self, login: NewLogin, answer: Callable[[Trouble | None], None]) -> None:
        """Kept when the registry accepts it."""
        try:
            await self._engine.ready()
            await self._gateway.log_in(login)
        except GatewayError as error:
            answer(refused_login(str(error), login.host, login.user, self._store.state.registries.places))
            return
        answer(None)
        if login.host != DOCKER_HUB and login.host not in self._memory.registries:
            self._memory.registries = (*self._memory.registries, login.host)
        await self._read()
        self._changed()
        self._mark(login.host, checked=True, checking=False, trouble=None)

    async def _log_out(self, host: str) -> None:
        try:
            await self._gateway.log_out(host)
        finally:
            await self._read()
            self._changed()
            self.check(host)

    async def _remove(self, host: str) -> None:
        registry = self._store.state.registries.find(host)
        self._memory.registries = tuple(each for each in self._memory.registries if each != host)
        if registry is not None and registry.login is not None:
            await self._log_out(host)
        else:
            await self._read()
            self._changed()

    async def _check(self, host: str) -> None:
        self._mark(host, checking=True)
        trouble: Trouble | None = None
        try:
            await self._engine.ready()
            await self._gateway.check_registry(host)
        except GatewayError as error:
            trouble = self._store.state.registries.explain(str(error), host)
            registry = self._store.state.registries.find(host)
            if trouble.cause is Cause.DENIED and registry is not None and registry.login is None:
                trouble = None  # It is there; what it shows to whom is seen when something is asked of it.
        finally:
            self._mark(host, checking=False)
        self._mark(host, checked=True, trouble=trouble)

    async def _read(self) -> None:
        registries = self._store.state.registries
        try:
            read = await self._gateway.logins()
            engine = EngineRegistries()
            if self._store.state.engine.phase is EnginePhase.READY:
                engine = await self._gateway.engine_registries()
        except GatewayError as error:
            self._show_registries(replace(registries, loaded=True, error=str(error)))
            return
        known = put_together(self._store.state.registries, self._memory.registries, read.logins, engine)
        self._show_registries(replace(known, keepers=read.keepers, notes=read.notes))

    def _follow(self, state: AppState, previous: AppState) -> None:
        """Registries are asked whether they answer when somebody looks, each time anew."""
        if previous.engine.phase is not EnginePhase.READY and state.engine.phase is EnginePhase.READY:
            self.refresh()
        looked_at = state.route.page is Page.REGISTRIES and state.engine.phase is EnginePhase.READY and state.registries.loaded
        if looked_at and not self._looked_at:
            self._looked_at = True
            for registry in state.registries.known:
                self.check(registry.host)
        elif not looked_at:
            self._looked_at = False

    def _mark(self, host: str, **fields: Any) -> None:
        registries = self._store.state.registries
        registry = registries.find(host)
        if registry is not None:
            self._show_registries(with_registry(registries, replace(registry, **fields)))

    def _show_registries(self, registries: Registries) -> None:
        self._store.dispatch(RegistriesChanged(registries))

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.spawn(work, name=name)


_SHARED = (Keeper.DOCKER, Keeper.HELPER)
