"""Build arguments: what the client gives, what a Dockerfile declares before its first FROM and in each stage, and who wins.

Pure. ENV beats ARG; the client's value beats a default; a declaration without a default takes the outer scope's value.
Proxy settings reach RUN without being declared and are kept out of history and cache, as they differ between places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from kitepy.engine.builder.expansion import Lexer
from kitepy.engine.builder.instructions import Arg, expand
from kitepy.engine.model.platform import Platform

PROXIES = frozenset(
    name for base in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY") for name in (base, base.lower())
)


@dataclass(frozen=True)
class GlobalArguments:
    """What holds for all stages: the client's values, and the outer scope's (platform arguments among them)."""

    given: Mapping[str, str | None]
    outer: Mapping[str, str]
    predefined: frozenset[str]

    @property
    def proxies(self) -> dict[str, str]:
        """Proxy settings that the client gave."""
        return {name: value for name, value in self.given.items() if name in PROXIES and value is not None}


@dataclass(frozen=True)
class StageArguments:
    """Arguments declared so far in a stage; a value of None means declared and unset."""

    declared: Mapping[str, str | None] = field(default_factory=dict)

    def values(self) -> dict[str, str]:
        """Those that have a value."""
        return {name: value for name, value in self.declared.items() if value is not None}

    def variables(self, env: Mapping[str, str]) -> dict[str, str]:
        """What ``$NAME`` means in the stage's instructions."""
        return {**self.values(), **env}

    def recorded(self, env: Mapping[str, str]) -> dict[str, str]:
        """Those that a RUN sees and its history and cache key tell."""
        return {name: value for name, value in self.values().items() if name not in env}


def declare_globals(
    arguments: Sequence[Arg], given: Mapping[str, str | None], build: Platform, target: Platform, stage: str, escape: str
) -> GlobalArguments:
    """The outer scope after the ARG instructions before the first FROM; ValueError for a bad expansion."""
    outer = {
        "BUILDPLATFORM": str(build),
        "BUILDOS": build.os,
        "BUILDARCH": build.architecture,
        "BUILDVARIANT": build.variant,
        "TARGETPLATFORM": str(target),
        "TARGETOS": target.os,
        "TARGETARCH": target.architecture,
        "TARGETVARIANT": target.variant,
        "TARGETSTAGE": stage,
    }
    predefined = frozenset(outer)
    outer.update({name: value for name, value in given.items() if name in predefined and value is not None})
    for instruction in arguments:
        lexer = Lexer(outer, escape=escape)
        for name, default in expand(instruction, lexer, lexer).arguments:
            value = given.get(name)
            if value is None:
                value = default
            if value is not None:
                outer[name] = value
    return GlobalArguments(given, outer, predefined)


def declare(stage: StageArguments, instruction: Arg, scope: GlobalArguments) -> StageArguments:
    """A stage's arguments after an expanded ARG."""
    declared = dict(stage.declared)
    for name, default in instruction.arguments:
        value = scope.given.get(name)
        if value is None:
            value = default if default is not None else scope.outer.get(name)
        declared[name] = value
    return replace(stage, declared=declared)
