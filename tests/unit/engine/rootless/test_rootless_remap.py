"""dockerd's words for ``--userns-remap``, and the ranges in /etc/subuid and /etc/subgid."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from kitepy.engine.rootless.remap import DEFAULT_USER, RemapError, find_mapping, parse_option


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "subuid").write_text("nobody:100000:1000\ndockremap:300000:65000\n# a comment\ndockremap:500000:1000\n")
    (tmp_path / "subgid").write_text("dockremap:700000:65536\nnogroup:900000:10\n")
    return {"subuid": tmp_path / "subuid", "subgid": tmp_path / "subgid"}


def test_default_joins_all_ranges_of_dockremap_who_needs_no_account(files: dict[str, Path]) -> None:
    mapping = find_mapping("default", **files)
    assert mapping is not None
    uids, gids = mapping
    assert uids.ranges == ((0, 300_000, 65_000), (65_000, 500_000, 1_000))
    assert gids.ranges == ((0, 700_000, 65_536),)


def test_a_user_is_named_or_numbered() -> None:
    nobody = pwd.getpwnam("nobody")
    for option in ("nobody:nogroup", f"{nobody.pw_uid}:{nobody.pw_gid}", f"{nobody.pw_uid}:nogroup", f"{nobody.pw_uid}"):
        user, group = parse_option(option)
        assert (user.name, user.number, group.name, group.number) == ("nobody", nobody.pw_uid, "nogroup", nobody.pw_gid), option
    user, group = parse_option("daemon")
    assert (user.name, group.name) == ("daemon", "daemon")
    assert parse_option("default")[0].name == DEFAULT_USER


def test_root_is_not_mapped_to_itself(files: dict[str, Path]) -> None:
    assert find_mapping("root", **files) is None
    assert find_mapping("0:0", **files) is None


@pytest.mark.parametrize("option", ["", ":", "a:", ":b", "a:b:c"])
def test_a_malformed_option_is_refused(option: str) -> None:
    with pytest.raises(RemapError, match="invalid user/group specification in --userns-remap"):
        parse_option(option)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("nonesuch", 'there is no user "nonesuch"'),
        ("nobody:nonesuch", 'there is no group "nonesuch"'),
        ("4000000000", "there is no user"),
        ("99999999999999999999", "there is no user"),
    ],
)
def test_an_unknown_account_is_refused(option: str, words: str) -> None:
    with pytest.raises(RemapError, match=words):
        parse_option(option)


def test_missing_ranges_come_with_the_command_that_adds_them(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(RemapError, match=r"no subordinate user ids .* run: echo daemon:\d+:65536 >>.*/subuid"):
        find_mapping("daemon", **files)
    assert os.listdir(tmp_path)
    with pytest.raises(RemapError, match=r"echo dockremap:100000:65536 >>.*/nothing"):
        find_mapping("default", subuid=tmp_path / "nothing", subgid=files["subgid"])
