"""Makes what an engine needs in namespaces of a child process, to learn from the kernel itself what works here.

The namespaces end with the child, and all that it made with them; the caller removes the scratch directory. Everything ends
within ``_TIMEOUT_S``.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from kitepy.engine.kernel import mounts, namespaces, overlay
from kitepy.engine.kernel.subordinate_ids import parse_entries, plan_map, ranges_of
from kitepy.engine.rootless.facts import NamespaceProbe

_TIMEOUT_S = 15.0
_TOOL_PATH = "/usr/bin:/bin"
_RULES = """
table inet kitepy_check {
  map ports { type inet_proto . inet_service : ipv4_addr . inet_service; }
  chain published {
    type nat hook prerouting priority dstnat; policy accept;
    dnat ip to meta l4proto . th dport map @ports
  }
  chain outgoing {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr 172.17.0.0/16 masquerade
  }
  chain forwarded {
    type filter hook forward priority filter; policy accept;
    ct state established,related accept
  }
}
"""


_STEPS = ("user", "others", "proc", "overlay", "bridge", "rules")


def probe_namespaces(user: str, uid: int, scratch: Path) -> NamespaceProbe:
    """Try it as this process's user; root gets no user namespace, as its engine has none. For a single-threaded process."""
    answer_read, answer_write = os.pipe2(os.O_CLOEXEC)
    go_read, go_write = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if not pid:
        os.close(answer_read)
        os.close(go_write)
        _be_child(uid, scratch, go_read, answer_write)
    os.close(answer_write)
    os.close(go_read)
    found: dict[str, Any] = {}
    try:
        for line in _lines(answer_read, time.monotonic() + _TIMEOUT_S):
            message = json.loads(line)
            found |= message
            if message == {"user": ""} and uid:
                found["ids"] = _map_ids(pid, user, uid)
                with contextlib.suppress(BrokenPipeError):
                    os.write(go_write, b"s" if found["ids"] else b"m")
    finally:
        os.close(answer_read)
        os.close(go_write)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return _as_probe(found, with_ids=uid != 0)


def _as_probe(found: dict[str, Any], *, with_ids: bool) -> NamespaceProbe:
    """The first step without an answer did not end in time, unless one before it failed."""
    failed = any(found.get(step) for step in ("user", "others"))
    silent = next((step for step in _STEPS if step not in found), "")
    if silent and not failed:
        found[silent] = "the kernel gave no answer in time"
    values = {step: found.get(step) for step in _STEPS}
    ids = found.get("ids") if with_ids else ""
    return NamespaceProbe(**values, ids=ids, rules_library=found.get("rules_library", True))


def _lines(fd: int, deadline: float) -> Iterator[bytes]:
    """Whole lines until the other side closes or the time is over."""
    rest = b""
    while select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
        chunk = os.read(fd, 4096)
        if not chunk:
            return
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole


def _map_ids(pid: int, user: str, uid: int) -> str:
    """Lend the child the user's ids by the real tools; gives their complaint, or an empty string."""
    for tool, file, own in (("newuidmap", "/etc/subuid", uid), ("newgidmap", "/etc/subgid", os.getgid())):
        program = shutil.which(tool, path=f"{os.environ.get('PATH', '')}:{_TOOL_PATH}")
        if program is None:
            return f"{tool} is not installed"
        try:
            ranges = ranges_of(parse_entries(Path(file).read_text(errors="replace")), user, uid)
        except OSError as error:
            return f"{file}: {error.strerror}"
        if not ranges:
            return f"{file} has no entry for {user}"
        plan = [str(number) for line in plan_map(own, ranges) for number in line]
        try:
            done = subprocess.run(
                [program, str(pid), *plan],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{tool}: {error}"
        if done.returncode:
            return done.stderr.strip().rpartition("\n")[2] or f"{tool} ended with {done.returncode}"
    return ""


# --- in the child -------------------------------------------------------------------------------------------------------


def _be_child(uid: int, scratch: Path, go_fd: int, answer_fd: int) -> NoReturn:
    try:
        os.setpgid(0, 0)
        gid = os.getgid()
        if uid and not _step(answer_fd, "user", lambda: namespaces.unshare(namespaces.CLONE_NEWUSER)):
            os._exit(0)
        if not uid:
            _answer(answer_fd, {"user": ""})
        if not _step(answer_fd, "others", lambda: _enter_others(uid, gid, go_fd)):
            os._exit(0)
        pid = os.fork()  # the first process of the PID namespace
        if pid:
            os.waitpid(pid, 0)
            os._exit(0)
        _step(answer_fd, "proc", lambda: _mount_proc(scratch))
        _step(answer_fd, "overlay", lambda: _try_overlay(scratch, user_xattrs=uid != 0))
        _step(answer_fd, "bridge", _make_bridge)
        _try_rules(answer_fd)
    except BaseException:
        os._exit(1)
    os._exit(0)


def _answer(fd: int, message: dict[str, Any]) -> None:
    os.write(fd, json.dumps(message).encode() + b"\n")


def _step(fd: int, name: str, act: Callable[[], None]) -> bool:
    """Do it, and tell how it went."""
    try:
        act()
    except OSError as error:
        _answer(fd, {name: error.strerror or str(error)})
        return False
    _answer(fd, {name: ""})
    return True


def _enter_others(uid: int, gid: int, go_fd: int) -> None:
    if uid:
        if os.read(go_fd, 1) != b"m":
            # Without the tools a process may map its own ids alone: enough to try the rest.
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
            Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    namespaces.unshare(
        namespaces.CLONE_NEWNS
        | namespaces.CLONE_NEWNET
        | namespaces.CLONE_NEWPID
        | namespaces.CLONE_NEWIPC
        | namespaces.CLONE_NEWUTS
    )
    mounts.set_propagation("/", mounts.MS_REC | mounts.MS_PRIVATE)


def _mount_proc(scratch: Path) -> None:
    target = scratch / "proc"
    target.mkdir()
    target_fd = os.open(target, os.O_PATH)
    tree = mounts.new_filesystem("proc", "proc", [], 0)
    mounts.attach_tree(tree, target_fd, str(target))
    os.close(tree)
    os.close(target_fd)


def _try_overlay(scratch: Path, *, user_xattrs: bool) -> None:
    """Mount layers, write, delete (a whiteout) and replace a directory (an opaque mark): what every image needs."""
    for name in ("lower", "lower/directory", "upper", "work", "merged", "base"):
        (scratch / name).mkdir()
    (scratch / "lower" / "file").write_text("below")
    (scratch / "lower" / "directory" / "file").write_text("below")
    merged = str(scratch / "merged")
    overlay.mount(merged, str(scratch), overlay.options(("lower", "base"), "upper", "work", user_xattrs=user_xattrs))
    try:
        os.unlink(f"{merged}/file")
        shutil.rmtree(f"{merged}/directory")
        os.mkdir(f"{merged}/directory")
        Path(merged, "new").write_text("above")
        if os.listdir(f"{merged}/directory") or os.path.exists(f"{merged}/file"):
            raise OSError(95, "deleted files come back")
    finally:
        os.chdir("/")
        mounts.unmount_detached(merged)
        shutil.rmtree(scratch / "work", ignore_errors=True)  # the kernel's directory in it is closed to the user outside


def _make_bridge() -> None:
    from kitepy.engine.kernel.netlink import RouteSocket, add_bridge, add_veth

    with RouteSocket() as route, open("/proc/self/ns/net", "rb") as netns:
        route.execute([add_bridge("check0", "02:00:00:00:00:01", 1500)])
        made = route.link("check0")
        if made is None:
            raise OSError(19, "the bridge did not appear")
        route.execute([add_veth("check1", bridge_index=made.index, mtu=1500, peer_name="check2", peer_netns_fd=netns.fileno())])


def _try_rules(answer_fd: int) -> None:
    from kitepy.engine.kernel.nftables import Nftables, NftablesMissing

    try:
        rules = Nftables()
    except NftablesMissing:
        _answer(answer_fd, {"rules_library": False, "rules": ""})
        return
    _step(answer_fd, "rules", lambda: rules.apply(_RULES))
