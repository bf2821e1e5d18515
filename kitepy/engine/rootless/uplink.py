"""The way out of the engine's network namespace without root: pasta, else slirp4netns; see passt(1), slirp4netns(1).

Both move packets between a tap device inside and ordinary sockets outside. Neither lets the inside reach services that listen
on the host's loopback only; the host's own address is reachable, as it is from the containers of an engine with root.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

INTERFACE = "uplink0"
_TUN = "/dev/net/tun"
_ADDRESS = "10.0.2.100"
_NETMASK = "255.255.255.0"
_SUBNET = "10.0.2.0/24"
_GATEWAY = "10.0.2.2"
_DNS = "10.0.2.3"
_MTU = 65520
"""The largest that both take; there is no wire in between, so small packets would only cost time."""
_START_TIMEOUT_S = 10.0


class UplinkMissing(Exception):
    """Containers will reach no other network; the text says why and what helps."""


@dataclass(frozen=True)
class Uplink:
    """A running uplink."""

    kind: str
    pid: int
    mtu: int = _MTU
    dns: str = _DNS
    """Answers with the host's resolver, wherever that is."""


def start_uplink(inside_pid: int, directory: Path) -> Uplink:
    """Connect the network namespace of a process; the program is a child of the caller or becomes one. Raises UplinkMissing."""
    problems = []
    if not os.path.exists(_TUN):
        raise UplinkMissing(f"{_TUN} is missing: sudo modprobe tun")
    if not os.access(_TUN, os.R_OK | os.W_OK):
        raise UplinkMissing(f"{_TUN} can't be opened: sudo chmod 0666 {_TUN}")
    for kind, start in (("pasta", _start_pasta), ("slirp4netns", _start_slirp)):
        program = shutil.which(kind, path=f"{os.environ.get('PATH', '')}:/usr/bin:/usr/sbin:/usr/local/bin")
        if program is None:
            problems.append(f"{kind} is not installed")
            continue
        try:
            return start(program, inside_pid, directory)
        except (OSError, subprocess.SubprocessError, UplinkMissing) as error:
            problems.append(f"{kind}: {error}")
    raise UplinkMissing(f"{'; '.join(problems)}. Debian's and Ubuntu's package is passt: sudo apt install passt")


def _start_pasta(program: str, inside_pid: int, directory: Path) -> Uplink:
    pid_file = directory / "pasta.pid"
    with contextlib.suppress(FileNotFoundError):
        pid_file.unlink()
    # It goes to the background when it is ready; the caller is a subreaper, so it stays the caller's child.
    done = subprocess.run(
        [
            *(program, "--quiet", "--config-net", "--ipv4-only", "--no-map-gw"),
            *("-t", "none", "-u", "none", "-T", "none", "-U", "none"),
            *("--ns-ifname", INTERFACE, "--mtu", str(_MTU), "--address", _ADDRESS, "--netmask", _NETMASK, "--gateway", _GATEWAY),
            *("--dns-forward", _DNS, "--pid", str(pid_file)),
            *("--userns", f"/proc/{inside_pid}/ns/user", "--netns", f"/proc/{inside_pid}/ns/net"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=_START_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise UplinkMissing(_last_line(done.stderr) or f"exit code {done.returncode}")
    return Uplink("pasta", int(pid_file.read_text()))


def _start_slirp(program: str, inside_pid: int, directory: Path) -> Uplink:
    ready_read, ready_write = os.pipe2(os.O_CLOEXEC)
    log = directory / "slirp4netns.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(program, "--configure", f"--mtu={_MTU}", "--disable-host-loopback", "--enable-sandbox", "--enable-seccomp"),
                # Named by number, not by path: only so does its sandbox enter the user namespace first, which it needs to.
                *(f"--cidr={_SUBNET}", f"--ready-fd={ready_write}", str(inside_pid), INTERFACE),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[ready_write],
        )
    os.close(ready_write)
    deadline = time.monotonic() + _START_TIMEOUT_S
    try:
        os.set_blocking(ready_read, False)
        while time.monotonic() < deadline:
            try:
                if os.read(ready_read, 1) == b"1":
                    return Uplink("slirp4netns", process.pid)
                break  # it closed the pipe without a word
            except BlockingIOError:
                time.sleep(0.005)
    finally:
        os.close(ready_read)
    process.kill()
    process.wait()
    raise UplinkMissing(_last_line(log.read_text(errors="replace")) or f"exit code {process.returncode}")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip() and "syslog" not in line]
    return lines[-1] if lines else ""
