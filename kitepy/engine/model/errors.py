"""The kinds of error the engine knows; ``server/errors.py`` alone maps them to HTTP statuses.

::

    EngineError
    ├── InvalidParameter    the request can't be carried out as asked, and repeating it won't help
    ├── Unauthorized        credentials are missing or wrong
    ├── Forbidden           the caller may not do this
    ├── NotFound            the named object does not exist
    ├── NotModified         the object is already in the wanted state
    ├── Conflict            the object's state or name stands in the way
    ├── StartFailed         the process could not be executed (carries the shell's exit code)
    ├── Unsupported         Kitepy or this kernel can't do it
    ├── RateLimited         a service wants to be asked less often
    ├── Unavailable         a service the request needs can't be reached now
    ├── Cancelled           the caller went away or asked to stop
    └── SystemFailure       the machine or Kitepy failed; not the caller's fault
"""

from __future__ import annotations


class EngineError(Exception):
    """Base of every error that may reach a client; ``str(error)`` is one sentence for the user."""


class InvalidParameter(EngineError):
    """The request can't be carried out as asked: a value is malformed or contradicts another."""


class Unauthorized(EngineError):
    """Credentials are missing or were refused."""


class Forbidden(EngineError):
    """The caller may not do this."""


class NotFound(EngineError):
    """The named object does not exist."""


class NotModified(EngineError):
    """The object is already in the wanted state, e.g. starting a running container."""


class Conflict(EngineError):
    """The object's state, or another object with the same name, stands in the way."""


class StartFailed(EngineError):
    """The container's process could not be executed.

    ``exit_code`` is what a shell would report: 127 when the file is missing, 126 when it can't be executed.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Unsupported(EngineError):
    """Kitepy, or the kernel it runs on, can't do what was asked."""


class RateLimited(EngineError):
    """Somebody whom the request needs wants to be asked less often."""


class Unavailable(EngineError):
    """Something the request needs can't be reached right now."""


class Cancelled(EngineError):
    """The work was given up because its caller went away or asked for it."""


class SystemFailure(EngineError):
    """The machine or Kitepy failed; the request itself was fine."""
