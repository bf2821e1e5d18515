from __future__ import annotations

import pytest

from kitepy.engine.builder.arguments import GlobalArguments, StageArguments, declare, declare_globals
from kitepy.engine.builder.expansion import Lexer
from kitepy.engine.builder.failures import DockerfileError
from kitepy.engine.builder.instructions import Arg, expand
from kitepy.engine.builder.reading import read_line
from kitepy.engine.builder.stages import find_target, needed_stages, read_dockerfile
from kitepy.engine.model.platform import Platform

AMD64 = Platform("linux", "amd64")
THREE = """\
ARG V=1
FROM a AS one
RUN x
FROM b AS two
RUN y
FROM one AS three
COPY --from=two /x /y
COPY --from=image:1 /x /z
FROM c
COPY --from=1 /x /y
"""


def needed(text: str, target: str = "") -> list[int]:
    stages = read_dockerfile(text).stages
    found = find_target(stages, target)
    return [stage.index for stage in needed_stages(stages, [stage.origin.base for stage in stages], found)]


def test_only_stages_that_the_target_needs_are_built() -> None:
    assert needed(THREE) == [1, 3]
    assert needed(THREE, "three") == [0, 1, 2]
    assert needed(THREE, "TWO") == [1]
    assert needed(THREE, "0") == [0]


def test_a_mount_from_a_stage_needs_it() -> None:
    assert needed("FROM a AS x\nFROM b AS y\nFROM c\nRUN --mount=type=bind,from=x,target=/x true\n") == [0, 2]


def test_an_unknown_target_is_refused_with_a_suggestion() -> None:
    with pytest.raises(DockerfileError, match=r"failed to reach build target thre in Dockerfile \(did you mean three\?\)"):
        find_target(read_dockerfile(THREE).stages, "thre")


def test_a_number_in_from_names_an_image_but_in_copy_a_stage() -> None:
    assert needed("FROM a\nFROM 0\n") == [1]
    with pytest.raises(DockerfileError, match="line 2: invalid from flag value 1: there is no stage 1 before"):
        needed("FROM a\nCOPY --from=1 a b\n")


def test_a_stage_cannot_copy_from_itself_and_a_later_one_is_an_image() -> None:
    with pytest.raises(DockerfileError, match="copy from itself"):
        needed("FROM a AS me\nCOPY --from=me a b\n")
    assert needed("FROM a AS me\nCOPY --from=later a b\nFROM b AS later\n", "me") == [0]


def test_variables_in_copy_from_are_refused_with_advice() -> None:
    with pytest.raises(DockerfileError, match=r"give the image a stage of its own"):
        needed("FROM a\nCOPY --from=$x a b\n")


def test_a_dockerfile_begins_with_from() -> None:
    with pytest.raises(DockerfileError, match="line 2: no build stage in current context: RUN"):
        read_dockerfile("ARG a\nRUN x\nFROM a\n")
    with pytest.raises(DockerfileError, match="it needs a FROM"):
        read_dockerfile("ARG a\n")


def scope(*lines: str, **given: str) -> GlobalArguments:
    arguments = [instruction for line in lines if isinstance(instruction := read_line(line), Arg)]
    return declare_globals(arguments, given, AMD64, Platform("linux", "arm64"), "prod", "\\")


def declared(outer: GlobalArguments, line: str) -> StageArguments:
    lexer = Lexer({})
    instruction = expand(read_line(line), lexer, lexer)
    assert isinstance(instruction, Arg)
    return declare(StageArguments(), instruction, outer)


def test_outer_arguments_see_those_before_and_the_platforms() -> None:
    outer = scope("ARG a=1", "ARG b=${a}-$TARGETARCH", "ARG c", a="2").outer
    assert outer["b"] == "2-arm64"
    assert "c" not in outer
    assert (outer["BUILDPLATFORM"], outer["TARGETSTAGE"]) == ("linux/amd64", "prod")


def test_a_stage_sees_an_outer_argument_only_after_declaring_it() -> None:
    outer = scope("ARG a=1", "ARG b=1", b="given")
    assert declared(outer, "ARG a").values() == {"a": "1"}
    assert declared(outer, "ARG a=own").values() == {"a": "own"}
    assert declared(outer, "ARG b=own").values() == {"b": "given"}
    assert declared(outer, "ARG TARGETARCH nothing").declared == {"TARGETARCH": "arm64", "nothing": None}


def test_env_beats_arguments() -> None:
    stage = StageArguments({"a": "arg", "b": "arg"})
    assert stage.variables({"a": "env"}) == {"a": "env", "b": "arg"}
    assert stage.recorded({"a": "env"}) == {"b": "arg"}


def test_proxies_are_known_without_being_declared() -> None:
    assert scope(HTTP_PROXY="p", other="o").proxies == {"HTTP_PROXY": "p"}
