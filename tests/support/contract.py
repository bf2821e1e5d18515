"""Checks answers against the published Engine API description, which lies beside the repository and not in it."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import jsonschema
import yaml

_DESCRIPTION = Path("shared/api/engine-v1.51.yaml")


def api_description() -> Path | None:
    """Where the description is: named by ``KITEPY_API_DESCRIPTION``, or beside the repository."""
    if named := os.environ.get("KITEPY_API_DESCRIPTION"):
        return Path(named)
    beside = Path(__file__).resolve().parents[3] / _DESCRIPTION
    return beside if beside.exists() else None


@functools.cache
def _load(path: Path) -> dict[str, Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    document: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506  # a safe loader
    converted: dict[str, Any] = _as_json_schema(document)
    return converted


def _as_json_schema(node: Any) -> Any:
    """Nullability in JSON Schema's words; examples are dropped, since they may contain anything.

    Besides what is marked ``x-nullable``, dockerd answers null for any list, map or optional object that is empty.
    """
    if isinstance(node, list):
        return [_as_json_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    converted = {key: _as_json_schema(value) for key, value in node.items() if key not in ("example", "examples", "x-nullable")}
    if node.get("x-nullable") is True or node.get("type") in ("array", "object"):
        return {"anyOf": [converted, {"type": "null"}]}
    return converted


class ApiContract:
    """The answers that the description allows."""

    def __init__(self, path: Path) -> None:
        self._document = _load(path)

    def operations(self) -> list[tuple[str, str]]:
        """Every method and path."""
        return [
            (method.upper(), path)
            for path, operations in self._document["paths"].items()
            for method in operations
            if method in ("get", "post", "put", "delete", "head")
        ]

    def check(self, method: str, path: str, status: int, document: Any) -> None:
        """Raise jsonschema.ValidationError, or LookupError for a status that isn't documented."""
        responses = self._document["paths"][path][method.lower()]["responses"]
        response = responses.get(status) or responses.get(str(status))
        if response is None:
            raise LookupError(f"{method} {path} may not answer {status}")
        if "schema" in response:
            schema = {**response["schema"], "definitions": self._document["definitions"]}
            # The deepest error says more than the one about the alternative that contains it.
            if error := jsonschema.exceptions.best_match(jsonschema.Draft4Validator(schema).iter_errors(document)):
                raise error
