"""Network namespaces that belong to a user namespace of their own, made ahead of the container that is to live in them.

Only a process with a single thread can enter a user namespace, so the engine has a child of the launcher make the pair. The
descriptor of the network namespace stands for both: the kernel tells its owner.
"""

from __future__ import annotations

import os
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_SEQPACKET, socket, socketpair

from kitepy.engine.kernel import namespaces, syscalls
from kitepy.engine.kernel.packets import Message, receive, send
from kitepy.engine.kernel.user_namespaces import IdMap, create_user_namespace, enter_user_namespace

PURPOSE = "user-network"
"""The value of ``purpose`` in a request to the launcher that asks for such a pair."""
_SIGCHLD = 17
_PATIENCE_S = 20.0


class UserNetworks:
    """The engine's side; an instance is a function that may be called from any thread, and blocks for some milliseconds."""

    def __init__(self, launcher_fd: int, uids: IdMap, gids: IdMap) -> None:
        self._launcher = socket(fileno=os.dup(launcher_fd))
        self._message: Message = {"purpose": PURPOSE, "uids": _rows(uids), "gids": _rows(gids)}

    def __call__(self) -> int:
        """The descriptor of a new network namespace; the caller closes it. Raises OSError."""
        ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
        try:
            self._send(theirs.fileno())
            theirs.close()
            ours.settimeout(_PATIENCE_S)
            received = receive(ours)
        finally:
            ours.close()
            theirs.close()
        if received is None:
            raise OSError(5, "the launcher made no network namespace")
        message, _, fds = received
        if not fds:
            raise OSError(5, str(message.get("message")))
        return fds[0]

    def _send(self, control_fd: int) -> None:
        import select

        while True:
            try:
                send(self._launcher, self._message, fds=(control_fd,))
                return
            except BlockingIOError:
                poller = select.poll()
                poller.register(self._launcher.fileno(), select.POLLOUT)
                if not poller.poll(_PATIENCE_S * 1000):
                    raise OSError(110, "the launcher does not answer") from None

    def close(self) -> None:
        """Let go of the launcher, which ends when everybody has."""
        self._launcher.close()


def serve_request(request: Message, fds: list[int]) -> None:
    """Make the pair, send the descriptor, end: in a child of the launcher."""
    control = socket(AF_UNIX, SOCK_SEQPACKET, 0, fds[0])
    try:
        syscalls.default_signal(_SIGCHLD)
        user_fd = create_user_namespace(_id_map(request["uids"]), _id_map(request["gids"]))
        enter_user_namespace(user_fd)
        namespaces.unshare(namespaces.CLONE_NEWNET)
        network_fd = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        send(control, {}, fds=(network_fd,))
    except OSError as error:
        send(control, {"message": f"a network namespace for remapped ids is not possible: {error.strerror or error}"})
    finally:
        os._exit(0)


def _rows(ids: IdMap) -> list[list[int]]:
    return [list(row) for row in ids.ranges]


def _id_map(rows: object) -> IdMap:
    assert isinstance(rows, list)
    return IdMap(tuple((row[0], row[1], row[2]) for row in rows))
