"""Registries through the engine: searches, tags, what a pull would bring, pulls, and trying a login.

Tags and previews ask extensions of Kitepy's own engine. Credentials come in as the value of ``X-Registry-Auth``; where they are
kept is left to ``credentials.py``.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from kitepy.client.connection import Connection, messages, open_response
from kitepy.client.errors import NotFound, ServerFailure, Unsupported
from kitepy.client.lifeline import Lifeline
from kitepy.client.stream import Emit, PumpedStream

_TIMEOUT = (10, 60)


class RegistryCalls(Connection):
    """What one engine knows of registries. Methods raise `ClientError`."""

    async def search(self, term: str, limit: int, authorization: str = "") -> list[dict[str, Any]]:
        """``GET /images/search``; a term with a registry's host asks that one."""
        return list(await self._ask("/images/search", {"term": term, "limit": limit}, authorization))

    async def tags(
        self, repository: str, after: str = "", words: str = "", limit: int = 50, authorization: str = ""
    ) -> dict[str, Any]:
        """A page of a repository's tags."""
        query = {"repository": repository, "n": limit, "last": after, "filter": words}
        return dict(await self._ask_extension("/kitepy/registries/tags", query, authorization))

    async def preview_pull(self, reference: str, platform: str = "", authorization: str = "") -> dict[str, Any]:
        """What a pull would bring, and which of its layers are here."""
        query = {"reference": reference, "platform": platform}
        return dict(await self._ask_extension("/kitepy/registries/preview", query, authorization))

    async def log_in(self, host: str, user: str, password: str) -> str:
        """``POST /auth``; gives the identity token that stands for the password, or an empty text."""

        return await self._authenticate({"username": user, "password": password, "serveraddress": host})

    async def check_login(self, host: str, authorization: str = "") -> None:
        """Whether a registry answers, and accepts this login."""
        known = json.loads(base64.urlsafe_b64decode(authorization)) if authorization else {}
        await self._authenticate({**known, "serveraddress": host})

    async def _authenticate(self, body: Mapping[str, Any]) -> str:
        def ask(api: Any) -> str:
            with open_response(api, "post", "/auth", json=body, timeout=_TIMEOUT) as response:
                return str(response.json().get("IdentityToken") or "") if response.content else ""

        return await self._call(ask)

    def pull(self, reference: str, platform: str = "", authorization: str = "") -> PumpedStream[dict[str, Any]]:
        """``POST /images/create``: the engine's progress messages. Closing it pauses the pull: the engine keeps what it has."""

        def produce(lifeline: Lifeline, emit: Emit[dict[str, Any]]) -> None:
            api = self._stream_api(lifeline)
            parameters = {"fromImage": reference, **({"platform": platform} if platform else {})}
            headers = _headers(authorization)
            with open_response(api, "post", "/images/create", params=parameters, headers=headers) as response:
                for message in messages(response):
                    if failure := message.get("errorDetail") or message.get("error"):
                        raise ServerFailure(str(failure.get("message") if isinstance(failure, dict) else failure))
                    emit(message)

        return PumpedStream(produce, name="kitepy-pull")

    async def _ask(self, path: str, query: Mapping[str, Any], authorization: str) -> Any:
        def ask(api: Any) -> Any:
            given = {key: value for key, value in query.items() if value != ""}
            with open_response(api, "get", path, params=given, headers=_headers(authorization), timeout=_TIMEOUT) as response:
                return response.json()

        return await self._call(ask)

    async def _ask_extension(self, path: str, query: Mapping[str, Any], authorization: str) -> Any:
        try:
            return await self._ask(path, query, authorization)
        except NotFound as error:
            if "page not found" in str(error):
                raise Unsupported("this engine can't look into registries; Kitepy's own can") from error
            raise


def _headers(authorization: str) -> dict[str, str]:
    return {"X-Registry-Auth": authorization} if authorization else {}
