"""The steps that give a container its device nodes and its terminal."""

from __future__ import annotations

import os
import stat

from kitepy.engine.kernel import mounts, tty
from kitepy.engine.kernel.paths import open_in_root, open_or_create
from kitepy.engine.runtime.operations import Context, Operation


class MakeDevice(Operation):
    """Create a device node; one that is there already must be the same device.

    A user namespace has no right to make nodes: there the host's node of the same path is mounted instead.
    """

    fields = ("path", "mode", "device", "uid", "gid")
    path: str
    mode: int
    device: int
    uid: int
    gid: int

    def execute(self, context: Context) -> None:
        parent, name = os.path.split(self.path)
        parent_fd = open_or_create(context.root_fd, parent, directory=True)
        try:
            try:
                os.mknod(name, self.mode, self.device, dir_fd=parent_fd)
            except FileExistsError:
                found = os.stat(name, dir_fd=parent_fd, follow_symlinks=False)
                if stat.S_IFMT(found.st_mode) != stat.S_IFMT(self.mode) or found.st_rdev != self.device:
                    raise
                return
            except PermissionError:
                self._bind(context)
                return
            if self.uid or self.gid:
                os.chown(name, self.uid, self.gid, dir_fd=parent_fd, follow_symlinks=False)
        finally:
            os.close(parent_fd)

    def _bind(self, context: Context) -> None:
        source_fd = os.open(self.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)  # the host's tree is still in place
        try:
            found = os.fstat(source_fd)
            if stat.S_IFMT(found.st_mode) != stat.S_IFMT(self.mode) or found.st_rdev != self.device:
                raise OSError(19, f"{self.path} of the host is another device than the container is to get")
            tree_fd = mounts.clone_tree(source_fd)
            target_fd = open_or_create(context.root_fd, self.path, directory=False, follow=False)
            mounts.set_attributes(tree_fd, add=mounts.ATTR_NOSUID | mounts.ATTR_NOEXEC, propagation=mounts.MS_PRIVATE)
            mounts.attach_tree(tree_fd, target_fd, self.path)
            os.close(target_fd)
            os.close(tree_fd)
        finally:
            os.close(source_fd)


class OpenTerminal(Operation):
    """Allocate a pseudo-terminal in the container's own devpts and show it as /dev/console."""

    fields = ("rows", "columns", "uid", "console")
    rows: int
    columns: int
    uid: int
    console: bool

    def execute(self, context: Context) -> None:
        master_fd = open_in_root(context.root_fd, "/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY, follow=False)
        slave_fd, number = tty.open_pair(master_fd)
        if self.rows and self.columns:
            tty.set_size(master_fd, self.rows, self.columns)
        if self.uid:
            os.fchown(slave_fd, self.uid, -1)
        if self.console:
            self._bind_console(context, number)
        context.terminal_master_fd, context.terminal_slave_fd = master_fd, slave_fd

    def _bind_console(self, context: Context, number: int) -> None:
        pts_fd = open_in_root(context.root_fd, f"/dev/pts/{number}", follow=False)
        target_fd = open_or_create(context.root_fd, "/dev/console", directory=False, follow=False)
        tree_fd = mounts.clone_tree(pts_fd)
        mounts.attach_tree(tree_fd, target_fd, "/dev/console")
        for fd in (tree_fd, target_fd, pts_fd):
            os.close(fd)
