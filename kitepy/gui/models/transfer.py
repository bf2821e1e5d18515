"""Layers on their way from or to a registry: a reducer over the engine's messages, sums, rate and remaining time. Pure."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field, replace

from kitepy.gui.models.image import readable_duration, readable_size


@dataclass(frozen=True)
class TransferMessage:
    """One message of the stream of a pull or a push. `id` is a layer's short digest, or the tag, or empty."""

    status: str
    id: str = ""
    current: int = 0
    total: int = 0


class LayerPhase(enum.Enum):
    WAITING = "Waiting"
    MOVING = "Downloading"
    PUSHING = "Pushing"
    RETRYING = "Trying again"
    STOPPED = "Stopped"
    VERIFYING = "Verifying"
    MOVED = "Downloaded"
    UNPACKING = "Unpacking"
    DONE = "Done"
    EXISTS = "Already there"

    @property
    def ended(self) -> bool:
        return self in (LayerPhase.DONE, LayerPhase.EXISTS)


@dataclass(frozen=True)
class Layer:
    """`total_bytes` is 0 while it isn't known. `unpacked` is a share between 0 and 1."""

    id: str
    phase: LayerPhase = LayerPhase.WAITING
    done_bytes: int = 0
    total_bytes: int = 0
    unpacked: float = 0.0
    note: str = ""

    @property
    def share(self) -> float:
        """How much has arrived, between 0 and 1."""
        if self.phase in (LayerPhase.VERIFYING, LayerPhase.MOVED, LayerPhase.UNPACKING) or self.phase.ended:
            return 1.0
        return min(1.0, self.done_bytes / self.total_bytes) if self.total_bytes > 0 else 0.0

    @property
    def words(self) -> str:
        """What goes on, for a line and for assistive tools."""
        if self.note:
            return self.note
        if self.phase in (LayerPhase.MOVING, LayerPhase.PUSHING) and self.total_bytes:
            return f"{self.phase.value} {readable_size(self.done_bytes)} of {readable_size(self.total_bytes)}"
        if self.phase is LayerPhase.STOPPED and self.total_bytes:
            return f"{self.phase.value} at {readable_size(self.done_bytes)} of {readable_size(self.total_bytes)}"
        if self.phase is LayerPhase.UNPACKING and self.unpacked:
            return f"{self.phase.value} {self.unpacked:.0%}"
        size = f"  ·  {readable_size(self.total_bytes)}" if self.total_bytes and self.phase is not LayerPhase.EXISTS else ""
        return f"{self.phase.value}{size}"


@dataclass(frozen=True)
class Transfer:
    layers: tuple[Layer, ...] = ()
    digest: str = ""
    status: str = ""
    """The last message that is about the whole."""
    wait_until_s: float | None = None
    """The registry has asked to come back later, and the engine waits until then."""
    samples: tuple[tuple[float, int], ...] = field(default=(), repr=False)

    @property
    def done_bytes(self) -> int:
        return sum(_arrived(layer) for layer in self.layers)

    @property
    def total_bytes(self) -> int:
        """As far as it is known."""
        return sum(layer.total_bytes for layer in self.layers if layer.phase is not LayerPhase.EXISTS)

    @property
    def total_is_certain(self) -> bool:
        """False while the size of some layer isn't known."""
        return bool(self.layers) and all(layer.total_bytes or layer.phase.ended for layer in self.layers)

    @property
    def share(self) -> float | None:
        """None while nothing can be said."""
        if self.layers and all(layer.phase.ended for layer in self.layers):
            return 1.0
        total = self.total_bytes
        return min(1.0, self.done_bytes / total) if total > 0 else None

    @property
    def percent(self) -> int | None:
        """Never 100 before every layer is done: unpacking comes after the last byte."""
        share = self.share
        if share is None:
            return None
        return 100 if self.layers and all(layer.phase.ended for layer in self.layers) else min(99, int(share * 100))

    @property
    def has_all_bytes(self) -> bool:
        return bool(self.layers) and all(layer.share >= 1.0 for layer in self.layers)

    def rate_bytes_s(self, now_s: float) -> float:
        """Over the last seconds; falls to nothing when nothing arrives."""
        recent = [sample for sample in self.samples if now_s - sample[0] <= _WINDOW_S]
        if len(recent) < 2 or now_s - recent[0][0] < _LEAST_S:
            return 0.0
        return max(0, recent[-1][1] - recent[0][1]) / (now_s - recent[0][0])

    def remaining_s(self, now_s: float) -> float | None:
        """None when it can't be told."""
        rate = self.rate_bytes_s(now_s)
        if rate <= 0 or not self.total_is_certain:
            return None
        return max(0, self.total_bytes - self.done_bytes) / rate


_WINDOW_S = 6.0
_LEAST_S = 0.5
_SAMPLE_S = 0.25
_MOST_LAYERS = 1000
_LATER = re.compile(r"(?:again|retry(?:ing)?|continu\w*|go(?:es|ing)? on) in (\d+(?:\.\d+)?) ?s", re.IGNORECASE)


def _arrived(layer: Layer) -> int:
    if layer.phase is LayerPhase.EXISTS:
        return 0
    return layer.total_bytes if layer.share >= 1.0 and layer.total_bytes else layer.done_bytes


def advance(transfer: Transfer, message: TransferMessage, now_s: float) -> Transfer:
    """The transfer after a message of the engine's stream (jsonmessage, as dockerd sends it)."""
    status = message.status
    if waiting := _seconds_to_wait(status):
        transfer = replace(transfer, wait_until_s=now_s + waiting)
        if not _is_layer(transfer, message.id):
            return replace(transfer, status=status)
    elif transfer.wait_until_s is not None and (message.current or now_s >= transfer.wait_until_s):
        transfer = replace(transfer, wait_until_s=None)
    if status.startswith("Digest: "):
        return replace(transfer, digest=status.removeprefix("Digest: ").strip(), status=status)
    if not message.id or status.startswith(("Pulling from", "The push refers")):
        return replace(transfer, status=status)
    index = next((number for number, layer in enumerate(transfer.layers) if layer.id == message.id), len(transfer.layers))
    if index == len(transfer.layers):
        if _phase(status) is None or index >= _MOST_LAYERS:
            return replace(transfer, status=status)
        transfer = replace(transfer, layers=(*transfer.layers, Layer(message.id)))
    changed = _after(transfer.layers[index], message)
    transfer = replace(transfer, layers=(*transfer.layers[:index], changed, *transfer.layers[index + 1 :]))
    return _sampled(transfer, now_s)


def stopped(transfer: Transfer) -> Transfer:
    """Nothing moves any more: what has arrived is kept, what was half unpacked is unpacked anew."""
    layers = tuple(_stopped(layer) for layer in transfer.layers)
    return replace(transfer, layers=layers, wait_until_s=None, samples=(), status="")


def _stopped(layer: Layer) -> Layer:
    if layer.phase.ended:
        return layer
    if layer.share >= 1.0:
        return replace(layer, phase=LayerPhase.MOVED, unpacked=0.0, note="")
    return replace(layer, phase=LayerPhase.STOPPED if layer.done_bytes else LayerPhase.WAITING, note="")


def foreseen(layers: tuple[tuple[str, int, bool], ...]) -> Transfer:
    """Before the first byte: (digest, bytes, whether it is here already) of each layer, in the order of the image."""
    known = []
    for digest, size, here in layers[:_MOST_LAYERS]:
        short = digest.removeprefix("sha256:")[:12]
        known.append(Layer(short, LayerPhase.EXISTS if here else LayerPhase.WAITING, total_bytes=size))
    return Transfer(tuple({layer.id: layer for layer in known}.values()))


def with_sizes(transfer: Transfer, expected: Transfer) -> Transfer:
    """One that is under way, with the sizes of what was `foreseen`, as soon as that is known."""
    sizes = {layer.id: layer.total_bytes for layer in expected.layers}
    layers = tuple(
        replace(layer, total_bytes=sizes[layer.id]) if not layer.total_bytes and layer.id in sizes else layer
        for layer in transfer.layers
    )
    known = {layer.id for layer in layers}
    return replace(transfer, layers=(*layers, *(layer for layer in expected.layers if layer.id not in known)))


def _is_layer(transfer: Transfer, layer_id: str) -> bool:
    return any(layer.id == layer_id for layer in transfer.layers)


def _seconds_to_wait(status: str) -> float:
    found = _LATER.search(status)
    return min(86_400.0, float(found[1])) if found and _phase(status) in (None, LayerPhase.RETRYING) else 0.0


def _phase(status: str) -> LayerPhase | None:
    """None for a message that isn't about a layer."""
    for start, phase in _PHASES:
        if status.startswith(start):
            return phase
    return None


_PHASES = (
    ("Pulling fs layer", LayerPhase.WAITING),
    ("Preparing", LayerPhase.WAITING),
    ("Waiting", LayerPhase.WAITING),
    ("Downloading", LayerPhase.MOVING),
    ("Pushing", LayerPhase.PUSHING),
    ("Retrying", LayerPhase.RETRYING),
    ("Rate limited", LayerPhase.RETRYING),
    ("Verifying Checksum", LayerPhase.VERIFYING),
    ("Download complete", LayerPhase.MOVED),
    ("Extracting", LayerPhase.UNPACKING),
    ("Pull complete", LayerPhase.DONE),
    ("Pushed", LayerPhase.DONE),
    ("Already exists", LayerPhase.EXISTS),
    ("Layer already exists", LayerPhase.EXISTS),
    ("Mounted from", LayerPhase.EXISTS),
)


def _after(layer: Layer, message: TransferMessage) -> Layer:
    phase = _phase(message.status) or layer.phase
    current, total = max(0, message.current), max(0, message.total)
    note = message.status if phase is LayerPhase.RETRYING or message.status.startswith("Mounted from") else ""
    layer = replace(layer, phase=phase, note=note)
    if phase in (LayerPhase.MOVING, LayerPhase.PUSHING):
        total = total or layer.total_bytes
        return replace(layer, done_bytes=min(current, total) if total else current, total_bytes=total)
    if phase is LayerPhase.UNPACKING:
        # The engine counts seconds instead of bytes where it can't tell how far it is.
        return replace(layer, unpacked=min(1.0, current / total) if total else layer.unpacked)
    if phase in (LayerPhase.VERIFYING, LayerPhase.MOVED, LayerPhase.DONE):
        unpacked = 1.0 if phase is LayerPhase.DONE else layer.unpacked
        return replace(layer, done_bytes=layer.total_bytes or layer.done_bytes, unpacked=unpacked)
    return layer


def _sampled(transfer: Transfer, now_s: float) -> Transfer:
    samples, done = transfer.samples, transfer.done_bytes
    if samples and now_s - samples[-1][0] < _SAMPLE_S:
        return transfer
    if samples and done < samples[-1][1]:
        samples = ()  # a layer is fetched anew
    kept = tuple(sample for sample in samples if now_s - sample[0] <= _WINDOW_S)
    return replace(transfer, samples=(*kept, (now_s, done)))


def progress_words(transfer: Transfer, now_s: float) -> str:
    """`12.3 of 45.6 MB · 3.4 MB/s · 10 s left` as far as it can be told."""
    if transfer.wait_until_s is not None and transfer.wait_until_s > now_s:
        left = readable_duration(max(1.0, transfer.wait_until_s - now_s)).replace(".0 s", " s")
        return f"Goes on in {left}: the registry allows no more for now"
    if transfer.has_all_bytes and not all(layer.phase.ended for layer in transfer.layers):
        return f"{readable_size(transfer.done_bytes)} here, unpacking"
    if not transfer.layers:
        return "Asking the registry"
    if all(layer.phase.ended for layer in transfer.layers):
        return "All layers are here"
    total = transfer.total_bytes
    at_least = "" if transfer.total_is_certain else "at least "
    parts = [f"{readable_size(transfer.done_bytes)} of {at_least}{readable_size(total)}" if total else "Waiting"]
    rate, left_s = transfer.rate_bytes_s(now_s), transfer.remaining_s(now_s)
    if rate > 0 and total:
        parts.append(f"{readable_size(int(rate))}/s")
    if left_s is not None and left_s >= 1:
        parts.append(f"{readable_duration(left_s) if left_s >= 10 else f'{left_s:.0f} s'} left")
    return " · ".join(parts)
