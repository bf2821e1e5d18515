"""Keeps secrets in the desktop's own keyring, through ``keyring``; blocks, also while the user is asked to unlock it.

Only keyrings that encrypt are used, whatever ``keyring`` is configured for: a package that is installed beside us could
otherwise make it write in clear to a file. Each call has a deadline, since a service on the bus may never answer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

TIMEOUT_S = 120.0
"""Long enough for the user to type the keyring's password."""
_BACKENDS = (
    ("keyring.backends.SecretService", "Keyring"),
    ("keyring.backends.libsecret", "Keyring"),
    ("keyring.backends.kwallet", "DBusKeyring"),
)
_T = TypeVar("_T")


class KeyringError(Exception):
    """The keyring is missing, locked or failed; one sentence."""


class SecretService:
    """The keyring of this session. ``open_backend`` gives something like a ``keyring`` backend or raises, for tests."""

    def __init__(self, open_backend: Callable[[], Any] | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self._open_backend = open_backend or _open_backend
        self._timeout_s = timeout_s
        self._backend: Any = None
        self._lock = threading.Lock()

    def check(self) -> None:
        """Raises KeyringError when there is no keyring, with the reason."""
        self._within_deadline(self._find)

    def get(self, service: str, username: str) -> str | None:
        """A secret, or None. Raises KeyringError."""
        found = self._within_deadline(lambda: self._find().get_password(service, username))
        return found if isinstance(found, str) else None

    def set(self, service: str, username: str, secret: str) -> None:
        """Keep a secret in place of an earlier one. Raises KeyringError."""
        self._within_deadline(lambda: self._find().set_password(service, username, secret))

    def delete(self, service: str, username: str) -> None:
        """Forget a secret, if there is one. Raises KeyringError."""

        def delete() -> None:
            backend = self._find()
            if backend.get_password(service, username) is not None:
                backend.delete_password(service, username)

        self._within_deadline(delete)

    def _find(self) -> Any:
        with self._lock:
            if self._backend is None:
                self._backend = self._open_backend()
            return self._backend

    def _within_deadline(self, call: Callable[[], _T]) -> _T:
        outcome: list[_T] = []
        failure: list[Exception] = []

        def run() -> None:
            try:
                outcome.append(call())
            except Exception as error:  # of the library, its D-Bus client, or the service: they share no base
                failure.append(error)

        thread = threading.Thread(target=run, name="keyring", daemon=True)
        thread.start()
        thread.join(self._timeout_s)
        if failure:
            reason = str(failure[0]).strip().rstrip(".") or type(failure[0]).__name__
            raise KeyringError(reason[:300]) from None
        if not outcome:
            raise KeyringError(f"the keyring did not answer within {self._timeout_s:g} seconds")
        return outcome[0]


def _open_backend() -> Any:
    """The first of the keyrings that can be used. Raises KeyringError with the reason of the Secret Service."""
    reason = ""
    for module, name in _BACKENDS:
        try:
            backend = getattr(import_module(module), name)
            backend.priority  # noqa: B018  # raises when it can't be used
            return backend()
        except Exception as error:  # whatever a backend meets while it looks for its service
            reason = reason or str(error).strip().rstrip(".") or type(error).__name__
    raise KeyringError(f"there is no Secret Service on this session's bus: {reason}")
