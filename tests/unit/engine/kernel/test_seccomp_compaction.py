"""A compacted filter gives the same answers in fewer instructions."""

from __future__ import annotations

import random
import struct

import pytest
from support import bpf

from kitepy.engine.kernel import seccomp
from kitepy.engine.kernel.seccomp_compaction import compact

_ARGUMENTS = [(0,) * 6, (0x11,), (0x10000000,), (0x40000011,), (8,), (0xFFFFFFFF,), (0, 0xFFFFFFFFFFFFFFFF), (40, 1, 2), (16, 5)]
RETURN_ALLOW = struct.pack("=HBBI", 6, 0, 0, bpf.ALLOW)


def _programs(monkeypatch: pytest.MonkeyPatch, document: dict[str, object]) -> tuple[bytes, bytes]:
    """(as compiled, as compacted)."""
    monkeypatch.setattr(seccomp, "_compiled", {})
    monkeypatch.setattr(seccomp, "compact", lambda program: program)
    plain = seccomp.compile_filter(document)
    return plain, compact(plain)


def _numbers(program: bytes) -> list[int]:
    """All that the program compares with and their neighbours, and a sample of the rest."""
    named = {value for code, _, _, value in bpf.load(program) if code in (0x15, 0x25, 0x35)}
    chosen = random.Random(7)  # noqa: S311  # a sample, no secret
    return sorted(
        {number & 0xFFFFFFFF for value in named for number in (value - 1, value, value + 1)}
        | {0, 0xFFFFFFFF, *range(600), *(chosen.randrange(2**32) for _ in range(200))}
    )


@pytest.mark.parametrize("capabilities", [[], ["CAP_SYS_ADMIN"], ["CAP_SYS_PTRACE", "CAP_SYS_TIME", "CAP_BPF"]])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_default_profile_answers_as_before(monkeypatch: pytest.MonkeyPatch, capabilities: list[str], machine: str) -> None:
    document = seccomp.resolve_profile(seccomp.default_profile(), capabilities, machine, (6, 1))
    plain, short = _programs(monkeypatch, document)
    assert len(short) < len(plain) * 0.7
    before, after = bpf.load(plain), bpf.load(short)
    for architecture in (*bpf.ARCHITECTURES.values(), 0, 7):
        for number in _numbers(plain):
            for arguments in _ARGUMENTS:
                answer = bpf.verdict(before, number, arguments, architecture)
                assert bpf.verdict(after, number, arguments, architecture) == answer, (hex(architecture), number, arguments)


@pytest.mark.parametrize("default", ["SCMP_ACT_ALLOW", "SCMP_ACT_KILL_PROCESS"])
def test_rules_on_arguments_are_kept(monkeypatch: pytest.MonkeyPatch, default: str) -> None:
    other = "SCMP_ACT_ERRNO" if default == "SCMP_ACT_ALLOW" else "SCMP_ACT_ALLOW"
    rules = [
        {"names": ["kill"], "action": other, "args": [{"index": 1, "op": operator, "value": 9}]}
        for operator in ("SCMP_CMP_EQ", "SCMP_CMP_GT")
    ]
    masked = {"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": 0xFF00, "valueTwo": 0x1100}
    rules.append({"names": ["clone", "personality"], "action": other, "args": [masked]})
    plain, short = _programs(monkeypatch, {"defaultAction": default, "syscalls": rules})
    before, after = bpf.load(plain), bpf.load(short)
    for number in _numbers(plain):
        for arguments in [*_ARGUMENTS, (0, 9), (0, 10), (0, 8), (0x11FF,), (0x1200,), (0, 9 << 32)]:
            assert bpf.verdict(after, number, arguments) == bpf.verdict(before, number, arguments)


def test_what_is_not_understood_is_left_alone() -> None:
    add_one = struct.pack("=HBBI", 0x04, 0, 0, 1)
    program = struct.pack("=HBBI", 0x20, 0, 0, 0) + add_one + struct.pack("=HBBI", 0x15, 0, 0, 5) + RETURN_ALLOW
    assert compact(program) == program
    assert compact(RETURN_ALLOW) == RETURN_ALLOW
