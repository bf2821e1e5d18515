"""What can go wrong between a front end and an engine; ``translation.py`` fills the tree from others'.

::

    ClientError
    ├── NotFound             the named object does not exist
    ├── Conflict             the object's state or name stands in the way
    ├── Invalid              the engine refused the request's values
    ├── Forbidden            the engine refused the caller
    ├── Unsupported          the engine can't do what was asked
    ├── ServerFailure        the engine or its machine failed
    ├── EngineUnreachable    nothing answers on the socket, or the connection broke
    └── Cancelled            this program closed the connection

    EngineStartError         the bundled engine could not be started (see ``bundled.py``)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kitepy.client.diagnosis import Finding


class ClientError(Exception):
    """Base of every error of a request; ``str(error)`` is one sentence for the user."""


class NotFound(ClientError):
    """The named object does not exist."""


class Conflict(ClientError):
    """The object's state, or another object with the same name, stands in the way."""


class Invalid(ClientError):
    """The engine refused the request's values."""


class Forbidden(ClientError):
    """The engine refused the caller."""


class Unsupported(ClientError):
    """The engine can't do what was asked."""


class ServerFailure(ClientError):
    """The engine or its machine failed."""


class EngineUnreachable(ClientError):
    """Nothing answers on the socket, or the connection broke."""


class Cancelled(ClientError):
    """This program closed the connection; nobody needs to be told."""


class EngineStartError(Exception):
    """The bundled engine could not be started.

    ``reason`` is one sentence, ``hint`` the next step (a sentence or an exact command), ``log_tail`` the last lines the
    engine wrote, or an empty string. ``findings`` is what a look at the machine found, when that explains the failure.
    """

    def __init__(self, reason: str, hint: str, log_tail: str = "", findings: tuple[Finding, ...] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint
        self.log_tail = log_tail
        self.findings = findings


_KIND_BY_STATUS: dict[int, type[ClientError]] = {
    400: Invalid,
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    501: Unsupported,
}


def kind_of_status(status: int) -> type[ClientError]:
    """The kind of error an HTTP status of 400 or more stands for."""
    return _KIND_BY_STATUS.get(status, Invalid if status < 500 else ServerFailure)
