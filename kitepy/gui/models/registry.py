"""Registries as the app lists them: which there are, who is logged in where, and what the last look at one found. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from kitepy.gui.models.reference import DOCKER_HUB, Reference, registry_host
from kitepy.gui.models.trouble import HERE, EnginePlaces, Trouble, explain


class Keeper(enum.Enum):
    """Who keeps a login; the value is what it is called."""

    KEYRING = "the desktop's keyring"
    SESSION = "this session only"
    DOCKER = "docker's config.json"
    HELPER = "a credential helper"


@dataclass(frozen=True)
class Login:
    """`detail` names the helper, or the file."""

    host: str
    user: str
    keeper: Keeper
    detail: str = ""


@dataclass(frozen=True)
class NewLogin:
    """`repr` shows no secret."""

    host: str
    user: str
    password: str = field(repr=False)
    keeper: Keeper


@dataclass(frozen=True)
class KeeperChoice:
    """Where a new login can be kept; `why_not` says why that one can't be had."""

    keeper: Keeper
    why_not: str = ""
    note: str = ""
    detail: str = ""
    """The helper's name."""

    @property
    def title(self) -> str:
        title = f"{self.keeper.value}, {self.detail}" if self.detail else self.keeper.value
        return title[0].upper() + title[1:]


@dataclass(frozen=True)
class EngineRegistries:
    """What the engine is told about registries in its configuration."""

    insecure: tuple[str, ...] = ()
    mirrors: tuple[str, ...] = ()
    places: EnginePlaces = HERE


@dataclass(frozen=True)
class Registry:
    host: str
    login: Login | None = None
    insecure: bool = False
    mirrors: tuple[str, ...] = ()
    added: bool = False
    """By the user in this app; others are here because of a login, or always."""
    trouble: Trouble | None = None
    """Of the last look at it."""
    checked: bool = False
    checking: bool = False

    @property
    def title(self) -> str:
        return "Docker Hub" if self.host == DOCKER_HUB else self.host

    @property
    def can_go(self) -> bool:
        """Docker Hub is always there: names without a registry mean it."""
        return self.host != DOCKER_HUB

    @property
    def state(self) -> str:
        if self.checking:
            return "Asking…"
        if self.trouble is not None:
            return self.trouble.title
        if self.checked:
            return "Answers"
        return ""

    @property
    def account(self) -> str:
        return (self.login.user or "by token") if self.login else ""

    @property
    def kept_in(self) -> str:
        if self.login is None:
            return ""
        return f"{self.login.keeper.value}, {self.login.detail}" if self.login.detail else self.login.keeper.value


@dataclass(frozen=True)
class Registries:
    """`notes` are about sources of logins that couldn't be read (a broken helper, a locked keyring)."""

    loaded: bool = False
    error: str = ""
    known: tuple[Registry, ...] = (Registry(DOCKER_HUB),)
    keepers: tuple[KeeperChoice, ...] = ()
    notes: tuple[str, ...] = ()
    places: EnginePlaces = HERE

    def explain(self, message: str, subject: Reference | str) -> Trouble:
        """A failure in the user's terms, knowing who is logged in there."""
        host = subject if isinstance(subject, str) else subject.registry
        return explain(message, subject, self.user_of(host), self.places)

    def find(self, host: str) -> Registry | None:
        return next((registry for registry in self.known if registry.host == host), None)

    def user_of(self, host: str) -> str:
        registry = self.find(host)
        return registry.account if registry else ""


def put_together(before: Registries, added: Iterable[str], logins: Iterable[Login], engine: EngineRegistries) -> Registries:
    """Docker Hub first, then by name; what was found out about one before stays, unless its login has changed."""
    added = {host for host in map(registry_host, added) if host}
    by_host: dict[str, Login] = {}
    for login in logins:
        if host := registry_host(login.host):
            by_host.setdefault(host, login)
    hosts = {DOCKER_HUB, *added, *by_host}
    known = []
    for host in sorted(hosts, key=lambda host: (host != DOCKER_HUB, host)):
        registry = Registry(
            host,
            by_host.get(host),
            _is_insecure(host, engine.insecure),
            engine.mirrors if host == DOCKER_HUB else (),
            host in added,
        )
        old = before.find(host)
        if old is not None and old.login == registry.login:
            registry = replace(registry, trouble=old.trouble, checked=old.checked, checking=old.checking)
        known.append(registry)
    return replace(before, loaded=True, error="", known=tuple(known), places=engine.places)


def with_registry(registries: Registries, changed: Registry) -> Registries:
    known = tuple(changed if registry.host == changed.host else registry for registry in registries.known)
    return replace(registries, known=known)


def _is_insecure(host: str, named: Iterable[str]) -> bool:
    """Loopback always is, as for dockerd; networks in CIDR notation are left to the engine."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    return host in named or name in named or name == "localhost" or name.startswith("127.") or name == "[::1]"


def trouble_with_host(text: str, known: Iterable[str]) -> str:
    """Why no registry can be added under this address; empty when it can."""
    host = registry_host(text)
    if not host:
        return "An address like ghcr.io or localhost:5000."
    return f"{host} is there already." if host in set(known) else ""
