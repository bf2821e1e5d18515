"""Translates what docker-py and the libraries below it raise into the client's own errors, here alone.

Apart from ``errors.py`` because docker-py takes a tenth of a second to import, which the first window need not wait for.
"""

from __future__ import annotations

import docker.errors
import requests
import urllib3.exceptions

from kitepy.client.errors import ClientError, EngineUnreachable, Invalid, ServerFailure, Unsupported, kind_of_status

TRANSLATED = (
    docker.errors.DockerException,
    requests.exceptions.RequestException,
    urllib3.exceptions.HTTPError,
    OSError,
    ValueError,
)
"""What docker-py lets through: its own errors, those of the libraries below it, and bad JSON or arguments."""


def translate(error: Exception) -> ClientError:
    """The client's error for one of `TRANSLATED`."""
    if isinstance(error, docker.errors.APIError):
        status = error.response.status_code if error.response is not None else 500
        return kind_of_status(status)(error.explanation or str(error))
    if isinstance(error, docker.errors.InvalidVersion):
        return Unsupported(str(error))
    # requests' own JSON error is an IOError as well as a ValueError: it says nothing about the connection.
    if isinstance(error, requests.exceptions.JSONDecodeError):
        return ServerFailure(f"the engine sent an answer that can't be read: {error}")
    if isinstance(error, (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError)):
        return EngineUnreachable(f"the engine does not answer: {_innermost(error)}")
    # docker-py wraps what happens while it asks for the engine's version.
    if isinstance(error, docker.errors.DockerException) and "fetching server API version" in str(error):
        return EngineUnreachable(f"the engine does not answer: {_innermost(error)}")
    return Invalid(str(error))


def _innermost(error: BaseException) -> BaseException:
    """The first cause of a chain: it names what the kernel said, the outer ones repeat it in brackets."""
    seen = {id(error)}
    while (inner := error.__cause__ or error.__context__) is not None and id(inner) not in seen:
        seen.add(id(inner))
        error = inner
    return error
