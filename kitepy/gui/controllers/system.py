"""Checks this machine, and lets the user choose with whose rights the engine runs."""

from __future__ import annotations

from kitepy.gui.controllers.controller import Controller
from kitepy.gui.gateway.port import GatewayError
from kitepy.gui.models.state import DISCOVER, DOCTOR, EnginePhase, Navigated, SystemChecked, SystemCheckStarted
from kitepy.gui.models.system_check import PRICE_OF_ROOT


class SystemController(Controller):
    def open(self) -> None:
        """Shows the page and looks anew."""
        self._store.dispatch(Navigated(DOCTOR))
        self.check()

    def check(self) -> None:
        """Looks anew; an engine that couldn't start is tried again, which tells the same and may succeed."""
        if self._store.state.checking_system:
            return
        if self._store.state.engine.phase is EnginePhase.FAILED:
            self._engine.start()
        else:
            self._tasks.spawn(self._check(), name="system check")

    def check_at_first_start(self) -> None:
        """Once the engine runs: shows the page when something doesn't work as people expect, unless they are at work already."""
        self._tasks.spawn(self._check_at_first_start(), name="first system check")

    def choose_rights(self, as_root: bool) -> None:
        """With administrator rights only after their price was told."""
        if as_root:
            self._presenter.confirm(
                "Start the engine with administrator rights?", PRICE_OF_ROOT, "Start as administrator", lambda: self._renew(True)
            )
        else:
            self._renew(False)

    async def _check(self) -> None:
        self._store.dispatch(SystemCheckStarted())
        try:
            found = await self._gateway.check_system()
        except GatewayError:
            self._store.dispatch(SystemChecked(None))
            raise
        self._store.dispatch(SystemChecked(found))

    async def _check_at_first_start(self) -> None:
        await self._engine.ready()
        await self._check()
        state = self._store.state
        if state.system is not None and state.system.worth_a_page and state.route == DISCOVER:
            self._store.dispatch(Navigated(DOCTOR))

    def _renew(self, as_root: bool) -> None:
        async def work() -> None:
            await self._engine.stop()
            await self._gateway.choose_rights(as_root=as_root)
            self._engine.start()
            await self._engine.ready()
            await self._check()

        self._store.dispatch(Navigated(DISCOVER))
        self._tasks.spawn(work(), name="rights of the engine")
