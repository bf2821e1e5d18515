"""The default profile and what it resolves and compiles to."""

from __future__ import annotations

import pytest
from support import bpf

from kitepy.engine.kernel.capabilities import DEFAULT
from kitepy.engine.kernel.seccomp import compile_filter, default_profile, resolve_profile
from kitepy.engine.model.errors import InvalidParameter, Unsupported

ALLOW = 0x7FFF0000
EPERM = 0x00050001
ENOSYS = 0x00050026
X86_64 = 0xC000003E


def _resolve(capabilities: list[str], machine: str = "x86_64", kernel: tuple[int, int] = (6, 1)) -> dict[str, object]:
    return resolve_profile(default_profile(), capabilities, machine, kernel)


def _allowed(document: dict[str, object]) -> set[str]:
    calls = document["syscalls"]
    assert isinstance(calls, list)
    return {name for call in calls if call["action"] == "SCMP_ACT_ALLOW" and not call.get("args") for name in call["names"]}


def run_filter(program: bytes, number: int, arguments: tuple[int, ...] = (), architecture: int = X86_64) -> int:
    return bpf.verdict(bpf.load(program), number, arguments, architecture)


def test_capabilities_open_the_calls_that_need_them() -> None:
    assert "mount" not in _allowed(_resolve(list(DEFAULT)))
    assert {"mount", "setns", "clone", "clone3", "bpf"} <= _allowed(_resolve(["CAP_SYS_ADMIN"]))
    assert "chroot" in _allowed(_resolve(list(DEFAULT)))
    assert "chroot" not in _allowed(_resolve([]))
    assert "settimeofday" in _allowed(_resolve(["CAP_SYS_TIME"]))


def test_architecture_and_kernel_decide_too() -> None:
    assert "arch_prctl" in _allowed(_resolve([]))
    assert "arch_prctl" not in _allowed(_resolve([], "aarch64"))
    assert "ptrace" in _allowed(_resolve([]))
    assert "ptrace" not in _allowed(_resolve([], kernel=(4, 7)))
    assert _resolve([], "aarch64")["architectures"] == ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]


@pytest.mark.parametrize(
    ("number", "arguments", "verdict"),
    [
        (0, (), ALLOW),  # read
        (59, (), ALLOW),  # execve
        (165, (), EPERM),  # mount
        (272, (), EPERM),  # unshare
        (250, (), EPERM),  # keyctl
        (425, (), EPERM),  # io_uring_setup
        (56, (0x11,), ALLOW),  # clone: a plain fork
        (56, (0x10000000,), EPERM),  # clone: CLONE_NEWUSER
        (56, (0x40000011,), EPERM),  # clone: CLONE_NEWNET
        (435, (), ENOSYS),  # clone3
        (41, (2,), ALLOW),  # socket AF_INET
        (41, (40,), EPERM),  # socket AF_VSOCK
        (135, (0xFFFFFFFF,), ALLOW),  # personality: only asking
        (135, (0x40000,), EPERM),
        (452, (), ALLOW),  # fchmodat2, newer than libseccomp 2.5
        (460, (), EPERM),  # lsm_set_self_attr: known to the profile's time and not listed
        (500, (), ENOSYS),  # not invented yet
    ],
)
def test_the_default_filter_decides_as_docker_s_does(number: int, arguments: tuple[int, ...], verdict: int) -> None:
    assert run_filter(compile_filter(_resolve(list(DEFAULT))), number, arguments) == verdict


def test_calls_of_a_foreign_architecture_kill() -> None:
    assert run_filter(compile_filter(_resolve(list(DEFAULT))), 0, architecture=0xC00000B7) in (0, 0x80000000)


def test_thirty_two_bit_programs_have_their_own_numbers() -> None:
    program = compile_filter(_resolve(list(DEFAULT)))
    assert run_filter(program, 3, architecture=0x40000003) == ALLOW  # read
    assert run_filter(program, 21, architecture=0x40000003) == EPERM  # mount


def test_a_document_is_compiled_once() -> None:
    assert compile_filter(_resolve(list(DEFAULT))) is compile_filter(_resolve(list(DEFAULT)))


def test_a_profile_that_allows_by_default_gets_no_prefix() -> None:
    document = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount", "nonesuch"], "action": "SCMP_ACT_ERRNO"}]}
    program = compile_filter(document)
    assert run_filter(program, 165) == EPERM
    assert run_filter(program, 999) == ALLOW


def test_conditions_on_one_argument_are_alternatives() -> None:
    equal = [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"} for value in (5, 7)]
    document = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["dup"], "action": "SCMP_ACT_ALLOW", "args": equal}]}
    program = compile_filter(document)
    assert [run_filter(program, 32, (value,)) for value in (5, 6, 7)] == [ALLOW, EPERM, ALLOW]


def test_malformed_profiles_are_explained() -> None:
    with pytest.raises(InvalidParameter, match="SCMP_ACT_NONESUCH"):
        compile_filter({"defaultAction": "SCMP_ACT_NONESUCH"})
    with pytest.raises(Unsupported, match="listener"):
        compile_filter({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["dup"], "action": "SCMP_ACT_NOTIFY"}]})
