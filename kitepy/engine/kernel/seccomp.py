"""Seccomp: from a profile in Docker's JSON format to an OCI ``linux.seccomp`` document, and from that to a BPF program.

The default profile is package data (``resources/seccomp-default.json``). Compiling is libseccomp's work through pyseccomp; what
its version does not know yet is put in front of its program: system calls newer than the library, and ENOSYS instead of EPERM
for those newer than the profile, since programs fall back to an older call on the first answer only.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from pathlib import Path

from kitepy.engine.kernel.seccomp_compaction import (
    JUMP,
    JUMP_EQUAL,
    JUMP_GREATER,
    JUMP_GREATER_OR_EQUAL,
    LOAD,
    OFFSET_ARCHITECTURE,
    OFFSET_NUMBER,
    RETURN,
    Instruction,
    compact,
    pack,
)
from kitepy.engine.model.errors import InvalidParameter, Unsupported

Document = dict[str, object]

_GO_ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "ppc64le": "ppc64le",
    "riscv64": "riscv64",
    "s390x": "s390x",
}
_NATIVE = {
    "x86_64": "SCMP_ARCH_X86_64",
    "aarch64": "SCMP_ARCH_AARCH64",
    "ppc64le": "SCMP_ARCH_PPC64LE",
    "riscv64": "SCMP_ARCH_RISCV64",
    "s390x": "SCMP_ARCH_S390X",
}
_ARCHITECTURES = {
    # name: (pyseccomp's attribute, AUDIT_ARCH_* of linux/audit.h)
    "SCMP_ARCH_X86": ("X86", 0x40000003),
    "SCMP_ARCH_X86_64": ("X86_64", 0xC000003E),
    "SCMP_ARCH_X32": ("X32", 0xC000003E),
    "SCMP_ARCH_ARM": ("ARM", 0x40000028),
    "SCMP_ARCH_AARCH64": ("AARCH64", 0xC00000B7),
    "SCMP_ARCH_PPC64LE": ("PPC64LE", 0xC0000015),
    "SCMP_ARCH_RISCV64": ("RISCV64", 0xC00000F3),
    "SCMP_ARCH_S390": ("S390", 0x00000016),
    "SCMP_ARCH_S390X": ("S390X", 0x80000016),
}
_OPERATORS = {
    "SCMP_CMP_NE": "NE",
    "SCMP_CMP_LT": "LT",
    "SCMP_CMP_LE": "LE",
    "SCMP_CMP_EQ": "EQ",
    "SCMP_CMP_GE": "GE",
    "SCMP_CMP_GT": "GT",
    "SCMP_CMP_MASKED_EQ": "MASKED_EQ",
}
_RECENT_CALLS = {
    # One number on all architectures that a profile here may name (asm-generic/unistd.h).
    "landlock_create_ruleset": 444,
    "landlock_add_rule": 445,
    "landlock_restrict_self": 446,
    "memfd_secret": 447,
    "process_mrelease": 448,
    "futex_waitv": 449,
    "set_mempolicy_home_node": 450,
    "cachestat": 451,
    "fchmodat2": 452,
    "map_shadow_stack": 453,
    "futex_wake": 454,
    "futex_wait": 455,
    "futex_requeue": 456,
    "statmount": 457,
    "listmount": 458,
    "lsm_get_self_attr": 459,
    "lsm_set_self_attr": 460,
    "lsm_list_modules": 461,
    "mseal": 462,
    "setxattrat": 463,
    "getxattrat": 464,
    "listxattrat": 465,
    "removexattrat": 466,
    "open_tree_attr": 467,
    "file_getattr": 468,
    "file_setattr": 469,
}
_RECENT_CALLS_OF = {
    # System calls of one architecture alone that libseccomp 2.5 has no name for.
    0xC000003E: {"uretprobe": 335},
}
_AUDIT_X86_64 = 0xC000003E
_AUDIT_ARM = 0x40000028
_X32_BIT = 0x40000000
_X32_HIGHEST = 547  # x32 has numbers of its own from 512 to here (syscall_64.tbl)
_ARM_PRIVATE = 0x0F0000  # cacheflush, set_tls and the like: far above the numbered calls
_EPERM = 1
_ENOSYS = 38


@functools.cache
def default_profile() -> Document:
    """Docker's allow-list as a profile document. Treat it as constant."""
    text = (Path(__file__).parent.parent / "resources" / "seccomp-default.json").read_text(encoding="utf-8")
    document: Document = json.loads(text)
    return document


def resolve_profile(
    profile: Document, capabilities: list[str], machine: str | None = None, kernel_version: tuple[int, int] | None = None
) -> Document:
    """The OCI ``linux.seccomp`` for a process with these (bounding) capabilities on this machine. Pure when all is given.

    Keeps the entries whose ``includes`` match and whose ``excludes`` don't (all listed capabilities present; any listed
    architecture; kernel not older than ``minKernel``). ``machine`` is as ``uname -m`` prints it.
    """
    machine = machine or os.uname().machine
    if kernel_version is None:
        major, minor = os.uname().release.split(".")[:2]
        kernel_version = int(major), int("".join(c for c in minor if c.isdigit()) or 0)
    architecture = _GO_ARCHITECTURES.get(machine, machine)
    has = set(capabilities)
    calls = []
    for entry in _entries(profile.get("syscalls")):
        includes, excludes = _part(entry, "includes"), _part(entry, "excludes")
        if not _matches_all(includes, has, architecture, kernel_version) or _matches_any(
            excludes, has, architecture, kernel_version
        ):
            continue
        names = entry.get("names") or [entry.get("name")]
        call: Document = {"names": names, "action": entry["action"]}
        for key in ("args", "errnoRet"):
            if entry.get(key) is not None:
                call[key] = entry[key]
        calls.append(call)
    resolved: Document = {
        "defaultAction": profile["defaultAction"],
        "architectures": _architectures(profile, machine),
        "syscalls": calls,
    }
    for key in ("defaultErrnoRet", "flags"):
        if profile.get(key) is not None:
            resolved[key] = profile[key]
    return resolved


def _matches_all(condition: Document, has: set[str], architecture: str, kernel_version: tuple[int, int]) -> bool:
    if not set(_texts(condition.get("caps"))) <= has:
        return False
    architectures = _texts(condition.get("arches"))
    if architectures and architecture not in architectures:
        return False
    minimum = condition.get("minKernel")
    return minimum is None or kernel_version >= _version(str(minimum))


def _matches_any(condition: Document, has: set[str], architecture: str, kernel_version: tuple[int, int]) -> bool:
    if set(_texts(condition.get("caps"))) & has or architecture in _texts(condition.get("arches")):
        return True
    minimum = condition.get("minKernel")
    return minimum is not None and kernel_version >= _version(str(minimum))


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor.partition(".")[0] or 0)


def _architectures(profile: Document, machine: str) -> list[str]:
    given = _texts(profile.get("architectures"))
    if given:
        return given
    native = _NATIVE.get(machine)
    for entry in _entries(profile.get("archMap")):
        if entry.get("architecture") == native:
            return [str(native), *_texts(entry.get("subArchitectures"))]
    return [native] if native else []


_compiled: dict[str, bytes] = {}


def compile_filter(linux_seccomp: Document) -> bytes:
    """The BPF program (array of ``struct sock_filter``) for an OCI ``linux.seccomp``; compiled once per distinct document.

    Names that no known kernel has are skipped, as in every runtime. Raises InvalidParameter for a malformed document and
    Unsupported for actions that need a listener.
    """
    key = json.dumps(linux_seccomp, sort_keys=True)
    program = _compiled.get(key)
    if program is None:
        program = _compiled[key] = _compile(linux_seccomp)
    return program


def _compile(document: Document) -> bytes:
    import pyseccomp  # loading it looks for the library with a helper program: tens of milliseconds, once

    default = _action(str(document.get("defaultAction")), document.get("defaultErrnoRet"))
    filter_ = pyseccomp.SyscallFilter(default)
    with contextlib.suppress(OSError):  # libseccomp before 2.5: a linear list has the same effect
        filter_.set_attr(pyseccomp.Attr.CTL_OPTIMIZE, 2)  # a binary tree: fewer steps for each call, half the time to load
    names = _texts(document.get("architectures"))
    native = pyseccomp.system_arch()
    for name in names:
        if name not in _ARCHITECTURES:
            raise InvalidParameter(f"seccomp: unknown architecture {name}")
        token = getattr(pyseccomp.Arch, _ARCHITECTURES[name][0])
        if token != native:
            filter_.add_arch(token)
    recent: dict[str, int] = {}
    highest = 0
    for entry in _entries(document.get("syscalls")):
        action = _action(str(entry.get("action")), entry.get("errnoRet"))
        arguments = _entries(entry.get("args"))
        for name in _texts(entry.get("names")):
            number = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name)
            highest = max(highest, number & ~_X32_BIT if number > 0 else 0, _RECENT_CALLS.get(name, 0))
            if number == -1:
                if not arguments:
                    recent[name] = action
                continue
            if action != default:  # the library refuses a rule that changes nothing
                for group in _argument_groups(arguments):
                    filter_.add_rule(action, number, *[_argument(pyseccomp, argument) for argument in group])
    return compact(_prefix(names, recent, highest, default) + _export(filter_))


def _argument_groups(arguments: list[Document]) -> list[list[Document]]:
    """Conditions on different arguments must all hold; several on one argument are alternatives (libseccomp allows one each)."""
    indexes = [argument.get("index") for argument in arguments]
    if len(set(indexes)) == len(indexes):
        return [arguments]
    return [[argument] for argument in arguments]


def _argument(pyseccomp: object, argument: Document) -> object:
    operator = _OPERATORS.get(str(argument.get("op")))
    if operator is None:
        raise InvalidParameter(f"seccomp: unknown operator {argument.get('op')}")
    build = getattr(pyseccomp, "Arg")  # noqa: B009 - the module has no types
    values = [int(str(argument.get("value") or 0)), int(str(argument.get("valueTwo") or 0))]
    return build(int(str(argument["index"])), getattr(pyseccomp, operator), *values)


def _action(name: str, errno: object) -> int:
    """The kernel's value of an action (seccomp(2)); errno defaults to EPERM."""
    number = int(errno) if isinstance(errno, int) else _EPERM
    actions = {
        "SCMP_ACT_KILL": 0,
        "SCMP_ACT_KILL_THREAD": 0,
        "SCMP_ACT_KILL_PROCESS": 0x80000000,
        "SCMP_ACT_TRAP": 0x00030000,
        "SCMP_ACT_ERRNO": 0x00050000 | number & 0xFFFF,
        "SCMP_ACT_TRACE": 0x7FF00000 | number & 0xFFFF,
        "SCMP_ACT_LOG": 0x7FFC0000,
        "SCMP_ACT_ALLOW": 0x7FFF0000,
    }
    if name == "SCMP_ACT_NOTIFY":
        raise Unsupported("seccomp: the action SCMP_ACT_NOTIFY needs a listener, which Kitepy does not have")
    if name not in actions:
        raise InvalidParameter(f"seccomp: unknown action {name}")
    return actions[name]


def _export(filter_: object) -> bytes:
    fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
    with os.fdopen(fd, "w+b") as file:
        filter_.export_bpf(file)  # type: ignore[attr-defined]  # the module has no types
        file.seek(0)
        return file.read()


def _prefix(architectures: list[str], recent: dict[str, int], highest: int, default: int) -> bytes:
    """Instructions that answer for calls the library does not know and hand everything else on to its program.

    ENOSYS for what is newer than the profile only when the default is an errno (as runc does it): a profile that kills or allows
    by default means what it says.
    """
    answers_unknown = default & 0xFFFF0000 == 0x00050000 and highest >= 400
    blocks: list[tuple[int, list[Instruction]]] = []
    for token in sorted({_ARCHITECTURES[name][1] for name in architectures}):
        numbers = {**_RECENT_CALLS, **_RECENT_CALLS_OF.get(token, {})}
        verdicts = [(numbers[name], action) for name, action in recent.items() if name in numbers]
        block = _answers(verdicts, highest if answers_unknown else None, _ARM_PRIVATE if token == _AUDIT_ARM else None)
        if token == _AUDIT_X86_64:
            x32 = _answers(
                [(_X32_BIT | number, action) for number, action in verdicts] if "SCMP_ARCH_X32" in architectures else [],
                _X32_BIT | _X32_HIGHEST if answers_unknown else None,
                None,
            )
            # Both ways lead to the end of the block, where the library's program begins.
            block = [(JUMP_GREATER_OR_EQUAL, len(block) + 1, 0, _X32_BIT), *block, (JUMP, 0, 0, len(x32)), *x32]
        if verdicts or answers_unknown:
            blocks.append((token, [(LOAD, 0, 0, OFFSET_NUMBER), *block]))
    program: list[Instruction] = []
    for token, block in reversed(blocks):
        # A block ends where the program that follows all blocks begins; a foreign architecture goes on to the next block.
        block = [*block, (JUMP, 0, 0, len(program))]
        program = [(LOAD, 0, 0, OFFSET_ARCHITECTURE), (JUMP_EQUAL, 1, 0, token), (JUMP, 0, 0, len(block)), *block, *program]
    return pack(program)


def _answers(verdicts: list[tuple[int, int]], highest: int | None, private: int | None) -> list[Instruction]:
    """Return the verdict of each number, ENOSYS above ``highest`` (but not from ``private`` on), else go on."""
    answers: list[Instruction] = []
    for number, action in sorted(verdicts):
        answers += [(JUMP_EQUAL, 0, 1, number), (RETURN, 0, 0, action)]
    if highest is not None:
        if private is not None:
            answers.append((JUMP_GREATER_OR_EQUAL, 2, 0, private))
        answers += [(JUMP_GREATER, 0, 1, highest), (RETURN, 0, 0, 0x00050000 | _ENOSYS)]
    return answers


def _part(document: Document, name: str) -> Document:
    value = document.get(name)
    return value if isinstance(value, dict) else {}


def _entries(value: object) -> list[Document]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _texts(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []
