"""What a registry wants to see before it answers, got and kept: Basic, or tokens of the service it names, per scope.

Token authentication: https://distribution.github.io/distribution/spec/auth/token/ (GET with Basic) and …/auth/oauth/ (POST).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from kitepy.engine.distribution.answers import json_problem, registry_error
from kitepy.engine.distribution.challenge import Challenge, parse_challenges
from kitepy.engine.distribution.credentials import Credentials
from kitepy.engine.distribution.endpoints import Endpoint
from kitepy.engine.distribution.failures import RegistryError, Unreachable, asking, prefixed, shown, without_secrets
from kitepy.engine.distribution.redirects import followed, read_short
from kitepy.engine.distribution.transport import Transport
from kitepy.engine.model.errors import EngineError, SystemFailure

CLIENT_ID = "docker"
"""What token services know clients of this API by."""
_LONGEST_ANSWER = 1 << 20
_SHORTEST_LIFE_S = 60.0
_MOST_TOKENS = 500

_Key = tuple[str, ...]


class Tokens:
    """Access tokens that are still good, by who got them where for what; bounded. Keys hold no secret."""

    def __init__(self) -> None:
        self._salt = secrets.token_bytes(32)
        self._kept: OrderedDict[_Key, tuple[str, float]] = OrderedDict()

    def key(self, credentials: Credentials, *parts: str) -> _Key:
        """Where a token for these credentials is kept."""
        words = (credentials.username, credentials.password, credentials.identity_token)
        return (hashlib.blake2b("\0".join(words).encode(), key=self._salt).hexdigest(), *parts)

    def get(self, key: _Key) -> str | None:
        """The token, unless it has expired."""
        token, end = self._kept.get(key, ("", 0.0))
        return token if time.monotonic() < end else None

    def put(self, key: _Key, token: str, life_s: float) -> None:
        """Keep a token for most of its life."""
        self._kept[key] = (token, time.monotonic() + life_s * 0.9)
        self._kept.move_to_end(key)
        while len(self._kept) > _MOST_TOKENS:
            self._kept.popitem(last=False)

    def drop(self, key: _Key) -> None:
        """Forget one that was refused."""
        self._kept.pop(key, None)


class Authorizer:
    """For one endpoint and one user."""

    def __init__(
        self, endpoint: Endpoint, credentials: Credentials, scopes: Iterable[str], tokens: Tokens, *, offline: bool = False
    ) -> None:
        """``offline`` asks for an identity token as well, which stands in ``identity_token`` afterwards."""
        self._endpoint = endpoint
        self._credentials = credentials
        self._scopes = tuple(scopes)
        self._tokens = tokens
        self._offline = offline
        self._challenges: list[Challenge] = []
        self._fetching = asyncio.Lock()
        self.identity_token = credentials.identity_token

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no message may repeat."""
        return self._credentials.secrets

    def hear(self, headers: Iterable[str]) -> None:
        """Learn from ``WWW-Authenticate`` what the registry asks for."""
        if found := parse_challenges(headers):
            self._challenges = found

    async def authorization(self, transport: Transport, more_scopes: Sequence[str] = (), *, refused: str = "") -> str:
        """The value of ``Authorization`` to show; empty for none. ``refused`` is one that was shown in vain.

        Raises what stands in the way of it.
        """
        if self._credentials.registry_token:
            return f"Bearer {self._credentials.registry_token}"
        for challenge in self._challenges:
            if challenge.scheme == "bearer":
                return await self._token(transport, challenge, [*self._scopes, *more_scopes], refused)
        for challenge in self._challenges:
            if challenge.scheme == "basic":
                if not self._credentials.basic:
                    raise SystemFailure("no basic auth credentials")
                return self._credentials.basic
        return ""

    async def _token(self, transport: Transport, challenge: Challenge, scopes: list[str], refused: str) -> str:
        realm = challenge.parameters.get("realm", "")
        if not realm:
            raise SystemFailure("no realm specified for token auth challenge")
        service = challenge.parameters.get("service", "")
        if not scopes and challenge.parameters.get("scope") and not self._offline:
            scopes = challenge.parameters["scope"].split(" ")
        scopes = list(dict.fromkeys(scopes))
        key = self._tokens.key(self._credentials, self._endpoint.url, realm, service, *scopes)
        async with self._fetching:
            known = None if self._offline else self._tokens.get(key)
            if known is not None and known != refused:
                return known
            self._tokens.drop(key)
            token, life_s = await self._fetch(transport, self._checked_realm(realm), service, scopes)
            self._tokens.put(key, token, life_s)
            return token

    async def _fetch(self, transport: Transport, realm: str, service: str, scopes: list[str]) -> tuple[str, float]:
        if self._credentials.identity_token:
            form = {
                "client_id": CLIENT_ID,
                "grant_type": "refresh_token",
                "refresh_token": self._credentials.identity_token,
                "scope": " ".join(scopes),
                "service": service,
            }
            document = await self._ask(transport, "POST", realm, {}, form)
        else:
            parts = urlsplit(realm)
            query = parse_qsl(parts.query, keep_blank_values=True)
            query += [("service", service)] if service else []
            query += [("scope", scope) for scope in scopes]
            headers = {}
            if self._offline:
                query += [("offline_token", "true"), ("client_id", CLIENT_ID)]
            if self._credentials.basic:
                query += [("account", self._credentials.username)]
                headers["Authorization"] = self._credentials.basic
            url = urlunsplit(parts._replace(query=urlencode(sorted(query, key=lambda pair: pair[0]))))
            document = await self._ask(transport, "GET", url, headers, None)
        # Both mean the same (RFC 6749 and the older way); dockerd prefers this one.
        token = document.get("access_token") or document.get("token")
        if not isinstance(token, str) or not token or not token.isprintable() or not token.isascii():
            raise Unreachable("authorization server did not include a token in the response")
        refresh = document.get("refresh_token")
        if isinstance(refresh, str) and refresh:
            self.identity_token = refresh
        life = document.get("expires_in")
        life_s = float(life) if isinstance(life, int) and 0 < life < 1 << 30 else 0.0
        return f"Bearer {token}", max(life_s, _SHORTEST_LIFE_S)

    async def _ask(
        self, transport: Transport, method: str, url: str, headers: dict[str, str], form: dict[str, str] | None
    ) -> dict[str, Any]:
        async with followed(transport, method, url, headers, form) as answer:
            body = await read_short(answer, _LONGEST_ANSWER)
            if not 200 <= answer.status < 400:
                raise without_secrets(registry_error(answer.status, answer.headers, body), self.secrets)
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            raise Unreachable(f"unable to decode token response: {json_problem(body)}") from None
        if not isinstance(document, dict):
            raise Unreachable("unable to decode token response: it is no object")
        return document

    def _checked_realm(self, text: str) -> str:
        """The token service's address; raises Unreachable where a password would travel less safely than to the registry."""
        try:
            realm = urljoin(f"{self._endpoint.url}/v2/", text)
            parts = urlsplit(realm)
            usable = parts.scheme in ("https", "http") and bool(parts.hostname) and "@" not in parts.netloc
        except ValueError:
            usable = False
        if not usable:
            raise Unreachable("invalid token auth challenge realm: the registry names no usable token service")
        exposed = self._credentials.basic or self._credentials.identity_token
        if parts.scheme == "http" and self._endpoint.secure and exposed:
            raise Unreachable(f"the registry names a token service without TLS, {shown(realm)}: no password goes there")
        return realm


def without_authorization(error: EngineError, method: str, url: str) -> EngineError:
    """Why a request could not even be made, as dockerd puts it."""
    told = prefixed(error, asking(method, url))
    if isinstance(told, RegistryError):
        told.code = ""  # it isn't what the registry says of a repository
    return told
