"""The client's errors as the app's own, told to the user as the engine words them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kitepy.client import ClientError, EngineUnreachable
from kitepy.gui.gateway.port import Disconnected, OperationFailed


@contextmanager
def told() -> Iterator[None]:
    try:
        yield
    except EngineUnreachable as error:
        raise Disconnected("The engine doesn't answer.") from error
    except ClientError as error:
        raise OperationFailed(_sentence(str(error))) from error


def _sentence(text: str) -> str:
    text = text.strip() or "The engine refused without a reason"
    return text[0].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
