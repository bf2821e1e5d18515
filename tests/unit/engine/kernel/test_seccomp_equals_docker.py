"""The compiled filters against those of Docker 28.5 with runc 1.3, which were read back from the kernel, call by call."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from support import bpf

from kitepy.engine.kernel import seccomp
from kitepy.engine.kernel.capabilities import DEFAULT, NAMES

DOCKER = json.loads((Path(__file__).parents[3] / "data" / "docker-seccomp.json").read_text())
CAPABILITIES = {"default": DEFAULT, "cap-add ALL": NAMES, "cap-drop ALL": ()}
# libseccomp 2.6 opens this one number of x32 without any rule for it (the call has no x32 entry in the kernel).
X32_QUIRK = 453
GENERIC_HEADER = Path("/usr/include/asm-generic/unistd.h")
# The header writes these with a name that depends on the size of a word.
ARM64_SPELLINGS = {
    "fcntl": 25, "statfs": 43, "fstatfs": 44, "truncate": 45, "ftruncate": 46, "lseek": 62, "sendfile": 71, "newfstatat": 79,
    "fstat": 80, "mmap": 222, "fadvise64": 223,
}  # fmt: skip
ARM = {
    # arch/arm/tools/syscall.tbl
    "read": 3, "open": 5, "execve": 11, "mount": 21, "setuid": 23, "ptrace": 26, "umount2": 52, "reboot": 88, "clone": 120,
    "personality": 136, "mmap2": 192, "pivot_root": 218, "keyctl": 311, "unshare": 337, "setns": 375, "bpf": 386,
    "userfaultfd": 388, "statx": 397, "clock_gettime64": 403, "io_uring_setup": 425, "openat2": 437,
    "landlock_create_ruleset": 444,
    "cachestat": 451, "fchmodat2": 452, "mseal": 462, "breakpoint": 0xF0001, "cacheflush": 0xF0002, "set_tls": 0xF0005,
}  # fmt: skip


def compiled(capabilities: tuple[str, ...], machine: str = "x86_64") -> bpf.Program:
    document = seccomp.resolve_profile(seccomp.default_profile(), list(capabilities), machine, (6, 1))
    return bpf.load(seccomp.compile_filter(document))


def expand(table: dict[str, list[list[int]]]) -> dict[int, str]:
    return {number: answer for answer, runs in table.items() for first, last in runs for number in range(first, last + 1)}


@pytest.mark.parametrize("variant", CAPABILITIES)
@pytest.mark.parametrize("abi", ["x86_64", "i386", "x32"])
def test_every_system_call_gets_docker_s_answer(variant: str, abi: str) -> None:
    ours, theirs = expand(bpf.table(compiled(CAPABILITIES[variant]))[abi]), expand(DOCKER[variant][abi])
    different = {number: (theirs[number], ours[number]) for number in theirs if theirs[number] != ours[number]}
    if abi == "x32":
        different.pop(X32_QUIRK, None)
    assert different == {}


@pytest.mark.parametrize("variant", CAPABILITIES)
def test_arguments_are_judged_as_docker_judges_them(variant: str) -> None:
    program = compiled(CAPABILITIES[variant])
    for abi, number, arguments, answer in DOCKER[variant]["arguments"]:
        found = bpf.word(bpf.verdict(program, number, arguments, bpf.ARCHITECTURES[abi]))
        assert found == answer, (abi, number, arguments)


@pytest.mark.skipif(not GENERIC_HEADER.exists(), reason="the kernel's headers (libc6-dev) are not installed")
@pytest.mark.parametrize("variant", CAPABILITIES)
def test_on_arm64_the_filter_allows_what_the_profile_names_and_nothing_else(variant: str) -> None:
    document = seccomp.resolve_profile(seccomp.default_profile(), list(CAPABILITIES[variant]), "aarch64", (6, 1))
    program = bpf.load(seccomp.compile_filter(document))
    expected = expected_answers(document)
    found = re.findall(r"^#define __NR_(\w+) (\d+)$", GENERIC_HEADER.read_text(), re.MULTILINE)
    numbers = {name: int(number) for name, number in found} | ARM64_SPELLINGS
    checked = 0
    for name, number in numbers.items():
        if name in ("syscalls", "arch_specific_syscall") or 403 <= number <= 423:
            continue  # no calls; 64-bit time of 32-bit machines
        answer = bpf.word(bpf.verdict(program, number, (), bpf.ARCHITECTURES["aarch64"]))
        assert answer == expected.get(name, "EPERM"), name
        checked += 1
    assert checked > 300
    assert bpf.word(bpf.verdict(program, 700, (), bpf.ARCHITECTURES["aarch64"])) == "ENOSYS"


@pytest.mark.parametrize("variant", CAPABILITIES)
def test_thirty_two_bit_arm_programs_on_arm64_have_their_own_numbers(variant: str) -> None:
    document = seccomp.resolve_profile(seccomp.default_profile(), list(CAPABILITIES[variant]), "aarch64", (6, 1))
    program = bpf.load(seccomp.compile_filter(document))
    expected = expected_answers(document)
    for name, number in ARM.items():
        assert bpf.word(bpf.verdict(program, number, (), bpf.ARCHITECTURES["arm"])) == expected.get(name, "EPERM"), name


def expected_answers(document: dict[str, Any]) -> dict[str, str]:
    """By name: what the profile says to a call whose arguments are all zero."""
    answers: dict[str, str] = {}
    for call in document["syscalls"]:
        if not any(argument["op"] == "SCMP_CMP_EQ" and argument["value"] for argument in call.get("args", [])):
            answer = "allow" if call["action"] == "SCMP_ACT_ALLOW" else {38: "ENOSYS"}.get(call.get("errnoRet"), "EPERM")
            answers |= {name: answer for name in call["names"] if answers.get(name) != "allow"}
    return answers
