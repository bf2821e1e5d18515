"""What all tests of the Engine API share: the engine's description, and a tap that checks all that is said against it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.contract import ApiContract, api_description
from support.engine import PEER, EngineUnderTest, PeerEngine
from support.tap import Tap


@pytest.fixture(name="contract", scope="session")
def _contract() -> ApiContract:
    path = api_description()
    if path is None:
        pytest.skip("the Engine API description is not beside the repository (shared/api/engine-v1.51.yaml)")
    return ApiContract(path)


@pytest.fixture(name="session_tap", scope="session")
def _session_tap() -> Iterator[tuple[EngineUnderTest, Tap]]:
    with PeerEngine(Path(PEER)) if PEER else EngineUnderTest() as running:
        engine = running.socket
        with Tap(running.home / "tap.sock", engine) as tap:
            running.socket = running.home / "tap.sock"
            yield running, tap
        running.socket = engine


@pytest.fixture(scope="session")
def session_engine(session_tap: tuple[EngineUnderTest, Tap]) -> EngineUnderTest:
    """As elsewhere one engine for all tests of a worker, but what clients and it say to each other is kept."""
    return session_tap[0]


@pytest.fixture(autouse=True)
def _everything_keeps_the_contract(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every answer that the engine gives in any test is one that the API's description allows."""
    if "engine" not in request.fixturenames or api_description() is None:
        yield
        return
    contract: ApiContract = request.getfixturevalue("contract")
    _, tap = request.getfixturevalue("session_tap")
    yield
    problems = [problem for exchange in tap.exchanges() for problem in contract.problems(exchange)]
    assert not problems, "\n".join(["what was answered is not what the API's description allows:", *dict.fromkeys(problems)])
