"""Overlays by fuse-overlayfs(1), for kernels that refuse an ordinary user theirs: one serving process a mount.

The process is forked by whoever prepares the mount, outside of the container's namespaces, and starts to serve once the
mount is there. It serves a descriptor of /dev/fuse that was opened for it, so that the mount can be made in another mount
namespace. It ends with the mount: when the last process of that namespace ends, the kernel takes the mount away and tells it so.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence

from kitepy.engine.kernel.namespaces import CLONE_NEWNS, unshare
from kitepy.engine.kernel.syscalls import libc_call

PROGRAM = "fuse-overlayfs"
DEVICE = "/dev/fuse"
_SEARCHED = ("/usr/bin", "/bin", "/usr/local/bin")
_MS_RDONLY = 1
# All users of the container may look at it (allow_other), within the owners and modes of the files (default_permissions).
_MOUNT_OPTIONS = "rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other"
MARKERS = frozenset({".wh..opq", ".wh..wh..opq"})
"""What it puts into a directory that hides those below; nobody else may make names with this prefix in such a mount."""


def find_program() -> str | None:
    """Where the program is, or None."""
    for directory in (*os.environ.get("PATH", "").split(":"), *_SEARCHED):
        path = os.path.join(directory, PROGRAM)
        if directory.startswith("/") and os.access(path, os.X_OK):
            return path
    return None


def options(lower: Sequence[str], upper: str | None, work: str | None) -> str:
    """The program's options; directories are relative to the base."""
    text = "lowerdir=" + ":".join(lower)
    if upper:
        text += f",upperdir={upper},workdir={work}"
    # What is written must be in the upper directory at once: it gets packed while the mount is there.
    return f"{text},writeback=0"


class FuseServer:
    """The serving process of a mount that is yet to be made. Parent and child each call ``mount`` or ``release``."""

    __slots__ = ("_device_fd", "_start_fd")

    def __init__(self, base: str, option_text: str) -> None:
        """Fork the process; raises OSError when there is no device or program."""
        program = find_program()
        if program is None:
            raise FileNotFoundError(2, f"{PROGRAM} is not installed")
        self._device_fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
        wait_fd, self._start_fd = os.pipe2(os.O_CLOEXEC)
        ready_fd, tell_fd = os.pipe2(os.O_CLOEXEC)
        if not os.fork():
            os.close(self._start_fd)
            os.close(ready_fd)
            _serve(program, base, option_text, self._device_fd, wait_fd, tell_fd)
        os.close(wait_fd)
        os.close(tell_fd)
        os.read(ready_fd, 1)
        os.close(ready_fd)

    def mount(self, target: str, *, readonly: bool) -> None:
        """Mount in the calling process's namespace and start to serve."""
        data = f"fd={self._device_fd},{_MOUNT_OPTIONS}".encode()
        flags = ctypes.c_ulong(_MS_RDONLY if readonly else 0)
        libc_call("mount", f"{PROGRAM} {target}", PROGRAM.encode(), os.fsencode(target), b"fuse.fuse-overlayfs", flags, data)
        os.write(self._start_fd, b"m")
        self.release()

    def release(self) -> None:
        """Close the descriptors: nothing of the mount may be kept alive from here."""
        os.close(self._device_fd)
        os.close(self._start_fd)


def _serve(program: str, base: str, option_text: str, device_fd: int, wait_fd: int, tell_fd: int) -> None:
    try:
        os.setsid()
        # It must not be in the namespace that the mount will be in, or each would keep the other.
        unshare(CLONE_NEWNS)
        os.write(tell_fd, b"r")
        if not os.read(wait_fd, 1):
            os._exit(0)  # nothing was mounted
        os.umask(0)
        os.chdir(base)
        # Whatever else the parent had open belongs to containers and clients.
        served_fd = os.dup2(device_fd, 3)
        os.set_inheritable(served_fd, True)  # dup2 of a descriptor onto itself changes nothing
        os.closerange(4, 4096)
        os.execv(program, [program, "-f", "-o", option_text, f"/dev/fd/{served_fd}"])  # noqa: S606 - a fixed program
    except OSError as error:
        os.write(2, f"{program}: {error}\n".encode())
    finally:
        os._exit(127)
