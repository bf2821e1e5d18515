"""When a container can't be started because somebody holds its port: says who, and offers what helps."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from kitepy.gui.controllers.controller import Controller
from kitepy.gui.gateway.port import GatewayError
from kitepy.gui.models.container import Container
from kitepy.gui.models.ports import Conflict, PortRow, conflict_in, holders, next_free, port_rows, with_protocol
from kitepy.gui.models.state import ActivityEnded, ActivityStarted, ContainersListed, ListenersRead, Navigated, Page, Route


class PortConflicts(Controller):
    async def named(self, message: str) -> str:
        """The engine's refusal with the name of who holds the port, if that is what it is about."""
        conflict = conflict_in(message)
        if conflict is None:
            return message
        conflict, holder, _ = await self._find(conflict, "")
        return f"{message} {_who(conflict, holder)}" if holder is not None and holder.holder not in message else message

    async def offer_way_out(self, container: Container, message: str) -> bool:
        """False when the failure is about something else."""
        conflict = conflict_in(message)
        if conflict is None:
            return False
        conflict, holder, free = await self._find(conflict, container.id)
        choices: list[tuple[str, Callable[[], None]]] = []
        text = _who(conflict, holder)
        if holder is not None and holder.published:
            name = holder.container_name
            choices.append((f"Stop {name} and start", lambda: self._spawn(container, self._swap(holder.container_id, container))))
        elif holder is not None:
            text += " Programs of this machine are left alone: end it yourself, or take another port."
        if free is not None:
            text += (
                f" {free} is free. Taking it makes {container.name} anew with the same files, volumes and settings; "
                "if it has run before, the old one is kept beside it."
            )
            choices.append((f"Use port {free}", lambda: self._spawn(container, self._move(container, conflict, free))))
        self._presenter.choose(f"{container.name} can't have port {conflict.port}", text, choices)
        return True

    async def _find(self, conflict: Conflict, container_id: str) -> tuple[Conflict, PortRow | None, int | None]:
        """What it is about, who holds the port now, and the next one that nobody does."""
        try:
            self._store.dispatch(ContainersListed(await self._gateway.containers()))
            self._store.dispatch(ListenersRead(await self._gateway.host_ports()))
        except GatewayError:
            # Then what was known before has to do: the user is waiting for an answer.
            pass
        state = self._store.state
        others = [container for container in state.containers.values() if container.id != container_id]
        rows = port_rows(others, state.listeners)
        conflict = with_protocol(conflict, rows)
        found = holders(rows, conflict.port, conflict.protocol, conflict.address)
        free = next_free(rows, conflict.port, conflict.protocol)
        for _ in range(20):
            if free is None or not (await self._gateway.try_port(free, conflict.protocol)).taken:
                break
            free = next_free(rows, free, conflict.protocol)
        return conflict, min(found, key=lambda row: not row.published, default=None), free

    def _spawn(self, container: Container, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.spawn(work, name=f"port of {container.name}")

    async def _swap(self, holder_id: str, container: Container) -> None:
        try:
            self._store.dispatch(ActivityStarted(holder_id, "Stopping"))
            self._store.dispatch(ActivityStarted(container.id, "Starting"))
            await self._gateway.stop(holder_id)
            await self._gateway.start(container.id)
            self._store.dispatch(ContainersListed(await self._gateway.containers()))
        finally:
            self._store.dispatch(ActivityEnded(holder_id))
            self._store.dispatch(ActivityEnded(container.id))
            self._engine.refresh()

    async def _move(self, container: Container, conflict: Conflict, free: int) -> None:
        try:
            self._store.dispatch(ActivityStarted(container.id, f"Moving to port {free}"))
            made = await self._gateway.move_port(container.id, conflict.protocol, conflict.port, free)
            watched = self._store.state.route == Route(Page.CONTAINER, container.id)
            self._store.dispatch(ContainersListed(await self._gateway.containers()))
            if watched:
                self._store.dispatch(Navigated(Route(Page.CONTAINER, made)))
            self._presenter.tell(f"{container.name} runs on port {free} now.")
        finally:
            self._store.dispatch(ActivityEnded(container.id))
            self._engine.refresh()


def _who(conflict: Conflict, holder: PortRow | None) -> str:
    name = f"Port {conflict.port}" + ("" if conflict.protocol == "tcp" else f"/{conflict.protocol}")
    if holder is None:
        return f"{name} is taken, but nobody who can be seen holds it."
    return f"{name} is held by {'the container ' if holder.published else ''}{holder.holder} on {holder.address_text}."
