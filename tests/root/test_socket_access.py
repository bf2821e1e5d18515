"""Who may use the engine's unix socket."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from kitepy.engine.model.errors import SystemFailure
from kitepy.engine.server.listeners import SocketAccess, UnixHost, listen

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a socket to another user"),
]

_NOBODY = 65534


def _connects_as(uid: int, gid: int, path: Path) -> bool:
    """Whether a process of another user can connect (in a child, since it can't become root again)."""
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
            socket.socket(socket.AF_UNIX).connect(str(path))
        except PermissionError:
            os._exit(1)
        except BaseException:
            os._exit(2)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 1)
    return code == 0


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    for directory in (tmp_path, *tmp_path.parents):
        if directory == Path("/tmp"):
            break
        directory.chmod(0o755)
    return tmp_path / "s"


def test_an_engine_of_root_can_serve_one_user(path: Path) -> None:
    (listener,) = listen(UnixHost(path), SocketAccess(owner_uid=_NOBODY))
    with listener:
        assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (_NOBODY, 0o600)
        assert _connects_as(_NOBODY, _NOBODY, path)
        assert not _connects_as(_NOBODY - 1, _NOBODY, path)


def test_members_of_the_group_are_let_in(path: Path) -> None:
    (listener,) = listen(UnixHost(path), SocketAccess(group_gid=_NOBODY))
    with listener:
        assert (path.stat().st_gid, path.stat().st_mode & 0o777) == (_NOBODY, 0o660)
        assert _connects_as(12345, _NOBODY, path)
        assert not _connects_as(12345, 12345, path)


def test_a_directory_of_another_user_or_group_is_refused(path: Path) -> None:
    os.chown(path.parent, _NOBODY, 0)
    with pytest.raises(SystemFailure, match="other users may write"):
        listen(UnixHost(path), SocketAccess())
    (listener,) = listen(UnixHost(path), SocketAccess(owner_uid=_NOBODY))  # that user is let in anyway
    listener.close()
    path.unlink()
    os.chown(path.parent, 0, _NOBODY)
    path.parent.chmod(0o775)
    with pytest.raises(SystemFailure, match="other users may write"):
        listen(UnixHost(path), SocketAccess())


def test_in_a_shared_directory_another_user_s_stale_socket_is_left_alone(path: Path) -> None:
    path.parent.chmod(0o1777)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    os.chown(path, _NOBODY, _NOBODY)
    with pytest.raises(SystemFailure, match="socket of another user"):
        listen(UnixHost(path), SocketAccess())
    assert path.is_socket()
