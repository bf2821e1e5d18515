"""Names for containers whose user chose none; checking names that were chosen."""

from __future__ import annotations

import re
import secrets

from kitepy.engine.model.errors import InvalidParameter

NAME_PATTERN = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")

_MOODS = (
    "airy", "amber", "bold", "brave", "bright", "brisk", "calm", "clear", "clever", "cosy", "eager", "early", "easy", "fair",
    "fleet", "fond", "free", "fresh", "gentle", "glad", "golden", "grand", "happy", "hardy", "honest", "jolly", "keen", "kind",
    "light", "lively", "lucky", "merry", "mild", "neat", "nimble", "noble", "patient", "plucky", "polite", "proud", "quick",
    "quiet", "ready", "rosy", "sharp", "shiny", "silver", "smart", "snug", "sober", "soft", "solid", "spry", "steady", "sunny",
    "sweet", "swift", "tidy", "true", "warm", "wise", "witty", "young", "zesty",
)  # fmt: skip
_FLYERS = (
    "albatross", "avocet", "bluebird", "bunting", "buzzard", "condor", "cormorant", "crane", "curlew", "dove", "dunlin", "eagle",
    "egret", "falcon", "finch", "gannet", "goldcrest", "goose", "goshawk", "grebe", "harrier", "hawk", "heron", "hobby",
    "hoopoe", "ibis", "jackdaw", "jay", "kestrel", "kingfisher", "kite", "lapwing", "lark", "linnet", "magpie", "martin",
    "merlin", "nightjar", "nuthatch", "oriole", "osprey", "owl", "pelican", "petrel", "pipit", "plover", "puffin", "raven",
    "redstart", "robin", "rook", "sandpiper", "shrike", "siskin", "skylark", "snipe", "sparrow", "starling", "stork", "swallow",
    "swan", "swift", "tern", "thrush", "wagtail", "warbler", "wren",
)  # fmt: skip


def suggest_name(attempt: int = 0) -> str:
    """A readable random name such as ``calm_heron``; later attempts get a digit, so that they can't all be taken."""
    name = f"{secrets.choice(_MOODS)}_{secrets.choice(_FLYERS)}"
    return name if attempt < 3 else f"{name}{secrets.randbelow(10 ** min(attempt, 8))}"


def check_name(name: str) -> str:
    """The name without the slash that the API puts before it; raises InvalidParameter for others than Docker allows."""
    bare = name.removeprefix("/")
    if not NAME_PATTERN.fullmatch(bare):
        raise InvalidParameter(f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    return bare
