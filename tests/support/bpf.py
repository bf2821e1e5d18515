"""Runs classic BPF programs as the kernel runs a seccomp filter, and reads the filter of a running process."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable, Sequence

ALLOW = 0x7FFF0000
EPERM = 0x00050001
ENOSYS = 0x00050026

ARCHITECTURES = {"x86_64": 0xC000003E, "i386": 0x40000003, "aarch64": 0xC00000B7, "arm": 0x40000028}
X32_BIT = 0x40000000

Program = list[tuple[int, int, int, int]]

_PTRACE_SEIZE = 0x4206
_PTRACE_INTERRUPT = 0x4207
_PTRACE_SECCOMP_GET_FILTER = 0x420C
_PTRACE_DETACH = 17
_WALL = 0x40000000


def load(program: bytes) -> Program:
    """The instructions (code, jump if true, jump if false, value) of an array of ``struct sock_filter``."""
    return list(struct.iter_unpack("<HBBI", program))


def verdict(program: Program, number: int, arguments: Sequence[int] = (), architecture: int = ARCHITECTURES["x86_64"]) -> int:
    """What the filter answers to one system call."""
    data = struct.pack("<IIQ6Q", number, architecture, 0, *arguments, *(0,) * (6 - len(arguments)))
    accumulator = position = 0
    while True:
        code, if_true, if_false, value = program[position]
        position += 1
        if code == 0x20:
            accumulator = struct.unpack_from("<I", data, value)[0]
        elif code == 0x06:
            return value
        elif code == 0x05:
            position += value
        elif code == 0x54:
            accumulator &= value
        else:
            holds = {
                0x15: accumulator == value,
                0x25: accumulator > value,
                0x35: accumulator >= value,
                0x45: bool(accumulator & value),
            }
            position += if_true if holds[code] else if_false


def word(answer: int) -> str:
    """An answer for people."""
    return {ALLOW: "allow", EPERM: "EPERM", ENOSYS: "ENOSYS", 0: "kill", 0x80000000: "kill"}.get(answer, hex(answer))


def ranges(numbers: Iterable[int]) -> list[list[int]]:
    """Sorted numbers as first and last of each run."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found


def table(program: Program) -> dict[str, dict[str, list[list[int]]]]:
    """By ABI of an x86_64 machine and by answer: the system calls, with all arguments zero."""
    spaces = {
        "x86_64": (ARCHITECTURES["x86_64"], range(1000)),
        "i386": (ARCHITECTURES["i386"], range(1000)),
        "x32": (ARCHITECTURES["x86_64"], range(X32_BIT, X32_BIT + 1000)),
    }
    found: dict[str, dict[str, list[list[int]]]] = {}
    for name, (architecture, numbers) in spaces.items():
        by_answer: dict[str, list[int]] = {}
        for number in numbers:
            by_answer.setdefault(word(verdict(program, number, (), architecture)), []).append(number & ~X32_BIT)
        found[name] = {answer: ranges(listed) for answer, listed in sorted(by_answer.items())}
    return found


def filters_of(pid: int) -> list[bytes]:
    """The programs of a running process, newest first (ptrace(2), PTRACE_SECCOMP_GET_FILTER; needs CAP_SYS_ADMIN)."""
    libc = ctypes.CDLL(None, use_errno=True)

    def ptrace(request: int, address: int = 0, data: object = None) -> int:
        result = libc.ptrace(ctypes.c_long(request), ctypes.c_long(pid), ctypes.c_void_p(address), data)
        if result < 0:
            raise OSError(ctypes.get_errno(), f"ptrace {request:#x} of {pid}: {os.strerror(ctypes.get_errno())}")
        return int(result)

    ptrace(_PTRACE_SEIZE)
    try:
        ptrace(_PTRACE_INTERRUPT)
        os.waitpid(pid, _WALL)
        programs = []
        while True:
            try:
                size = ptrace(_PTRACE_SECCOMP_GET_FILTER, len(programs))
            except FileNotFoundError:
                return programs
            buffer = ctypes.create_string_buffer(size * 8)
            ptrace(_PTRACE_SECCOMP_GET_FILTER, len(programs), buffer)
            programs.append(buffer.raw)
    finally:
        ptrace(_PTRACE_DETACH)
