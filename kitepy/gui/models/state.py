"""The whole state of the app and the reducer that every change goes through. Pure: time and ids come in with the events."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from kitepy.gui.models.build import Build
from kitepy.gui.models.container import Container, Status
from kitepy.gui.models.discover import Discover
from kitepy.gui.models.image import Image
from kitepy.gui.models.image_detail import Looking
from kitepy.gui.models.network import Network
from kitepy.gui.models.ports import Listener, PortAnswer
from kitepy.gui.models.pull import Pull
from kitepy.gui.models.registry import Registries
from kitepy.gui.models.system_check import SystemCheck
from kitepy.gui.models.volume import Browsing, FilePreview, Folder, Job, Volume, with_folder


class EnginePhase(enum.Enum):
    STARTING = "starting"
    READY = "ready"
    RECONNECTING = "reconnecting"
    FAILED = "failed"


@dataclass(frozen=True)
class EngineState:
    phase: EnginePhase = EnginePhase.STARTING
    version: str = ""
    adopted: bool = False
    why_root: str = ""
    reason: str = ""
    hint: str = ""
    log_tail: str = ""
    blocked: bool = False
    """It couldn't start for what this machine lacks: `AppState.system` tells."""


@dataclass(frozen=True)
class Listing:
    """Whether a list has been read at least once, and why it could not be read the last time."""

    loaded: bool = False
    error: str = ""


class Page(enum.Enum):
    DISCOVER = "discover"
    """With a key, the repository of that name, or the image with that tag or digest."""
    IMAGES = "images"
    """With a key, the image with that id."""
    CONTAINER = "container"
    BUILD = "build"
    DOCTOR = "doctor"
    VOLUMES = "volumes"
    """With a key, the volume of that name."""
    NETWORKS = "networks"
    """With a key, the network with that id."""
    PORTS = "ports"
    REGISTRIES = "registries"
    PULL = "pull"


@dataclass(frozen=True)
class Route:
    page: Page
    key: str = ""


DISCOVER = Route(Page.DISCOVER)
IMAGES = Route(Page.IMAGES)
DOCTOR = Route(Page.DOCTOR)
VOLUMES = Route(Page.VOLUMES)
NETWORKS = Route(Page.NETWORKS)
PORTS = Route(Page.PORTS)
REGISTRIES = Route(Page.REGISTRIES)


@dataclass(frozen=True)
class AppState:
    engine: EngineState = EngineState()
    containers: Mapping[str, Container] = field(default_factory=dict)
    containers_list: Listing = Listing()
    images: tuple[Image, ...] = ()
    images_list: Listing = Listing()
    looking: Looking = field(default_factory=Looking)
    activities: Mapping[str, str] = field(default_factory=dict)
    """What is being done to a container right now ("Stopping"), by container id."""
    builds: Mapping[str, Build] = field(default_factory=dict)
    route: Route = DISCOVER
    system: SystemCheck | None = None
    """What was found about this machine the last time; None before."""
    checking_system: bool = False
    volumes: tuple[Volume, ...] = ()
    volumes_list: Listing = Listing()
    volume_sizes: Mapping[str, int] = field(default_factory=dict)
    """Measured while the volumes are looked at."""
    browsing: Browsing = field(default_factory=Browsing)
    jobs: Mapping[str, Job] = field(default_factory=dict)
    networks: tuple[Network, ...] = ()
    networks_list: Listing = Listing()
    listeners: tuple[Listener, ...] = ()
    listeners_list: Listing = Listing()
    port_answer: PortAnswer | None = None
    """To the last question whether a port is free."""
    discover: Discover = field(default_factory=Discover)
    pulls: Mapping[str, Pull] = field(default_factory=dict)
    registries: Registries = field(default_factory=Registries)


# Everything that can happen to the state.
@dataclass(frozen=True)
class EngineChanged:
    engine: EngineState


@dataclass(frozen=True)
class ContainersListed:
    containers: tuple[Container, ...]


@dataclass(frozen=True)
class ContainersUnreadable:
    message: str


@dataclass(frozen=True)
class ImagesListed:
    images: tuple[Image, ...]


@dataclass(frozen=True)
class ImagesUnreadable:
    message: str


@dataclass(frozen=True)
class LookingChanged:
    looking: Looking


@dataclass(frozen=True)
class EngineEvent:
    """One message of the engine's event stream, as far as the app cares."""

    kind: str
    action: str
    id: str
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ActivityStarted:
    container_id: str
    word: str


@dataclass(frozen=True)
class ActivityEnded:
    container_id: str


@dataclass(frozen=True)
class BuildChanged:
    build: Build


@dataclass(frozen=True)
class BuildForgotten:
    build_id: str


@dataclass(frozen=True)
class Navigated:
    route: Route


@dataclass(frozen=True)
class SystemCheckStarted:
    pass


@dataclass(frozen=True)
class SystemChecked:
    system: SystemCheck | None
    """None when this machine couldn't be checked."""


@dataclass(frozen=True)
class VolumesListed:
    volumes: tuple[Volume, ...]


@dataclass(frozen=True)
class VolumesUnreadable:
    message: str


@dataclass(frozen=True)
class VolumesMeasured:
    sizes: Mapping[str, int]


@dataclass(frozen=True)
class BrowsingBegan:
    volume: str


@dataclass(frozen=True)
class FolderRead:
    volume: str
    path: str
    folder: Folder


@dataclass(frozen=True)
class FilePreviewed:
    volume: str
    preview: FilePreview | None


@dataclass(frozen=True)
class JobChanged:
    job: Job


@dataclass(frozen=True)
class JobForgotten:
    job_id: str


@dataclass(frozen=True)
class NetworksListed:
    networks: tuple[Network, ...]


@dataclass(frozen=True)
class NetworksUnreadable:
    message: str


@dataclass(frozen=True)
class ListenersRead:
    listeners: tuple[Listener, ...]


@dataclass(frozen=True)
class ListenersUnreadable:
    message: str


@dataclass(frozen=True)
class PortAnswered:
    answer: PortAnswer | None


@dataclass(frozen=True)
class DiscoverChanged:
    discover: Discover


@dataclass(frozen=True)
class RegistriesChanged:
    registries: Registries


@dataclass(frozen=True)
class PullChanged:
    pull: Pull


@dataclass(frozen=True)
class PullForgotten:
    pull_id: str


Event = (
    EngineChanged
    | ContainersListed
    | ContainersUnreadable
    | ImagesListed
    | ImagesUnreadable
    | LookingChanged
    | EngineEvent
    | ActivityStarted
    | ActivityEnded
    | BuildChanged
    | BuildForgotten
    | Navigated
    | SystemCheckStarted
    | SystemChecked
    | VolumesListed
    | VolumesUnreadable
    | VolumesMeasured
    | BrowsingBegan
    | FolderRead
    | FilePreviewed
    | JobChanged
    | JobForgotten
    | NetworksListed
    | NetworksUnreadable
    | ListenersRead
    | ListenersUnreadable
    | PortAnswered
    | DiscoverChanged
    | RegistriesChanged
    | PullChanged
    | PullForgotten
)

_STATUS_AFTER = {
    "start": Status.RUNNING,
    "restart": Status.RUNNING,
    "unpause": Status.RUNNING,
    "pause": Status.PAUSED,
    "die": Status.EXITED,
    "stop": Status.EXITED,
}


def reduce(state: AppState, event: Event) -> AppState:
    """The state after `event`."""
    match event:
        case EngineChanged(engine):
            return replace(state, engine=engine)
        case ContainersListed(containers):
            return _with_containers(state, {container.id: container for container in containers}, Listing(loaded=True))
        case ContainersUnreadable(message):
            return replace(state, containers_list=replace(state.containers_list, error=message))
        case ImagesListed(images):
            ids = {image.id for image in images}
            if state.route.page is Page.IMAGES and state.route.key and state.route.key not in ids:
                state = _leave_if_known(state, IMAGES, {image.id for image in state.images})
            return replace(state, images=images, images_list=Listing(loaded=True))
        case ImagesUnreadable(message):
            return replace(state, images_list=replace(state.images_list, error=message))
        case LookingChanged(looking):
            return replace(state, looking=looking)
        case EngineEvent():
            return _after_engine_event(state, event)
        case ActivityStarted(container_id, word):
            return replace(state, activities={**state.activities, container_id: word})
        case ActivityEnded(container_id):
            return replace(state, activities={key: word for key, word in state.activities.items() if key != container_id})
        case BuildChanged(build):
            return _with_build(state, build)
        case BuildForgotten(build_id):
            builds = {key: build for key, build in state.builds.items() if key != build_id}
            route = DISCOVER if state.route == Route(Page.BUILD, build_id) else state.route
            return replace(state, builds=builds, route=route)
        case Navigated(route):
            return replace(state, route=route)
        case SystemCheckStarted():
            return replace(state, checking_system=True)
        case SystemChecked(system):
            return replace(state, system=system, checking_system=False)
        case _:
            return _reduce_resources(state, event)


def _reduce_resources(state: AppState, event: Event) -> AppState:
    """Volumes, networks and ports."""
    match event:
        case VolumesListed(volumes):
            known = {volume.name for volume in volumes}
            if state.route.page is Page.VOLUMES and state.route.key and state.route.key not in known:
                state = _leave_if_known(state, VOLUMES, {volume.name for volume in state.volumes})
            return replace(state, volumes=volumes, volumes_list=Listing(loaded=True))
        case VolumesUnreadable(message):
            return replace(state, volumes_list=replace(state.volumes_list, error=message))
        case VolumesMeasured(sizes):
            return replace(state, volume_sizes=sizes)
        case BrowsingBegan(volume):
            return replace(state, browsing=Browsing(volume))
        case FolderRead(volume, path, folder) if volume == state.browsing.volume:
            return replace(state, browsing=with_folder(state.browsing, path, folder))
        case FilePreviewed(volume, preview) if volume == state.browsing.volume:
            return replace(state, browsing=replace(state.browsing, preview=preview))
        case JobChanged(job):
            return replace(state, jobs={**state.jobs, job.id: job})
        case JobForgotten(job_id):
            return replace(state, jobs={key: job for key, job in state.jobs.items() if key != job_id})
        case NetworksListed(networks):
            ids = {network.id for network in networks}
            if state.route.page is Page.NETWORKS and state.route.key and state.route.key not in ids:
                state = _leave_if_known(state, NETWORKS, {network.id for network in state.networks})
            return replace(state, networks=networks, networks_list=Listing(loaded=True))
        case NetworksUnreadable(message):
            return replace(state, networks_list=replace(state.networks_list, error=message))
        case ListenersRead(listeners):
            return replace(state, listeners=listeners, listeners_list=Listing(loaded=True))
        case ListenersUnreadable(message):
            return replace(state, listeners_list=replace(state.listeners_list, error=message))
        case PortAnswered(answer):
            return replace(state, port_answer=answer)
        case _:
            return _reduce_registries(state, event)


def _reduce_registries(state: AppState, event: Event) -> AppState:
    """What is looked for in registries, and what comes from there."""
    match event:
        case DiscoverChanged(discover):
            return replace(state, discover=discover)
        case RegistriesChanged(registries):
            return replace(state, registries=registries)
        case PullChanged(pull):
            state = replace(state, pulls={**state.pulls, pull.id: pull})
            # As with builds: whoever watches is taken along, whoever looks at something else stays there.
            watched = state.route == Route(Page.PULL, pull.id)
            return replace(state, route=Route(Page.CONTAINER, pull.container_id)) if watched and pull.container_id else state
        case PullForgotten(pull_id):
            pulls = {key: pull for key, pull in state.pulls.items() if key != pull_id}
            route = DISCOVER if state.route == Route(Page.PULL, pull_id) else state.route
            return replace(state, pulls=pulls, route=route)
        case _:
            return state


def _leave_if_known(state: AppState, to: Route, before: set[str]) -> AppState:
    """The page of something that is gone; what was made a moment ago may not be listed yet."""
    return replace(state, route=to) if state.route.key in before else state


def _with_containers(state: AppState, containers: Mapping[str, Container], listing: Listing) -> AppState:
    gone = state.route.page is Page.CONTAINER and state.route.key not in containers
    # A route may point at a container that was made a moment ago and isn't listed yet: only a known one can be gone.
    if gone and state.route.key in state.containers:
        state = replace(state, route=DISCOVER)
    return replace(state, containers=containers, containers_list=listing)


def _after_engine_event(state: AppState, event: EngineEvent) -> AppState:
    if event.kind != "container" or event.id not in state.containers:
        return state
    if event.action == "destroy":
        rest = {key: container for key, container in state.containers.items() if key != event.id}
        return _with_containers(state, rest, state.containers_list)
    container = state.containers[event.id]
    if event.action == "rename":
        container = replace(container, name=event.attributes.get("name", container.name).lstrip("/"))
    elif event.action in _STATUS_AFTER:
        status = _STATUS_AFTER[event.action]
        exit_code = container.exit_code
        if event.action == "die":
            code = event.attributes.get("exitCode", "")
            exit_code = int(code) if code.lstrip("-").isdigit() else None
        elif status is Status.RUNNING:
            exit_code = None
        container = replace(container, status=status, exit_code=exit_code)
    else:
        return state
    return replace(state, containers={**state.containers, event.id: container})


def _with_build(state: AppState, build: Build) -> AppState:
    before = state.builds.get(build.id)
    state = replace(state, builds={**state.builds, build.id: build})
    # Whoever watches the build is taken to the container that came of it; whoever looks at something else stays there.
    if build.container_id and (before is None or not before.container_id) and state.route == Route(Page.BUILD, build.id):
        state = replace(state, route=Route(Page.CONTAINER, build.container_id))
    return state


Subscriber = Callable[[AppState, AppState], None]


class Store:
    """Holds the one AppState; subscribers are called with (state, previous) after each change, on the thread of `dispatch`."""

    def __init__(self, state: AppState | None = None) -> None:
        self._state = state or AppState()
        self._subscribers: list[Subscriber] = []

    @property
    def state(self) -> AppState:
        return self._state

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Returns the function that ends the subscription."""
        self._subscribers.append(subscriber)
        return lambda: self._subscribers.remove(subscriber)

    def dispatch(self, event: Event) -> None:
        previous = self._state
        self._state = reduce(previous, event)
        if self._state != previous:
            for subscriber in list(self._subscribers):
                subscriber(self._state, previous)
