"""What can be done to containers, and running images. Asks where something is lost, marks what goes on, says what failed."""

from __future__ import annotations

from kitepy.gui.controllers.controller import Controller
from kitepy.gui.controllers.engine import EngineController, Lists
from kitepy.gui.controllers.port_conflicts import PortConflicts
from kitepy.gui.controllers.presenter import Presenter
from kitepy.gui.gateway.port import Gateway, OperationFailed
from kitepy.gui.models.actions import ContainerAction, available, loss_of_removal
from kitepy.gui.models.container import Container, free_name
from kitepy.gui.models.image import name_from_reference
from kitepy.gui.models.state import ActivityEnded, ActivityStarted, ContainersListed, Navigated, Page, Route, Store
from kitepy.gui.tasks import Tasks


class ContainersController(Controller):
    def __init__(self, store: Store, gateway: Gateway, tasks: Tasks, engine: EngineController, presenter: Presenter) -> None:
        super().__init__(store, gateway, tasks, engine, presenter)
        self._conflicts = PortConflicts(store, gateway, tasks, engine, presenter)

    def act(self, action: ContainerAction, container_id: str) -> None:
        container = self._store.state.containers.get(container_id)
        if container is None or not available(action, container, self._store.state.activities.get(container_id, "")):
            return
        if action is ContainerAction.REMOVE:
            self._presenter.confirm(
                f"Remove {container.name}?",
                loss_of_removal(container),
                "Remove",
                lambda: self._spawn(action, container),
            )
        elif action is ContainerAction.RENAME:
            taken = {other.name for other in self._store.state.containers.values()}
            self._presenter.ask_name(container.name, taken, lambda name: self._spawn(action, container, name))
        else:
            self._spawn(action, container)

    def run_image(self, reference: str) -> None:
        self._tasks.spawn(self._run_image(reference), name=f"run {reference}")

    def _spawn(self, action: ContainerAction, container: Container, name: str = "") -> None:
        self._tasks.spawn(self._perform(action, container, name), name=f"{action.name.lower()} {container.name}")

    async def _perform(self, action: ContainerAction, container: Container, name: str) -> None:
        self._store.dispatch(ActivityStarted(container.id, action.progress))
        try:
            match action:
                case ContainerAction.START:
                    await self._gateway.start(container.id)
                case ContainerAction.STOP:
                    await self._gateway.stop(container.id)
                case ContainerAction.RESTART:
                    await self._gateway.restart(container.id)
                case ContainerAction.KILL:
                    await self._gateway.kill(container.id)
                case ContainerAction.RENAME:
                    await self._gateway.rename(container.id, name)
                case ContainerAction.REMOVE:
                    await self._gateway.remove(container.id, force=container.status.alive)
            # Read before the mark goes, so that the old state doesn't flash up in between.
            self._store.dispatch(ContainersListed(await self._gateway.containers()))
        except OperationFailed as error:
            if not await self._conflicts.offer_way_out(container, str(error)):
                raise
        finally:
            self._store.dispatch(ActivityEnded(container.id))
            self._engine.refresh(Lists.CONTAINERS)

    async def _run_image(self, reference: str) -> None:
        taken = {container.name for container in self._store.state.containers.values()}
        try:
            container_id = await self._gateway.run_image(reference, free_name(name_from_reference(reference), taken))
        except OperationFailed as error:
            raise OperationFailed(await self._conflicts.named(str(error))) from error
        finally:
            self._engine.refresh()
        self._store.dispatch(ContainersListed(await self._gateway.containers()))
        self._store.dispatch(Navigated(Route(Page.CONTAINER, container_id)))
