"""THE table from the engine's error kinds to HTTP statuses, and the few errors that only the edge itself knows."""

from __future__ import annotations

from kitepy.engine.model import errors

STATUS: dict[type[errors.EngineError], int] = {
    errors.InvalidParameter: 400,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.NotModified: 304,
    errors.Conflict: 409,
    errors.StartFailed: 400,
    errors.Unsupported: 501,
    errors.RateLimited: 429,
    errors.Unavailable: 503,
    errors.Cancelled: 500,
    errors.SystemFailure: 500,
}

UNEXPECTED = "Kitepy ran into a fault of its own; the engine's log has the details under request {request_id}"


class EdgeError(Exception):
    """A request that never reaches a service: ``str(error)`` is one sentence for the user."""

    status = 400


class PageNotFound(EdgeError):
    """No route has this path and method."""

    status = 404

    def __init__(self) -> None:
        super().__init__("page not found")


class BadRequest(EdgeError):
    """The request itself is malformed: its body, a query parameter or the API version."""


class ExpectationFailed(EdgeError):
    """The client expects of us what we don't know."""

    status = 417


class BodyTooLarge(EdgeError):
    """The body exceeds what this route accepts."""

    status = 413


class BodyTooSlow(EdgeError):
    """The body didn't come in time."""

    status = 408


def status_of(error: errors.EngineError) -> int:
    """The status of an error, by its nearest kind in the table."""
    for kind in type(error).__mro__:
        if kind in STATUS:
            return STATUS[kind]
    raise LookupError(f"{type(error).__name__} has no HTTP status")
