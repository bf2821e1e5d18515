"""The Dockerfile lines that ``docker commit --change`` and ``docker import --change`` apply to a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kitepy.engine.builder import metadata
from kitepy.engine.builder.expansion import Lexer
from kitepy.engine.builder.failures import DockerfileError
from kitepy.engine.builder.instructions import Cmd, expand
from kitepy.engine.builder.parser import parse
from kitepy.engine.builder.reading import read_instruction
from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.model.oci import ImageConfig

_ALLOWED = (
    *("CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL"),
    *("ONBUILD", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
)


def apply_changes(config: ImageConfig, changes: Sequence[str]) -> ImageConfig:
    """The configuration after all lines, in order; InvalidParameter in Docker's words."""
    lines = "\n".join(changes).splitlines()
    if not lines and not changes:
        return config
    if not any(line.strip() and not line.lstrip().startswith("#") for line in lines):
        raise InvalidParameter("file with no instructions")
    escaped, command_is_own = config.args_escaped, False
    document = parse("\n".join(lines))
    for node in document.nodes:
        if node.keyword not in _ALLOWED:
            raise InvalidParameter(f"{node.original.split()[0]} is not a valid change command")
        lexer = Lexer(metadata.environment(config.env), escape=document.escape)
        try:
            instruction = expand(read_instruction(node, document.escape), lexer, lexer)
            config = metadata.apply(config, instruction, command_is_own=command_is_own)
        except DockerfileError as problem:
            raise InvalidParameter(problem.reason) from None
        except ValueError as problem:
            raise InvalidParameter(str(problem)) from None
        command_is_own = command_is_own or isinstance(instruction, Cmd)
    return replace(config, args_escaped=escaped)  # unlike what builds do
