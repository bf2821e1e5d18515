"""AppArmor: whether the host has it, the text of Kitepy's own profile, and loading that; ``runtime/process.py`` applies it.

The profile stands beside capabilities, masked paths and the system call filter, so that one of them failing is not the end: no
mounts, no writes to kernel settings, no signals or tracing across the container's border. Effect as Docker's ``docker-default``.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

DEFAULT_PROFILE = "kitepy-default"
UNCONFINED = "unconfined"

_MODULE = Path("/sys/module/apparmor/parameters/enabled")
_SECURITYFS = Path("/sys/kernel/security/apparmor")
_ABSTRACTIONS = Path("/etc/apparmor.d")
_PARSERS = (Path("/sbin/apparmor_parser"), Path("/usr/sbin/apparmor_parser"))
_PARSER_TIMEOUT_S = 30.0


def parser_program() -> Path | None:
    """The program that compiles and loads profiles."""
    return next((path for path in _PARSERS if os.access(path, os.X_OK)), None)


def is_enabled() -> bool:
    """Whether the running kernel confines by AppArmor and profiles can be loaded into it."""
    try:
        enabled = _MODULE.read_text(encoding="ascii").startswith("Y")
    except OSError:
        return False
    return enabled and _SECURITYFS.is_dir() and parser_program() is not None


def profile_text(name: str = DEFAULT_PROFILE, *, engine_profile: str = UNCONFINED, abstractions: Path = _ABSTRACTIONS) -> str:
    """The profile's source (apparmor.d(5)). ``engine_profile`` confines the engine, which sends signals."""
    tunables = "#include <tunables/global>\n" if (abstractions / "tunables/global").exists() else "@{PROC}=/proc/\n"
    base = "  #include <abstractions/base>\n" if (abstractions / "abstractions/base").exists() else ""
    peers = sorted({engine_profile, UNCONFINED, "runc", "crun"})
    signals = "".join(f'  signal (receive) peer="{peer}",\n' for peer in peers)
    return f"""{tunables}
profile {name} flags=(attach_disconnected,mediate_deleted) {{
{base}
  # What a process may do besides is for capabilities and the system call filter to say.
  network,
  capability,
  file,
  umount,

{signals}  signal (send, receive) peer={name},
  ptrace (trace, read, tracedby, readby) peer={name},

  # Files at the top of /proc, and its directories other than those of processes, are the whole machine's.
  deny @{{PROC}}/* w,
  deny @{{PROC}}/[^1-9st]*/** w,
  deny @{{PROC}}/{{scsi,sysvipc,tty}}/** w,
  deny @{{PROC}}/{{kcore,sysrq-trigger}} rwklx,
  # Of the kernel's settings only those of shared memory belong to the container.
  deny @{{PROC}}/sys/[^k]*{{,/**}} w,
  deny @{{PROC}}/sys/k[^e]*{{,/**}} w,
  deny @{{PROC}}/sys/kernel/[^s]** w,
  deny @{{PROC}}/sys/kernel/s[^h]** w,
  deny @{{PROC}}/sys/kernel/sh[^m]** w,

  deny mount,
  # Below /sys only control groups may be written, where they are mounted so.
  deny /sys/{{block,bus,class,dev,devices,hypervisor,kernel,module,power}}/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/{{firmware,kernel/security,devices/virtual/powercap}}/** rwklx,
}}
"""


def loaded_profiles() -> set[str]:
    """Names of the profiles in the kernel; raises OSError when AppArmor is not there."""
    lines = (_SECURITYFS / "profiles").read_text(encoding="utf-8").splitlines()
    return {line.rpartition(" (")[0] for line in lines}


def own_profile() -> str:
    """The profile that confines the calling process, without its mode."""
    for path in ("/proc/self/attr/apparmor/current", "/proc/self/attr/current"):
        try:
            text = Path(path).read_text(encoding="utf-8")
        except OSError:
            continue
        return text.strip("\n\0").partition(" (")[0] or UNCONFINED
    return UNCONFINED


def load_default_profile() -> None:
    """Compile and load the profile, replacing an earlier one; raises OSError with the parser's words."""
    parser = parser_program()
    if parser is None:
        raise FileNotFoundError(2, "apparmor_parser is not installed")
    text = profile_text(engine_profile=own_profile())
    done = subprocess.run(
        [parser, "--replace", "--skip-cache"],
        input=text.encode(),
        capture_output=True,
        timeout=_PARSER_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise OSError(22, f"apparmor_parser: {done.stderr.decode(errors='replace').strip()}")
