"""Turns the nodes of a Dockerfile into instructions, checking each one's form; what variables stand for is not known yet."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable

from kitepy.engine.builder import mount_options
from kitepy.engine.builder.failures import DockerfileError
from kitepy.engine.builder.flags import Flags
from kitepy.engine.builder.instructions import (
    Arg,
    Cmd,
    CommandLine,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Instruction,
    Label,
    Maintainer,
    OnBuild,
    Pairs,
    Run,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from kitepy.engine.builder.parser import Node, heredoc_of, parse_line, split_words
from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.model.timestamps import parse_duration

_STAGE_NAME = re.compile(r"[a-z][a-z0-9\-_.]*")
_MIN_PROBE_NS = 1_000_000
_BLANK = re.compile(r"[ \t\v\f\r]+")


def read_instruction(node: Node, escape: str = "\\") -> Instruction:
    """The instruction of a node; DockerfileError names its line."""
    reader = _READERS.get(node.keyword)
    if reader is None:
        written = node.original.split(maxsplit=1)[0]
        similar = difflib.get_close_matches(node.keyword, _READERS, n=1, cutoff=0.6)
        hint = f" (did you mean {similar[0]}?)" if similar else ""
        raise DockerfileError(f"unknown instruction: {written}{hint}", node.first_line)
    flags = Flags(node.flags)
    try:
        instruction = reader(node, flags, escape)
        flags.finish(node.keyword)
    except DockerfileError:
        raise
    except (ValueError, InvalidParameter) as problem:
        raise DockerfileError(str(problem), node.first_line) from None
    return instruction


def read_line(text: str, escape: str = "\\") -> Instruction:
    """The instruction in a text that stands alone: an ONBUILD trigger or a change asked by commit and import."""
    return read_instruction(parse_line(text, escape), escape)


def check_network(network: str) -> None:
    """Raise ValueError unless RUN may ask for this network."""
    if network not in ("default", "none", "host"):
        raise ValueError(f'invalid network mode: "{network}": use default, none or host')


def json_words(rest: str) -> list[str] | None:
    """The strings of a JSON array; None when the text is none. An array of other things is an error."""
    if not rest.startswith("["):
        return None
    try:
        value = json.loads(rest)
    except ValueError:
        return None
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise ValueError("when using JSON array syntax, arrays must be comprised of strings only")
    return value


def _words(node: Node) -> list[str]:
    return _BLANK.split(node.rest) if node.rest else []


def _one(node: Node) -> str:
    if not node.rest:
        raise ValueError(f"{node.keyword} requires exactly one argument")
    return node.rest


def _at_least_one(node: Node, words: list[str]) -> list[str]:
    if not words:
        raise ValueError(f"{node.keyword} requires at least one argument")
    return words


def _command(node: Node) -> CommandLine:
    words = json_words(node.rest)
    if words is not None:
        return CommandLine(tuple(words), in_shell=False)
    return CommandLine((node.rest,) if node.rest else (), in_shell=True)


def _from(node: Node, flags: Flags, _: str) -> From:
    words = _words(node)
    platform = flags.text("platform")
    name = ""
    if len(words) == 3 and words[1].upper() == "AS":
        name = words[2].lower()
        if not _STAGE_NAME.fullmatch(name):
            raise ValueError(f'invalid name for build stage: "{words[2]}", name can\'t start with a number or contain symbols')
    elif len(words) != 1:
        raise ValueError("FROM requires either one or three arguments")
    return From(base=words[0], name=name, platform=platform, source=node.original, line=node.first_line)


def _pairs(node: Node, escape: str) -> Pairs:
    words = _at_least_one(node, split_words(node.rest, escape))
    if "=" not in words[0]:
        # The old form: one name, and the rest of the line is its value.
        name, *value = _BLANK.split(node.rest, maxsplit=1)
        if not value:
            raise ValueError(f"{node.keyword} must have two arguments")
        return ((name, value[0]),)
    pairs: list[tuple[str, str]] = []
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise ValueError(f'Syntax error - can\'t find = in "{word}". Must be of the form: name=value')
        if not name:
            raise ValueError(f"{node.keyword} names can not be blank")
        pairs.append((name, text))
    return tuple(pairs)


def _env(node: Node, _: Flags, escape: str) -> Env:
    return Env(pairs=_pairs(node, escape), source=node.original, line=node.first_line)


def _label(node: Node, _: Flags, escape: str) -> Label:
    return Label(pairs=_pairs(node, escape), source=node.original, line=node.first_line)


def _arg(node: Node, _: Flags, escape: str) -> Arg:
    arguments: list[tuple[str, str | None]] = []
    for word in _at_least_one(node, split_words(node.rest, escape)):
        name, equals, value = word.partition("=")
        if not name:
            raise ValueError("ARG names can not be blank")
        arguments.append((name, value if equals else None))
    return Arg(arguments=tuple(arguments), source=node.original, line=node.first_line)


def _maintainer(node: Node, _: Flags, __: str) -> Maintainer:
    return Maintainer(name=_one(node), source=node.original, line=node.first_line)


def _workdir(node: Node, _: Flags, __: str) -> Workdir:
    return Workdir(path=_one(node), source=node.original, line=node.first_line)


def _user(node: Node, _: Flags, __: str) -> User:
    return User(user=_one(node), source=node.original, line=node.first_line)


def _stop_signal(node: Node, _: Flags, __: str) -> StopSignal:
    return StopSignal(signal=_one(node), source=node.original, line=node.first_line)


def _volume(node: Node, _: Flags, __: str) -> Volume:
    words = json_words(node.rest)
    paths = [path.strip() for path in _at_least_one(node, _words(node) if words is None else words)]
    if "" in paths:
        raise ValueError("VOLUME specified can not be an empty string")
    return Volume(paths=tuple(paths), source=node.original, line=node.first_line)


def _expose(node: Node, _: Flags, __: str) -> Expose:
    return Expose(ports=tuple(sorted(_at_least_one(node, _words(node)))), source=node.original, line=node.first_line)


def _shell(node: Node, _: Flags, __: str) -> Shell:
    words = json_words(node.rest)
    if words is None and node.rest:
        raise ValueError(f'SHELL requires the arguments to be in JSON form, for example SHELL ["/bin/sh", "-c"]: {node.rest}')
    return Shell(words=tuple(_at_least_one(node, words or [])), source=node.original, line=node.first_line)


def _cmd(node: Node, _: Flags, __: str) -> Cmd:
    return Cmd(command=_command(node), source=node.original, line=node.first_line)


def _entrypoint(node: Node, _: Flags, __: str) -> Entrypoint:
    return Entrypoint(command=_command(node), source=node.original, line=node.first_line)


def _run(node: Node, flags: Flags, _: str) -> Run:
    network = flags.text("network") or "default"
    if "$" not in network:
        check_network(network)
    security = flags.text("security") or "sandbox"
    if security != "sandbox":
        raise ValueError(f"RUN --security={security} is not supported: steps always run in a sandbox")
    mounts = tuple(mount_options.parse_mount(text) for text in flags.texts("mount"))
    command = _command(node)
    if not command.words:
        raise ValueError("RUN requires at least one argument")
    return Run(
        command=command,
        heredocs=node.heredocs,
        mounts=mounts,
        network=network,
        source=node.original,
        line=node.first_line,
    )


def _copy(node: Node, flags: Flags, escape: str) -> Copy:
    is_add = node.keyword == "ADD"
    words = json_words(node.rest)
    if words is None:
        words = _words(node)
    if len(words) < 2:
        raise ValueError(
            f"{node.keyword} requires at least two arguments, but only {('none', 'one')[len(words)]} was provided. "
            "Destination could not be determined"
        )
    *sources, destination = words
    if heredoc_of(destination, escape):
        raise ValueError(f"{node.keyword} cannot accept a heredoc as a destination")
    by_name = {heredoc.name: heredoc for heredoc in node.heredocs}
    contents = []
    paths = []
    for source in sources:
        heredoc = heredoc_of(source, escape) if by_name else None
        if heredoc is not None and heredoc.name in by_name:
            contents.append(by_name[heredoc.name])
        else:
            paths.append(source)
    unpack = flags.switch("unpack") if is_add else None
    if is_add:
        flags.switch("keep-git-dir")
    return Copy(
        sources=tuple(paths),
        destination=destination,
        contents=tuple(contents),
        is_add=is_add,
        from_="" if is_add else flags.text("from"),
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=bool(flags.switch("link")),
        parents=False if is_add else bool(flags.switch("parents")),
        excludes=tuple(flags.texts("exclude")),
        checksum=flags.text("checksum") if is_add else "",
        unpack=unpack,
        source=node.original,
        line=node.first_line,
    )


def _healthcheck(node: Node, flags: Flags, _: str) -> Healthcheck:
    kind, *others = _BLANK.split(node.rest, maxsplit=1)
    kind, rest = kind.upper(), others[0] if others else ""
    if not kind:
        raise ValueError("HEALTHCHECK requires at least one argument")
    if kind == "NONE":
        if rest:
            raise ValueError("HEALTHCHECK NONE takes no arguments")
        return Healthcheck(test=("NONE",), source=node.original, line=node.first_line)
    if kind != "CMD":
        raise ValueError(f'Unknown type "{kind}" in HEALTHCHECK (try CMD)')
    words = json_words(rest)
    if not rest or words == []:
        raise ValueError("Missing command after HEALTHCHECK CMD")
    retries = flags.text("retries") or "0"
    if not re.fullmatch(r"[+-]?\d+", retries):
        raise ValueError(f'HEALTHCHECK --retries takes a number, not "{retries}"')
    if int(retries) < 0:
        raise ValueError(f"--retries cannot be negative ({int(retries)})")
    return Healthcheck(
        test=("CMD-SHELL", rest) if words is None else ("CMD", *words),
        interval_ns=_probe_duration(flags, "interval"),
        timeout_ns=_probe_duration(flags, "timeout"),
        start_period_ns=_probe_duration(flags, "start-period"),
        start_interval_ns=_probe_duration(flags, "start-interval"),
        retries=int(retries),
        source=node.original,
        line=node.first_line,
    )


def _probe_duration(flags: Flags, name: str) -> int:
    text = flags.text(name)
    duration_ns = parse_duration(text) if text else 0
    if duration_ns and duration_ns < _MIN_PROBE_NS:
        raise ValueError(f'Interval "{name}" cannot be less than 1ms')
    return duration_ns


def _on_build(node: Node, _: Flags, escape: str) -> OnBuild:
    if not node.rest:
        raise ValueError("ONBUILD requires at least one argument")
    trigger = re.split(r"\s", node.rest, maxsplit=1)[0].upper()
    if trigger == "ONBUILD":
        raise ValueError("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger in ("FROM", "MAINTAINER"):
        raise ValueError(f"{trigger} isn't allowed as an ONBUILD trigger")
    text = node.rest
    for heredoc in node.heredocs:
        text += f"\n{heredoc.content}{heredoc.name}"
    read_line(text, escape)  # a mistake is better told now than in another image's build
    return OnBuild(trigger=text, source=node.original, line=node.first_line)


_READERS: dict[str, Callable[[Node, Flags, str], Instruction]] = {
    "ADD": _copy,
    "ARG": _arg,
    "CMD": _cmd,
    "COPY": _copy,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "FROM": _from,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "MAINTAINER": _maintainer,
    "ONBUILD": _on_build,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
