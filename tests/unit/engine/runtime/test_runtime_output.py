"""Streams that are held up by a client that does not read."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator

import pytest

from kitepy.engine.runtime import attach
from kitepy.engine.runtime.attachments import Attachments
from kitepy.engine.runtime.logfile import STDERR, STDOUT, NoLog
from kitepy.engine.runtime.output import Outputs
from kitepy.engine.runtime.watch import READ, OutputWatch

CHUNK = b"x" * 65536


class Wiring:
    """Outputs as a monitor puts them together: two pipes, one client."""

    def __init__(self) -> None:
        self.epoll = select.epoll()
        watch = OutputWatch(self.epoll)
        attachments = Attachments(self.epoll, None, stdin_once=False, terminal=False, overflow_directory=None)
        self.outputs = Outputs(watch, NoLog(), attachments)
        self.client, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.client.setblocking(False)
        attachments.add({"stdout": True, "stderr": True}, theirs.detach())
        self.attachments = attachments
        self.writers: list[int] = []
        for name, kind in ((STDOUT, attach.STDOUT), (STDERR, attach.STDERR)):
            reader, writer = os.pipe()
            self.outputs.add(reader, name, kind)
            self.writers.append(writer)

    def fill(self) -> None:
        """What a process writes that is faster than its monitor."""
        for writer in self.writers:
            os.set_blocking(writer, False)
            try:
                os.write(writer, CHUNK)
            except BlockingIOError:
                continue

    def serve_round(self) -> None:
        """One round of the monitor's loop."""
        for fd, mask in self.epoll.poll(0):
            (self.outputs if fd in self.outputs else self.attachments).serve(fd, mask)

    def read_client(self) -> int:
        """How much the client can read at once."""
        total = 0
        try:
            while packet := self.client.recv(len(CHUNK) + 1):
                total += len(packet) - 1
        except BlockingIOError:
            pass
        return total


@pytest.fixture
def wiring() -> Iterator[Wiring]:
    wired = Wiring()
    yield wired
    for writer in wired.writers:
        os.close(writer)
    wired.outputs.drain()
    wired.client.close()
    wired.epoll.close()


def hold_up(wiring: Wiring) -> None:
    for _ in range(100):
        wiring.fill()
        wiring.serve_round()
        if wiring.outputs.held_up:
            return
    raise AssertionError("100 rounds did not fill the client's queue")


@pytest.mark.parametrize("chunks_before", [0, 1])
def test_a_client_that_does_not_read_holds_up_both_streams_though_both_had_output_in_that_round(
    wiring: Wiring, chunks_before: int
) -> None:
    for _ in range(chunks_before):  # either the round's first stream fills the client's queue, or the second does
        os.write(wiring.writers[1], CHUNK)
        wiring.serve_round()
    hold_up(wiring)
    wiring.fill()
    assert not [fd for fd, mask in wiring.epoll.poll(0) if fd in wiring.outputs]


def test_both_streams_go_on_when_the_client_has_read(wiring: Wiring) -> None:
    hold_up(wiring)
    wiring.outputs.try_to_go_on()
    assert wiring.outputs.held_up
    while wiring.read_client():
        wiring.serve_round()
    wiring.outputs.try_to_go_on()
    wiring.fill()
    assert not wiring.outputs.held_up
    assert [mask for fd, mask in wiring.epoll.poll(0) if fd in wiring.outputs] == [READ, READ]
