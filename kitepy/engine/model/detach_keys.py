"""Key sequences that leave a terminal session without ending it, as ``--detach-keys`` spells them: ``ctrl-p,ctrl-q``."""

from __future__ import annotations

DEFAULT_KEYS = b"\x10\x11"

_NAMED = {
    **{f"ctrl-{chr(96 + number)}": number for number in range(1, 27)},
    **{"ctrl-@": 0, "ctrl-[": 27, "ctrl-\\": 28, "ctrl-]": 29, "ctrl-^": 30, "ctrl-_": 31, "DEL": 127},
}


def parse_detach_keys(text: str | None) -> bytes:
    """The bytes of a sequence like ``ctrl-p,ctrl-q`` or ``a,ctrl-[``; empty or None is the default. Raises ValueError."""
    if not text:
        return DEFAULT_KEYS
    return bytes(_key(word) for word in text.split(","))


def _key(word: str) -> int:
    if len(word) == 1 and word.isascii():
        return ord(word)
    if word not in _NAMED:
        raise ValueError(f"unknown key '{word[:20]}'")
    return _NAMED[word]
