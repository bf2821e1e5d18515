"""``--security-opt``."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitepy.engine.model.container_config import HostConfig
from kitepy.engine.model.errors import InvalidParameter, Unsupported
from kitepy.engine.services.seccomp_profiles import SeccompProfiles
from kitepy.engine.services.security_options import SecurityDefaults, SecurityOptions, parse_security_options


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("no-new-privileges", SecurityOptions(no_new_privileges=True)),
        ("no-new-privileges=true", SecurityOptions(no_new_privileges=True)),
        ("no-new-privileges:false", SecurityOptions(no_new_privileges=False)),
        ("seccomp=unconfined", SecurityOptions(seccomp_unconfined=True)),
        ("seccomp:unconfined", SecurityOptions(seccomp_unconfined=True)),
        ("seccomp=builtin", SecurityOptions(seccomp_builtin=True)),
        ('seccomp={"defaultAction":"SCMP_ACT_ALLOW"}', SecurityOptions({"defaultAction": "SCMP_ACT_ALLOW"})),
        ("systempaths=unconfined", SecurityOptions(unmasked_paths=True)),
        ("apparmor=unconfined", SecurityOptions(apparmor_profile="unconfined")),
        ("label=disable", SecurityOptions()),
        ("label:disable", SecurityOptions()),
    ],
)
def test_options(option: str, expected: SecurityOptions) -> None:
    assert parse_security_options([option]) == expected


def test_the_last_word_on_seccomp_holds() -> None:
    assert parse_security_options(["seccomp=unconfined", "seccomp=builtin"]) == SecurityOptions(seccomp_builtin=True)


@pytest.mark.parametrize("option", ["", "x", "x=y", "no-new-privileges=maybe", "systempaths=some", "seccomp=[]", "seccomp=x"])
def test_nonsense_is_refused(option: str) -> None:
    with pytest.raises(InvalidParameter):
        parse_security_options([option])


def test_selinux_labels_are_refused() -> None:
    with pytest.raises(Unsupported):
        parse_security_options(["label=user:x"])


def test_a_named_apparmor_profile_is_refused_where_there_is_no_apparmor_and_applied_where_there_is() -> None:
    options = parse_security_options(["apparmor=mine"])
    with pytest.raises(InvalidParameter, match="mine"):
        SecurityDefaults().apparmor_profile_for(options, privileged=False)
    assert SecurityDefaults(apparmor_profile="kitepy-default").apparmor_profile_for(options, privileged=False) == "mine"


@pytest.mark.parametrize(("privileged", "profile"), [(False, "kitepy-default"), (True, "unconfined")])
def test_a_privileged_container_is_not_confined_by_the_default_apparmor_profile(privileged: bool, profile: str) -> None:
    defaults = SecurityDefaults(apparmor_profile="kitepy-default")
    assert defaults.apparmor_profile_for(SecurityOptions(), privileged=privileged) == profile


@pytest.mark.parametrize("name", ["a\nb", "a\0b"])
def test_the_name_of_an_apparmor_profile_has_no_control_characters(name: str) -> None:
    with pytest.raises(InvalidParameter):
        parse_security_options([f"apparmor={name}"])


def test_the_engine_s_default_profile_holds_unless_the_container_says_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text('{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["reboot"],"action":"SCMP_ACT_ERRNO"}]}')
    own, builtin = SeccompProfiles(str(path)), SeccompProfiles()
    assert own.program(HostConfig()) not in (b"", builtin.program(HostConfig()))
    assert own.program(HostConfig(security_opt=["seccomp=builtin"])) == builtin.program(HostConfig())
    assert SeccompProfiles("unconfined").program(HostConfig()) == b""


@pytest.mark.parametrize("text", [None, "[]", "{", '{"defaultAction":"WHAT"}'])
def test_an_engine_does_not_start_with_a_profile_it_can_t_use(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "profile.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InvalidParameter, match=r"profile\.json"):
        SeccompProfiles(str(path))


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
