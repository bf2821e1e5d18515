"""Containers of Kitepy against the facts that were taken from Docker's containers (``support/compare_defaults.py --save``).

What the kernel decides by its version is compared only on the version that the facts come from.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import docker
import pytest
from support.compare_defaults import Fact, compare, is_kept, unpack
from support.deliberate_differences import find_difference
from support.engine import EngineUnderTest
from support.profile_facts import MASKED, READ_ONLY, VARIANTS, Facts, collect, load_probe_image

DOCUMENT = json.loads((Path(__file__).parents[1] / "data" / "docker-profile.json").read_text())
EXPECTED = unpack(DOCUMENT["facts"])
SAME_KERNEL = DOCUMENT["kernel"] == ".".join(os.uname().release.split(".")[:2]) and DOCUMENT["machine"] == os.uname().machine
PORTABLE = ("status", "read-only", "environment", "identity", "device nodes", "writable")
PROTECTED = (*MASKED, *READ_ONLY, "/sys")
# What the machine that ran Docker had, and this one need not have: topics, and patterns of keys.
OF_THE_MACHINE = {
    "--privileged": (("dev|device nodes|masked", ".*"),),
    "--ipc host": (("mounts", "/dev/(shm|mqueue).*"),),
    "--network host": (("files", "hosts"),),
}


def is_of_the_machine(fact: Fact) -> bool:
    """Whether the difference tells of the machines instead of the engines."""
    if any(
        re.fullmatch(topic, fact.topic) and re.fullmatch(key, fact.key) for topic, key in OF_THE_MACHINE.get(fact.variant, ())
    ):
        return True
    if fact.topic != "writable" or fact.key.startswith(PROTECTED):
        return False
    # The rest of /proc differs by the kernel's version and configuration.
    return not SAME_KERNEL or not os.path.lexists(fact.key)


@pytest.fixture(name="probe", scope="module")
def _probe(session_engine: EngineUnderTest) -> docker.DockerClient:
    client = session_engine.docker(timeout_s=300)
    load_probe_image(client)
    yield client
    client.close()


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name in EXPECTED])
def test_a_container_sees_and_may_do_what_docker_s_does(probe: docker.DockerClient, variant: str) -> None:
    topics = [topic for topic in EXPECTED["default"] if topic in PORTABLE or SAME_KERNEL]
    topics = [topic for topic in topics if is_kept(variant, topic)]
    found = collect(probe, [variant], topics)
    expected: dict[str, Facts] = {variant: {topic: EXPECTED[variant].get(topic, {}) for topic in topics}}
    assert found[variant].keys() == set(topics)
    defects = [fact for fact in compare(expected, found) if find_difference(*fact) is None and not is_of_the_machine(fact)]
    assert not defects, "\n".join(f"{fact.topic} {fact.key}: {fact.left} -> {fact.right}" for fact in defects)
