"""Hypothesis strategies for requests of an API's description: as its schemas have them, and spoilt in many ways.

Containers that generated documents make are never started, and no path of the machine gets into them but those beneath a
directory of the test: a source that is missing would be made.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, quote_from_bytes

from hypothesis import strategies as st

Schema = dict[str, Any]

_INTEGERS = st.sampled_from(
    [0, 1, -1, 2, 100, 2**31, 2**31 - 1, -(2**31), 2**63 - 1, 2**63, -(2**63), 2**64, 10**30]
) | st.integers(-5, 5000)
_WORDS = st.sampled_from(
    [
        *(
            "",
            "x",
            "a/b",
            "..",
            "/",
            "none",
            "host",
            "bridge",
            "default",
            "private",
            "shareable",
            "container:kf-running",
            "container:",
        ),
        *("no", "always", "local", "json-file", "root", "0:0", "nobody", "1000", "SIGTERM", "9", "80/tcp", "53/udp", "99999/tcp"),
        *(
            "127.0.0.1",
            "::1",
            "fe80::1%eth0",
            "1.2.3.4/24",
            "ff:ff:ff:ff:ff:ff",
            "busybox:latest",
            "UPPER",
            "a=b",
            "=",
            "A",
            "0-1",
        ),
        *(
            "linux",
            "linux/amd64",
            "rprivate",
            "z",
            "ro",
            "rw,noexec",
            "size=1k",
            "ALL",
            "CAP_CHOWN",
            "net.ipv4.ip_forward",
            "1h",
            "-",
        ),
        *("\0", "a\0b", "\n", "é", "\U0001f600", "\ufeff", "%s", "$(id)", "../../etc", "9" * 40, "x" * 300, "kf-running", "<&>"),
    ]
)
_TEXT = _WORDS | st.text(max_size=8)
_SCALARS = st.none() | st.booleans() | _INTEGERS | st.floats() | _TEXT
ANYTHING = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=6,
)


@dataclass
class Schemas:
    """The definitions that schemas refer to, and what values of certain fields are taken from."""

    definitions: dict[str, Schema]
    fields: dict[str, st.SearchStrategy[Any]] = field(default_factory=dict)
    """By the field's name: where any text would seldom mean something."""

    def values(self, schema: Schema, depth: int = 0) -> st.SearchStrategy[Any]:
        """What fits a schema, nearly: some fields are left out, some are of another kind."""
        return self._fitting(self._resolved(schema), depth)

    def _resolved(self, schema: Schema) -> Schema:
        while "$ref" in schema:
            schema = self.definitions[schema["$ref"].rpartition("/")[2]]
        if "allOf" in schema:
            parts = [self._resolved(part) for part in schema["allOf"]]
            properties = {name: value for part in parts for name, value in part.get("properties", {}).items()}
            return {**(parts[0] if parts else {}), "properties": {**properties, **schema.get("properties", {})}}
        return schema

    def _fitting(self, schema: Schema, depth: int) -> st.SearchStrategy[Any]:
        kind = schema.get("type", "object" if "properties" in schema else None)
        if "enum" in schema:
            return st.sampled_from(schema["enum"]) | _TEXT
        if kind == "object":
            return self._objects(schema, depth)
        if kind == "array":
            items = self.values(schema["items"], depth + 1) if depth < 6 else st.nothing()
            return st.lists(items, max_size=3) if depth < 6 else st.just([])
        return {"integer": _INTEGERS, "number": st.floats(), "boolean": st.booleans(), "string": _TEXT}.get(str(kind), ANYTHING)

    def _objects(self, schema: Schema, depth: int) -> st.SearchStrategy[Any]:
        if depth >= 6:
            return st.just({})
        properties = schema.get("properties", {})
        if not properties:
            extra = schema.get("additionalProperties")
            inner = self.values(extra, depth + 1) if isinstance(extra, dict) else ANYTHING
            return st.dictionaries(_TEXT, inner, max_size=2)

        @st.composite
        def build(draw: st.DrawFn) -> dict[str, Any]:
            # A few fields at a time, or nothing ever gets as far as what is behind the checks of the first one.
            most = 6 if len(properties) < 20 else 3
            names = draw(st.lists(st.sampled_from(sorted(properties)), max_size=most, unique=True))
            return {
                name: draw(self.fields[name] if name in self.fields else self.values(properties[name], depth + 1))
                for name in names
            }

        return build()


def _other_kind(value: Any) -> st.SearchStrategy[Any]:
    deep: Any = "x"
    for _ in range(40):
        deep = [deep]
    return st.sampled_from([None, "5", 5, 1.5, True, [], {}, [value], {"x": value}, 10**30, "a\0b", "\ud800", deep])


@st.composite
def spoilt(draw: st.DrawFn, values: st.SearchStrategy[Any]) -> Any:
    """A value of which one part is of another kind, or a key is written otherwise."""
    document = draw(values)
    places = list(_places(document))
    path = draw(st.sampled_from(places))
    value = document
    for step in path:
        value = value[step]
    if isinstance(value, dict) and value and draw(st.booleans()):
        key = draw(st.sampled_from(sorted(value)))
        change = draw(st.sampled_from([str.lower, str.upper, str.swapcase, lambda name: name + "x", lambda name: "\0" + name]))
        replacement: Any = {**value, change(key): value[key]}
    else:
        replacement = draw(_other_kind(value))
    return _replaced(document, path, replacement)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Any:
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _places(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _places(inner, (*path, index))


def _replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    changed = dict(value) if isinstance(value, dict) else list(value)
    changed[path[0]] = _replaced(value[path[0]], path[1:], new)
    return changed


def contained(document: Any, directory: str) -> Any:
    """A document without paths of the machine but beneath a directory: what could be made or looked at by create."""
    if isinstance(document, dict):
        return {
            key: _beneath(value, directory)
            if str(key).lower() in ("binds", "source", "pathonhost", "device")
            else contained(value, directory)
            for key, value in document.items()
        }
    return [contained(item, directory) for item in document] if isinstance(document, list) else document


def _beneath(value: Any, directory: str) -> Any:
    if isinstance(value, str):
        return f"{directory}/{value.lstrip('/').replace('..', '')}" if value.startswith("/") else value
    if isinstance(value, list):
        return [_beneath(item, directory) for item in value]
    if isinstance(value, dict):
        return {key: _beneath(item, directory) for key, item in value.items()}
    return value


@st.composite
def bodies(draw: st.DrawFn, documents: st.SearchStrategy[Any]) -> bytes:
    """A document as bytes: mostly JSON, at times broken or followed by something."""
    document = draw(documents)
    text = json.dumps(document, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    ways: list[Callable[[bytes], bytes]] = [
        *([lambda data: data] * 30),
        lambda data: data[: len(data) // 2],
        lambda data: data + b" trailing",
        lambda data: data + data,
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.replace(b'"', b"'"),
        lambda data: data.replace(b"e", b"\xff"),
        lambda data: data[:1] + b'"Image":5,"image":"x","IMAGE":null,' + data[1:] if len(data) > 2 and data[:1] == b"{" else data,
        lambda _: b"",
        lambda _: b"null",
        lambda data: b"[" * 3000 + data,
    ]
    return draw(st.sampled_from(ways))(text)


_TRUTHS = st.sampled_from(["0", "1", "true", "false", "", "x", "yes", "None", "-1"])
_NUMBERS = st.sampled_from(["0", "1", "-1", "5", "", "x", "1.5", " 1", "1e3", "9" * 25, "0x10", "\u0661", "-9223372036854775809"])
_PATHS = st.sampled_from(
    ["/", "/etc", "/nope", "/etc/passwd", "..", "", "\0", "/etc/../../..", "etc", "/etc/.", "/" + "a" * 300, "/tmp/é"]
)
_FILTER_KEYS = st.sampled_from(
    [
        *(
            "label",
            "label!",
            "status",
            "name",
            "id",
            "exited",
            "before",
            "since",
            "ancestor",
            "volume",
            "network",
            "publish",
            "expose",
        ),
        *(
            "health",
            "is-task",
            "isolation",
            "dangling",
            "until",
            "reference",
            "type",
            "event",
            "container",
            "image",
            "driver",
            "scope",
        ),
        *("all", "unused-for", "daemon", "colour", ""),
    ]
)
_FILTER_VALUES = st.sampled_from(
    ["", "a", "a=b", "true", "0", "exited", "running", "kf-running", "busybox", "80", "80/tcp", "[", "10m", "x" * 99]
)
FILTERS = (
    st.dictionaries(_FILTER_KEYS, st.lists(_FILTER_VALUES, max_size=2), max_size=3).map(json.dumps)
    | st.dictionaries(_FILTER_KEYS, st.dictionaries(_FILTER_VALUES, st.booleans(), max_size=2), max_size=2).map(json.dumps)
    | ANYTHING.map(json.dumps)
    | _TEXT
)
_SIGNALS = st.sampled_from(["", "TERM", "SIGUSR1", "15", "0", "-1", "NONSENSE", "999", "sigterm", "RTMIN+1", " 9"])
_TIMES = st.sampled_from(
    ["0", "1", "1.5", "-1", "", "x", "2020-01-01", "2020-01-01T00:00:00Z", "10m", "99999999999999", "1e3", "2020-13-01"]
)
_PLATFORMS = st.sampled_from(["", "linux", "linux/amd64", "linux/nope", "x", '{"os":"linux"}', '{"os":5}', "{", "a/b/c/d"])
_BY_NAME: dict[str, st.SearchStrategy[str]] = {
    "filters": FILTERS,
    "name": st.sampled_from(["kf-new"] * 8 + ["kf-running", "", "-", "a/b", "x" * 300, "\0", "/kf-new", "\u00e9"]),
    "path": _PATHS,
    "signal": _SIGNALS,
    "since": _TIMES,
    "until": _TIMES,
    "platform": _PLATFORMS,
    "ps_args": st.sampled_from(["", "-ef", "aux", "-o pid", "-o pid,nope", "--help", "-", ";id", "-p 1", "\0"]),
    "condition": st.sampled_from(["", "not-running", "next-exit", "removed", "x"]),
    "detachKeys": st.sampled_from(["", "ctrl-p,ctrl-q", "a", "ctrl-", "x" * 50, ",", "\0"]),
    "type": st.sampled_from(["container", "image", "volume", "build-cache", "moon", ""]),
    "noOverwriteDirNonDir": _TRUTHS,
    "copyUIDGID": _TRUTHS,
    "changes": st.sampled_from(
        ["CMD x", "ENV a=b", "LABEL", "EXPOSE x", "RUN x", "", "\0", "CMD [", "HEALTHCHECK NONE", "USER \n x"]
    ),
    "buildargs": ANYTHING.map(json.dumps) | _TEXT,
    "labels": ANYTHING.map(json.dumps) | _TEXT,
    "cachefrom": ANYTHING.map(json.dumps) | _TEXT,
    "fromSrc": st.sampled_from(["-", "", "x", "http://localhost:1/x"]),
    "tail": st.sampled_from(["all", "0", "5", "-1", "x", ""]),
}


@st.composite
def queries(draw: st.DrawFn, parameters: list[dict[str, Any]]) -> str:
    """A query with some of the parameters, and at times one that nobody knows."""
    parts = []
    for parameter in parameters:
        if not parameter.get("required") and draw(st.integers(0, 2)) < 2:
            continue
        by_type = {"boolean": _TRUTHS, "integer": _NUMBERS}.get(parameter.get("type", ""), _TEXT)
        value = draw(_BY_NAME.get(parameter["name"], by_type))
        parts.append(f"{parameter['name']}={quote(value.encode('utf-8', 'surrogatepass'))}")
    parts += draw(st.sampled_from([*([[]] * 30), ["x=y"], ["%zz"], ["a;b"], ["=", "&"], [quote_from_bytes(b"\xff=\xfe")]]))
    return "&".join(parts)
