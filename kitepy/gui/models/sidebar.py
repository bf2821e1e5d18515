"""Which rows the sidebar shows for a state and a filter. Pure; painting them is the sidebar view's work."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from kitepy.gui.models.build import Build, BuildPhase
from kitepy.gui.models.container import Container, Status, distinct_ports
from kitepy.gui.models.pull import Pull, PullPhase
from kitepy.gui.models.state import AppState, Page, Route


class Glyph(enum.Enum):
    """The mark before a row: shape and colour together, so that neither has to be told from the other alone."""

    RUNNING = "running"
    BUSY = "busy"
    PAUSED = "paused"
    STOPPED = "stopped"
    FAILED = "failed"
    DONE = "done"


@dataclass(frozen=True)
class Row:
    route: Route
    title: str
    detail: str
    glyph: Glyph

    @property
    def spoken(self) -> str:
        """The row as a screen reader says it."""
        return f"{self.title}, {self.detail}"


def rows(state: AppState, query: str = "") -> tuple[Row, ...]:
    """Pulls and builds in hand first, then containers by name; `query` filters by name, image and state, all words must match."""
    words = query.lower().split()
    result = [pull_row(pull) for pull in reversed(list(state.pulls.values())) if _is_of_interest(pull, state)]
    result += [build_row(build) for build in reversed(list(state.builds.values())) if not _is_replaced(build, state)]
    by_name = sorted(state.containers.values(), key=lambda container: container.name.lower())
    result += [container_row(container, state.activities.get(container.id, "")) for container in by_name]
    images = {container.id: container.image for container in by_name}
    return tuple(
        row
        for row in result
        if all(word in f"{row.title} {row.detail} {images.get(row.route.key, '')}".lower() for word in words)
    )


def _is_replaced(build: Build, state: AppState) -> bool:
    """A finished build has become its container; one that was cancelled is of no more interest."""
    if build.phase is BuildPhase.DONE:
        return not build.container_id or build.container_id in state.containers or state.containers_list.loaded
    return build.phase is BuildPhase.CANCELLED and state.route != Route(Page.BUILD, build.id)


def _is_of_interest(pull: Pull, state: AppState) -> bool:
    """What is done has become an image or a container."""
    return pull.phase is not PullPhase.DONE or state.route == Route(Page.PULL, pull.id)


def pull_row(pull: Pull) -> Row:
    percent = pull.transfer.percent
    so_far = "" if percent is None else f" {percent} %"
    match pull.phase:
        case PullPhase.PULLING:
            waits = pull.transfer.wait_until_s is not None
            glyph, detail = (Glyph.PAUSED, "Waiting for the registry") if waits else (Glyph.BUSY, f"Pulling{so_far}")
        case PullPhase.STARTING:
            glyph, detail = Glyph.BUSY, "Starting"
        case PullPhase.PAUSED:
            glyph, detail = Glyph.PAUSED, f"Pull {'interrupted' if pull.interrupted else 'paused'}"
        case PullPhase.FAILED:
            glyph, detail = Glyph.FAILED, "Doesn't start" if pull.transfer.percent == 100 else "Pull failed"
        case PullPhase.DONE:
            glyph, detail = Glyph.DONE, "Pulled"
    return Row(Route(Page.PULL, pull.id), pull.name, detail, glyph)


def build_row(build: Build) -> Row:
    if build.phase is BuildPhase.BUILDING and build.steps:
        detail = f"Building, step {build.steps[-1].index} of {build.total_steps}"
    else:
        detail = "Build failed" if build.phase is BuildPhase.FAILED else build.phase.value.capitalize()
    glyph = Glyph.BUSY if build.phase.active else Glyph.FAILED if build.phase is BuildPhase.FAILED else Glyph.STOPPED
    return Row(Route(Page.BUILD, build.id), build.name, detail, glyph)


def container_row(container: Container, activity: str = "") -> Row:
    route = Route(Page.CONTAINER, container.id)
    if activity:
        return Row(route, container.name, f"{activity}…", Glyph.BUSY)
    return Row(route, container.name, _detail(container), glyph_of(container))


def glyph_of(container: Container) -> Glyph:
    match container.status:
        case Status.RUNNING:
            return Glyph.RUNNING
        case Status.PAUSED:
            return Glyph.PAUSED
        case Status.RESTARTING | Status.REMOVING:
            return Glyph.BUSY
        case Status.DEAD:
            return Glyph.FAILED
        case Status.EXITED if container.exit_code not in (None, 0, 137, 143):
            # 137 and 143 are what a stop looks like: nobody has to worry about them.
            return Glyph.FAILED
        case _:
            return Glyph.STOPPED


def state_word(container: Container) -> str:
    """The state in a word or two, for headers and lists."""
    if container.status is Status.EXITED:
        return "Stopped" if container.exit_code in (None, 0, 137, 143) else f"Exited ({container.exit_code})"
    word: str = container.status.value
    return word.capitalize()


def _detail(container: Container) -> str:
    word = state_word(container)
    ports = [str(port.host_port) for port in distinct_ports(container.ports) if port.host_port is not None]
    if container.status is Status.RUNNING and ports:
        more = f" +{len(ports) - 1}" if len(ports) > 1 else ""
        return f"{word} · port {ports[0]}{more}"
    return word
