"""What nearly every controller works with."""

from __future__ import annotations

from kitepy.gui.controllers.engine import EngineController
from kitepy.gui.controllers.presenter import Presenter
from kitepy.gui.gateway.port import Gateway
from kitepy.gui.models.state import Store
from kitepy.gui.tasks import Tasks


class Controller:
    """Acts on the engine through the gateway, tells the store what came of it, and asks people through the presenter."""

    def __init__(self, store: Store, gateway: Gateway, tasks: Tasks, engine: EngineController, presenter: Presenter) -> None:
        self._store = store
        self._gateway = gateway
        self._tasks = tasks
        self._engine = engine
        self._presenter = presenter
