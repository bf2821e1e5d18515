"""A monitor forked in advance, with a process 1 in advance: of a start, the launcher's and the monitor's forks are done before.

The spare waits for its request on a socket to the launcher, and ends when the launcher closes that.
"""

from __future__ import annotations

import os
from _socket import socket

from kitepy.engine.kernel import namespaces
from kitepy.engine.kernel.packets import receive_packet, unpack
from kitepy.engine.runtime.children import new_socketpair
from kitepy.engine.runtime.init import Machine
from kitepy.engine.runtime.monitor import become_monitor, prepare_first_process, run_monitor
from kitepy.engine.runtime.rehearsal import rehearse_monitor
from kitepy.engine.runtime.user_networks import PURPOSE, serve_request

_FAULT = 70


def fork_spare(machine: Machine, engine: socket) -> socket | None:
    """For the launcher: the socket that takes the request; None when this is no time to fork (the next start says why)."""
    ours, theirs = new_socketpair()
    try:
        pid, pidfd = namespaces.fork_with_pidfd()
    except OSError:
        ours.close()
        theirs.close()
        return None
    if not pid:
        engine.close()
        ours.close()
        _wait_for_request(theirs, machine)
    os.close(pidfd)
    theirs.close()
    return ours


def _wait_for_request(launcher: socket, machine: Machine) -> None:
    try:
        become_monitor(machine)
        prepared = prepare_first_process(machine, launcher)
        rehearse_monitor(machine.hierarchies)
        received = receive_packet(launcher)
        launcher.close()
        if received is not None:
            _serve_purpose(*received)
            run_monitor(*received, machine, prepared)
    except BaseException:
        import traceback

        os.write(2, traceback.format_exc().encode())
        os._exit(_FAULT)
    os._exit(0)


def serve_launch(packet: bytes, fds: list[int], machine: Machine) -> None:
    """Do what a request asks for, in a process that was forked for it; never returns."""
    _serve_purpose(packet, fds)
    become_monitor(machine)
    # Here, too, it is forked first: it plans while the monitor works, and the monitor stays small.
    run_monitor(packet, fds, machine, prepare_first_process(machine, None))


def _serve_purpose(packet: bytes, fds: list[int]) -> None:
    """Serve a request that asks for something else than a container, and end."""
    if PURPOSE.encode() in packet:  # most have none: their JSON is read only once
        request, _ = unpack(packet)
        if request.get("purpose") == PURPOSE:
            serve_request(request, fds)
