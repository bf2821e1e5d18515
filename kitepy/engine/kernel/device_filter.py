"""Device rules for control groups version 2: an OCI rule list compiled to a BPF program that is attached to the group.

The program sees (access << 16 | type, major, minor) of each mknod and open and answers 1 (allow) or 0 (refuse). Rules are tried
from the last to the first, since a later rule overrides an earlier one; what no rule matches is refused.
"""

from __future__ import annotations

import ctypes
import os
import struct

from kitepy.engine.kernel.syscalls import NR_BPF, invoke

_PROG_LOAD = 5
_PROG_ATTACH = 8
_PROG_DETACH = 9
_PROG_QUERY = 16
_PROG_GET_FD_BY_ID = 13
_TYPE_CGROUP_DEVICE = 15
_ATTACH_CGROUP_DEVICE = 6
_FLAG_MULTI = 2

_ACCESS = {"m": 1, "r": 2, "w": 4}
_KIND = {"b": 1, "c": 2}
_ALL_ACCESS = 7

# Opcodes of the extended BPF instruction set (linux/bpf.h, bpf_common.h).
_LOAD_WORD = 0x61
_MOVE_REGISTER_32 = 0xBC
_MOVE_CONSTANT = 0xB7
_AND_CONSTANT_32 = 0x54
_SHIFT_RIGHT_32 = 0x74
_JUMP_NOT_EQUAL = 0x55
_JUMP_NOT_EQUAL_REGISTER = 0x5D
_EXIT = 0x95


def _instruction(code: int, destination: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("<BBhi", code, destination | source << 4, offset, value)


def compile_device_filter(rules: list[dict[str, object]]) -> bytes:
    """The BPF instructions for a list of ``linux.resources.devices`` entries. Pure."""
    # r2 = type, r3 = access, r4 = major, r5 = minor
    program = [
        _instruction(_LOAD_WORD, 2, 1, 0),
        _instruction(_MOVE_REGISTER_32, 3, 2),
        _instruction(_AND_CONSTANT_32, 2, value=0xFFFF),
        _instruction(_SHIFT_RIGHT_32, 3, value=16),
        _instruction(_LOAD_WORD, 4, 1, 4),
        _instruction(_LOAD_WORD, 5, 1, 8),
    ]
    for rule in reversed(rules):
        block = _compile_rule(rule)
        program += block
        if len(block) == 2:
            break  # matches everything: no earlier rule is ever reached
    else:
        program += _verdict(False)
    return b"".join(program)


def _verdict(allow: bool) -> list[bytes]:
    return [_instruction(_MOVE_CONSTANT, 0, value=int(allow)), _instruction(_EXIT)]


def _compile_rule(rule: dict[str, object]) -> list[bytes]:
    tests: list[bytes] = []
    allow = bool(rule.get("allow"))
    kind = str(rule.get("type") or "a")
    if kind != "a":
        tests.append(_instruction(_JUMP_NOT_EQUAL, 2, value=_KIND[kind]))
    access = 0
    for letter in str(rule.get("access") or "rwm"):
        access |= _ACCESS[letter]
    if access != _ALL_ACCESS:
        # Allowing asks: is all that is wanted granted? Refusing asks: is any of it denied?
        tests.append(_instruction(_MOVE_REGISTER_32, 1, 3))
        tests.append(_instruction(_AND_CONSTANT_32, 1, value=access))
        tests.append(_instruction(_JUMP_NOT_EQUAL_REGISTER, 1, 3) if allow else _instruction(0x15, 1, value=0))
    for register, key in ((4, "major"), (5, "minor")):
        number = rule.get(key)
        if isinstance(number, int) and number >= 0:
            tests.append(_instruction(_JUMP_NOT_EQUAL, register, value=number))
    block = tests + _verdict(allow)
    # Each jump leaves the block when its test fails.
    linked = []
    for index, instruction in enumerate(block):
        code, registers, offset, value = struct.unpack("<BBhi", instruction)
        if code in (_JUMP_NOT_EQUAL, _JUMP_NOT_EQUAL_REGISTER, 0x15):
            offset = len(block) - index - 1
        linked.append(struct.pack("<BBhi", code, registers, offset, value))
    return linked


def attach_device_filter(cgroup_fd: int, rules: list[dict[str, object]]) -> None:
    """Put the rules into force for the group; programs attached before are replaced (the new one is in force first)."""
    earlier = _attached_programs(cgroup_fd)
    program_fd = _load(compile_device_filter(rules))
    try:
        attributes = struct.pack("<IIII", cgroup_fd, program_fd, _ATTACH_CGROUP_DEVICE, _FLAG_MULTI)
        _bpf(_PROG_ATTACH, attributes, "BPF_PROG_ATTACH")
    finally:
        os.close(program_fd)
    for program_id in earlier:
        old_fd = _bpf(_PROG_GET_FD_BY_ID, struct.pack("<III", program_id, 0, 0), "BPF_PROG_GET_FD_BY_ID")
        try:
            _bpf(_PROG_DETACH, struct.pack("<IIII", cgroup_fd, old_fd, _ATTACH_CGROUP_DEVICE, 0), "BPF_PROG_DETACH")
        finally:
            os.close(old_fd)


def _load(instructions: bytes) -> int:
    code = ctypes.create_string_buffer(instructions, len(instructions))
    name = ctypes.create_string_buffer(b"Apache-2.0")
    attributes = struct.pack(
        "<IIQQIIQII16sII",
        _TYPE_CGROUP_DEVICE,
        len(instructions) // 8,
        ctypes.addressof(code),
        ctypes.addressof(name),
        0,
        0,
        0,
        0,
        0,
        b"kitepy_devices",
        0,
        0,
    )
    return _bpf(_PROG_LOAD, attributes, "BPF_PROG_LOAD")


def _attached_programs(cgroup_fd: int) -> list[int]:
    ids = (ctypes.c_uint32 * 64)()
    attributes = struct.pack("<IIIIQI", cgroup_fd, _ATTACH_CGROUP_DEVICE, 0, 0, ctypes.addressof(ids), len(ids))
    buffer = ctypes.create_string_buffer(attributes, 64)
    invoke(NR_BPF, "bpf", "BPF_PROG_QUERY", _PROG_QUERY, ctypes.byref(buffer), len(attributes))
    count = struct.unpack_from("<I", buffer.raw, 24)[0]
    return list(ids[:count])


def _bpf(command: int, attributes: bytes, name: str) -> int:
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    return invoke(NR_BPF, "bpf", name, command, ctypes.byref(buffer), len(attributes))
