"""The user's logins at registries: where they are kept, found, saved and erased; blocks, so call it in a thread.

Where a login can be, in the order of the search:

====================  ===================================================================================================
``SESSION``           this program's memory, until it ends
``SECRET_SERVICE``    the desktop's keyring (``secret_service.py``); a small file beside it lists hosts and users, no secrets
``HELPER``            a docker-credential program that Docker's configuration names: Docker's command line sees the same login
``DOCKER_CONFIG``     Docker's ``config.json`` itself, where its command line put a secret in clear: read, erased, never written
====================  ===================================================================================================

A broken keeper never hides a login that another one has: it is told as a note. No secret shows in ``repr`` or a message.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import threading
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from kitepy.client.credential_helpers import TIMEOUT_S as HELPER_TIMEOUT_S
from kitepy.client.credential_helpers import TOKEN_USER, CredentialHelper, HelperError
from kitepy.client.docker_config import HUB, ConfigError, DockerConfig, config_path, host_of, server_of
from kitepy.client.errors import Invalid, ServerFailure
from kitepy.client.secret_service import KeyringError, SecretService

_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
_LONGEST_SECRET = 16_384
_LARGEST_INDEX_BYTES = 1 << 20


class Place(Enum):
    """Where a login is kept."""

    SESSION = "session"
    SECRET_SERVICE = "secret-service"  # noqa: S105
    HELPER = "helper"
    DOCKER_CONFIG = "docker-config"


@dataclass(frozen=True)
class RegistryCredentials:
    """What a registry is shown: a user name and password, or an identity token that it gave out. ``repr`` shows no secret."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    def header(self, host: str) -> str:
        """The value of ``X-Registry-Auth``."""
        if self.identity_token:
            document = {"username": self.username, "identitytoken": self.identity_token}
        else:
            document = {"username": self.username, "password": self.password}
        document["serveraddress"] = server_of(host)
        return urlsafe_b64encode(json.dumps(document).encode()).decode()


@dataclass(frozen=True)
class Login:
    """That there is a login, without its secret."""

    host: str
    """As people write it: ``docker.io``, ``registry.example:5000``."""
    username: str
    """Empty where its keeper doesn't tell without giving out the secret."""
    place: Place
    helper: str = ""
    """The helper's name, for ``Place.HELPER``."""


@dataclass(frozen=True)
class Logins:
    """All logins; ``notes`` tells which keepers could not be asked, and why."""

    entries: tuple[Login, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """What a search gave; ``notes`` as in Logins."""

    credentials: RegistryCredentials | None
    login: Login | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Saved:
    """Where a login went; ``notes`` tells why it did not go to a better place."""

    login: Login
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Choice:
    """A place that a login could go to, or why it can't."""

    place: Place
    helper: str = ""
    why_not: str = ""

    @property
    def is_available(self) -> bool:
        """Whether a login can be saved there."""
        return not self.why_not


class CredentialStore:
    """The logins of this user. One object serves many threads."""

    def __init__(
        self,
        environment: Mapping[str, str] | None = None,
        keyring: SecretService | None = None,
        helper_timeout_s: float = HELPER_TIMEOUT_S,
    ) -> None:
        self._environment = os.environ if environment is None else environment
        self._keyring = keyring or SecretService()
        self._helper_timeout_s = helper_timeout_s
        self._session: dict[str, RegistryCredentials] = {}
        self._lock = threading.RLock()

    # Reading

    def logins(self) -> Logins:
        """Every login that is known, one for each registry and place. No secret is read for it."""
        notes: list[str] = []
        entries = [Login(host, found.username, Place.SESSION) for host, found in self._session_copy().items()]
        entries += [Login(host, user, Place.SECRET_SERVICE) for host, user in self._index(notes).items()]
        config = self._config(notes)
        listed: dict[str, dict[str, str]] = {}
        for name in dict.fromkeys(name for name in (config.store, *config.helpers.values()) if name):
            try:
                listed[name] = {host_of(server): user for server, user in self._helper(name).list().items()}
            except HelperError as error:
                notes.append(str(error))
        kept = {host: config.helper_of(host) for host in (*config.helpers, *config.hosts(), *listed.get(config.store, ()))}
        for host, name in kept.items():
            user = listed.get(name, {}).get(host)
            if user is None and host not in config.helpers:
                continue
            user = user or ""
            entries.append(Login(host, "" if user == TOKEN_USER else user, Place.HELPER, name))
        for source in (self._variable(notes), config):
            entries += [
                Login(host, found.username, Place.DOCKER_CONFIG) for host in source.hosts() if (found := source.login(host))
            ]
        unique = {(entry.host, entry.place, entry.helper): entry for entry in reversed(entries)}
        return Logins(tuple(sorted(unique.values(), key=lambda entry: (entry.host, entry.place.value))), tuple(notes))

    def find(self, host: str) -> Found:
        """The login of a registry, if there is one; never raises because a keeper is broken."""
        host = host_of(host)
        notes: list[str] = []
        if found := self._session_copy().get(host):
            return Found(found, Login(host, found.username, Place.SESSION))
        if host in (index := self._index(notes)):
            try:
                if (secret := self._keyring.get(_service(host), index[host] or TOKEN_USER)) is not None:
                    return Found(_unpacked(index[host], secret), Login(host, index[host], Place.SECRET_SERVICE), tuple(notes))
            except KeyringError as error:
                notes.append(f"the login at {host} is in the keyring, which can't be read: {error}")
        config = self._config(notes)
        variable = self._variable(notes)
        if given := variable.login(host):
            login = Login(host, given.username, Place.DOCKER_CONFIG)
            return Found(RegistryCredentials(given.username, given.password, given.identity_token), login, tuple(notes))
        if name := config.helper_of(host):
            try:
                for server in dict.fromkeys((server_of(host), host)):
                    if kept := self._helper(name).get(server):
                        login = Login(host, "" if kept[0] == TOKEN_USER else kept[0], Place.HELPER, name)
                        return Found(_from_helper(*kept), login, tuple(notes))
            except HelperError as error:
                notes.append(str(error))
        if given := config.login(host):
            login = Login(host, given.username, Place.DOCKER_CONFIG)
            return Found(RegistryCredentials(given.username, given.password, given.identity_token), login, tuple(notes))
        return Found(None, None, tuple(notes))

    # Changing

    def places(self, host: str) -> tuple[Choice, ...]:
        """Where a login at this registry could be saved, the place that ``save`` prefers first. Blocks on the keyring."""
        host = host_of(host)
        notes: list[str] = []
        helper = self._helper_for_saving(host, notes)
        choices = []
        if helper:
            program = self._helper(helper)
            why_not = "" if program.is_installed() else f"{program.program} is not installed"
            choices.append(Choice(Place.HELPER, helper, why_not or "; ".join(notes)))
        why_not = ""
        try:
            self._keyring.check()
        except KeyringError as error:
            why_not = str(error)
        choices.append(Choice(Place.SECRET_SERVICE, "", why_not))
        choices.append(Choice(Place.SESSION))
        return tuple(sorted(choices, key=lambda choice: not choice.is_available))

    def save(self, host: str, credentials: RegistryCredentials, place: Place | None = None) -> Saved:
        """Keep a login, in place of the ones that this program kept before.

        Without a ``place`` it goes where Docker's command line keeps this registry's, if that is a helper; else to the keyring;
        else to memory, and the notes tell why. Raises ServerFailure when the place that was asked for doesn't take it.
        """
        host = _checked_host(host)
        _check(credentials)
        notes: list[str] = []
        if place is None:
            tries = [Place.SECRET_SERVICE, Place.SESSION]
            if self._helper_for_saving(host, notes):
                tries.insert(0, Place.HELPER)
        else:
            tries = [place]
        for candidate in tries:
            try:
                login = self._save_at(candidate, host, credentials)
            except (KeyringError, HelperError, ConfigError) as error:
                notes.append(str(error))
                continue
            notes += self._erase_own(host, candidate)
            return Saved(login, tuple(notes))
        raise ServerFailure(f"the login at {host} can't be kept: {notes[-1]}")

    def erase(self, host: str) -> tuple[str, ...]:
        """Log out of a registry: forget its login everywhere. Gives a note for each keeper that could not be asked."""
        host = host_of(host)
        notes = self._erase_own(host, None)
        config = self._config(notes)
        if name := config.helper_of(host):
            for server in dict.fromkeys((server_of(host), host)):
                try:
                    self._helper(name).erase(server)
                except HelperError as error:
                    notes.append(str(error))
                    break
        try:
            config.remove_login(host)
        except ConfigError as error:
            notes.append(str(error))
        if self._variable([]).login(host):
            notes.append(f"a login at {host} is in the variable DOCKER_AUTH_CONFIG, which this program can't change")
        return tuple(notes)

    def _save_at(self, place: Place, host: str, credentials: RegistryCredentials) -> Login:
        if place is Place.SESSION:
            with self._lock:
                self._session[host] = credentials
            return Login(host, credentials.username, place)
        if place is Place.SECRET_SERVICE:
            index = self._index([])
            previous = index.get(host)
            self._keyring.set(_service(host), credentials.username or TOKEN_USER, _packed(credentials))
            self._change_index({host: credentials.username})
            if previous is not None and previous != credentials.username:
                with suppress(KeyringError):
                    self._keyring.delete(_service(host), previous or TOKEN_USER)
            return Login(host, credentials.username, place)
        if place is Place.HELPER:
            config = DockerConfig.read(config_path(self._environment))
            name = self._helper_for_saving(host, [])
            if not name:
                raise HelperError(f"Docker's configuration names no credential helper for {host}")
            username = TOKEN_USER if credentials.identity_token else credentials.username
            self._helper(name).store(server_of(host), username, credentials.identity_token or credentials.password)
            config.note_login(host, "" if config.helper_of(host) else name)
            return Login(host, credentials.username, place, name)
        raise ConfigError("this program writes no secret into Docker's configuration, where it would stand in clear")

    def _erase_own(self, host: str, but: Place | None) -> list[str]:
        """Forget a login in memory and keyring, except at one place."""
        notes: list[str] = []
        if but is not Place.SESSION:
            with self._lock:
                self._session.pop(host, None)
        index = self._index(notes)
        if but is not Place.SECRET_SERVICE and host in index:
            try:
                self._keyring.delete(_service(host), index[host] or TOKEN_USER)
                self._change_index({host: None})
            except (KeyringError, ConfigError) as error:
                notes.append(f"the login at {host} could not be removed from the keyring: {error}")
        return notes

    # The keepers

    def _session_copy(self) -> dict[str, RegistryCredentials]:
        with self._lock:
            return dict(self._session)

    def _helper(self, name: str) -> CredentialHelper:
        return CredentialHelper(name, self._environment, self._helper_timeout_s)

    def _helper_for_saving(self, host: str, notes: list[str]) -> str:
        """The helper that ``docker login`` would use: a configured one, or the usual one where nothing is configured yet."""
        config = self._config(notes)
        if name := config.helper_of(host):
            return name
        if config.has_keepers or notes:
            return ""
        usual = "pass" if shutil.which("pass", path=self._environment.get("PATH", os.defpath)) else "secretservice"
        return usual if self._helper(usual).is_installed() else ""

    def _config(self, notes: list[str]) -> DockerConfig:
        path = config_path(self._environment)
        try:
            return DockerConfig.read(path)
        except ConfigError as error:
            notes.append(str(error))
            return DockerConfig(path, {})

    def _variable(self, notes: list[str]) -> DockerConfig:
        try:
            return DockerConfig.parse(self._environment.get("DOCKER_AUTH_CONFIG") or "{}", "DOCKER_AUTH_CONFIG")
        except ConfigError as error:
            notes.append(str(error))
            return DockerConfig(Path("DOCKER_AUTH_CONFIG"), {})

    # The list of what the keyring has: hosts and user names, no secrets

    @property
    def _index_path(self) -> Path:
        if home := self._environment.get("KITEPY_HOME"):
            return Path(home).absolute() / "registry-logins.json"
        configured = self._environment.get("XDG_CONFIG_HOME", "")
        home_config = Path(self._environment.get("HOME") or "/root") / ".config"
        return (Path(configured) if configured.startswith("/") else home_config) / "kitepy" / "registry-logins.json"

    def _index(self, notes: list[str]) -> dict[str, str]:
        try:
            with self._index_path.open("rb") as file:
                document = json.loads(file.read(_LARGEST_INDEX_BYTES))
            return {host: user for host, user in document["logins"].items() if isinstance(user, str) and host_of(host) == host}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            notes.append(f"{self._index_path} can't be read: logins in the keyring are not found")
            return {}

    def _change_index(self, changes: Mapping[str, str | None]) -> None:
        path = self._index_path
        with self._lock:
            index = {host: user for host, user in {**self._index([]), **changes}.items() if user is not None}
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                handle, temporary = tempfile.mkstemp(prefix=".logins-", dir=path.parent)
                try:
                    with os.fdopen(handle, "w") as file:
                        json.dump({"logins": index}, file, indent=2)
                    os.replace(temporary, path)
                except BaseException:
                    os.unlink(temporary)
                    raise
            except OSError as error:
                raise ConfigError(f"{path} can't be written: {error.strerror}") from None


def registry_of(image: str) -> str:
    """The registry that an image's name means: its first component where that can be a host, else Docker Hub."""
    first, slash, _ = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first.lower() != first):
        return host_of(first)
    return HUB


def _checked_host(host: str) -> str:
    found = host_of(host)
    port = found.rpartition(":")[2] if ":" in found and not found.endswith("]") else "0"
    if len(found) > 300 or not _HOST.fullmatch(found) or int(port) > 65535:
        raise Invalid(f"{found[:100]!r} is no address of a registry")
    return found


def _check(credentials: RegistryCredentials) -> None:
    secret = credentials.identity_token or credentials.password
    if not secret or not (credentials.username or credentials.identity_token):
        raise Invalid("a login needs a user name and a password")
    if len(secret) > _LONGEST_SECRET or len(credentials.username) > 1000:
        raise Invalid("the user name or the password is too long")
    if "\0" in secret or not credentials.username.isprintable() or (":" in credentials.username):
        raise Invalid("the user name or the password has characters that registries can't take")


def _service(host: str) -> str:
    """The name of a secret in the keyring, which its own programs show."""
    return f"Kitepy login at {host}"


def _packed(credentials: RegistryCredentials) -> str:
    """A keyring keeps one text: a token has a mark before it, which no password is mistaken for since it gets one too."""
    return f"token:{credentials.identity_token}" if credentials.identity_token else f"password:{credentials.password}"


def _unpacked(username: str, secret: str) -> RegistryCredentials:
    kind, _, text = secret.partition(":")
    return RegistryCredentials(username, "", text) if kind == "token" else RegistryCredentials(username, text)


def _from_helper(username: str, secret: str) -> RegistryCredentials:
    return RegistryCredentials("", "", secret) if username == TOKEN_USER else RegistryCredentials(username, secret)
