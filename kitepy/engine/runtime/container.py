"""The running container as its monitor rules it: process 1 and the control group; its streams and execs are left to others."""

from __future__ import annotations

import errno
import os
import time

from kitepy.engine.kernel import namespaces
from kitepy.engine.kernel.cgroups import OomWatch
from kitepy.engine.kernel.packets import Message
from kitepy.engine.kernel.processes import start_ticks
from kitepy.engine.runtime.children import Child
from kitepy.engine.runtime.init import Machine
from kitepy.engine.runtime.plan import Plan

_SIGKILL = 9


class Container:
    """Process 1, which executes the user's program, and all that it started."""

    def __init__(self, plan: Plan, machine: Machine, first: Child) -> None:
        self.plan = plan
        self.machine = machine
        self.first = first
        self.paused = False
        self.started_at_ns = 0
        """When process 1 was seen to execute the program."""
        self.oom = False
        """Memory ran out once."""
        self._killed = False
        self._oom_watch: OomWatch | None = None

    def status(self, lost_log_bytes: int) -> Message:
        """What the engine is told, and finds in ``status.json``."""
        return {
            "pid": self.first.pid,
            "pid_started": start_ticks(self.first.pid) or 0,
            "monitor_pid": os.getpid(),
            "started_at_ns": self.started_at_ns,
            "cgroup_path": self.plan.cgroup_path,
            "paused": self.paused,
            "terminal": self.plan.terminal,
            "oom": self.oom,
            "lost_log_bytes": lost_log_bytes,
        }

    def send_signal(self, number: int) -> None:
        """Signal process 1; raises ProcessLookupError when it has ended."""
        namespaces.pidfd_send_signal(self.first.pidfd, number)
        if number == _SIGKILL:
            self._killed = True
            if self.paused:
                self.set_paused(False)  # a frozen process does not die before it thaws

    def end_unknown(self) -> None:
        """Nobody knows of this container: end it in the ordinary way."""
        try:
            namespaces.pidfd_send_signal(self.first.pidfd, _SIGKILL)
        except ProcessLookupError:
            return

    def set_paused(self, paused: bool) -> None:
        """Freeze or thaw all processes; raises ProcessLookupError for what is dying, which freezing would hold up for ever."""
        if paused and self._killed:
            raise ProcessLookupError(errno.ESRCH, "process 1 was killed")
        if paused:
            self.machine.driver.freeze(self.plan.cgroup_path)
        else:
            self.machine.driver.thaw(self.plan.cgroup_path)
        self.paused = paused

    def update(self, resources: dict[str, object]) -> None:
        """Change the limits; the shape is that of the OCI document's ``linux.resources``."""
        self.machine.driver.update(self.plan.cgroup_path, resources)

    def reap(self) -> int:
        """Wait for the end of process 1; gives its exit code."""
        return self.first.reap()

    def kill_the_rest(self) -> None:
        """See to it that nothing outlives process 1."""
        if self.plan.pid_namespace != "":
            self.machine.driver.kill(self.plan.cgroup_path)  # no namespace of its own took its children along

    def watch_memory(self) -> OomWatch | None:
        """Be told when memory runs out; None where that can't be."""
        self._oom_watch = self.machine.driver.watch_oom(self.plan.cgroup_path)
        return self._oom_watch

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel killed a process for want of memory; to be asked before ``remove_cgroup``."""
        return self.machine.driver.oom_kills(self.plan.cgroup_path) > 0

    def remove_cgroup(self) -> None:
        """The last step: the control group is empty."""
        if self._oom_watch is not None:
            self._oom_watch.close()
        remove_cgroup(self.machine, self.plan.cgroup_path)


def remove_cgroup(machine: Machine, cgroup_path: str) -> None:
    """Remove a control group whose processes have ended, or are just ending."""
    for _ in range(50):
        try:
            machine.driver.remove(cgroup_path)
            return
        except OSError:
            time.sleep(0.002)  # the last process is just leaving
    os.write(2, f"could not remove control group {cgroup_path}\n".encode())
