"""Options of the engine that are defaults for its containers: honoured, or refused, never ignored."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import docker
import pytest
from support.engine import EngineUnderTest
from support.images import load_busybox

pytestmark = pytest.mark.root


def test_engine_wide_name_service_and_limits_reach_containers_and_builds_unless_they_have_their_own() -> None:
    options = ("--dns", "192.0.2.1", "--dns-search", "example.test", "--dns-opt", "ndots:3", "--default-ulimit", "nofile=123:456")
    with EngineUnderTest(*options) as engine:
        client = engine.docker()
        image = load_busybox(client)
        command = ["sh", "-c", "grep -v '^#' /etc/resolv.conf; ulimit -Sn; ulimit -Hn"]
        output = client.containers.run(image, command, remove=True).decode().split()
        assert output == ["nameserver", "192.0.2.1", "search", "example.test", "options", "ndots:3", "123", "456"]
        own = client.containers.run(
            image, command, remove=True, dns_search=["own.test"], ulimits=[{"Name": "nofile", "Soft": 77, "Hard": 88}]
        )
        assert own.decode().split() == ["nameserver", "192.0.2.1", "search", "own.test", "options", "ndots:3", "77", "88"]
        answer = client.api.post(
            client.api._url("/build"), data=f"FROM {image}\nRUN echo limit $(ulimit -Sn)\n".encode(), params={"nocache": True}
        )
        assert "limit 123" in answer.text
        client.close()


def test_engine_wide_security_defaults_hold_unless_a_container_says_otherwise(tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    profile.write_text('{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}')
    with EngineUnderTest("--seccomp-profile", str(profile), "--no-new-privileges") as engine:
        client = engine.docker()
        image = load_busybox(client)
        command = ["sh", "-c", "grep NoNewPrivs /proc/self/status; mkdir /made 2>/dev/null && echo made"]
        container = client.containers.run(image, command, detach=True)
        assert container.wait()["StatusCode"] == 1
        assert container.logs().decode().split() == ["NoNewPrivs:", "1"]
        other = client.containers.run(image, command, remove=True, security_opt=["seccomp=builtin", "no-new-privileges=false"])
        assert other.decode().split() == ["NoNewPrivs:", "0", "made"]
        options = client.info()["SecurityOptions"]
        assert {f"name=seccomp,profile={profile}", "name=no-new-privileges"} <= set(options)
        client.close()


def test_a_bridge_of_the_users_own_has_to_exist() -> None:
    engine = EngineUnderTest("--bridge", "kt-no-such")
    try:
        done = subprocess.run(engine.command, capture_output=True, text=True, timeout=30, cwd="/")
        assert done.returncode == 1
        assert "bridge device with non default name kt-no-such must be created manually" in done.stderr
        assert engine.command[0] == sys.executable
    finally:
        engine.remove_files()


@pytest.mark.needs("root engine")  # in a user namespace of its own an engine has every capability
def test_a_capability_that_the_engine_lacks_is_refused_by_name_instead_of_left_out() -> None:
    program = ("setpriv", "--bounding-set=-net_raw,-sys_time", *EngineUnderTest.PROGRAM)
    with EngineUnderTest(program=program) as engine:
        client = engine.docker()
        image = load_busybox(client)
        words = 'not available in the current environment: "CAP_SYS_TIME"'
        for options in ({}, {"privileged": True}, {"cap_drop": ["ALL"]}):
            with pytest.raises(docker.errors.APIError, match=words) as refused:
                client.containers.create(image, ["true"], cap_add=["NET_ADMIN", "sys_time"], **options)
            assert refused.value.status_code == 400
        # ALL and the defaults are what there is; of the defaults somebody should know.
        for options in ({"cap_add": ["ALL"]}, {}, {"privileged": True}):
            output = client.containers.run(image, ["grep", "CapBnd", "/proc/self/status"], remove=True, **options)
            assert not int(output.split()[1], 16) & (1 << 13 | 1 << 25)
        assert any("CAP_NET_RAW" in warning for warning in client.info()["Warnings"])
        client.close()


@pytest.mark.needs("root engine")  # as above
def test_a_container_that_has_a_capability_does_not_start_without_it_after_the_engine_lost_it() -> None:
    with EngineUnderTest() as engine:
        client = engine.docker()
        container = client.containers.create(load_busybox(client), ["true"], cap_add=["SYS_TIME"])
        engine.stop()
        engine.program = ("setpriv", "--bounding-set=-sys_time", *EngineUnderTest.PROGRAM)
        engine.start()
        with pytest.raises(docker.errors.APIError, match="CAP_SYS_TIME") as refused:
            container.start()
        assert refused.value.status_code == 400
        client.close()
