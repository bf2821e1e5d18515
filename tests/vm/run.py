"""Boots the image of ``build_image.sh`` under QEMU, runs the tests of ``tests/vm`` in it and tells how they went.

    python tests/vm/run.py [--shell] [ARGUMENTS FOR PYTEST…]

The repository and the test environment's packages are shared with the guest read-only (9p); all else of this machine is out
of its reach. What the tests print arrives on this program's standard output, the guest's console goes to a file that is kept when
something fails. The disk's changes are thrown away. Environment:

    KITEPY_VM_ACCEL=kvm|tcg    (default: kvm where /dev/kvm works, else emulation)
    KITEPY_VM_TIMEOUT=900      seconds after which the machine is switched off and the run has failed
    KITEPY_VM_MEMORY=2048      MiB
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
RELEASE_BY_PYTHON = {(3, 11): "bookworm", (3, 13): "trixie"}
END = re.compile(rb"^kitepy-vm: end (\d+)\r?$", re.MULTILINE)


def build_image() -> Path:
    """The image's directory; built when there is none."""
    suite = os.environ.get("KITEPY_VM_SUITE") or RELEASE_BY_PYTHON.get(sys.version_info[:2])
    if suite is None:
        raise SystemExit("kitepy: the virtual machine has Debian's Python, and .venv must be of the same version: 3.11 or 3.13")
    done = subprocess.run(
        ["sh", str(HERE / "build_image.sh")],
        env={**os.environ, "KITEPY_VM_SUITE": suite},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit("kitepy: the virtual machine's image can't be built")
    return Path(done.stdout.strip())


def accelerator() -> str:
    """KVM where it works. That the device can be opened says little: some hosts have it without the processor's help."""
    wanted = os.environ.get("KITEPY_VM_ACCEL")
    if wanted:
        return wanted
    flags = Path("/proc/cpuinfo").read_text(errors="replace")
    if os.access("/dev/kvm", os.R_OK | os.W_OK) and re.search(r"^flags\s*:.*\b(vmx|svm)\b", flags, re.MULTILINE):
        return "kvm"
    return "tcg"


def shares() -> list[tuple[str, Path, bool]]:
    """(tag, directory, writable) of what the guest sees; the tag is also its mount point there."""
    return [("kitepy", REPOSITORY, False), ("site-packages", Path(sysconfig.get_path("purelib")).resolve(), False)]


def command(image: Path, accel: str, directory: Path) -> list[str]:
    """QEMU's command line."""
    program = shutil.which(f"qemu-system-{platform.machine()}")
    if program is None:
        raise SystemExit("kitepy: QEMU is missing: packaging/install.sh vm")
    # Emulated: all that QEMU can do but five-level page tables, with which this kernel hangs before its first line (QEMU 7.2).
    processor = "host" if accel == "kvm" else "max,la57=off"
    arguments = [
        *(program, "-machine", "q35", "-accel", "tcg,thread=multi" if accel == "tcg" else accel, "-cpu", processor),
        *("-smp", str(min(os.cpu_count() or 1, 4)), "-m", os.environ.get("KITEPY_VM_MEMORY", "2048")),
        *("-nodefaults", "-no-reboot", "-display", "none", "-nographic", "-monitor", "none"),
        *("-kernel", str(image / "vmlinuz"), "-initrd", str(image / "initrd")),
        *("-append", "root=/dev/vda rw console=ttyS0 loglevel=5 systemd.show_status=false mitigations=off net.ifnames=0"),
        *("-drive", f"file={image / 'root.ext4'},format=raw,if=virtio,snapshot=on,cache=unsafe"),
        *("-netdev", "user,id=net0,restrict=on", "-device", "virtio-net-pci,netdev=net0,romfile="),
        *("-object", "rng-random,id=rng0,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng0"),
        *("-serial", f"file:{directory / 'console.log'}"),
        *("-device", "virtio-serial-pci", "-chardev", "file,id=out,path=/dev/stdout"),
        *("-device", "virtserialport,chardev=out,name=kitepy.output"),
    ]
    for tag, path, writable in [*shares(), ("output", directory / "output", True)]:
        access = "" if writable else ",readonly=on"
        arguments += ["-virtfs", f"local,path={path},mount_tag={tag},security_model=none,multidevs=remap{access}"]
    return arguments


def compile_sources() -> None:
    """Compiled modules beside the sources: the guest can't write them, and compiling there takes minutes."""
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(REPOSITORY / "kitepy"), str(REPOSITORY / "tests")], check=True)


def run(arguments: Sequence[str]) -> int:
    """The whole run; gives the exit code."""
    image = build_image()
    compile_sources()
    accel = accelerator()
    timeout_s = float(os.environ.get("KITEPY_VM_TIMEOUT", "900" if accel == "tcg" else "300"))
    directory = Path(tempfile.mkdtemp(prefix="kitepy-vm-"))
    (directory / "output").mkdir()
    (directory / "output" / "pytest-arguments").write_text(" ".join(shlex.quote(word) for word in arguments) + "\n")
    print(f"kitepy: booting {image.name} ({accel}); at most {timeout_s:g} s", flush=True)
    process = subprocess.Popen(command(image, accel, directory), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    overdue = threading.Event()

    def switch_off() -> None:
        overdue.set()
        process.kill()

    alarm = threading.Timer(timeout_s, switch_off)
    alarm.start()
    assert process.stdout is not None
    ends: list[int] = []
    try:
        for line in process.stdout:
            if found := END.match(line):
                ends.append(int(found[1]))
                continue
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
        process.wait()
    finally:
        alarm.cancel()
        if process.poll() is None:
            process.kill()
            process.wait()
    code = ends[-1] if ends else 1
    if overdue.is_set():
        print(f"kitepy: the virtual machine was switched off after {timeout_s:g} s", flush=True)
        code = code or 1
    elif not ends:
        print("kitepy: the virtual machine ended before its tests did", flush=True)
    if code:
        print(f"kitepy: the guest's console and journal: {directory}/console.log, {directory}/output/", flush=True)
        console = (directory / "console.log").read_text(errors="replace") if (directory / "console.log").exists() else ""
        if not ends:
            print("\n".join(console.splitlines()[-30:]), flush=True)
    else:
        shutil.rmtree(directory)
    return code


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
