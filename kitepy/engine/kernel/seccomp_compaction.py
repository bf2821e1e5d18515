"""Makes a seccomp filter shorter without changing a single answer: every start and exec pays for each instruction.

libseccomp compares the number of a system call with each number that a profile names. Allowed numbers mostly lie side by
side, so a search among *ranges* of numbers with the same answer does it in half the instructions. The ranges are read off
the given program itself: it is followed for each architecture, with the interval of numbers that can reach an instruction.
Where it begins to look at a call's arguments, its own instructions are copied.

The programs are classic BPF (linux/filter.h) on ``struct seccomp_data``: number at 0, architecture at 4, arguments from 16.
"""

from __future__ import annotations

import struct

LOAD = 0x20
JUMP = 0x05
JUMP_EQUAL = 0x15
JUMP_GREATER = 0x25
JUMP_GREATER_OR_EQUAL = 0x35
RETURN = 0x06
OFFSET_NUMBER = 0
OFFSET_ARCHITECTURE = 4
_OFFSET_ARGUMENTS = 16

_COMPARISONS = (JUMP_EQUAL, JUMP_GREATER, JUMP_GREATER_OR_EQUAL)
_HIGHEST = 0xFFFFFFFF
_LONGEST_JUMP = 255
_LIMIT = 4096
"""BPF_MAXINSNS"""

Instruction = tuple[int, int, int, int]
Answer = tuple[bool, int]
"""(False, an action to return) or (True, where in the given program the arguments are looked at)."""


class _Unusual(Exception):
    """The program does something that this module does not follow."""


def pack(program: list[Instruction]) -> bytes:
    """An array of ``struct sock_filter``."""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def unpack(program: bytes) -> list[Instruction]:
    """The instructions: code, jump if true, jump if false, value."""
    return list(struct.iter_unpack("=HBBI", program))


def compact(program: bytes) -> bytes:
    """A program with the same answer to every call, or the given one where a shorter one isn't found."""
    try:
        shorter = _rebuild(unpack(program))
    except _Unusual:
        return program
    return pack(shorter) if len(shorter) * 8 < len(program) and len(shorter) <= _LIMIT else program


def _rebuild(given: list[Instruction]) -> list[Instruction]:
    known = _architectures(given)
    built: list[Instruction] = [(LOAD, 0, 0, OFFSET_ARCHITECTURE)]
    copies: list[tuple[int, int]] = []  # (where to jump from, the place in the given program)
    # Any number that no comparison names stands for all other architectures.
    for architecture in [*known, next(number for number in range(len(known) + 1) if number not in known)]:
        block = [(LOAD, 0, 0, OFFSET_NUMBER), *_search(_merged(_answers(given, architecture)))]
        if architecture in known:
            built += [(JUMP_EQUAL, 1, 0, architecture), (JUMP, 0, 0, len(block))]
        copies += [(len(built) + index, value) for index, (code, _, _, value) in enumerate(block) if code == _COPY]
        built += block
    starts: dict[int, int] = {}
    for _, source in copies:
        if source not in starts:
            starts[source] = len(built)
            built += _slice(given, source)
    for position, source in copies:
        built[position] = (JUMP, 0, 0, starts[source] - position - 1)
    return built


_COPY = -1
"""The code of a placeholder: a jump to a copy of the given program from the place in its value on."""


def _architectures(given: list[Instruction]) -> list[int]:
    """The architectures that the program tells apart."""
    found: set[int] = set()
    seen: set[tuple[int, int]] = set()
    todo = [(0, _OFFSET_ARGUMENTS)]
    while todo:
        position, loaded = todo.pop()
        if (position, loaded) in seen:
            continue
        seen.add((position, loaded))
        code, if_true, if_false, value = given[position]
        if code == RETURN:
            continue
        if code == LOAD:
            if value < _OFFSET_ARGUMENTS:  # what follows a look at arguments is copied as it is
                todo.append((position + 1, value))
        elif code == JUMP:
            todo.append((position + 1 + value, loaded))
        elif code in _COMPARISONS and loaded in (OFFSET_NUMBER, OFFSET_ARCHITECTURE):
            if loaded == OFFSET_ARCHITECTURE:
                if code != JUMP_EQUAL:
                    raise _Unusual
                found.add(value)
            todo += [(position + 1 + if_true, loaded), (position + 1 + if_false, loaded)]
        else:
            raise _Unusual
    return sorted(found)


def _answers(given: list[Instruction], architecture: int) -> list[tuple[int, Answer]]:
    """(first number, answer) of each interval of numbers, in no order; together they hold every number."""
    found: list[tuple[int, Answer]] = []
    todo = [(0, _OFFSET_ARGUMENTS, 0, _HIGHEST)]
    while todo:
        position, loaded, low, high = todo.pop()
        code, if_true, if_false, value = given[position]
        if code == RETURN:
            found.append((low, (False, value)))
        elif code == LOAD and value >= _OFFSET_ARGUMENTS:
            found.append((low, (True, position)))
        elif code == LOAD:
            todo.append((position + 1, value, low, high))
        elif code == JUMP:
            todo.append((position + 1 + value, loaded, low, high))
        elif loaded == OFFSET_ARCHITECTURE:
            todo.append((position + 1 + (if_true if architecture == value else if_false), loaded, low, high))
        else:
            true_from = value + 1 if code == JUMP_GREATER else value
            true_to = value if code == JUMP_EQUAL else _HIGHEST
            for target, first, last in (
                (if_false, low, min(high, true_from - 1)),
                (if_true, max(low, true_from), min(high, true_to)),
                (if_false, max(low, true_to + 1), high),
            ):
                if first <= last:
                    todo.append((position + 1 + target, loaded, first, last))
    return found


def _merged(answers: list[tuple[int, Answer]]) -> list[tuple[int, Answer]]:
    """In order, neighbours with the same answer joined."""
    merged: list[tuple[int, Answer]] = []
    for first, answer in sorted(answers):
        if not merged or merged[-1][1] != answer:
            merged.append((first, answer))
    return merged


def _search(ranges: list[tuple[int, Answer]]) -> list[Instruction]:
    """A binary search for the range that holds the loaded number."""
    if len(ranges) == 1:
        looks_at_arguments, value = ranges[0][1]
        return [(_COPY, 0, 0, value) if looks_at_arguments else (RETURN, 0, 0, value)]
    middle = len(ranges) // 2
    below, above = _search(ranges[:middle]), _search(ranges[middle:])
    first = ranges[middle][0]
    if len(below) <= _LONGEST_JUMP:
        return [(JUMP_GREATER_OR_EQUAL, len(below), 0, first), *below, *above]
    return [(JUMP_GREATER_OR_EQUAL, 0, 1, first), (JUMP, 0, 0, len(below)), *below, *above]


def _slice(given: list[Instruction], start: int) -> list[Instruction]:
    """The instructions that can be reached from a place, in order, with their jumps adjusted."""
    reached: set[int] = set()
    todo = [start]
    while todo:
        position = todo.pop()
        if position in reached:
            continue
        reached.add(position)
        code, if_true, if_false, value = given[position]
        if code == RETURN:
            continue
        if code == LOAD and value < _OFFSET_ARGUMENTS:
            raise _Unusual
        if code == JUMP:
            todo.append(position + 1 + value)
        elif code & 0x07 == JUMP & 0x07:
            todo += [position + 1 + if_true, position + 1 + if_false]
        else:
            todo.append(position + 1)
    place = {position: index for index, position in enumerate(sorted(reached))}
    copied: list[Instruction] = []
    for position, index in place.items():
        code, if_true, if_false, value = given[position]
        if code == JUMP:
            copied.append((code, 0, 0, place[position + 1 + value] - index - 1))
        elif code & 0x07 == JUMP & 0x07:
            targets = (place[position + 1 + if_true] - index - 1, place[position + 1 + if_false] - index - 1)
            copied.append((code, *targets, value))
        elif code != RETURN and place.get(position + 1) != index + 1:
            raise _Unusual
        else:
            copied.append(given[position])
    return copied
