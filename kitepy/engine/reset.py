"""``python -m kitepy.engine.reset``: removes everything that an engine keeps, as that engine; ``kitepy engine reset`` runs it.

An ordinary user can't do so with rm(1): files of other users of containers belong to subordinate ids. Takes the engine's own
options, for the directories, and ``--yes``, without which nothing is removed.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path

from kitepy.engine.config import ConfigError, EngineConfig, parse_config
from kitepy.engine.kernel.mount_table import mount_points
from kitepy.engine.kernel.mounts import unmount_detached
from kitepy.engine.kernel.processes import start_ticks
from kitepy.engine.pidfile import PidFile
from kitepy.engine.rootless.holder import RootlessError

DIRECTORIES = ("containers", "content", "init", "layers", "mounts", "tmp", "volumes")
FILES = ("engine-id", "engine.lock", "state.db", "state.db-shm", "state.db-wal")
"""What an engine makes in its data root. Nothing else there is touched: it may be somebody's."""
_DATABASE = "state.db"


def main(argv: list[str] | None = None) -> int:
    """Gives the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    agreed = "--yes" in arguments
    try:
        config = parse_config([word for word in arguments if word != "--yes"], uid=os.getuid(), environ=os.environ)
        if not (config.data_root / _DATABASE).exists():
            print(f"No engine has kept anything in {config.data_root}.")
            return 0
        if not agreed:
            print(f"This removes all images, containers and volumes in {config.data_root}. To do it, add --yes.", file=sys.stderr)
            return 1
        reset(config)
    except (ConfigError, RootlessError, OSError) as error:
        print(f"kitepy: nothing more was removed: {error}", file=sys.stderr)
        return 1
    print(f"{config.data_root} is empty.")
    return 0


def reset(config: EngineConfig) -> None:
    """Remove what the engine made below its data root.

    Raises ConfigError while it or a container runs, RootlessError, OSError.
    """
    with ExitStack() as stack:
        stack.enter_context(PidFile(config.pidfile))
        stack.callback(os.close, _lock(config.data_root))
        running = _running(config.exec_root)
        if running:
            raise ConfigError(f"containers are running: {', '.join(name[:12] for name in running)}; stop them first")
        if os.getuid() != 0:
            from kitepy.engine.rootless.entry import enter

            stack.callback(enter(config.exec_root, os.environ).end)
        for point in mount_points():  # what is mounted there for volumes with driver options is somebody else's
            if any(Path(point).is_relative_to(config.data_root / name) for name in ("mounts", "volumes")):
                unmount_detached(point)
        # The database goes last: with it there, an interrupted reset can be repeated.
        for name in DIRECTORIES:
            if (config.data_root / name).exists():
                shutil.rmtree(config.data_root / name)
        for name in reversed(FILES):
            (config.data_root / name).unlink(missing_ok=True)


def _lock(data_root: Path) -> int:
    """Keep out engines that have another process id file; the lock ends with the descriptor."""
    fd = os.open(data_root / "engine.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise ConfigError(f"an engine that keeps its data in {data_root} is running; stop it first") from None
    return fd


def _running(exec_root: Path) -> list[str]:
    """Ids of containers whose process 1 lives."""
    found = []
    for path in sorted(exec_root.glob("containers/*/status.json")):
        status = json.loads(path.read_text(encoding="utf-8"))
        if start_ticks(int(status["pid"])) == status.get("pid_started") is not None:
            found.append(path.parent.name)
    return found


if __name__ == "__main__":
    sys.exit(main())
