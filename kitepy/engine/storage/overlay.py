"""Root file systems of containers and build steps: their writable directories, and the overlay to be mounted as a value.

::

    containers/<id>/{upper,work}    a container's changes
    init/<variant>                  what every container finds above its image (init_layer.py)
    tmp/step-<id>/{upper,work}      a build step's changes, or an empty lower directory for images without layers

Nothing is mounted here: whoever uses the root mounts it in a namespace of its own (``model/launch.py``).
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from kitepy.engine.model.launch import OverlayRoot
from kitepy.engine.model.oci import ChainId
from kitepy.engine.storage.init_layer import init_layer
from kitepy.engine.storage.layers import LayerStore
from kitepy.engine.storage.worker import WorkerPool

_EMPTY = "layers/empty"
_STEP_PREFIX = "step-"


class OverlayStore:
    """Makes and removes the directories behind ``OverlayRoot`` values."""

    def __init__(self, data_root: Path, layers: LayerStore, workers: WorkerPool) -> None:
        self._root = data_root
        self._layers = layers
        self._workers = workers
        self._init_layers: dict[str, str] = {}
        for name in ("containers", "tmp"):
            (data_root / name).mkdir(mode=0o711, parents=True, exist_ok=True)

    def create_for_container(self, container_id: str, top: ChainId | None, *, volatile: bool = False) -> OverlayRoot:
        """A writable root for a container on top of a layer; made once, kept over restarts."""
        return self._create(f"containers/{container_id}", top, volatile, init=self._init_layer(top))

    def for_container(self, container_id: str, top: ChainId | None, *, volatile: bool = False) -> OverlayRoot:
        """The value for a container whose directories exist already."""
        return self._value(f"containers/{container_id}", top, volatile, init=self._init_layer(top))

    def create_for_step(self, top: ChainId | None) -> OverlayRoot:
        """A writable root for one build step. Commit its ``upper``, or ``remove`` it."""
        return self._create(f"tmp/{_STEP_PREFIX}{secrets.token_hex(8)}", top, volatile=True)

    def read_only(self, top: ChainId | None) -> OverlayRoot:
        """The layers alone, e.g. to copy out of an image."""
        return OverlayRoot(base=self._root, lower=self._lower(top), flavour=self._layers.flavour)

    def upper_path(self, root: OverlayRoot) -> Path:
        """Where the changes are, as an absolute path."""
        assert root.upper is not None
        return root.base / root.upper

    async def remove(self, root: OverlayRoot) -> None:
        """Remove the writable directories (whatever a container made in them); safe to call twice."""
        if root.upper is not None and root.work is not None:
            await self._remove([root.upper, root.work])
            parent = (root.base / root.upper).parent
            if parent.name.startswith(_STEP_PREFIX):
                await self._remove([os.path.relpath(parent, root.base)])

    async def remove_container(self, container_id: str) -> None:
        """Remove all of ``containers/<id>``; safe to call twice."""
        await self._remove([f"containers/{container_id}"])

    async def reconcile(self) -> None:
        """Remove what build steps of an engine that died have left; for start-up only."""
        await self._remove([f"tmp/{entry.name}" for entry in os.scandir(self._root / "tmp")])

    async def _remove(self, names: list[str]) -> None:
        if names:
            await self._workers.run("kitepy.engine.storage.jobs:remove_trees", {"base": str(self._root), "names": names})

    def _create(self, name: str, top: ChainId | None, volatile: bool, init: tuple[str, ...] = ()) -> OverlayRoot:
        value = self._value(name, top, volatile, init)
        lower_root = (self._root / value.lower[len(init)]).stat()
        parent = self._root / name
        parent.mkdir(mode=0o710, exist_ok=True)
        upper = parent / "upper"
        upper.mkdir()
        # The upper directory is what the container sees as "/".
        os.chown(upper, lower_root.st_uid, lower_root.st_gid)
        os.chmod(upper, stat.S_IMODE(lower_root.st_mode))
        (parent / "work").mkdir()
        return value

    def _value(self, name: str, top: ChainId | None, volatile: bool, init: tuple[str, ...] = ()) -> OverlayRoot:
        return OverlayRoot(self._root, init + self._lower(top), f"{name}/upper", f"{name}/work", volatile, self._layers.flavour)

    def _init_layer(self, top: ChainId | None) -> tuple[str, ...]:
        key = top or ""
        if key not in self._init_layers:
            self._init_layers[key] = init_layer(self._root, self._lower(top))
        return (self._init_layers[key],)

    def _lower(self, top: ChainId | None) -> tuple[str, ...]:
        if top is not None:
            return self._layers.lower_dirs(top)
        # Overlay wants at least one lower directory.
        empty = self._root / _EMPTY
        empty.mkdir(exist_ok=True)
        empty.chmod(0o755)
        return (_EMPTY,)
