"""The filters of ``GET /containers/json`` and of prune."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kitepy.engine.model.container import ContainerRecord, ContainerStatus, MountKind
from kitepy.engine.model.errors import InvalidParameter, NotFound
from kitepy.engine.model.filters import Filters
from kitepy.engine.model.health import Health, HealthStatus
from kitepy.engine.model.oci import Digest
from kitepy.engine.model.timestamps import SECOND, parse_time
from kitepy.engine.services.container_index import ContainerIndex
from kitepy.engine.services.container_view import port_list
from kitepy.engine.services.images import ImageService

_KNOWN = (
    "ancestor", "before", "exited", "expose", "health", "id", "isolation", "is-task", "label", "name", "network", "publish",
    "since", "status", "volume",
)  # fmt: skip
_PRUNE = ("until", "label", "label!")


class ContainerFilter:
    """One request's filters; checked when made, so that a wrong one fails before anything is read."""

    def __init__(
        self,
        filters: Filters,
        index: ContainerIndex,
        images: ImageService,
        health_of: Callable[[str], Health | None],
    ) -> None:
        filters.require_known(_KNOWN)
        self._filters = filters
        self._images = images
        self._health_of = health_of
        _check_words(filters, "status", "state", [status.value for status in ContainerStatus])
        _check_words(filters, "health", "health", ["none", *(status.value for status in HealthStatus)])
        self._exit_codes = [self._exit_code(text) for text in filters.get("exited")]
        self._ports = {key: self._port_range(key) for key in ("publish", "expose")}
        self._before = self._created("before", index)
        self._since = self._created("since", index)
        self._ancestors = self._ancestor_ids() if "ancestor" in filters else None
        self._nothing = filters.flag("is-task", False)
        """Tasks belong to a swarm."""

    @property
    def chooses_status(self) -> bool:
        """Whether stopped containers are wanted without ``all``."""
        return "status" in self._filters

    def matches(self, record: ContainerRecord) -> bool:
        """Whether a container is to be listed."""
        filters = self._filters
        if not filters:
            return True
        return (
            not self._nothing
            and filters.prefix("id", record.id)
            and filters.pattern("name", record.name, f"/{record.name}")
            and filters.exact("status", record.state.status.value)
            and filters.labels(record.config.labels)
            and (not self._exit_codes or self._exited_with(record))
            and (self._before is None or record.created_ns < self._before)
            and (self._since is None or record.created_ns > self._since)
            and (self._ancestors is None or self._descends(record, self._ancestors))
            and self._matches_mounts(record)
            and self._matches_network(record)
            and self._matches_ports(record)
            and ("health" not in filters or filters.exact("health", self._health_word(record)))
        )

    def _health_word(self, record: ContainerRecord) -> str:
        health = self._health_of(record.id)
        return health.status.value if health is not None else "none"

    def _exited_with(self, record: ContainerRecord) -> bool:
        never_ran = record.state.status is ContainerStatus.CREATED
        return not record.state.status.counts_as_running and not never_ran and record.state.exit_code in self._exit_codes

    def _matches_mounts(self, record: ContainerRecord) -> bool:
        if "volume" not in self._filters:
            return True
        wanted = self._filters.get("volume")
        for point in record.mounts:
            source = point.volume or point.image or point.source
            if point.kind is not MountKind.TMPFS and (point.destination in wanted or source in wanted):
                return True
        return False

    def _matches_network(self, record: ContainerRecord) -> bool:
        """By name, or by the beginning of the id of a network that the container was started on."""
        if "network" not in self._filters:
            return True
        return any(
            self._filters.exact("network", name)
            or (settings.network_id != "" and self._filters.prefix("network", settings.network_id))
            for name, settings in record.networks.items()
        )

    def _matches_ports(self, record: ContainerRecord) -> bool:
        """By the ports of now: ``publish`` by those of the host, ``expose`` by those of the container."""
        for key, side in (("publish", "PublicPort"), ("expose", "PrivatePort")):
            if key not in self._filters:
                continue
            if not any((port.get(side, 0), port["Type"]) in self._ports[key] for port in port_list(record)):
                return False
        return True

    def _port_range(self, key: str) -> set[tuple[int, str]]:
        wanted: set[tuple[int, str]] = set()
        for text in self._filters.get(key):
            numbers, _, protocol = text.partition("/")
            first, dash, last = numbers.partition("-")
            low = _port_number(key, text, first)
            high = _port_number(key, text, last) if dash else low
            if high < low:
                raise InvalidParameter(f"invalid filter '{key}={text}': the range is empty")
            wanted |= {(port, protocol.lower() or "tcp") for port in range(low, high + 1)}
        return wanted

    def _created(self, key: str, index: ContainerIndex) -> int | None:
        moments = [index.resolve(ref).created_ns for ref in self._filters.get(key)]
        return moments[-1] if moments else None

    def _ancestor_ids(self) -> set[str]:
        ids: set[str] = set()
        for ref in self._filters.get("ancestor"):
            try:
                ids.add(self._images.resolve(ref).id)
            except NotFound:
                continue
        return ids

    def _descends(self, record: ContainerRecord, ancestors: set[str]) -> bool:
        """Whether the container's image is one of these, or was built from one here."""
        image_id: str | None = record.image_id
        while image_id is not None and image_id not in ancestors:
            try:
                image_id = self._images.get(Digest(image_id)).parent_id
            except NotFound:
                return False
        return image_id is not None

    @staticmethod
    def _exit_code(text: str) -> int:
        try:
            return int(text)
        except ValueError:
            raise InvalidParameter(f"invalid filter 'exited={text}': strconv.Atoi: parsing \"{text}\": invalid syntax") from None


class PruneFilter:
    """The filters of ``POST /containers/prune``."""

    def __init__(self, filters: Filters, now_ns: int) -> None:
        filters.require_known(_PRUNE)
        self._filters = filters
        self._until_ns = self._until(filters.get("until"), now_ns)

    @staticmethod
    def _until(given: Sequence[str], now_ns: int) -> int | None:
        """The time of creation up to which containers are to be pruned; durations before now count in whole seconds."""
        if not given:
            return None
        if len(given) > 1:
            raise InvalidParameter("more than one until filter specified")
        try:
            return parse_time(given[0], now_ns=now_ns // SECOND * SECOND)
        except InvalidParameter:
            raise InvalidParameter(f'failed to parse value as time or duration: "{given[0][:80]}"') from None

    def matches(self, record: ContainerRecord) -> bool:
        """Whether a container is to be pruned."""
        return (
            self._filters.labels(record.config.labels)
            and self._filters.without_labels(record.config.labels)
            and (self._until_ns is None or record.created_ns <= self._until_ns)
        )


def _check_words(filters: Filters, key: str, what: str, known: Sequence[str]) -> None:
    for word in filters.get(key):
        if word not in known:
            raise InvalidParameter(
                f"invalid filter '{key}={word}': invalid value for {what} ({word}): must be one of {', '.join(known)}"
            )


def _port_number(key: str, text: str, word: str) -> int:
    if not (word.isascii() and word.isdecimal() and len(word) < 6 and int(word) < 65536):
        raise InvalidParameter(f"invalid filter '{key}={text}': a port is a number up to 65535")
    return int(word)
