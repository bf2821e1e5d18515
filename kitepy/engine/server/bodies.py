"""JSON bodies into structs the way Docker reads them: keys in any case, null for the default, unknown keys ignored.

What is left after that leniency is checked strictly: a wrong type is a 400 that names the field's path.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct

from kitepy.engine.model.container_config import ONE_OR_MANY
from kitepy.engine.server.errors import BadRequest

Body = TypeVar("Body", bound=Struct)
Fold = Callable[[Any], Any]

JSON_LIMIT_BYTES = 16 * 1024 * 1024
"""Far above any sane configuration; a body is held in memory."""


_MISMATCH = re.compile(r"Expected `(?P<wanted>[^`]*)`, got `(?P<found>[^`]*)`(?: - at `\$\.?(?P<path>.*)`)?")
_KINDS = {"str": "string", "int": "number", "float": "number"}


def decode_body(data: bytes, body_type: type[Body], *, required: bool = False) -> Body:
    """The struct that a body stands for; raises BadRequest.

    No body at all is an empty object, unless one is ``required``. Bytes that are no UTF-8 are replaced, as Docker does it.
    """
    if not data and not required:
        return body_type()
    if not data.strip(b" \t\r\n"):
        raise BadRequest("invalid JSON: got EOF while reading request body")
    try:
        document = _decode(data)
    except msgspec.DecodeError as error:
        raise BadRequest(_syntax_message(str(error))) from None
    except RecursionError:
        raise BadRequest("invalid JSON: nested too deeply") from None
    if document is None:
        return body_type()
    try:
        return msgspec.convert(_fold_for(body_type)(document), body_type, strict=True)
    except msgspec.ValidationError as error:
        raise BadRequest(f"invalid JSON: {_type_message(str(error))}") from None


def _decode(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except UnicodeDecodeError:
        return msgspec.json.decode(data.decode(errors="replace"))


def _syntax_message(text: str) -> str:
    if "trailing characters" in text:
        return "unexpected content after JSON"
    if "truncated" in text:
        return "invalid JSON: unexpected EOF"
    return f"invalid JSON: {text.removeprefix('JSON is malformed: ')}"


def _type_message(text: str) -> str:
    """A wrong type in Docker's words: what was found, and where."""
    found = _MISMATCH.fullmatch(text)
    if found is None:
        return text
    wanted = found["wanted"].removesuffix(" | null")
    where = f"field {found['path']}" if found["path"] else "the body"
    return f"cannot unmarshal {_KINDS.get(found['found'], found['found'])} into {where}, which has to be {_article(wanted)}"


def _article(kind: str) -> str:
    word = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}.get(kind, kind)
    return f"an {word}" if word[0] in "aeio" else f"a {word}"


@lru_cache(maxsize=256)
def _fold_for(kind: Any) -> Fold:
    """A function that prepares a decoded document for ``kind``: spells keys as the struct does and drops nulls."""
    origin = get_origin(kind)
    if origin is Annotated:
        inner, *metadata = get_args(kind)
        fold = _fold_for(inner)
        return _one_or_many(fold) if _accepts_one(metadata) else fold
    if origin in (Union, types.UnionType):
        choices = [choice for choice in get_args(kind) if choice is not type(None)]
        return _optional(_fold_for(choices[0])) if len(choices) == 1 else _as_it_is
    if origin is list:
        item_kind = get_args(kind)[0]
        return _list_of(_fold_for(item_kind), empty=_zero(item_kind))
    if origin is tuple:
        return _array_of(len(get_args(kind)))
    if origin is dict:
        value_kind = get_args(kind)[1]
        return _dict_of(_fold_for(value_kind), empty=_zero(value_kind))
    if isinstance(kind, type) and issubclass(kind, Struct):
        return _struct(kind)
    return _as_it_is


def _as_it_is(value: Any) -> Any:
    return value


def _accepts_one(metadata: list[Any]) -> bool:
    return any(isinstance(entry, msgspec.Meta) and (entry.extra or {}).get(ONE_OR_MANY) for entry in metadata)


def _one_or_many(fold: Fold) -> Fold:
    return lambda value: [value] if isinstance(value, str) else fold(value)


def _optional(fold: Fold) -> Fold:
    return lambda value: None if value is None else fold(value)


def _list_of(fold: Fold, empty: Any) -> Fold:
    return lambda value: [empty if item is None else fold(item) for item in value] if isinstance(value, list) else value


def _array_of(length: int) -> Fold:
    """An array of numbers: Docker fills up what is missing and ignores what is too much."""
    return lambda value: [*(item or 0 for item in value), *[0] * length][:length] if isinstance(value, list) else value


def _dict_of(fold: Fold, empty: Any) -> Fold:
    def fold_values(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: empty if item is None else fold(item) for key, item in value.items()}

    return fold_values


def _zero(kind: Any) -> Any:
    """What null stands for in a list or map: nothing where the type has a null, else the empty value of the type."""
    if kind is str:
        return ""
    if isinstance(kind, type) and issubclass(kind, Struct):
        return {}
    if get_origin(kind) is list:
        return []
    return {} if get_origin(kind) is dict else None


def _struct(kind: type[Struct]) -> Fold:
    hints = get_type_hints(kind, include_extras=True)
    spelling: dict[str, tuple[str, Fold]] = {
        encoded.lower(): (encoded, _fold_for(hints[name]))
        for name, encoded in zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True)
    }

    def fold_keys(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        folded = {}
        for key, item in value.items():
            if item is not None and (known := spelling.get(key.lower())) is not None:
                encoded, fold = known
                folded[encoded] = fold(item)
        return folded

    return fold_keys
