"""``--security-opt``."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitepy.engine.model.container_config import HostConfig
from kitepy.engine.model.errors import InvalidParameter, Unsupported
from kitepy.engine.services.seccomp_profiles import SeccompProfiles
from kitepy.engine.services.security_options import SecurityOptions, parse_security_options


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("no-new-privileges", SecurityOptions(no_new_privileges=True)),
        ("no-new-privileges=true", SecurityOptions(no_new_privileges=True)),
        ("no-new-privileges:false", SecurityOptions()),
        ("seccomp=unconfined", SecurityOptions(seccomp_unconfined=True)),
        ("seccomp:unconfined", SecurityOptions(seccomp_unconfined=True)),
        ("seccomp=builtin", SecurityOptions()),
        ('seccomp={"defaultAction":"SCMP_ACT_ALLOW"}', SecurityOptions({"defaultAction": "SCMP_ACT_ALLOW"})),
        ("systempaths=unconfined", SecurityOptions(unmasked_paths=True)),
        ("apparmor=unconfined", SecurityOptions()),
        ("label=disable", SecurityOptions()),
        ("label:disable", SecurityOptions()),
    ],
)
def test_options(option: str, expected: SecurityOptions) -> None:
    assert parse_security_options([option]) == expected


def test_the_last_word_on_seccomp_holds() -> None:
    assert parse_security_options(["seccomp=unconfined", "seccomp=builtin"]) == SecurityOptions()


@pytest.mark.parametrize("option", ["", "x", "x=y", "no-new-privileges=maybe", "systempaths=some", "seccomp=[]", "seccomp=x"])
def test_nonsense_is_refused(option: str) -> None:
    with pytest.raises(InvalidParameter):
        parse_security_options([option])


@pytest.mark.parametrize("option", ["apparmor=mine", "label=user:x"])
def test_modules_that_are_not_there_are_refused(option: str) -> None:
    with pytest.raises(Unsupported):
        parse_security_options([option])


@given(st.lists(st.text() | st.text().map("seccomp={}".format), max_size=3))
def test_any_text_is_read_or_refused(options: list[str]) -> None:
    with contextlib.suppress(InvalidParameter, Unsupported):
        parse_security_options(options)


def test_a_filter_is_compiled_once_for_a_profile_and_its_capabilities() -> None:
    profiles = SeccompProfiles()
    default = profiles.program(HostConfig())
    assert default
    assert len(default) % 8 == 0
    assert profiles.program(HostConfig(memory=5)) is default
    assert profiles.program(HostConfig(cap_add=["SYS_ADMIN"])) != default


def test_privileged_and_unconfined_containers_have_no_filter() -> None:
    profiles = SeccompProfiles()
    assert profiles.program(HostConfig(privileged=True)) == b""
    assert profiles.program(HostConfig(security_opt=["seccomp=unconfined"])) == b""


def test_privileged_with_an_own_profile_is_filtered() -> None:
    own = '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["reboot"],"action":"SCMP_ACT_ERRNO"}]}'
    assert SeccompProfiles().program(HostConfig(privileged=True, security_opt=[f"seccomp={own}"]))


@pytest.mark.parametrize("profile", ['{"defaultAction":"WHAT"}', "{}"])
def test_a_profile_that_cannot_be_compiled_is_refused(profile: str) -> None:
    with pytest.raises(InvalidParameter, match="seccomp"):
        SeccompProfiles().program(HostConfig(security_opt=[f"seccomp={profile}"]))
