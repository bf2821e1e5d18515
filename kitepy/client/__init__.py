"""For front ends: the bundled engine as a subprocess and the Engine API as asyncio operations."""

from kitepy.client.api import EngineClient, LogChunk
from kitepy.client.build_events import BuildDone, BuildEvent, BuildFailed, BuildOutput, BuildStep, BuildUpload
from kitepy.client.bundled import BundledEngine, EngineInfo
from kitepy.client.errors import (
    Cancelled,
    ClientError,
    Conflict,
    EngineStartError,
    EngineUnreachable,
    Forbidden,
    Invalid,
    NotFound,
    ServerFailure,
    Unsupported,
)
from kitepy.client.paths import EnginePaths
from kitepy.client.plans import ContainerPlan, PublishedPort
from kitepy.client.stream import PumpedStream

__all__ = [
    "BuildDone",
    "BuildEvent",
    "BuildFailed",
    "BuildOutput",
    "BuildStep",
    "BuildUpload",
    "BundledEngine",
    "Cancelled",
    "ClientError",
    "Conflict",
    "ContainerPlan",
    "EngineClient",
    "EngineInfo",
    "EnginePaths",
    "EngineStartError",
    "EngineUnreachable",
    "Forbidden",
    "Invalid",
    "LogChunk",
    "NotFound",
    "PublishedPort",
    "PumpedStream",
    "ServerFailure",
    "Unsupported",
]
