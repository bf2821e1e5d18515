"""Whom a ``--user`` value stands for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.services.accounts import Account, resolve_account

PASSWD = "\n".join(
    [
        "# a comment:x:9:9::/:",
        "root:x:0:0:root:/root:/bin/sh",
        "app:x:1000:1001:App,,,:/home/app:/bin/sh",
        "homeless:x:1002:1002:::",
        "7:x:1007:1007:a number as a name:/seven:",
        "broken:x:abc:5::/:",
        "foreign:x:١:٢::/:",
        "short:x",
        "",
    ]
)
GROUP = "root:x:0:\napp:x:1001:app\nwheel:x:10:root,app\naudio:x:29: app , other\nempty:x:30\nwrong:x:x:app\n"


def resolve(user: str, *group_add: str) -> Account:
    return resolve_account(user, PASSWD, GROUP, group_add)


@pytest.mark.parametrize(
    ("user", "account"),
    [
        ("", Account(0, 0, (10,), "/root")),
        ("root", Account(0, 0, (10,), "/root")),
        ("0", Account(0, 0, (10,), "/root")),
        ("app", Account(1000, 1001, (10, 29), "/home/app")),
        ("1000", Account(1000, 1001, (10, 29), "/home/app")),
        ("app:audio", Account(1000, 29, (), "/home/app")),
        ("app:55", Account(1000, 55, (), "/home/app")),
        ("1000:1001", Account(1000, 1001, (), "/home/app")),
        ("4711", Account(4711, 0, (), "/")),
        ("4711:app", Account(4711, 1001, (), "/")),
        ("4711:4712", Account(4711, 4712, (), "/")),
        ("homeless", Account(1002, 1002, (), "/")),
        ("7", Account(1007, 1007, (), "/seven")),
        ("app:", Account(1000, 1001, (10, 29), "/home/app")),
        (":audio", Account(0, 29, (), "/root")),
    ],
)
def test_users_and_groups(user: str, account: Account) -> None:
    assert resolve(user) == account


def test_groups_can_be_added_by_name_and_number_but_only_once() -> None:
    assert resolve("app:app", "wheel", "29", "10").additional_gids == (10, 29)


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ("nobody", "unable to find user nobody: no matching entries in passwd file"),
        ("app:nobody", "unable to find group nobody: no matching entries in group file"),
        ("-1", "uids and gids must be in range 0-2147483647"),
        ("broken", "unable to find user broken"),
        ("foreign", "unable to find user foreign"),
        ("2147483648", "uids and gids must be in range 0-2147483647"),
        ("0:4294967296", "uids and gids must be in range"),
        ("9" * 5000, "uids and gids must be in range"),
    ],
)
def test_unknown_and_impossible_ones_are_refused(user: str, words: str) -> None:
    with pytest.raises(InvalidParameter) as raised:
        resolve(user)
    assert words in str(raised.value)


def test_an_image_without_account_files_knows_numbers_only() -> None:
    assert resolve_account("", "", "") == Account(0, 0, (), "/")
    assert resolve_account("5:6", "", "") == Account(5, 6, (), "/")
    with pytest.raises(InvalidParameter):
        resolve_account("root", "", "")


FIELDS = st.text(alphabet="ax:,#0149²\n \0", max_size=40)


@given(FIELDS, FIELDS, st.text(alphabet="ax:0149²", max_size=8))
def test_no_file_of_an_image_breaks_the_look_up(passwd: str, group: str, user: str) -> None:
    try:
        account = resolve_account(user, passwd, group)
    except InvalidParameter:
        return
    assert all(0 <= number < 2**31 for number in (account.uid, account.gid, *account.additional_gids))
