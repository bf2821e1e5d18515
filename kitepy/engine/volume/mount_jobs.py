"""The worker jobs that mount a volume with driver options on its directory, or an image on one, and take it away again.

Jobs of their own, because a file server that doesn't answer holds up whoever mounts it: such a process can be given up. They
enter the mount namespace that comes as their descriptor: the engine's, where the binds of containers find what is mounted.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
from typing import Any

from kitepy.engine.kernel import capabilities, mounts, namespaces, overlay
from kitepy.engine.kernel.syscalls import AT_FDCWD, libc_call
from kitepy.engine.kernel.user_namespaces import IdMap, create_user_namespace
from kitepy.engine.model.errors import SystemFailure, Unsupported
from kitepy.engine.storage import confinement
from kitepy.engine.storage.zygote import JobContext

_MS_REMOUNT = 0x20
_READ_ONLY_BIND = mounts.MS_BIND | mounts.MS_RDONLY
_HINTS = {
    errno.ENODEV: "this machine's kernel has no file system of that type",
    errno.EPERM: "the engine lacks the right to mount it here",
}


def mount_volume(context: JobContext, params: dict[str, Any]) -> dict[str, Any]:
    """params: those of ``VolumeMount``, and ``target``. Raises SystemFailure, worded as dockerd does."""
    target, kind, device, flags, data = (params[key] for key in ("target", "kind", "device", "flags", "data"))
    if params["server"]:
        address = _address_of(params["server"], target)
        data = ",".join(word for word in (data, f"addr={address}") if word)
    namespaces.setns(context.fds[0], namespaces.CLONE_NEWNS)
    try:
        _mount(device, target, kind, flags, data)
        if flags & _READ_ONLY_BIND == _READ_ONLY_BIND:
            _mount("", target, "", flags | _MS_REMOUNT, "")  # the first call ignores the flag
        if params["propagation"]:
            mounts.set_propagation(target, params["propagation"])
    except OSError as error:
        shown = f"{device}:{target}"
        shown += f", flags: {flags:#x}" if flags else ""
        shown += f", data: {_without_secrets(data)}" if data else ""
        hint = f" ({_HINTS[error.errno]})" if error.errno in _HINTS else ""
        reason = os.strerror(error.errno or errno.EIO).lower()
        raise SystemFailure(
            f"error while mounting volume '{target}': failed to mount local volume: mount {shown}: {reason}{hint}"
        ) from None
    return {}


def mount_image(context: JobContext, params: dict[str, Any]) -> dict[str, Any]:
    """params: ``base``, ``lower`` (topmost first, relative to base), ``flavour``, ``target``; ``ids``, the maps of uids and gids
    of a remapped container, or None."""
    base, lower, target = params["base"], params["lower"], params["target"]
    if params["flavour"] == "fuse" and len(lower) > 1:
        raise Unsupported("mounting an image of several layers needs the kernel's own overlay file system, which it refuses here")
    owner: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if params["ids"] is not None:
        uids, gids = (IdMap(tuple((int(a), int(b), int(c)) for a, b, c in rows)) for rows in params["ids"])
        mounts.cover_mapped(base, create_user_namespace(uids, gids))
        owner = capabilities.touching_files_as(uids.outside(0) or 0, gids.outside(0) or 0)
    if len(lower) == 1:
        tree_fd = mounts.clone_tree(AT_FDCWD, os.path.join(base, lower[0]))
    else:
        stage = os.path.join(base, "tmp")
        confinement.mount_tmpfs(stage)
        with owner:
            overlay.mount_layers(stage, base, lower, flavour=params["flavour"])
        tree_fd = mounts.clone_tree(AT_FDCWD, stage)
    mounts.set_attributes(tree_fd, add=mounts.ATTR_RDONLY, propagation=mounts.MS_PRIVATE)
    namespaces.setns(context.fds[0], namespaces.CLONE_NEWNS)
    target_fd = os.open(target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    mounts.attach_tree(tree_fd, target_fd, target)
    return {}


def unmount_volume(context: JobContext, params: dict[str, Any]) -> dict[str, Any]:
    """params: ``target``. Takes away all that is mounted there; nothing may be."""
    namespaces.setns(context.fds[0], namespaces.CLONE_NEWNS)
    while True:
        try:
            mounts.unmount_detached(params["target"])
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                return {}
            raise SystemFailure(f"unmounting {params['target']}: {os.strerror(error.errno or errno.EIO).lower()}") from None


def _mount(device: str, target: str, kind: str, flags: int, data: str) -> None:
    libc_call(
        "mount",
        target,
        os.fsencode(device),
        os.fsencode(target),
        kind.encode(),
        ctypes.c_ulong(flags),
        os.fsencode(data),
    )


def _address_of(server: str, target: str) -> str:
    try:
        return str(socket.getaddrinfo(server, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise SystemFailure(
            f"error while mounting volume '{target}': error resolving passed in network volume address: lookup {server}: "
            f"{error.strerror or error}"
        ) from None


def _without_secrets(data: str) -> str:
    words = ("password=********" if word.startswith(("password=", "pass=")) else word for word in data.split(","))
    return ",".join(words)
