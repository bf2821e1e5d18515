"""A build as values: steps, times, failures and what the sidebar shows of it."""

from dataclasses import replace
from pathlib import Path

from kitepy.gui.models.build import (
    Build,
    BuildFailed,
    BuildPhase,
    BuildRequest,
    BuildReview,
    BuildSucceeded,
    ContextSent,
    OutputWritten,
    StepStarted,
    StepState,
    advance,
    cancel,
    fail,
    finish,
)
from kitepy.gui.models.container import Container, Status
from kitepy.gui.models.dockerfile import parse_instructions
from kitepy.gui.models.sidebar import Glyph, rows
from kitepy.gui.models.state import AppState, BuildChanged, BuildForgotten, ContainersListed, Navigated, Page, Route, reduce

SOURCE = "# a comment\nARG BASE=starter\nFROM ${BASE}\n\nRUN make \\\n    all\nEXPOSE 80\n"


def new_build() -> Build:
    instructions = parse_instructions(SOURCE)
    review = BuildReview(Path("/p"), Path("/p/Dockerfile"), SOURCE, instructions, ("starter",), ("80/tcp",), 10, 1, 0, "p")
    return Build("build-1", "p", BuildRequest(review, "p"), started_s=100.0)


def test_steps_follow_each_other_with_their_times() -> None:
    build = advance(new_build(), ContextSent(5, 10), 100.0, 0)
    assert build.phase is BuildPhase.SENDING
    build = advance(build, StepStarted(1, 4, "ARG BASE=starter"), 101.0, 0)
    build = advance(build, StepStarted(2, 4, "FROM ${BASE}"), 101.5, 1)
    first, second = build.steps
    assert (first.state, first.elapsed_s(999)) == (StepState.DONE, 0.5)
    assert (second.state, second.elapsed_s(103.5), second.first_line) == (StepState.RUNNING, 2.0, 1)


def test_a_step_from_the_cache_says_so_until_the_end() -> None:
    build = advance(new_build(), StepStarted(1, 2, "FROM x"), 1, 0)
    build = advance(build, OutputWritten(" ---> Using cache\n"), 1, 1)
    build = advance(build, BuildSucceeded("sha256:1"), 2, 2)
    assert build.steps[0].state is StepState.CACHED
    assert build.phase is BuildPhase.STARTING


def test_a_failing_step_is_put_on_its_line_of_the_dockerfile() -> None:
    build = advance(new_build(), StepStarted(3, 4, "RUN make     all"), 1, 0)
    build = advance(build, BuildFailed("The command '/bin/sh -c make all' returned a non-zero code: 2"), 2, 5)
    assert build.phase is BuildPhase.FAILED
    assert build.steps[0].state is StepState.FAILED
    assert build.error_line == 5


def test_a_syntax_error_is_put_on_the_line_that_it_names() -> None:
    build = advance(new_build(), BuildFailed("dockerfile parse error on line 7: unknown instruction: EXPOES"), 2, 0)
    assert build.error_line == 7


def test_a_container_that_does_not_start_has_no_line() -> None:
    build = advance(new_build(), StepStarted(1, 1, "FROM x"), 1, 0)
    build = advance(build, BuildSucceeded("sha256:1"), 2, 0)
    assert fail(build, "port is already allocated", 3).error_line is None


def test_nothing_happens_after_the_end() -> None:
    build = cancel(advance(new_build(), StepStarted(1, 1, "FROM x"), 101, 0), 105)
    assert build.phase is BuildPhase.CANCELLED
    assert build.steps[0].state is StepState.CANCELLED
    assert advance(build, BuildSucceeded("sha256:1"), 106, 0) is build
    assert build.elapsed_s(1000) == 5


def test_a_build_is_a_placeholder_in_the_sidebar_until_its_container_is_there() -> None:
    build = advance(new_build(), StepStarted(2, 4, "FROM x"), 1, 0)
    state = reduce(AppState(), BuildChanged(build))
    assert [(row.title, row.detail, row.glyph) for row in rows(state)] == [("p", "Building, step 2 of 4", Glyph.BUSY)]
    container = Container("c" * 64, "p", "p", Status.RUNNING)
    state = reduce(reduce(state, ContainersListed((container,))), BuildChanged(finish(build, container.id, 3)))
    assert [(row.title, row.glyph) for row in rows(state)] == [("p", Glyph.RUNNING)]


def test_whoever_watches_a_build_is_taken_to_its_container_and_nobody_else() -> None:
    build = new_build()
    done = finish(build, "c" * 64, 3)
    watching = reduce(reduce(AppState(), BuildChanged(build)), Navigated(Route(Page.BUILD, build.id)))
    assert reduce(watching, BuildChanged(done)).route == Route(Page.CONTAINER, "c" * 64)
    elsewhere = reduce(watching, Navigated(Route(Page.IMAGES)))
    assert reduce(elsewhere, BuildChanged(done)).route == Route(Page.IMAGES)


def test_a_failed_build_stays_until_it_is_dismissed() -> None:
    build = fail(new_build(), "no", 2)
    state = reduce(AppState(), BuildChanged(build))
    assert rows(state)[0].detail == "Build failed"
    assert rows(reduce(state, BuildForgotten(build.id))) == ()


def test_a_request_without_run_ends_without_a_container() -> None:
    done = finish(replace(new_build(), phase=BuildPhase.STARTING), "", 9)
    assert rows(reduce(AppState(), BuildChanged(done))) == ()
