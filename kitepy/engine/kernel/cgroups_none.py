"""No control groups: an ordinary user on a machine that lends none. Limits are refused by name, processes found by descent."""

from __future__ import annotations

import os

from kitepy.engine.kernel.cgroups import CgroupDriver, OomWatch
from kitepy.engine.kernel.processes import descendants
from kitepy.engine.model.errors import Unsupported

_SIGKILL = 9
_TITLES = {
    "memory": "memory",
    "cpu": "CPU time",
    "pids": "the number of processes",
    "blockIO": "block I/O",
    "hugepageLimits": "huge pages",
    "rdma": "RDMA",
    "network": "network classes",
    "unified": "control groups",
}


class NoCgroups(CgroupDriver):
    """Stands where there are no groups; ``reason`` says why, for people."""

    version = 0

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def create(self, path: str, resources: dict[str, object]) -> None:
        self.update(path, resources)

    def update(self, path: str, resources: dict[str, object]) -> None:  # noqa: ARG002
        for name, value in resources.items():
            # Device rules protect nothing here: a user namespace has no right to open devices that the user can't open.
            if value and name != "devices":
                raise Unsupported(f"this engine can't limit {_TITLES.get(name, name)}: {self.reason}")

    def join(self, path: str) -> None:
        """Nothing to join."""

    def spawn_fd(self, path: str) -> int | None:  # noqa: ARG002
        return None

    def add(self, path: str, pid: int) -> None:
        """Nothing to join."""

    def freeze(self, path: str) -> None:  # noqa: ARG002
        raise Unsupported(f"this engine can't pause containers: {self.reason}")

    def thaw(self, path: str) -> None:
        """Nothing is ever frozen."""

    def kill(self, path: str) -> None:  # noqa: ARG002
        """What the calling monitor started, and what was left to it as to their next of kin; it is a subreaper."""
        while found := descendants(os.getpid()):
            for pid in found:
                try:
                    os.kill(pid, _SIGKILL)
                except ProcessLookupError:
                    continue
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    continue
            except ChildProcessError:
                return

    def pids(self, path: str) -> list[int]:  # noqa: ARG002
        return descendants(os.getpid())

    def oom_kills(self, path: str) -> int:  # noqa: ARG002
        return 0

    def watch_oom(self, path: str) -> OomWatch | None:  # noqa: ARG002
        return None

    def stats(self, path: str) -> dict[str, dict[str, str]]:  # noqa: ARG002
        return {}

    def remove(self, path: str) -> None:
        """There is nothing to remove."""

    def controllers(self) -> frozenset[str]:
        return frozenset()
