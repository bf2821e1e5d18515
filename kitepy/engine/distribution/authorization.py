"""What a registry wants to see before it answers, got and kept: Basic, or tokens of the service it names, per scope."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

import aiohttp

from kitepy.engine.distribution.challenge import Challenge, parse_challenges
from kitepy.engine.distribution.credentials import Credentials
from kitepy.engine.distribution.endpoints import Endpoint
from kitepy.engine.distribution.failures import Unreachable, registry_error, shown
from kitepy.engine.distribution.redirects import followed, read_short

CLIENT_ID = "docker"
"""What token services know clients of this API by."""
_LONGEST_ANSWER = 1 << 20
_SHORTEST_LIFE_S = 60.0


class Authorizer:
    """For one endpoint and one user."""

    def __init__(self, endpoint: Endpoint, credentials: Credentials, scopes: Iterable[str] = ()) -> None:
        self._endpoint = endpoint
        self._credentials = credentials
        self._scopes = tuple(scopes)
        self._challenges: list[Challenge] = []
        self._tokens: dict[tuple[str, ...], tuple[str, float]] = {}
        self._fetching = asyncio.Lock()
        self.identity_token = credentials.identity_token

    def hear(self, headers: Iterable[str]) -> None:
        """Learn what the registry asks for."""
        if found := parse_challenges(headers):
            self._challenges = found

    async def authorization(self, session: aiohttp.ClientSession, *, refused: str = "") -> str:
        """The value of ``Authorization`` to show; empty for none. ``refused`` is one that was shown in vain."""
        for challenge in self._challenges:
            if challenge.scheme == "bearer" and challenge.parameters.get("realm"):
                if self._credentials.registry_token:
                    return f"Bearer {self._credentials.registry_token}"
                return await self._token(session, challenge, refused)
        for challenge in self._challenges:
            if challenge.scheme == "basic":
                return self._credentials.basic
        return ""

    async def _token(self, session: aiohttp.ClientSession, challenge: Challenge, refused: str) -> str:
        async with self._fetching:
            known = self._tokens.get(self._scopes)
            if known is not None and known[0] != refused and time.monotonic() < known[1]:
                return known[0]
            value, life_s = await self._fetch(session, challenge)
            self._tokens[self._scopes] = (value, time.monotonic() + life_s)
            return value

    async def _fetch(self, session: aiohttp.ClientSession, challenge: Challenge) -> tuple[str, float]:
        """Token authentication: GET with Basic, or POST with an identity token as OAuth 2 refreshes."""
        realm = _checked_realm(urljoin(f"{self._endpoint.url}/v2/", challenge.parameters["realm"]), self._endpoint)
        service = challenge.parameters.get("service", "")
        scopes = list(self._scopes) or [challenge.parameters.get("scope", "")]
        scopes = [scope for scope in scopes if scope]
        if self._credentials.identity_token:
            form = {
                "grant_type": "refresh_token",
                "service": service,
                "client_id": CLIENT_ID,
                "refresh_token": self._credentials.identity_token,
                **({"scope": " ".join(scopes)} if scopes else {}),
            }
            document = await self._ask(session, "POST", realm, {}, form)
        else:
            query = [("service", service)] if service else []
            query += [("scope", scope) for scope in scopes]
            headers = {}
            if self._credentials.basic:
                query += [("account", self._credentials.username), ("client_id", CLIENT_ID), ("offline_token", "true")]
                headers["Authorization"] = self._credentials.basic
            joined = f"{realm}{'&' if '?' in realm else '?'}{urlencode(query)}" if query else realm
            document = await self._ask(session, "GET", joined, headers, None)
        token = document.get("token") or document.get("access_token")
        if not isinstance(token, str) or not token or not token.isprintable() or not token.isascii():
            raise Unreachable(f'Get "{shown(realm)}": authorization server did not include a token in the response')
        refresh = document.get("refresh_token")
        if isinstance(refresh, str) and refresh:
            self.identity_token = refresh
        life = document.get("expires_in")
        life_s = float(life) if isinstance(life, int) and 0 < life < 1 << 30 else 0.0
        return f"Bearer {token}", max(life_s, _SHORTEST_LIFE_S) * 0.9

    async def _ask(
        self, session: aiohttp.ClientSession, method: str, url: str, headers: dict[str, str], form: dict[str, str] | None
    ) -> dict[str, Any]:
        async with followed(session, method, url, headers, form, secure=self._endpoint.secure) as answer:
            body = await read_short(answer, _LONGEST_ANSWER)
            if answer.status != 200:
                raise registry_error(answer.status, body)
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            document = {}
        return document if isinstance(document, dict) else {}


def _checked_realm(realm: str, endpoint: Endpoint) -> str:
    """The token service's address; raises Unreachable where a password would travel less safely than to the registry."""
    parts = urlsplit(realm)
    if parts.scheme not in ("https", "http") or not parts.hostname or "@" in parts.netloc:
        raise Unreachable(f'Get "{endpoint.url}/v2/": the registry names no usable token service')
    if parts.scheme == "http" and endpoint.secure:
        raise Unreachable(f'Get "{endpoint.url}/v2/": the registry names a token service without TLS, {shown(realm)}')
    return realm
