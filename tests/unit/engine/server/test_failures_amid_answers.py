"""What the log says of answers that end early."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from kitepy.engine.model.errors import Cancelled, EngineError, SystemFailure
from kitepy.engine.server import responses


@pytest.mark.parametrize(("error", "level"), [(Cancelled("the client left"), logging.INFO), (SystemFailure("x"), logging.ERROR)])
def test_a_client_that_leaves_is_no_failure_of_the_engine(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, error: EngineError, level: int
) -> None:
    said: list[bytes] = []

    async def documents() -> AsyncIterator[dict[str, Any]]:
        raise error
        yield {}

    async def begin(*_: object) -> Any:
        async def write(data: bytes) -> None:
            said.append(data)

        return SimpleNamespace(write=write)

    monkeypatch.setattr(responses, "begin_stream", begin)
    call: Any = SimpleNamespace(request_id="7", protocol=SimpleNamespace(streaming=True))
    caplog.set_level(logging.INFO)
    asyncio.run(responses.stream_progress(call, documents(), head_first=True))
    assert [record.levelno for record in caplog.records if record.name == responses.logger.name] == [level]
    assert str(error).encode() in said[0]
