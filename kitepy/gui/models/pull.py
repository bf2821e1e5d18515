"""One pull from the first question to the running container, and what is remembered of it over a restart of the app. Pure."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from kitepy.gui.models.reference import parse_reference
from kitepy.gui.models.transfer import Layer, LayerPhase, Transfer, stopped
from kitepy.gui.models.trouble import Cause, Trouble


class PullPhase(enum.Enum):
    PULLING = "pulling"
    STARTING = "starting"
    PAUSED = "paused"
    FAILED = "failed"
    DONE = "done"

    @property
    def active(self) -> bool:
        return self in (PullPhase.PULLING, PullPhase.STARTING)


@dataclass(frozen=True)
class Pull:
    """`platform` is empty for this machine's own. `run`: a container is started of it afterwards."""

    id: str
    reference: str
    platform: str = ""
    run: bool = False
    phase: PullPhase = PullPhase.PULLING
    transfer: Transfer = field(default_factory=Transfer)
    trouble: Trouble | None = None
    container_id: str = ""
    started_s: float = 0.0
    interrupted: bool = False
    """It was under way when the app ended the last time."""

    @property
    def title(self) -> str:
        return self.reference.removesuffix(":latest")

    @property
    def name(self) -> str:
        """Short, for a row."""
        parsed = parse_reference(self.reference)
        return parsed.title if parsed else self.reference

    @property
    def resumable(self) -> bool:
        return self.phase in (PullPhase.PAUSED, PullPhase.FAILED)


def paused(pull: Pull) -> Pull:
    """What is here stays here; nothing moves any more."""
    return replace(pull, phase=PullPhase.PAUSED, transfer=stopped(pull.transfer))


def resumed(pull: Pull, now_s: float) -> Pull:
    return replace(
        pull, phase=PullPhase.PULLING, transfer=stopped(pull.transfer), trouble=None, interrupted=False, started_s=now_s
    )


def failed(pull: Pull, trouble: Trouble) -> Pull:
    return replace(paused(pull), phase=PullPhase.FAILED, trouble=trouble)


def finished(pull: Pull, container_id: str = "") -> Pull:
    layers = tuple(
        layer if layer.phase.ended else replace(layer, phase=LayerPhase.DONE, done_bytes=layer.total_bytes, unpacked=1.0, note="")
        for layer in pull.transfer.layers
    )
    transfer = replace(pull.transfer, layers=layers, wait_until_s=None, samples=())
    return replace(pull, phase=PullPhase.DONE, transfer=transfer, trouble=None, container_id=container_id)


def same_pull(pulls: Iterable[Pull], reference: str, platform: str) -> Pull | None:
    """One that already brings the same here."""
    return next((pull for pull in pulls if (pull.reference, pull.platform) == (reference, platform) and not _over(pull)), None)


def _over(pull: Pull) -> bool:
    return pull.phase is PullPhase.DONE


# Over a restart of the app

_MOST_REMEMBERED = 50


# Going on with these would fail again.
_HOPELESS = (Cause.UNKNOWN_TAG, Cause.UNKNOWN_NAME, Cause.PLATFORM)


def _is_unfinished(pull: Pull) -> bool:
    if pull.phase is PullPhase.FAILED:
        # All bytes are here of one that only didn't start.
        return pull.transfer.percent != 100 and (pull.trouble is None or pull.trouble.cause not in _HOPELESS)
    return pull.phase is not PullPhase.DONE


def to_memory(pulls: Iterable[Pull]) -> str:
    """What is unfinished, as text to keep."""
    return json.dumps(
        [
            {
                "reference": pull.reference,
                "platform": pull.platform,
                "run": pull.run,
                "interrupted": pull.phase.active or pull.interrupted,
                # What was here before the pull is no part of its total.
                "layers": [
                    [layer.id, layer.total_bytes, layer.done_bytes, layer.share >= 1.0]
                    for layer in pull.transfer.layers
                    if layer.phase is not LayerPhase.EXISTS
                ],
            }
            for pull in pulls
            if _is_unfinished(pull)
        ]
    )


def from_memory(text: str) -> tuple[Pull, ...]:
    """Nothing for what can't be read: it is a file that anyone may have edited."""
    try:
        entries = json.loads(text or "[]")
    except ValueError:
        return ()
    if not isinstance(entries, list):
        return ()
    found: dict[tuple[str, str], Pull] = {}
    for entry in entries[:_MOST_REMEMBERED]:
        pull = _remembered(entry)
        if pull is not None:
            found.setdefault((pull.reference, pull.platform), pull)
    return tuple(found.values())


def _remembered(entry: Any) -> Pull | None:
    if not isinstance(entry, dict):
        return None
    reference, platform = entry.get("reference"), entry.get("platform", "")
    if not isinstance(reference, str) or not isinstance(platform, str) or parse_reference(reference) is None:
        return None
    layers = []
    for layer in entry.get("layers") or ():
        if isinstance(layer, list) and len(layer) == 4 and isinstance(layer[0], str):
            total, done = (number if isinstance(number, int) and number >= 0 else 0 for number in layer[1:3])
            phase = LayerPhase.MOVED if layer[3] is True else LayerPhase.WAITING
            layers.append(Layer(layer[0][:64], phase, min(done, total) if total else done, total))
    transfer = Transfer(tuple(layers))
    return Pull(
        "",
        reference,
        platform,
        entry.get("run") is True,
        PullPhase.PAUSED,
        transfer,
        interrupted=entry.get("interrupted") is True,
    )
