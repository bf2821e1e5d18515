"""Going through the motions of a start before anybody waits for it.

A forked process shares its memory with its parent until it writes to it, and the interpreter writes wherever it counts a
reference: each page that a start uses for the first time costs microseconds, hundreds of them together. A process that was
forked in advance has the time for that.
"""

from __future__ import annotations

import os

from kitepy.engine.kernel import capabilities, syscalls
from kitepy.engine.kernel.packets import pack, unpack
from kitepy.engine.runtime.plan import Document, Launch, make_plan, outline
from kitepy.engine.runtime.process import Credentials, ProcessError, find_program, parse_environment

_SETS = ("bounding", "effective", "permitted")
_FILES = ("/etc/resolv.conf", "/etc/hostname", "/etc/hosts")


def _typical() -> Document:
    """An OCI document like those of most containers."""
    names = list(capabilities.DEFAULT)
    process: Document = {
        "user": {"uid": 0, "gid": 0, "additionalGids": [10]},
        "args": ["true"],
        "env": ["PATH=/bin", "HOSTNAME=x", "HOME=/root"],
        "cwd": "/",
        "capabilities": dict.fromkeys(_SETS, names),
    }
    flags = ["nosuid", "noexec", "nodev"]
    mounts: list[Document] = [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": flags},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "newinstance", "gid=5"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*flags, "ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": [*flags, "ro"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": flags},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": [*flags, "mode=1777"]},
    ]
    for path in _FILES:
        mounts.append({"destination": path, "type": "bind", "source": path, "options": ["rbind", "rprivate"]})
    return {
        "process": process,
        "root": {"path": "rootfs"},
        "hostname": "x",
        "mounts": mounts,
        "linux": {
            "namespaces": [{"type": kind} for kind in ("mount", "cgroup", "uts", "ipc", "pid")],
            "maskedPaths": ["/proc/kcore", "/sys/firmware"],
            "readonlyPaths": ["/proc/sys"],
            "resources": {},
        },
    }


def _message() -> bytes:
    return pack({"id": "x", "document": _typical()})


def _launch(hierarchies: dict[str, str] | None) -> Launch:
    overlay: Document = {"base": "/", "lower": ["a", "b"], "upper": "u", "work": "w", "volatile": False, "flavour": "trusted"}
    return Launch("x", "/", overlay, has_netns_fd=True, hierarchies=hierarchies)


def rehearse_monitor(hierarchies: dict[str, str] | None) -> None:
    """What a monitor does with a request before there is anything to be seen of it."""
    unpack(_message())
    outline(_typical(), _launch(hierarchies))


def rehearse_first_process(hierarchies: dict[str, str] | None) -> None:
    """What process 1 works out and asks before it changes anything."""
    message, _ = unpack(_message())
    document = message["document"]
    assert isinstance(document, dict)
    plan = make_plan(document, _launch(hierarchies))
    Credentials(plan.process)
    try:
        find_program("a program that is nowhere", parse_environment(plan.process["env"])["PATH"])
    except ProcessError:
        syscalls.reset_signals()
    capabilities.own_permitted()
    try:
        syscalls.openat2(-1, "", os.O_PATH, 0)
    except OSError:
        return
