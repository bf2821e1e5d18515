"""A racing process: it exchanges two names without end, as a container does to redirect a path halfway through."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from kitepy.engine.kernel.syscalls import libc_call

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextlib.contextmanager
def swapped(first: Path, second: Path) -> Iterator[None]:
    """While the block runs, the two names change places all the time; begins after the first exchange."""
    read_fd, write_fd = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            names = os.fsencode(first), os.fsencode(second)
            _exchange(*names)
            os.write(write_fd, b"1")
            # An odd number without a pause, then one: now and then either state lasts long enough to be walked through.
            for pause_s in itertools.cycle((0.0,) * 30 + (0.0005,)):
                # What is attacked may remove one of them for a moment, to put something else in its place.
                with contextlib.suppress(FileNotFoundError):
                    _exchange(*names)
                if pause_s:
                    time.sleep(pause_s)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(write_fd)
    try:
        with os.fdopen(read_fd, "rb") as ready:
            assert ready.read(1) == b"1", "the names can't be exchanged"
        yield
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "the race ended before the test did"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)


def _exchange(first: bytes, second: bytes) -> None:
    libc_call("renameat2", "exchange", _AT_FDCWD, first, _AT_FDCWD, second, _RENAME_EXCHANGE)
