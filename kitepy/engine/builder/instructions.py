"""The instructions of a Dockerfile as typed values, and where variables are expanded in them; ``reading`` makes them from text.

Pure: what an instruction does to an image is the solver's matter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from kitepy.engine.builder.expansion import Lexer
from kitepy.engine.builder.parser import Heredoc

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """What all instructions have: the text as written (continuations joined) and its first line."""

    source: str
    line: int

    @property
    def keyword(self) -> str:
        """The instruction's name in capitals."""
        return self.source.split(maxsplit=1)[0].upper()


@dataclass(frozen=True, kw_only=True)
class From(Instruction):
    """Begins a stage. ``name`` is lower-case, empty when the stage has none."""

    base: str
    name: str = ""
    platform: str = ""


@dataclass(frozen=True, kw_only=True)
class Arg(Instruction):
    """Declares build arguments; a default of None means: only what the client or an outer scope gives."""

    arguments: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, kw_only=True)
class Env(Instruction):
    """Sets variables of the image."""

    pairs: Pairs


@dataclass(frozen=True, kw_only=True)
class Label(Instruction):
    """Sets labels of the image."""

    pairs: Pairs


@dataclass(frozen=True, kw_only=True)
class Maintainer(Instruction):
    """Names the author."""

    name: str


@dataclass(frozen=True, kw_only=True)
class Workdir(Instruction):
    """Changes, and makes, the working directory."""

    path: str


@dataclass(frozen=True, kw_only=True)
class User(Instruction):
    """Sets who runs what follows."""

    user: str


@dataclass(frozen=True, kw_only=True)
class Volume(Instruction):
    """Declares directories whose content containers keep elsewhere."""

    paths: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Expose(Instruction):
    """Declares ports, not yet checked since variables may stand for them."""

    ports: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class StopSignal(Instruction):
    """Sets the signal that asks the container's process to end."""

    signal: str


@dataclass(frozen=True, kw_only=True)
class Shell(Instruction):
    """Sets what runs commands in shell form."""

    words: tuple[str, ...]


@dataclass(frozen=True)
class CommandLine:
    """A command in exec form (``words``) or in shell form (one word, given to the shell)."""

    words: tuple[str, ...]
    in_shell: bool

    def argv(self, shell: tuple[str, ...]) -> list[str]:
        """What is executed."""
        if self.in_shell:
            return [*shell, *self.words] if self.words else []
        return list(self.words)


@dataclass(frozen=True, kw_only=True)
class Cmd(Instruction):
    """Sets the default command."""

    command: CommandLine


@dataclass(frozen=True, kw_only=True)
class Entrypoint(Instruction):
    """Sets the program that the command is given to."""

    command: CommandLine


@dataclass(frozen=True, kw_only=True)
class Healthcheck(Instruction):
    """Sets the probe; durations in nanoseconds, 0 is the default. ``test`` is ``("NONE",)`` to switch it off."""

    test: tuple[str, ...]
    interval_ns: int = 0
    timeout_ns: int = 0
    start_period_ns: int = 0
    start_interval_ns: int = 0
    retries: int = 0


@dataclass(frozen=True, kw_only=True)
class OnBuild(Instruction):
    """Leaves an instruction for the images that are built from this one."""

    trigger: str


@dataclass(frozen=True)
class RunMount:
    """One ``RUN --mount``; which fields count depends on ``kind``: bind, cache, tmpfs, secret or ssh."""

    kind: str
    target: str = ""
    source: str = ""
    from_: str = ""
    id: str = ""
    sharing: str = "shared"
    read_only: bool = False
    required: bool = False
    size_bytes: int = 0
    mode: int | None = None
    uid: int = 0
    gid: int = 0
    variable: str = ""


@dataclass(frozen=True, kw_only=True)
class Run(Instruction):
    """Runs a command in the image. ``network`` is default, none or host."""

    command: CommandLine
    heredocs: tuple[Heredoc, ...] = ()
    mounts: tuple[RunMount, ...] = ()
    network: str = "default"


@dataclass(frozen=True, kw_only=True)
class Copy(Instruction):
    """COPY and ADD: brings files into the image.

    ``contents`` are here-documents, copied as files of their names. ``unpack`` None is the instruction's default: ADD
    unpacks local archives and COPY never.
    """

    sources: tuple[str, ...]
    destination: str
    contents: tuple[Heredoc, ...] = ()
    is_add: bool = False
    from_: str = ""
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    excludes: tuple[str, ...] = ()
    checksum: str = ""
    unpack: bool | None = None


_AnyInstruction = TypeVar("_AnyInstruction", bound=Instruction)


def expand(instruction: _AnyInstruction, lexer: Lexer, heredoc_lexer: Lexer) -> _AnyInstruction:
    """The instruction with its variables replaced and quotes removed, where Dockerfiles do that.

    RUN, CMD, ENTRYPOINT, SHELL, HEALTHCHECK and ONBUILD keep their text: the shell, or a later build, reads it.
    """
    expander = _EXPANDERS.get(type(instruction))
    if expander is None:
        return instruction
    expanded = expander(instruction, lexer, heredoc_lexer)
    assert isinstance(expanded, type(instruction))
    return expanded


def _pairs(pairs: Pairs, lexer: Lexer) -> Pairs:
    return tuple((lexer.expand(key), lexer.expand(value)) for key, value in pairs)


def _expand_copy(copy: Copy, lexer: Lexer, heredoc_lexer: Lexer) -> Copy:
    return replace(
        copy,
        sources=tuple(lexer.expand(source) for source in copy.sources),
        destination=lexer.expand(copy.destination),
        contents=tuple(
            replace(content, content=heredoc_lexer.expand(content.text), chomp=False) if content.expand else content
            for content in copy.contents
        ),
        chown=lexer.expand(copy.chown),
        chmod=lexer.expand(copy.chmod),
        checksum=lexer.expand(copy.checksum),
        excludes=tuple(lexer.expand(pattern) for pattern in copy.excludes),
    )


def _expand_run(run: Run, lexer: Lexer, _: Lexer) -> Run:
    return replace(
        run,
        network=lexer.expand(run.network),
        mounts=tuple(
            replace(
                mount,
                target=lexer.expand(mount.target),
                source=lexer.expand(mount.source),
                id=lexer.expand(mount.id),
            )
            for mount in run.mounts
        ),
    )


def _expand_arg(arg: Arg, lexer: Lexer, _: Lexer) -> Arg:
    return replace(
        arg,
        arguments=tuple((lexer.expand(name), None if value is None else lexer.expand(value)) for name, value in arg.arguments),
    )


_EXPANDERS: dict[type[Instruction], Callable[..., Instruction]] = {
    Arg: _expand_arg,
    Copy: _expand_copy,
    Run: _expand_run,
    Env: lambda env, lexer, _: replace(env, pairs=_pairs(env.pairs, lexer)),
    Label: lambda label, lexer, _: replace(label, pairs=_pairs(label.pairs, lexer)),
    Workdir: lambda workdir, lexer, _: replace(workdir, path=lexer.expand(workdir.path)),
    User: lambda user, lexer, _: replace(user, user=lexer.expand(user.user)),
    Volume: lambda volume, lexer, _: replace(volume, paths=tuple(lexer.expand(path) for path in volume.paths)),
    StopSignal: lambda stop, lexer, _: replace(stop, signal=lexer.expand(stop.signal)),
    Expose: lambda expose, lexer, _: replace(expose, ports=tuple(port for text in expose.ports for port in lexer.words(text))),
}
