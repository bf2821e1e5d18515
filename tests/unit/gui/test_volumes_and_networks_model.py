"""Volumes with their users, files and copies; networks with who is attached, and what a new one is checked for."""

from __future__ import annotations

import pytest

from kitepy.gui.models.container import Attachment, Container, Mount, Status
from kitepy.gui.models.network import (
    Network,
    NetworkPlan,
    Subnet,
    connectable,
    network_rows,
    trouble_with_address,
    trouble_with_network,
)
from kitepy.gui.models.state import (
    NETWORKS,
    VOLUMES,
    AppState,
    BrowsingBegan,
    FilePreviewed,
    FolderRead,
    Navigated,
    NetworksListed,
    Page,
    Route,
    VolumesListed,
    reduce,
)
from kitepy.gui.models.volume import (
    FilePreview,
    Folder,
    Job,
    Volume,
    parse_pairs,
    preview_of,
    trouble_with_name,
    unused,
    volume_name_from_file,
    volume_rows,
)

DATA, LOOSE = Volume("data", labels={"team": "shop"}), Volume("ab" * 32, labels={"com.docker.volume.anonymous": ""})
SHOP = Network("n" * 64, "shop", subnets=(Subnet("172.20.0.0/16", "172.20.0.1"),))
WEB = Container(
    "a" * 64,
    "web",
    "i",
    Status.RUNNING,
    mounts=(Mount("volume", "data", "/data", False), Mount("bind", "/srv/data", "/x", False)),
    networks=(Attachment(SHOP.id, "shop", "172.20.0.2"),),
)
OLD = Container("b" * 64, "old", "i", Status.EXITED, mounts=(Mount("volume", "data", "/d", True),))


def test_a_volume_knows_its_users_and_anonymous_ones_have_readable_names() -> None:
    first, second = volume_rows([LOOSE, DATA], [WEB, OLD], {"data": 5})
    assert (first.used_by, first.state, first.size_bytes) == ("old, web", "In use", 5)
    assert (second.volume.title, second.state, second.size_bytes) == (f"anonymous {'ab' * 6}", "Unused", None)
    assert second.volume.own_labels == {}


def test_volumes_are_found_by_user_label_and_state() -> None:
    for query in ("web", "team=shop", "in use", "DATA local"):
        assert [row.volume.name for row in volume_rows([LOOSE, DATA], [WEB], {}, query)] == ["data"], query


def test_a_prune_takes_anonymous_ones_and_named_ones_only_when_asked() -> None:
    rows = volume_rows([LOOSE, DATA, Volume("spare")], [OLD], {})
    assert [row.volume.name for row in unused(rows, named=False)] == [LOOSE.name]
    assert [row.volume.name for row in unused(rows, named=True)] == ["spare", LOOSE.name]


def test_labels_are_lines_of_key_and_value() -> None:
    assert parse_pairs("a=1\n\n b = x=y \nflag") == {"a": "1", "b": "x=y", "flag": ""}
    with pytest.raises(ValueError, match="=x"):
        parse_pairs("=x")


def test_names_are_checked_before_the_engine_is_asked() -> None:
    assert trouble_with_name("", []) == ""
    assert trouble_with_name("data", ["data"])
    assert trouble_with_name("../x", [])
    assert trouble_with_name("x", [])


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("data-2026-11-24.tar.gz", "data"),
        ("My Backup.tar", "My-Backup"),
        ("x.tgz", "restored"),
        ("pgdata.tar.zst", "pgdata"),
        ("..tar", "restored"),
    ],
)
def test_a_backup_s_name_suggests_the_volume_s(file: str, name: str) -> None:
    assert volume_name_from_file(file) == name


def test_a_preview_is_text_or_says_that_it_is_not() -> None:
    assert preview_of("/a", "grün".encode(), 5).text == "grün"
    cut = preview_of("/a", "grün".encode()[:3], 100)
    assert (cut.text, cut.truncated) == ("gr", True)
    assert preview_of("/a", b"\x7fELF\0", 5).text is None
    assert preview_of("/a", b"\xff\xfe", 2).text is None


def test_a_copy_is_done_only_at_its_end() -> None:
    assert Job("1", "t", "v").percent is None
    assert Job("1", "t", "v", done_bytes=150, total_bytes=100).percent == 99


def test_a_removed_volume_or_network_takes_its_page_with_it() -> None:
    state = reduce(AppState(), VolumesListed((DATA,)))
    state = reduce(reduce(state, Navigated(Route(Page.VOLUMES, "data"))), VolumesListed(()))
    assert state.route == VOLUMES
    state = reduce(reduce(state, NetworksListed((SHOP,))), Navigated(Route(Page.NETWORKS, SHOP.id)))
    assert reduce(state, NetworksListed(())).route == NETWORKS
    fresh = reduce(state, Navigated(Route(Page.NETWORKS, "made a moment ago")))
    assert reduce(fresh, NetworksListed((SHOP,))).route.key == "made a moment ago"


def test_answers_about_a_volume_that_was_left_are_dropped() -> None:
    state = reduce(reduce(AppState(), BrowsingBegan("data")), BrowsingBegan("other"))
    assert reduce(state, FolderRead("data", "/", Folder())) == state
    assert reduce(state, FilePreviewed("data", FilePreview("/x", "y"))) == state
    assert reduce(state, FolderRead("other", "/", Folder())).browsing.folders == {"/": Folder()}


def test_a_network_knows_who_is_attached() -> None:
    bridge = Network("b" * 64, "bridge")
    rows = network_rows([bridge, SHOP], [WEB, OLD])
    assert [row.network.name for row in rows] == ["shop", "bridge"]
    assert [(member.container.name, member.attachment.address) for member in rows[0].members] == [("web", "172.20.0.2")]
    assert network_rows([bridge, SHOP], [WEB], "172.20.0.2 web")[0].network is SHOP


def test_only_what_is_on_some_other_network_can_be_connected() -> None:
    db = Container("c" * 64, "db", "i", Status.RUNNING, networks=(Attachment("x", "bridge"),))
    host = Container("d" * 64, "host-one", "i", Status.RUNNING, networks=(Attachment("y", "host"),))
    row = network_rows([SHOP], [WEB])[0]
    assert [container.name for container in connectable(row, [WEB, OLD, db, host])] == ["db"]


@pytest.mark.parametrize(
    ("plan", "word"),
    [
        (NetworkPlan(""), "Give it a name"),
        (NetworkPlan("shop"), "already"),
        (NetworkPlan("-x"), "begins with"),
        (NetworkPlan("x", subnet="10.0.0.1/24"), "isn't a subnet"),
        (NetworkPlan("x", subnet="172.20.4.0/24"), "overlaps with 172.20.0.0/16 of shop"),
        (NetworkPlan("x", gateway="10.0.0.1"), "needs the subnet"),
        (NetworkPlan("x", subnet="10.0.0.0/24", gateway="10.0.1.1"), "isn't in"),
        (NetworkPlan("x", subnet="fd00::/64"), "isn't an IPv4"),
        (NetworkPlan("x", ipv6=True, subnet6="10.0.0.0/24"), "isn't an IPv6"),
    ],
)
def test_a_network_that_can_not_be_is_told_why(plan: NetworkPlan, word: str) -> None:
    assert word in trouble_with_network(plan, [SHOP])


def test_a_good_plan_and_a_good_address_have_no_trouble() -> None:
    assert trouble_with_network(NetworkPlan("x", subnet="10.9.0.0/24", gateway="10.9.0.1"), [SHOP]) == ""
    assert trouble_with_address("", SHOP) == trouble_with_address("172.20.9.9", SHOP) == ""
    assert "gateway" in trouble_with_address("172.20.0.1", SHOP)
    assert "isn't in" in trouble_with_address("10.0.0.1", SHOP)
    assert "isn't an IPv4" in trouble_with_address("x", SHOP)
