"""Runs a test's function as root of a user namespace, which is what the engine of an ordinary user is.

The test process has root: it forks a child, maps its ids and gets back what the function returned or raised. Ids inside
start at ``FIRST_ID`` outside, so nothing of the machine belongs to the function: it works in a directory that
``namespace_directory`` made.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from kitepy.engine.kernel import mounts, namespaces, syscalls

Result = TypeVar("Result")

FIRST_ID = 1_000_000
"""Outside; far from accounts of the machine and from /etc/subuid's usual ranges."""
ID_COUNT = 65536


@contextlib.contextmanager
def namespace_directory(parent: str = "/var/tmp", prefix: str = "kn-") -> Iterator[Path]:
    """A directory that belongs to root of the namespace, on a disk unless ``parent`` says otherwise; removed at the end."""
    path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        os.chown(path, FIRST_ID, FIRST_ID)
        path.chmod(0o755)
        yield path
    finally:
        shutil.rmtree(path)


def make_reachable(path: str) -> None:
    """Where a directory above can't be searched by others, cover it with one that holds nothing but the way to ``path``.

    For a process with mounts of its own: the interpreter may lie in the home of the machine's root.
    """
    parts = Path(path).parts
    for depth in range(2, len(parts)):
        directory = os.path.join(*parts[:depth])
        if os.stat(directory).st_mode & 0o001:
            continue
        tree_fd = mounts.clone_tree(syscalls.AT_FDCWD, path, recursive=True)
        attach(mounts.new_filesystem("tmpfs", "tmpfs", [("mode", "755")], 0), directory)
        os.makedirs(path)
        attach(tree_fd, path)
        return


def attach(tree_fd: int, target: str) -> None:
    """Mount a detached tree, whose descriptor is closed."""
    target_fd = os.open(target, os.O_PATH)
    mounts.attach_tree(tree_fd, target_fd, target)
    os.close(tree_fd)
    os.close(target_fd)


def in_user_namespace(
    function: Callable[..., Result],
    *arguments: Any,
    id_map: tuple[tuple[int, int, int], ...] = ((0, FIRST_ID, ID_COUNT),),
    prepare: Callable[[], None] | None = None,
) -> Result:
    """Call the function in new user and mount namespaces, as their root; ``id_map`` rows are (inside, outside, count).

    What it returns or raises must be picklable. ``prepare`` is called before, still as the machine's root, in the mount
    namespace of its own: for mounts that the function needs.
    """
    results_read, results_write = os.pipe()
    ready_read, ready_write = os.pipe()
    mapped_read, mapped_write = os.pipe()
    child = os.fork()
    if not child:
        for fd in (results_read, ready_read, mapped_write):
            os.close(fd)
        _be_child(function, arguments, prepare, results_write, ready_write, mapped_read)
    for fd in (results_write, ready_write, mapped_read):
        os.close(fd)
    with open(results_read, "rb") as results, open(ready_read, "rb") as ready:
        try:
            if ready.read(1):
                text = "".join(f"{inside} {outside} {count}\n" for inside, outside, count in id_map)
                for name in ("uid_map", "gid_map"):
                    Path(f"/proc/{child}/{name}").write_text(text)
                os.write(mapped_write, b"m")
        finally:
            os.close(mapped_write)
            raw = results.read()
            os.waitpid(child, 0)
    if not raw:
        raise AssertionError("the process in the user namespace ended without a result")
    outcome, value, trace = pickle.loads(raw)  # noqa: S301 - from our own child
    if outcome == "returned":
        returned: Result = value
        return returned
    value.add_note(f"in the user namespace:\n{trace}")
    raise value


def _be_child(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    prepare: Callable[[], None] | None,
    results: int,
    ready: int,
    mapped: int,
) -> None:
    outcome: tuple[str, Any, str]
    try:
        namespaces.unshare(namespaces.CLONE_NEWNS)
        mounts.set_propagation("/", mounts.MS_REC | mounts.MS_PRIVATE)
        make_reachable(os.path.realpath(sys.base_prefix))
        if prepare is not None:
            prepare()
        namespaces.unshare(namespaces.CLONE_NEWUSER)
        os.write(ready, b"r")
        if not os.read(mapped, 1):
            os._exit(1)
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        # Mounts of a namespace that belongs to the user namespace, else none could be made.
        namespaces.unshare(namespaces.CLONE_NEWNS)
        os.environ["HOME"] = "/"
        outcome = ("returned", function(*arguments), "")
    except BaseException as error:
        outcome = ("raised", error, traceback.format_exc())
    try:
        raw = pickle.dumps(outcome)
    except Exception:  # whatever an exception carries that can't be pickled, its text can
        raw = pickle.dumps((outcome[0], AssertionError(repr(outcome[1])), outcome[2]))
    with open(results, "wb") as stream:
        stream.write(raw)
    os._exit(0)
