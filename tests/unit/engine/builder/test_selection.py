from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from kitepy.engine.builder.ownership import parse_mode, resolve_owner
from kitepy.engine.builder.patterns import IgnoreRules
from kitepy.engine.builder.selection import ContentDigest, choose, walk
from kitepy.engine.model.errors import InvalidParameter

NONE = IgnoreRules([])
FILE, DIRECTORY = stat.S_IFREG, stat.S_IFDIR


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    root = tmp_path / "tree"
    (root / "d/e").mkdir(parents=True)
    (root / "a").write_text("A")
    (root / "d/x.c").write_text("X")
    (root / "d/e/y.c").write_text("Y")
    (tmp_path / "secret").write_text("S")
    (root / "up").symlink_to("../secret")
    (root / "abs").symlink_to(tmp_path)
    (root / "ok").symlink_to("/d/e")
    fd = os.open(root, os.O_RDONLY)
    yield root, fd
    os.close(fd)


def names(fd: int, *sources: str, excludes: IgnoreRules = NONE, parents: bool = False) -> list[str]:
    return [chosen.path for chosen in choose(fd, sources, excludes, parents=parents, origin="")]


def digest(fd: int, *sources: str, owners: bool = False) -> str:
    sums = ContentDigest(owners=owners)
    for chosen in choose(fd, sources, NONE, parents=False, origin=""):
        sums.add(fd, chosen, NONE)
    return sums.hexdigest()


def test_sources_are_named_or_matched(tree: tuple[Path, int]) -> None:
    _, fd = tree
    assert names(fd, "a", "/d/", "./d/../a") == ["a", "d", "a"]
    assert names(fd, "d/*.c", "**/*.c") == ["d/x.c", "d/e/y.c", "d/x.c"]
    assert names(fd, "*", excludes=IgnoreRules(["a*", "up"])) == ["d", "ok"]
    assert names(fd, ".") == [""]


@pytest.mark.parametrize("source", ["nope", "up", "abs/secret", "../secret", "d/x.c/z"])
def test_what_is_not_in_the_tree_is_missing(tree: tuple[Path, int], source: str) -> None:
    with pytest.raises(InvalidParameter, match=f"stat {source}: file does not exist"):
        names(tree[1], source)


def test_links_lead_somewhere_inside(tree: tuple[Path, int]) -> None:
    assert names(tree[1], "ok/y.c") == ["ok/y.c"]


def test_walking_gives_parents_first_and_leaves_out_what_is_excluded(tree: tuple[Path, int]) -> None:
    _, fd = tree
    assert [item.path for item in walk(fd, NONE)] == ["a", "abs", "d", "d/e", "d/e/y.c", "d/x.c", "ok", "up"]
    rules = IgnoreRules(["d", "!d/e/y.c", "abs"])
    assert [item.path for item in walk(fd, rules)] == ["a", "d/e/y.c", "ok", "up"]


def test_the_digest_knows_names_modes_and_contents_but_not_times(tree: tuple[Path, int]) -> None:
    root, fd = tree
    before = digest(fd, "d")
    os.utime(root / "d/x.c", (1, 1))
    assert digest(fd, "d") == before
    assert digest(fd, "ok") != before
    (root / "d/x.c").chmod(0o755)
    changed = digest(fd, "d")
    assert changed != before
    (root / "d/x.c").write_text("Z")
    assert digest(fd, "d") not in (before, changed)
    assert digest(fd, "a") == digest(fd, "/a")


def test_owners_are_looked_up_in_the_image() -> None:
    accounts = "root:x:0:0::/:/bin/sh\napp:x:7:8:App:/home:/bin/sh\nbroken\n"
    group = "root:x:0:\nstaff:x:50:app\n"
    assert resolve_owner("app", accounts, group) == (7, 8)
    assert resolve_owner("app:staff", accounts, group) == (7, 50)
    assert resolve_owner("9", accounts, group) == (9, 9)
    assert resolve_owner("9:staff", "", group) == (9, 50)
    for bad in ("ghost", "app:ghost", ":staff", "", "99999999999"):
        with pytest.raises(ValueError, match=r"\w"):
            resolve_owner(bad, accounts, group)


@pytest.mark.parametrize(
    ("text", "mode", "expected"),
    [
        ("755", FILE | 0o600, 0o755),
        ("4711", FILE, 0o4711),
        ("u=rwX,go=rX", FILE | 0o600, 0o644),
        ("u=rwX,go=rX", FILE | 0o700, 0o755),
        ("u=rwX,go=rX", DIRECTORY | 0o600, 0o755),
        ("+x", FILE | 0o644, 0o755),
        ("a-w", FILE | 0o666, 0o444),
        ("go=", FILE | 0o777, 0o700),
        ("u+s", FILE | 0o755, 0o4755),
        ("+t", DIRECTORY | 0o777, 0o1777),
        ("u+x-w", FILE | 0o644, 0o544),
    ],
)
def test_modes_are_octal_or_symbolic(text: str, mode: int, expected: int) -> None:
    assert oct(parse_mode(text).apply(mode)) == oct(expected)


@pytest.mark.parametrize("text", ["9", "77777", "rwx", "u=z", "u", "", "u=r,"])
def test_other_modes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid chmod parameter"):
        parse_mode(text)
