"""``GET /containers/{id}/top``: runs the host's ps(1) as the client wishes, and keeps what belongs to the container.

The wish is a stranger's text: it becomes arguments of one program and nothing else, and can't rename another column to ``PID``,
by which rows are told apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
from collections.abc import Collection, Sequence

from kitepy.engine.model.errors import InvalidParameter, SystemFailure, Unsupported

DEFAULT_ARGUMENTS = "-ef"
TIMEOUT_S = 10.0
_LONGEST_WISH = 4096
_LONGEST_OUTPUT = 16 << 20
_LONGEST_ERROR = 1000
_MOST_PIDS = 10_000
"""One argument may have 128 KiB."""
_BLANKS = re.compile(r"[\t\n\f\r ]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_RENAMED = re.compile(r"([^\s=,]*)=\s*PID", re.ASCII)
_PID_COLUMN = re.compile(r"(?:-?[A-Za-z]*o)?pid|--format")
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}


def split_arguments(wish: str) -> list[str]:
    """The arguments for ps; raises InvalidParameter for what would deceive the engine about which process a row is."""
    if len(wish) > _LONGEST_WISH or _CONTROL.search(wish):
        raise InvalidParameter("invalid ps_args: it is too long or contains control characters")
    for name in _RENAMED.findall(wish):
        if not _PID_COLUMN.fullmatch(name):
            raise InvalidParameter(f'specifying "{name[:40]}=PID" is not allowed')
    return (wish or DEFAULT_ARGUMENTS).split(" ")


def parse_output(text: str, pids: Collection[int]) -> tuple[list[str], list[list[str]]]:
    """Titles, and the rows of the processes in ``pids``; the last column keeps its blanks as single ones, as dockerd has it."""
    lines = text.split("\n")
    titles = _fields(lines[0])
    if "PID" not in titles:
        raise InvalidParameter("Couldn't find PID field in ps output")
    pid_column = titles.index("PID")
    rows: list[list[str]] = []
    ours = False
    for line in lines[1:]:
        fields = _fields(line)
        if len(fields) <= pid_column:
            continue
        if fields[pid_column] == "-":  # a thread of the process in the line above (ps m)
            if ours:
                rows.append(_merged(fields, len(titles)))
            continue
        try:
            ours = int(fields[pid_column]) in pids
        except ValueError:
            raise InvalidParameter(
                f"Unexpected pid '{fields[pid_column][:40]}': the columns before PID may not contain blanks"
            ) from None
        if ours:
            rows.append(_merged(fields, len(titles)))
    return titles, rows


def _fields(line: str) -> list[str]:
    return [field for field in _BLANKS.split(line) if field]


def _merged(fields: list[str], columns: int) -> list[str]:
    return [*fields[: columns - 1], " ".join(fields[columns - 1 :])]


async def list_processes(wish: str, pids: Sequence[int]) -> dict[str, object]:
    """ContainerTopResponse of some processes of this machine."""
    arguments = split_arguments(wish)
    program = shutil.which("ps", path=_ENVIRONMENT["PATH"])
    if program is None:
        raise Unsupported("the processes of containers are listed by ps(1), and this machine has none (package procps)")
    # Not every wish goes together with a list of processes; without it ps lists all, and the others are left out here.
    output = None
    if 0 < len(pids) <= _MOST_PIDS:
        with contextlib.suppress(InvalidParameter):
            output = await _run(program, [*arguments, f"-q{','.join(map(str, pids))}"])
    if output is None:
        output = await _run(program, arguments)
    titles, rows = parse_output(output, frozenset(pids))
    return {"Processes": rows or None, "Titles": titles}


async def _run(program: str, arguments: list[str]) -> str:
    """Its output; raises InvalidParameter with its own words when it fails."""
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=_ENVIRONMENT,
        cwd="/",
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(TIMEOUT_S):
            output, errors = await asyncio.gather(_read(process.stdout, _LONGEST_OUTPUT), _read(process.stderr, 65536))
            status = await process.wait()
    except TimeoutError:
        raise SystemFailure(f"ps did not end within {TIMEOUT_S:g} seconds") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if status:
        words = errors.decode(errors="replace").strip().split("\n")[0]
        raise InvalidParameter(
            f"ps: {words.removeprefix('error: ')[:_LONGEST_ERROR]}" if words else f"ps failed with status {status}"
        )
    return output.decode(errors="replace")


async def _read(stream: asyncio.StreamReader, limit: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while piece := await stream.read(65536):
        size += len(piece)
        if size > limit:
            raise InvalidParameter("ps wrote too much")
        pieces.append(piece)
    return b"".join(pieces)
