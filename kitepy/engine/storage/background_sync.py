"""Getting new layers onto the disk after they are usable: one sync for a burst of them, noted in their rows.

Waiting for the disk in each commit would cost a build seconds. What a row says until then, and what happens to such layers
after a power cut, is ``layers.py``'s business.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path

from kitepy.engine.storage.confinement import sync_file_system
from kitepy.engine.storage.database import Database

log = logging.getLogger(__name__)

_DELAY_S = 1.0


class BackgroundSync:
    """Syncs the data root's file system and clears the mark of the layers that were made before. For one event loop."""

    def __init__(self, data_root: Path, database: Database, boot_id: str) -> None:
        self._root = data_root
        self._database = database
        self._boot_id = boot_id
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def soon(self) -> None:
        """There may be layers to sync."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Sync what is left, without delay."""
        self._closing.set()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), _DELAY_S)
            rows = self._database.query("SELECT id FROM layers WHERE unsynced_boot = ?", (self._boot_id,))
            if not rows:
                return
            try:
                await asyncio.to_thread(sync_file_system, self._root)
            except OSError as error:
                log.error("cannot sync %s: %s", self._root, error)
                return
            with self._database.transaction() as connection:
                done = [(row["id"],) for row in rows]
                connection.executemany("UPDATE layers SET unsynced_boot = NULL WHERE id = ?", done)
