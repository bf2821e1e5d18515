"""Checks answers against the published Engine API description, which lies beside the repository and not in it.

The description is followed to the letter, unknown fields and null included, except where dockerd itself does otherwise:
``dockerd_deviations`` lists where. Every answer of every test passes here: jsonschema-rs decides, jsonschema tells what is wrong.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import jsonschema_rs
import yaml
from support import dockerd_deviations as deviations
from support.exchanges import Exchange

_DESCRIPTION = Path("shared/api/engine-v1.51.yaml")
_VERSION = re.compile(r"/v[0-9.]+(?=/)")
_RAW = "application/vnd.docker.raw-stream"
_MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
_PLACE = "x-place"
"""Where in the description a schema is: the name that ``dockerd_deviations`` has for it."""
_SWARM = ("/nodes", "/services", "/tasks", "/secrets", "/configs")
"""Whose names have no slash."""
_METHODS = ("get", "post", "put", "delete", "head")
_HEADERS = ("api-version", "docker-experimental", "ostype", "server")


def api_description() -> Path | None:
    """Where the description is: named by ``KITEPY_API_DESCRIPTION``, or beside the repository."""
    if named := os.environ.get("KITEPY_API_DESCRIPTION"):
        return Path(named)
    beside = Path(__file__).resolve().parents[3] / _DESCRIPTION
    return beside if beside.exists() else None


@dataclass(frozen=True)
class Operation:
    """One line of the API."""

    method: str
    path: str
    details: dict[str, Any]

    @property
    def statuses(self) -> set[int]:
        """What may be answered: what is documented, 400 for bad parameters, and what dockerd answers besides."""
        documented = {int(status) for status in self.details["responses"]}
        key = (self.method, self.path)
        others = deviations.STATUSES.get(key, set()) | deviations.KITEPY_STATUSES.get(key, set()) | deviations.TOO_MUCH
        return documented | {400} | others

    def parameters(self, place: str) -> list[dict[str, Any]]:
        """The parameters in the path, the query or the header."""
        return [parameter for parameter in self.details.get("parameters", []) if parameter["in"] == place]

    @property
    def body(self) -> dict[str, Any] | None:
        """The body's schema."""
        return next((dict(parameter["schema"]) for parameter in self.parameters("body")), None)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class ApiContract:
    """The answers that the description allows."""

    def __init__(self, path: Path) -> None:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        self.document: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506  # a safe loader
        self._operations = {
            (method.upper(), path): Operation(method.upper(), path, details)
            for path, operations in self.document["paths"].items()
            for method, details in operations.items()
            if method in _METHODS
        }
        # Static paths first: /containers/json is no container.
        self._patterns = [
            (
                re.compile(re.sub(r"\\{[a-z]+\\}", "[^/]+" if path.startswith(_SWARM) else ".+", re.escape(path)) + r"\Z"),
                operation,
            )
            for (_, path), operation in sorted(self._operations.items(), key=lambda item: item[0][1].count("{"))
        ]
        definitions = self.document["definitions"]
        # Clients of an older version get fields that the newest doesn't have any more.
        self._definitions = {
            closed: {name: _as_json_schema(schema, name, definitions, closed) for name, schema in definitions.items()}
            for closed in (True, False)
        }
        self._checks: dict[tuple[str, bool], tuple[dict[str, Any], jsonschema_rs.Draft4Validator]] = {}

    def operations(self) -> list[Operation]:
        """Every method and path."""
        return list(self._operations.values())

    def find(self, method: str, target: str) -> Operation | None:
        """The operation that a request is for."""
        path = _VERSION.sub("", re.sub(r"^https?://[^/]*", "", target.partition("?")[0]), count=1)
        return next((found for pattern, found in self._patterns if found.method == method and pattern.match(path)), None)

    def check(self, method: str, path: str, status: int, document: Any, *, newest: bool = True) -> None:
        """Raise jsonschema.ValidationError, or LookupError for a status that may not be answered."""
        operation = self._operations[method, path]
        if status not in operation.statuses:
            raise LookupError(f"{operation} may not answer {status}")
        response = operation.details["responses"].get(status) or {}
        if status >= 400:
            self._validate("ErrorResponse", {"$ref": "#/definitions/ErrorResponse"}, document)
        elif "schema" in response:
            self._validate(f"{operation} {status}", response["schema"], document, newest=newest)

    def _validate(self, name: str, described: dict[str, Any], document: Any, *, newest: bool = True) -> None:
        """``name`` is the place of the schema that the description has there; it stands for the schema in later calls."""
        if (name, newest) not in self._checks:
            converted = _as_json_schema(described, name, self.document["definitions"], newest)
            schema = {**converted, "definitions": self._definitions[newest]}
            formats = {"date-time": _is_time}
            self._checks[name, newest] = schema, jsonschema_rs.Draft4Validator(schema, formats=formats, validate_formats=True)
        schema, check = self._checks[name, newest]
        if not check.is_valid(document):
            # The deepest error says more than the one about the alternative that contains it.
            error = jsonschema.exceptions.best_match(_explaining_class()(schema, format_checker=_FORMATS).iter_errors(document))
            raise error or jsonschema.ValidationError(f"no {name}: {document!r:.400}")

    def problems(self, exchange: Exchange) -> list[str]:
        """What is wrong with an answer: its status, headers, media type or content."""
        operation = self.find(exchange.method, exchange.target)
        if exchange.status == 301 or exchange.method == "OPTIONS":
            return []
        taken_over = operation is not None and (operation.method, operation.path) in deviations.PLAIN_ERRORS
        headers = _HEADERS if operation and not taken_over and not exchange.raw else ()
        if exchange.status == 400:
            headers = tuple(name for name in headers if name != "docker-experimental")  # a version that isn't spoken
        found = [f"no header {name}" for name in headers if name not in exchange.response.headers]
        if exchange.status >= 400:
            found += self._error_problems(exchange, operation)
        elif operation is None and "/kitepy/" not in exchange.target.partition("?")[0]:  # what isn't Kitepy's own
            found.append("no such operation is documented")
        elif operation is not None:
            found += self._answer_problems(exchange, operation)
        return [f"{exchange}: {problem}" for problem in found]

    def _error_problems(self, exchange: Exchange, operation: Operation | None) -> Iterator[str]:
        if operation and exchange.status not in operation.statuses:
            yield f"{exchange.status} may not be answered: {bytes(exchange.response.body[:300])!r}"
        if exchange.method == "HEAD" or (operation and (operation.method, operation.path) in deviations.PLAIN_ERRORS):
            return
        if exchange.media_type != "application/json":
            yield f"an error of type {exchange.media_type}"
            return
        if not exchange.response.whole:
            return
        try:
            documents = exchange.documents()
            if len(documents) != 1:
                yield f"an error of {len(documents)} documents"
            for document in documents:
                self._validate("ErrorResponse", {"$ref": "#/definitions/ErrorResponse"}, document)
        except (ValueError, jsonschema.ValidationError) as error:
            yield f"an error's body: {error}"

    def _answer_problems(self, exchange: Exchange, operation: Operation) -> Iterator[str]:
        if exchange.status not in operation.statuses:
            yield f"{exchange.status} may not be answered"
            return
        kinds = deviations.MEDIA_TYPES.get((operation.method, operation.path)) or set(operation.details.get("produces", ()))
        if exchange.response.body and kinds and exchange.media_type not in kinds and exchange.status != 101:
            yield f"the media type is {exchange.media_type}, not one of {sorted(kinds)}"
        if not exchange.response.whole:
            return
        if exchange.media_type == "application/json":
            yield from self._document_problems(exchange, operation)
        elif exchange.media_type == _MULTIPLEXED or (exchange.media_type == _RAW and not exchange.raw):
            yield from _frame_problems(exchange)
        elif exchange.response.body and exchange.status == 204:
            yield "an answer without content has content"

    def _document_problems(self, exchange: Exchange, operation: Operation) -> Iterator[str]:
        try:
            documents = exchange.documents()
        except ValueError as error:
            yield f"the answer is no JSON: {error}"
            return
        if exchange.response.body and not exchange.response.body.endswith(b"\n"):
            yield "no line end after the document"
        version = _VERSION.match(exchange.target)
        newest = version is None or version[0] == "/v1.51"
        stream = deviations.STREAMS.get((operation.method, operation.path))
        if stream is None and len(documents) != 1:
            yield f"{len(documents)} documents"
        for document in documents:
            try:
                if stream:
                    self._validate(stream, {"$ref": f"#/definitions/{stream}"}, document, newest=newest)
                else:
                    self.check(operation.method, operation.path, exchange.status, document, newest=newest)
            except jsonschema.ValidationError as error:
                where = "/".join(str(step) for step in error.absolute_path)
                yield f"at {where or 'the top'} ({error.schema.get(_PLACE, 'unnamed')}): {error.message[:400]}"


def _frame_problems(exchange: Exchange) -> Iterator[str]:
    """Of the 8-byte frames around a process's output; a terminal's output has none."""
    data = bytes(exchange.response.body)
    if exchange.media_type == _RAW:
        return
    while data:
        if data[0] not in (0, 1, 2, 3) or data[1:4] != b"\0\0\0":
            yield f"no frame begins with {data[:8]!r}"
            return
        data = data[8 + int.from_bytes(data[4:8], "big") :]


_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,8}[1-9])?(Z|[+-]\d\d:\d\d)")
_FORMATS = jsonschema.FormatChecker(formats=())
_INTEGERS = {"int64": (-(2**63), 2**63), "uint64": (0, 2**64), "uint32": (0, 2**32), "uint16": (0, 2**16), "uint8": (0, 2**8)}
"""Formats of numbers that bound them: the least, and the one after the greatest."""


@_FORMATS.checks("date-time")
def _is_time(value: object) -> bool:
    """RFC 3339 with the digits that are needed; "" is a time that Docker leaves out."""
    return not isinstance(value, str) or value == "" or _TIME.fullmatch(value) is not None


@functools.cache
def _explaining_class() -> Any:
    # An integer is one, and not a float without a fraction: clients in Go and Rust refuse 1.0.
    checker = jsonschema.Draft4Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    )
    return jsonschema.validators.extend(jsonschema.Draft4Validator, type_checker=checker)


def _as_json_schema(node: Any, name: str, definitions: dict[str, Any], closed: bool) -> Any:
    """A schema of the description in JSON Schema's words.

    ``name`` is the place of the node: the definition and the fields on the way, as in ``ContainerConfig.Env``. Examples are
    dropped, since they may contain anything. A ``closed`` schema has no fields but the ones that are named.
    """
    if isinstance(node, list):
        return [_as_json_schema(item, name, definitions, closed) for item in node]
    if not isinstance(node, dict):
        return node
    if "allOf" in node:
        node = _merged(node, definitions)
    kept = {
        key: value for key, value in node.items() if key not in ("example", "examples", "x-nullable", "properties", "required")
    }
    converted = {
        key: value if key in ("enum", "default") else _as_json_schema(value, f"{name}[]", definitions, closed)
        for key, value in kept.items()
    }
    if converted.get("format") == "dateTime":
        converted["format"] = "date-time"
    if converted.get("format") in _INTEGERS:
        least, end = _INTEGERS[converted["format"]]
        converted = {"minimum": least, "maximum": end - 1, **converted}
    if "properties" in node:
        unknown = deviations.FIELDS.get(name, {})
        converted["properties"] = {
            **{key: _as_json_schema(value, f"{name}.{key}", definitions, closed) for key, value in node["properties"].items()},
            **unknown,
        }
        if closed and "additionalProperties" not in node and name not in deviations.OPEN:
            converted["additionalProperties"] = False
    if "required" in node and name not in deviations.NOTHING_REQUIRED:
        converted["required"] = node["required"]
    if name in deviations.OTHER_VALUES:
        converted = deviations.OTHER_VALUES[name]
    converted[_PLACE] = name
    if node.get("x-nullable") is True or name in deviations.NULLS:
        return {"anyOf": [converted, {"type": "null"}]}
    return converted


def _merged(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """One object instead of ``allOf`` several, so that fields that none of them names can be told."""
    result: dict[str, Any] = {key: value for key, value in node.items() if key != "allOf"}
    for part in node["allOf"]:
        if "$ref" in part:
            part = definitions[part["$ref"].rpartition("/")[2]]
        if "allOf" in part:
            part = _merged(part, definitions)
        properties = {**result.get("properties", {}), **part.get("properties", {})}
        required = [*result.get("required", []), *part.get("required", [])]
        result = {**part, **result}
        if properties:
            result["properties"] = properties
        if required:
            result["required"] = required
    return result
