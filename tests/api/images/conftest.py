"""What the tests of images share: containers' helpers, a registry, and a proxy before it that fails as a test says."""

from collections.abc import Iterator

import pytest
from api.containers.conftest import _api, _events, _output, _run, _until
from support.docker_registry import DockerRegistry
from support.engine import EngineUnderTest
from support.fault_proxy import FaultProxy
from support.transfers import Transfers

__all__ = ["_api", "_events", "_output", "_run", "_until"]


@pytest.fixture(name="registry", scope="session")
def _registry() -> Iterator[DockerRegistry]:
    """One registry for all tests of a worker: open, without TLS, in memory. Tests use repositories of their own."""
    with DockerRegistry() as registry:
        yield registry


@pytest.fixture(name="proxy")
def _proxy(registry: DockerRegistry) -> Iterator[FaultProxy]:
    """The worker's registry at an address of its own, where requests are counted and can go wrong."""
    with FaultProxy(registry.port) as proxy:
        yield proxy


@pytest.fixture(name="transfers")
def _transfers(engine: EngineUnderTest) -> Transfers:
    """Pulls and pushes by the worker's engine."""
    return Transfers(engine.socket)
