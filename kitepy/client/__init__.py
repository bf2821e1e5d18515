"""For front ends: the bundled engine as a subprocess and the Engine API as asyncio operations."""

from kitepy.client.api import EngineClient, LogChunk
from kitepy.client.build_events import BuildDone, BuildEvent, BuildFailed, BuildOutput, BuildStep, BuildUpload
from kitepy.client.bundled import BundledEngine, EngineInfo
from kitepy.client.diagnosis import Diagnosis, Finding, Fix, Severity
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
from kitepy.client.images import ImagesLoaded, looks_like_image_archive
from kitepy.client.paths import EnginePaths
from kitepy.client.plans import ContainerPlan, PublishedPort
from kitepy.client.preferences import EngineMode, prefer, preferred_mode
from kitepy.client.stream import PumpedStream
from kitepy.client.transfers import Transfer
from kitepy.client.volumes import HELPER_LABEL

__all__ = [
    "HELPER_LABEL",
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
    "Diagnosis",
    "EngineClient",
    "EngineInfo",
    "EngineMode",
    "EnginePaths",
    "EngineStartError",
    "EngineUnreachable",
    "Finding",
    "Fix",
    "Forbidden",
    "ImagesLoaded",
    "Invalid",
    "LogChunk",
    "NotFound",
    "PublishedPort",
    "PumpedStream",
    "ServerFailure",
    "Severity",
    "Transfer",
    "Unsupported",
    "looks_like_image_archive",
    "prefer",
    "preferred_mode",
]
