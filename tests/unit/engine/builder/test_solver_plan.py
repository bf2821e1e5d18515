from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitepy.engine.builder.cache import step_key
from kitepy.engine.builder.failures import DockerfileError
from kitepy.engine.builder.instructions import Run
from kitepy.engine.builder.output import BuildOutput, CommandOutput
from kitepy.engine.builder.parser import parse
from kitepy.engine.builder.reading import read_instruction, read_line
from kitepy.engine.builder.request import BuildRequest
from kitepy.engine.builder.run_steps import command
from kitepy.engine.builder.solver import Plan
from kitepy.engine.builder.stages import read_dockerfile
from kitepy.engine.builder.state import from_scratch
from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.model.oci import ChainId, DiffId, ImageConfig
from kitepy.engine.model.platform import host_platform


def plan(text: str, **request: Any) -> Plan:
    return Plan(read_dockerfile(text), BuildRequest(**request))


def test_steps_count_outer_arguments_and_needed_stages_only() -> None:
    text = "ARG V=1\nFROM a AS x\nRUN 1\nFROM b\nRUN 2\nRUN 3\nFROM x\nCMD c\n"
    assert plan(text).steps == 1 + 2 + 2
    assert plan(text, target="x").steps == 1 + 2


def test_base_names_are_expanded_with_outer_arguments() -> None:
    text = "ARG V=1\nARG IMAGE=base:${V}\nFROM ${IMAGE} AS a\nFROM a\n"
    assert plan(text).bases == ["base:1", "a"]
    assert plan(text, build_args={"V": "2"}).bases == ["base:2", "a"]
    with pytest.raises(DockerfileError, match=r"line 1: base name \(\$X\) should not be blank"):
        plan("FROM $X\n")


def test_the_platform_of_a_stage_may_be_the_builds() -> None:
    built = plan("FROM --platform=$BUILDPLATFORM a AS tools\nFROM b\n", platform="linux/s390x")
    first, second = built.dockerfile.stages
    assert built.stage_platform(first) == host_platform()
    assert str(built.stage_platform(second)) == "linux/s390x"


def test_a_bad_platform_is_the_requests_fault() -> None:
    with pytest.raises(InvalidParameter, match="cannot parse platform specifier"):
        plan("FROM a\n", platform="a/b/c/d")


def test_arguments_that_nothing_declares_are_found() -> None:
    text = "ARG outer\nFROM a\nARG inner\n"
    given = {"outer": "1", "inner": "2", "HTTP_PROXY": "3", "TARGETARCH": "4", "lost": "5"}
    assert plan(text, build_args=given).unused_arguments() == ["lost"]


def run_of(text: str) -> Run:
    instruction = read_instruction(parse(text).nodes[0])
    assert isinstance(instruction, Run)
    return instruction


@pytest.mark.parametrize(
    ("text", "argv", "script"),
    [
        ("RUN a  b", ["sh", "a  b"], None),
        ('RUN ["a", "b"]', ["a", "b"], None),
        ("RUN <<E\na\nb\nE", ["sh", "a\nb\n"], None),
        ("RUN <<-E\n\ta\n\tE", ["sh", "a\n"], None),
        ("RUN <<E\n#!/bin/x\na\nE", ["/dev/pipes/E"], "#!/bin/x\na\n"),
        ("RUN cat <<E >f\na\nE", ["sh", "cat <<E >f\na\nE"], None),
        ("RUN a <<E ; b <<'F'\n1\nE\n2\nF", ["sh", "a <<E ; b <<'F'\n1\nE\n2\nF"], None),
    ],
)
def test_commands_and_here_documents_become_what_is_executed(text: str, argv: list[str], script: str | None) -> None:
    assert command(run_of(text), ("sh",)) == (argv, script)


TOP = ChainId("sha256:1")


def test_a_step_key_depends_on_what_the_result_depends_on() -> None:
    config = ImageConfig(env=("A=1",))
    base = step_key(TOP, config, read_line("RUN x"), arguments={"v": "1"})
    assert base == step_key(TOP, config, parse_second("FROM a\nRUN x"), arguments={"v": "1"})
    others = {
        step_key(None, config, read_line("RUN x"), arguments={"v": "1"}),
        step_key(TOP, ImageConfig(env=("A=2",)), read_line("RUN x"), arguments={"v": "1"}),
        step_key(TOP, config, read_line("RUN y"), arguments={"v": "1"}),
        step_key(TOP, config, read_line('RUN ["x"]'), arguments={"v": "1"}),
        step_key(TOP, config, read_line("RUN --network=none x"), arguments={"v": "1"}),
        step_key(TOP, config, read_line("RUN x"), arguments={"v": "2"}),
        step_key(TOP, config, read_line("CMD x"), arguments={"v": "1"}),
    }
    assert len(others) == 7
    assert base not in others


def test_a_label_spoils_no_run_after_it_but_a_variable_does() -> None:
    run, copy = read_line("RUN x"), read_line("COPY a b")
    labelled, other = ImageConfig(labels={"a": "b"}), ImageConfig(env=("A=1",))
    assert step_key(TOP, ImageConfig(), run) == step_key(TOP, labelled, run) != step_key(TOP, other, run)
    assert step_key(TOP, ImageConfig(), copy) == step_key(TOP, other, copy) != step_key(TOP, ImageConfig(working_dir="/x"), copy)


def parse_second(text: str) -> Run:
    instruction = read_instruction(parse(text).nodes[1])
    assert isinstance(instruction, Run)
    return instruction


def test_the_state_tells_layers_and_history_alike() -> None:
    state = from_scratch(host_platform()).with_step("ENV a=1", "2020-01-01T00:00:00Z", None)
    state = state.with_step("RUN x", "2021-01-01T00:00:00Z", (TOP, DiffId("sha256:" + "2" * 64)))
    document = state.document()
    assert [entry.empty_layer for entry in document.history] == [True, False]
    assert (document.created, document.diff_ids) == ("2021-01-01T00:00:00Z", ("sha256:" + "2" * 64,))
    assert state.layers == (TOP,)
    same = from_scratch(host_platform()).with_step("ENV a=1", "2020-01-01T00:00:00Z", None)
    assert same.image_id != state.image_id
    assert same.with_labels({}, "now") == same
    assert same.with_labels({"a": "b"}, "now").document().created == "2020-01-01T00:00:00Z"


async def told(side_by_side: bool, pieces: list[tuple[int, bytes]]) -> list[str]:
    messages: list[dict[str, Any]] = []

    async def emit(message: dict[str, Any]) -> None:
        messages.append(message)

    output = BuildOutput(emit, 1)
    output.side_by_side = side_by_side
    spoken = CommandOutput(output)
    for number, data in pieces:
        await spoken.write(number, data)
    await spoken.finish()
    return [message["stream"] for message in messages]


def test_output_is_passed_on_as_it_comes_while_one_stage_runs() -> None:
    pieces = [(1, b"a"), (1, b"b\nc"), (2, "ä".encode()[:1]), (2, "ä".encode()[1:])]
    assert asyncio.run(told(False, pieces)) == ["a", "b\nc", "\x1b[91mä\x1b[0m"]


def test_output_is_passed_on_in_whole_lines_while_several_stages_run() -> None:
    assert asyncio.run(told(True, [(1, b"a"), (1, b"b\nc"), (1, b"d\n"), (1, b"e")])) == ["ab\n", "cd\n", "e"]


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=6), st.booleans())
def test_output_loses_nothing_wherever_it_is_cut(data: bytes, cuts: list[int], side_by_side: bool) -> None:
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [(1, data[start:end]) for start, end in pairwise(edges)]
    assert "".join(asyncio.run(told(side_by_side, pieces))) == data.decode("utf-8", "replace")


def test_quiet_builds_tell_the_id_only_unless_they_fail() -> None:
    async def scenario(fails: bool) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = []

        async def emit(message: dict[str, Any]) -> None:
            messages.append(message)

        output = BuildOutput(emit, 1, quiet=True)
        await output.step("FROM a")
        if fails:
            await output.failed("broken", 3)
        else:
            await output.done("sha256:1", ["a:latest"])
        return messages

    assert asyncio.run(scenario(False)) == [{"aux": {"ID": "sha256:1"}}, {"stream": "sha256:1\n"}]
    assert asyncio.run(scenario(True)) == [
        {"stream": "Step 1/1 : FROM a"},
        {"stream": "\n"},
        {"errorDetail": {"code": 3, "message": "broken"}, "error": "broken"},
    ]
