"""What instructions without files do to an image's configuration, and how each step is told in its history.

Pure. History follows BuildKit's wording, since that is what today's ``docker history`` and scanners expect.
"""

from __future__ import annotations

import json
import posixpath
import re
import signal
from collections.abc import Mapping
from dataclasses import replace

from kitepy.engine.builder.instructions import (
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Instruction,
    Label,
    Maintainer,
    OnBuild,
    Run,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from kitepy.engine.model.oci import HealthCheck, ImageConfig

HISTORY_COMMENT = "buildkit.dockerfile.v0"
DEFAULT_SHELL = ("/bin/sh", "-c")
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PORT = re.compile(r"(\d+)(?:-(\d+))?(?:/([a-zA-Z]*))?")
_REALTIME = re.compile(r"RT(MIN\+(\d+)|MAX-(\d+))")


def apply(config: ImageConfig, instruction: Instruction, *, command_is_own: bool = False) -> ImageConfig:
    """The configuration after an expanded instruction; the same when the instruction concerns something else.

    ``command_is_own``: CMD came earlier in this stage, so that ENTRYPOINT keeps it. Mistakes are ValueError.
    """
    match instruction:
        case Env():
            return replace(config, env=merge_environment(config.env, dict(instruction.pairs)))
        case Label():
            return replace(config, labels={**config.labels, **dict(instruction.pairs)})
        case Workdir():
            return replace(config, working_dir=working_directory(config, instruction.path))
        case User():
            return replace(config, user=instruction.user)
        case Volume():
            return replace(config, volumes=tuple(sorted({*config.volumes, *_volumes(instruction)})))
        case Expose():
            return replace(config, exposed_ports=tuple(sorted({*config.exposed_ports, *ports(instruction)})))
        case StopSignal():
            check_signal(instruction.signal)
            return replace(config, stop_signal=instruction.signal)
        case Shell():
            return replace(config, shell=instruction.words)
        case Cmd():
            return replace(config, cmd=tuple(instruction.command.argv(shell(config))), args_escaped=True)
        case Entrypoint():
            entrypoint = tuple(instruction.command.argv(shell(config)))
            return replace(config, entrypoint=entrypoint, cmd=config.cmd if command_is_own else None)
        case Healthcheck():
            return replace(config, healthcheck=_health(instruction))
        case OnBuild():
            return replace(config, on_build=(*config.on_build, instruction.trigger))
    return config


def shell(config: ImageConfig) -> tuple[str, ...]:
    """What runs a command in shell form."""
    return config.shell or DEFAULT_SHELL


def working_directory(config: ImageConfig, path: str) -> str:
    """Where WORKDIR leads: relative to the directory so far."""
    if not path:
        raise ValueError("cannot normalize nothing: WORKDIR is empty after its variables were replaced")
    return "/" + posixpath.normpath(posixpath.join("/", config.working_dir, path)).lstrip("/")


def environment(env: tuple[str, ...]) -> dict[str, str]:
    """``NAME=value`` entries as a mapping."""
    return {name: value for name, _, value in (entry.partition("=") for entry in env)}


def merge_environment(env: tuple[str, ...], changes: Mapping[str, str]) -> tuple[str, ...]:
    """Entries with some values replaced where they stand, and new ones at the end."""
    left = dict(changes)
    entries = []
    for entry in env:
        name = entry.partition("=")[0]
        entries.append(f"{name}={left.pop(name)}" if name in left else entry)
    return (*entries, *(f"{name}={value}" for name, value in left.items()))


def ports(instruction: Expose) -> list[str]:
    """The ports as ``port/protocol``, ranges spelled out."""
    found: list[str] = []
    for text in instruction.ports:
        # Docker accepts a whole publish specification here and looks at the container's part only.
        match = _PORT.fullmatch(text.rpartition(":")[2])
        if match is None:
            raise ValueError(f"invalid port in EXPOSE: {text}: use a number or a range, like 80, 53/udp or 8000-8010/tcp")
        first = int(match[1])
        last = int(match[2] or first)
        protocol = (match[3] or "tcp").lower()
        if protocol not in ("tcp", "udp", "sctp"):
            raise ValueError(f"invalid protocol in EXPOSE: {text}: use tcp, udp or sctp")
        if not 0 < first <= last <= 65535:
            raise ValueError(f"invalid port range in EXPOSE: {text}")
        found += [f"{port}/{protocol}" for port in range(first, last + 1)]
    return found


def check_signal(text: str) -> None:
    """Raise ValueError unless the text names a signal, with or without SIG, or by number."""
    if text.isdigit():
        if 0 < int(text) < 65:
            return
    else:
        name = text.upper().removeprefix("SIG")
        realtime = _REALTIME.fullmatch(name)
        offset = int(realtime[2] or realtime[3]) if realtime else 0
        if f"SIG{name}" in signal.Signals.__members__ or (realtime and offset <= 30):
            return
    raise ValueError(f"Invalid signal: {text}")


def history_line(instruction: Instruction, before: ImageConfig, after: ImageConfig, arguments: Mapping[str, str]) -> str | None:
    """``created_by`` of a step; None for instructions that leave no entry.

    ``arguments`` are the declared build arguments with their values; proxies are never among them.
    """
    match instruction:
        case Run():
            declared = [f"{name}={value}" for name, value in arguments.items()]
            prefix = [f"|{len(declared)}", *declared] if declared else []
            words = instruction.command.argv(shell(before))
            return f"RUN {' '.join([*prefix, *words])} # buildkit"
        case Copy():
            verb = "ADD" if instruction.is_add else "COPY"
            flags = [f"--from={instruction.from_}"] if instruction.from_ else []
            flags += [f"--chown={instruction.chown}"] if instruction.chown else []
            flags += [f"--chmod={instruction.chmod}"] if instruction.chmod else []
            sources = [*instruction.sources, *(f"<<{content.name}" for content in instruction.contents)]
            return " ".join([verb, *flags, *sources, instruction.destination, "# buildkit"])
        case Workdir():
            return f"WORKDIR {after.working_dir}"
        case Arg():
            shown = [name if (value := arguments.get(name)) is None else f"{name}={value}" for name, _ in instruction.arguments]
            return f"ARG {' '.join(shown)}"
        case Env():
            return f"ENV {' '.join(f'{name}={value}' for name, value in instruction.pairs)}"
        case Label():
            return f"LABEL {' '.join(f'{name}={value}' for name, value in instruction.pairs)}"
        case Cmd():
            return f"CMD {_go_strings(after.cmd or ())}"
        case Entrypoint():
            return f"ENTRYPOINT {_go_strings(after.entrypoint or ())}"
        case Expose():
            return f"EXPOSE [{' '.join(ports(instruction))}]"
        case Volume():
            return f"VOLUME [{' '.join(instruction.paths)}]"
        case Shell():
            return f"SHELL [{' '.join(instruction.words)}]"
        case User():
            return f"USER {instruction.user}"
        case StopSignal():
            return f"STOPSIGNAL {instruction.signal}"
        case Maintainer():
            return f"MAINTAINER {instruction.name}"
        case Healthcheck():
            return f"HEALTHCHECK {_go_strings(instruction.test)}"
    return None


def _go_strings(words: tuple[str, ...]) -> str:
    return f"[{' '.join(json.dumps(word, ensure_ascii=False) for word in words)}]"


def _volumes(instruction: Volume) -> list[str]:
    paths = [path.strip() for path in instruction.paths]
    if "" in paths:
        raise ValueError("VOLUME specified can not be an empty string")
    return paths


def _health(instruction: Healthcheck) -> HealthCheck:
    return HealthCheck(
        test=instruction.test,
        interval_ns=instruction.interval_ns,
        timeout_ns=instruction.timeout_ns,
        start_period_ns=instruction.start_period_ns,
        start_interval_ns=instruction.start_interval_ns,
        retries=instruction.retries,
    )
