"""Docker's own file of registry logins and their keepers, ``~/.docker/config.json``, read as its command line does.

Nothing in the file is trusted: it may be missing, huge, a pipe, or anything but what Docker would write. A change keeps all
that it does not concern, and no secret is ever written.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HUB = "docker.io"
HUB_SERVER = "https://index.docker.io/v1/"
"""What Docker's command line calls Docker Hub in its file and towards helpers."""
_HUB_NAMES = frozenset({"", HUB, "index.docker.io", "registry-1.docker.io"})
_LARGEST_BYTES = 4 << 20


class ConfigError(Exception):
    """The file can't be read or changed; one sentence that names it."""


@dataclass(frozen=True)
class FileLogin:
    """A login that stands in the file itself; ``repr`` shows no secret."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)


def host_of(server: str) -> str:
    """The registry that a key of the file, or an address as people write it, means: ``host[:port]``, Docker Hub as docker.io."""
    text = server.strip()
    for scheme in ("https://", "http://"):
        text = text.removeprefix(scheme)
    host = text.partition("/")[0].lower()
    return HUB if host in _HUB_NAMES else host


def server_of(host: str) -> str:
    """The key under which Docker's command line keeps a registry's login."""
    return HUB_SERVER if host == HUB else host


def config_path(environment: Mapping[str, str]) -> Path:
    """Where Docker's command line has its file."""
    if directory := environment.get("DOCKER_CONFIG"):
        return Path(directory).absolute() / "config.json"
    return Path(environment.get("HOME") or "/root") / ".docker" / "config.json"


class DockerConfig:
    """The file's content at one moment."""

    def __init__(self, path: Path, document: Mapping[str, Any]) -> None:
        self._path = path
        self._document = document

    @classmethod
    def read(cls, path: Path) -> DockerConfig:
        """Read a file; one that does not exist is empty. Raises ConfigError."""
        text = _read(path)
        return cls(path, _object(text, str(path)) if text.strip() else {})

    @classmethod
    def parse(cls, text: str, source: str) -> DockerConfig:
        """The same from a text, as ``DOCKER_AUTH_CONFIG`` has it. Raises ConfigError."""
        return cls(Path(source), _object(text, source))

    def login(self, host: str) -> FileLogin | None:
        """The login that the file itself has for a registry; an entry that can't be read is none."""
        auths = self._table("auths")
        for key in (server_of(host), *auths):
            if key in auths and host_of(key) == host and (found := _file_login(auths[key])):
                return found
        return None

    def hosts(self) -> list[str]:
        """The registries with an entry in the file, with or without a secret."""
        return list(dict.fromkeys(host_of(key) for key in self._table("auths") if key.strip()))

    def helper_of(self, host: str) -> str:
        """The helper that keeps this registry's login; empty when there is none."""
        for key, name in self._table("credHelpers").items():
            if host_of(key) == host and isinstance(name, str) and name:
                return name
        return self.store

    @property
    def store(self) -> str:
        """The helper for all registries that have none of their own; empty when there is none."""
        name = self._document.get("credsStore")
        return name if isinstance(name, str) else ""

    @property
    def helpers(self) -> dict[str, str]:
        """Registries with a helper of their own."""
        return {host_of(key): name for key, name in self._table("credHelpers").items() if isinstance(name, str) and name}

    @property
    def has_keepers(self) -> bool:
        """Whether Docker's command line has decided where logins go: it looks for a helper by itself only while it has not."""
        return bool(self.store or self._table("credHelpers") or self._table("auths"))

    def note_login(self, host: str, store: str = "") -> None:
        """Note that a helper keeps this registry's login, as ``docker login`` does; ``store`` becomes the helper of all.

        Raises ConfigError.
        """
        document = {**self._document, "auths": {**self._table("auths"), server_of(host): {}}}
        if store:
            document["credsStore"] = store
        self._write(document)

    def remove_login(self, host: str) -> bool:
        """Remove a registry's entries, as ``docker logout`` does; False when there was none. Raises ConfigError."""
        auths = self._table("auths")
        kept = {key: entry for key, entry in auths.items() if host_of(key) != host}
        if len(kept) == len(auths):
            return False
        self._write({**self._document, "auths": kept})
        return True

    def _table(self, name: str) -> dict[str, Any]:
        found = self._document.get(name)
        return found if isinstance(found, dict) else {}

    def _write(self, document: Mapping[str, Any]) -> None:
        target = Path(os.path.realpath(self._path))  # the file may be a link into somebody's collection of dotfiles
        try:
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o600
            handle, temporary = tempfile.mkstemp(prefix=".config-", dir=target.parent)
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    os.fchmod(file.fileno(), mode)
                    json.dump(document, file, indent="\t", ensure_ascii=False)
                os.replace(temporary, target)
            except BaseException:
                os.unlink(temporary)
                raise
        except (OSError, UnicodeError) as error:
            raise ConfigError(f"{self._path} can't be written: {error}") from None


def _read(path: Path) -> str:
    try:
        # Opening a pipe without O_NONBLOCK waits for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} can't be read: {getattr(error, 'strerror', None) or error}") from None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{path} is no regular file")
        content = file.read(_LARGEST_BYTES + 1)
    if len(content) > _LARGEST_BYTES:
        raise ConfigError(f"{path} is larger than {_LARGEST_BYTES >> 20} MiB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is no text") from None


def _object(text: str, source: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise ConfigError(f"{source} is no JSON") from None  # the parser's words may show what stands there
    if not isinstance(found, dict):
        raise ConfigError(f"{source} is no JSON object")
    return found


def _file_login(entry: Any) -> FileLogin | None:
    if not isinstance(entry, dict):
        return None
    token, auth = (entry.get(name) if isinstance(entry.get(name), str) else "" for name in ("identitytoken", "auth"))
    username, password = (entry.get(name) if isinstance(entry.get(name), str) else "" for name in ("username", "password"))
    if auth:
        try:
            decoded = b64decode(auth, validate=True).decode()
        except ValueError:
            decoded = ""
        username, colon, password = decoded.partition(":")
        if not colon or not username:
            username = password = ""
        password = password.strip("\0")
    if token:
        return FileLogin(username or "", "", token)
    return FileLogin(username, password) if username and password else None
