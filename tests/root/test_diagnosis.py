"""``kitepy-engine --diagnose`` on the real kernel, as root and as an ordinary user with what that user may lack."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.ordinary_user import SUBIDS, user_command

pytestmark = pytest.mark.root
DIAGNOSE = [sys.executable, "-m", "kitepy.engine", "--diagnose=json"]


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="kd-", dir="/tmp") as directory:
        yield Path(directory)


def diagnosed(home: Path, *, subids: str = SUBIDS, tun_mode: str = "666") -> tuple[int, dict[str, Any]]:
    command = user_command(home, DIAGNOSE, subids=subids, tun_mode=tun_mode)
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout, done.stderr
    document = json.loads(done.stdout)
    return done.returncode, {finding["id"]: finding for finding in document["findings"]} | {"mode": document["mode"]}


def left_behind(home: Path) -> list[str]:
    """Files of the user's home that are not the test's own."""
    return sorted(
        str(path.relative_to(home)) for path in home.rglob("*") if path.relative_to(home).parts[0] not in ("etc", "run")
    )


def test_an_ordinary_user_with_everything_can_run_containers_and_nothing_is_left_behind(home: Path) -> None:
    code, found = diagnosed(home)
    assert found["mode"] == "rootless"
    for check in ("kernel", "user-namespaces", "id-tools", "subordinate-ids", "overlay", "network"):
        assert found[check]["severity"] == "fine", found[check]
    assert code == 0
    assert left_behind(home) == []


def test_a_user_without_ids_is_blocked_and_the_rest_is_tried_all_the_same(home: Path) -> None:
    code, found = diagnosed(home, subids="")
    assert code == 1
    assert found["subordinate-ids"]["severity"] == "blocks"
    assert "sudo usermod --add-subuids " in found["subordinate-ids"]["fixes"][0]["command"]
    assert found["overlay"]["severity"] == "fine", found["overlay"]
    assert left_behind(home) == []


def test_a_closed_tun_device_costs_the_network_and_nothing_else(home: Path) -> None:
    code, found = diagnosed(home, tun_mode="600")
    assert code == 0
    assert found["uplink"]["severity"] == "degrades"
    assert "chmod 0666 /dev/net/tun" in found["uplink"]["fixes"][0]["command"]


def test_a_machine_that_allows_no_more_user_namespaces_is_recognised(home: Path) -> None:
    """The limit is set in a user namespace around it: below a limit of 0 the kernel refuses as it would on a whole machine."""
    script = (
        "import os, sys; sys.path.insert(0, os.getcwd())\n"
        "from pathlib import Path\n"
        "from kitepy.engine.rootless.namespace_probe import probe_namespaces\n"
        "Path('/proc/sys/user/max_user_namespaces').write_text('0')\n"
        "print(probe_namespaces('nobody', 1, Path(sys.argv[1])).user)\n"
    )
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", script, str(home)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "No space left on device" in done.stdout, done.stderr


def test_root_has_its_own_shorter_list() -> None:
    with tempfile.TemporaryDirectory(prefix="kd-", dir="/var/tmp") as directory:
        done = subprocess.run(
            [*DIAGNOSE, "--data-root", directory], capture_output=True, text=True, timeout=60, check=False, env={**os.environ}
        )
        document = json.loads(done.stdout)
        assert document["mode"] == "root"
        assert {finding["id"] for finding in document["findings"]} == {"kernel", "overlay", "network", "limits", "space"}
        assert done.returncode == 0, document
        assert os.listdir(directory) == []
