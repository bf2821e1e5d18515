"""Runs a command as an ordinary user of a desktop, without changing the machine; itself it must be run as root.

The user exists only in a mount namespace of the command's own: copies of /etc/passwd, /etc/group, /etc/subuid and /etc/subgid are
bound over the real ones, /dev/net/tun may be opened by everybody as on a desktop, and the interpreter is reachable even where it
lies in another user's home.

    python tests/support/ordinary_user.py --home DIRECTORY [--subids FIRST:COUNT,…] [--tun-mode 666] -- COMMAND…
"""

from __future__ import annotations

import argparse
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
NAME = "kitepy-test"
UID = 61_234
SUBIDS = "1000000:10000,1200000:55536"
"""Two ranges, as a machine has that gave more ids later."""


def user_command(
    home: Path,
    command: Sequence[str],
    *,
    subids: str = SUBIDS,
    tun_mode: str = "666",
    overlay: Path | None = None,
    python: str = sys.executable,
) -> list[str]:
    """The command line that runs another as the user."""
    under = () if overlay is None else ("--overlay", str(overlay))
    script = str(Path(__file__).resolve())
    return [python, script, "--home", str(home), "--subids", subids, "--tun-mode", tun_mode, *under, "--", *command]


def give_to_user(path: Path) -> None:
    """Make a file or directory the user's."""
    os.chown(path, UID, UID)


def main() -> None:
    """Become the user and execute the command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--subids", default=SUBIDS)
    parser.add_argument("--tun-mode", default="666")
    parser.add_argument("--overlay", type=Path, help="a directory to cover with an overlay, on which no other can write")
    parser.add_argument("command", nargs="+")
    given = parser.parse_args()

    sys.path.insert(0, str(REPOSITORY))
    from kitepy.engine.kernel import mounts, namespaces

    home: Path = given.home
    namespaces.unshare(namespaces.CLONE_NEWNS)
    mounts.set_propagation("/", mounts.MS_REC | mounts.MS_PRIVATE)
    _show_user(home, given.subids)
    _show_tun(int(given.tun_mode, 8))
    if given.overlay is not None:
        _mount_overlay(given.overlay)
    for needed in (sys.base_prefix, sys.prefix, str(REPOSITORY)):
        _make_reachable(os.path.realpath(needed))
    runtime = home / "run"
    runtime.mkdir(mode=0o700, exist_ok=True)
    for directory in (home, runtime):
        give_to_user(directory)
    os.setgroups([])
    os.setresgid(UID, UID, UID)
    os.setresuid(UID, UID, UID)
    environment = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": str(home),
        "USER": NAME,
        "LANG": "C.UTF-8",
        "XDG_RUNTIME_DIR": str(runtime),
        **{name: value for name, value in os.environ.items() if name.startswith("PYTHON") or name == "DISPLAY"},
    }
    os.execvpe(given.command[0], given.command, environment)  # noqa: S606 - what the test asks for


def _show_user(home: Path, subids: str) -> None:
    additions = {
        "passwd": f"{NAME}:x:{UID}:{UID}::{home}:/bin/sh\n",
        "group": f"{NAME}:x:{UID}:\n",
        **dict.fromkeys(("subuid", "subgid"), "".join(f"{NAME}:{ids}\n" for ids in subids.split(",") if ids)),
    }
    etc = home / "etc"
    etc.mkdir(mode=0o755, exist_ok=True)
    for name, addition in additions.items():
        target = Path("/etc", name)
        copy = etc / name
        content = target.read_text() if target.exists() else ""
        copy.write_text(content + addition)
        copy.chmod(0o644)
        if target.exists():
            _bind(str(copy), str(target))


def _show_tun(mode: int) -> None:
    from kitepy.engine.kernel import mounts

    os.makedirs("/dev/net", exist_ok=True)
    _attach(mounts.new_filesystem("tmpfs", "tmpfs", [("mode", "755")], 0), "/dev/net")
    os.mknod("/dev/net/tun", stat.S_IFCHR, os.makedev(10, 200))
    os.chmod("/dev/net/tun", mode)
    if os.path.exists("/dev/fuse"):
        # Open to everybody on every distribution.
        os.mknod("/dev/net/.fuse", stat.S_IFCHR, os.makedev(10, 229))
        os.chmod("/dev/net/.fuse", 0o666)
        _bind("/dev/net/.fuse", "/dev/fuse")


def _mount_overlay(path: Path) -> None:
    from kitepy.engine.kernel import overlay

    parts = [path.with_name(f"{path.name}-{part}") for part in ("lower", "upper", "work")]
    for directory in (path, *parts):
        directory.mkdir(exist_ok=True)
        give_to_user(directory)
    lower, upper, work = map(str, parts)
    overlay.mount(str(path), "/", overlay.options([lower], upper, work))


def _make_reachable(path: str) -> None:
    """Where a directory above can't be searched by others, cover it with one that holds nothing but the way to ``path``."""
    from kitepy.engine.kernel import mounts, syscalls

    parts = Path(path).parts
    for depth in range(2, len(parts)):
        directory = os.path.join(*parts[:depth])
        if os.stat(directory).st_mode & 0o001:
            continue
        tree = mounts.clone_tree(syscalls.AT_FDCWD, path, recursive=True)
        kept = [(name, mounts.clone_tree(syscalls.AT_FDCWD, name, recursive=True)) for name in _mounted_below(directory)]
        _attach(mounts.new_filesystem("tmpfs", "tmpfs", [("mode", "755")], 0), directory)
        for name, fd in [*kept, (path, tree)]:
            os.makedirs(name, exist_ok=True)
            _attach(fd, name)
        return


def _mounted_below(directory: str) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [place for line in lines if (place := line.split(" ")[4]).startswith(directory + "/") and os.path.isdir(place)]


def _bind(source: str, target: str) -> None:
    from kitepy.engine.kernel import mounts, syscalls

    _attach(mounts.clone_tree(syscalls.AT_FDCWD, source), target)


def _attach(tree: int, target: str) -> None:
    from kitepy.engine.kernel import mounts

    target_fd = os.open(target, os.O_PATH)
    mounts.attach_tree(tree, target_fd, target)
    os.close(tree)
    os.close(target_fd)


if __name__ == "__main__":
    main()
