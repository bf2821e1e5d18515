"""Which containers can have a user namespace of their own."""

from __future__ import annotations

import msgspec
import pytest

from kitepy.engine.model.container_config import HostConfig
from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.services.remapping import check_user_namespace


@pytest.mark.parametrize("mode", ["private", "keep-id", "container:x", "HOST"])
@pytest.mark.parametrize("remapped", [True, False])
def test_a_mode_that_dockerd_does_not_know_is_refused(mode: str, remapped: bool) -> None:
    with pytest.raises(InvalidParameter, match=f"invalid user namespace mode: {mode}"):
        check_user_namespace(HostConfig(userns_mode=mode), remapped=remapped)


@pytest.mark.parametrize(
    ("host", "words"),
    [
        (HostConfig(privileged=True), "privileged mode is incompatible with user namespaces"),
        (HostConfig(network_mode="host"), "cannot share the host's network namespace"),
        (HostConfig(pid_mode="host"), "cannot share the host PID namespace"),
    ],
)
def test_what_shares_the_host_needs_its_user_namespace(host: HostConfig, words: str) -> None:
    with pytest.raises(InvalidParameter, match=words):
        check_user_namespace(host, remapped=True)
    check_user_namespace(host, remapped=False)
    check_user_namespace(msgspec.structs.replace(host, userns_mode="host"), remapped=True)
