"""Speaks HTTP with registries (distribution specification 1.1): finds a way to them, and shows credentials to whom they belong.

Who gets to see a password: the registry, when it asks for Basic; the token service that the registry names, when that is reached
over TLS, or the registry itself wasn't. A redirect to another host never carries it. No credential appears in a message or a log.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import ssl
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from kitepy.engine.distribution.challenge import Challenge, parse_challenges
from kitepy.engine.distribution.endpoints import Endpoint, InsecureRegistries, endpoints_of, host_name
from kitepy.engine.model.errors import EngineError, SystemFailure, Unauthorized

logger = logging.getLogger(__name__)

TIMEOUT_S = 15.0
CLIENT_ID = "docker"
"""What token services know clients of this API by."""
_MOST_REDIRECTS = 5
_LONGEST_ANSWER = 1 << 20


class Unreachable(SystemFailure):
    """A registry can't be spoken to: the network, its certificate or its answers are in the way."""


@dataclass(frozen=True)
class Credentials:
    """How a user is known to a registry; ``repr`` shows no secret."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    """Got from a token service before, in place of a password."""

    @property
    def basic(self) -> str:
        """The value of a Basic ``Authorization``; empty without a user's name or password."""
        if not self.username or not self.password:
            return ""
        return "Basic " + b64encode(f"{self.username}:{self.password}".encode()).decode()


@dataclass(frozen=True)
class Response:
    """An answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    challenges: tuple[Challenge, ...]
    body: bytes
    url: str

    def document(self) -> dict[str, Any]:
        """The body as an object; empty when it is none."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


class RegistryClient:
    """Conversations with registries. Each opens connections of its own and closes them: nothing is kept between two."""

    def __init__(
        self,
        *,
        user_agent: str,
        insecure: InsecureRegistries,
        certificates: Path | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """``certificates`` has a directory per registry with its authorities (``*.crt``) and our ``*.cert`` and ``*.key``."""
        self._user_agent = user_agent
        self._insecure = insecure
        self._certificates = certificates
        self._timeout_s = timeout_s

    async def log_in(self, host: str, credentials: Credentials) -> str:
        """Try credentials at a registry; gives the identity token that its token service may hand out, else "".

        Raises Unauthorized when they are refused, Unreachable when nobody answers as a registry would.
        """
        failure: EngineError | None = None
        for endpoint in endpoints_of(host, insecure=await self._is_insecure(host)):
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await self._log_in(endpoint, credentials)
            except Unauthorized:
                raise  # the registry was there; plain HTTP would only show the password to more people
            except TimeoutError:
                failure = Unreachable(f'Get "{endpoint.url}/v2/": no answer within {self._timeout_s:g} seconds')
            except Unreachable as error:
                failure = error
        assert failure is not None
        raise failure

    async def _is_insecure(self, host: str) -> bool:
        if self._insecure.names(host):
            return True
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout_s):
                found = await loop.getaddrinfo(host_name(host), None, type=socket.SOCK_STREAM)
        except (OSError, TimeoutError, UnicodeError):
            return False
        return self._insecure.contains(str(entry[4][0]) for entry in found)

    async def _log_in(self, endpoint: Endpoint, credentials: Credentials) -> str:
        base = f"{endpoint.url}/v2/"
        async with self._session(endpoint) as session:
            first = await _request(session, "GET", base, endpoint=endpoint)
            if first.status == 200:
                return ""
            authorization, identity_token = "", ""
            if first.status == 401:
                authorization, identity_token = await self._authorize(session, endpoint, first, credentials)
            if not authorization:
                raise _refused(first)
            second = await _request(session, "GET", base, {"Authorization": authorization}, endpoint=endpoint)
            if second.status != 200:
                raise _refused(second)
            return identity_token

    async def _authorize(
        self, session: aiohttp.ClientSession, endpoint: Endpoint, answer: Response, credentials: Credentials
    ) -> tuple[str, str]:
        """The ``Authorization`` that the registry asks for, and an identity token; ("", "") when it asks for nothing we have."""
        for challenge in answer.challenges:
            if challenge.scheme == "bearer" and challenge.parameters.get("realm"):
                return await self._fetch_token(session, endpoint, challenge, credentials)
        for challenge in answer.challenges:
            if challenge.scheme == "basic":
                return credentials.basic, ""
        return "", ""

    async def _fetch_token(
        self, session: aiohttp.ClientSession, endpoint: Endpoint, challenge: Challenge, credentials: Credentials
    ) -> tuple[str, str]:
        """Token authentication: GET with Basic, or POST with an identity token as OAuth 2 refreshes."""
        realm = _checked_realm(urljoin(f"{endpoint.url}/v2/", challenge.parameters["realm"]), endpoint)
        service = challenge.parameters.get("service", "")
        scope = challenge.parameters.get("scope", "")
        if credentials.identity_token:
            form = {
                "grant_type": "refresh_token",
                "service": service,
                "client_id": CLIENT_ID,
                "refresh_token": credentials.identity_token,
                **({"scope": scope} if scope else {}),
            }
            answer = await _request(session, "POST", realm, form=form, endpoint=endpoint)
        else:
            query = {"service": service} if service else {}
            query |= {"scope": scope} if scope else {}
            headers = {}
            if credentials.basic:
                query |= {"account": credentials.username, "client_id": CLIENT_ID, "offline_token": "true"}
                headers["Authorization"] = credentials.basic
            joined = f"{realm}{'&' if '?' in realm else '?'}{urlencode(query)}" if query else realm
            answer = await _request(session, "GET", joined, headers, endpoint=endpoint)
        if answer.status != 200:
            raise _refused(answer)
        document = answer.document()
        token = document.get("token") or document.get("access_token")
        if not isinstance(token, str) or not token or not token.isprintable() or not token.isascii():
            raise Unreachable(f'Get "{_shown(realm)}": the token service of the registry gave no token')
        refresh = document.get("refresh_token")
        return f"Bearer {token}", refresh if isinstance(refresh, str) and refresh else credentials.identity_token

    def _session(self, endpoint: Endpoint) -> aiohttp.ClientSession:
        context = _tls_context(endpoint, self._certificates)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=4, force_close=True),
            headers={"User-Agent": self._user_agent},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=True,
            # Not from the environment: that would add the credentials of somebody's ~/.netrc.
            trust_env=False,
        )


async def _request(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    headers: Mapping[str, str] | None = None,
    *,
    endpoint: Endpoint,
    form: Mapping[str, str] | None = None,
) -> Response:
    """One request with its redirects, none of which takes credentials to another host or from TLS to none."""
    sent = dict(headers or {})
    begun = _origin(url)
    for _ in range(_MOST_REDIRECTS + 1):
        try:
            async with session.request(
                method, url, headers=sent, data=form, allow_redirects=False, proxy=_proxy_for(url)
            ) as answer:
                if answer.status not in (301, 302, 303, 307, 308) or "Location" not in answer.headers:
                    body = await _read(answer.content)
                    challenges = tuple(parse_challenges(answer.headers.getall("WWW-Authenticate", [])))
                    return Response(answer.status, answer.headers, challenges, body, url)
                target = urljoin(url, answer.headers["Location"])
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unreachable(f'{method.title()} "{_shown(url)}": {_reason(error)}') from None
        if form is not None or urlsplit(target).scheme not in ("https", "http"):
            raise Unreachable(f'{method.title()} "{_shown(url)}": it redirects where credentials may not go')
        if urlsplit(url).scheme == "https" and urlsplit(target).scheme != "https" and endpoint.secure:
            raise Unreachable(f'{method.title()} "{_shown(url)}": it redirects from TLS to {_shown(target)}')
        if _origin(target) != begun:
            sent.pop("Authorization", None)
        url = target
    raise Unreachable(f'{method.title()} "{_shown(url)}": stopped after {_MOST_REDIRECTS} redirects')


async def _read(content: aiohttp.StreamReader) -> bytes:
    """A body that is short by its nature; raises ValueError when it isn't."""
    pieces: list[bytes] = []
    size = 0
    async for piece in content.iter_any():
        size += len(piece)
        if size > _LONGEST_ANSWER:
            raise ValueError("the answer is too long")
        pieces.append(piece)
    return b"".join(pieces)


def _checked_realm(realm: str, endpoint: Endpoint) -> str:
    """The token service's address; raises Unreachable where a password would travel less safely than to the registry."""
    parts = urlsplit(realm)
    if parts.scheme not in ("https", "http") or not parts.hostname or "@" in parts.netloc:
        raise Unreachable(f'Get "{endpoint.url}/v2/": the registry names no usable token service')
    if parts.scheme == "http" and endpoint.secure:
        raise Unreachable(f'Get "{endpoint.url}/v2/": the registry names a token service without TLS, {_shown(realm)}')
    return realm


def _refused(answer: Response) -> EngineError:
    """Why a login did not succeed, in the registry's own words where it has some."""
    said = ""
    errors = answer.document().get("errors")
    if isinstance(errors, list) and errors and isinstance(errors[0], dict):
        code, message = (str(errors[0].get(key) or "") for key in ("code", "message"))
        said = f"{code.lower().replace('_', ' ')}: {message}".strip(": ")[:300]
    elif isinstance(detail := answer.document().get("details") or answer.document().get("message"), str):
        said = f"unauthorized: {detail[:300]}"
    if answer.status in (401, 403):
        words = said or "unauthorized: incorrect username or password"
        return Unauthorized(f'Get "{_shown(answer.url)}": {words}')
    words = f": {said}" if said else ""
    return Unreachable(f"login attempt to {_shown(answer.url)} failed with status: {answer.status}{words}")


def _tls_context(endpoint: Endpoint, certificates: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not endpoint.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    directory = certificates / endpoint.host if certificates is not None else None
    if directory is None or not directory.is_dir():
        return context
    try:
        for authority in sorted(directory.glob("*.crt")):
            context.load_verify_locations(authority)
        for certificate in sorted(directory.glob("*.cert")):
            context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    except (OSError, ssl.SSLError) as error:
        raise Unreachable(f"a certificate in {directory} can't be used: {error}") from None
    return context


def _proxy_for(url: str) -> str | None:
    parts = urlsplit(url)
    if parts.hostname is None or proxy_bypass(parts.hostname):
        return None
    return getproxies().get(parts.scheme)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def _shown(url: str) -> str:
    """An address for a message, without what may be secret in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"tls: the certificate is not valid: {getattr(error.certificate_error, 'verify_message', error.certificate_error)}"
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno > 0 and not isinstance(cause, socket.gaierror):
        return f"connect: {os.strerror(cause.errno).lower()}"
    if isinstance(cause, socket.gaierror):
        return f"lookup: {cause.strerror}"
    return str(error)[:200] or type(error).__name__
