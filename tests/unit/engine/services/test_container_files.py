"""hosts, hostname and resolv.conf."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from kitepy.engine.model.container import ContainerRecord
from kitepy.engine.model.container_config import ContainerConfig, HostConfig
from kitepy.engine.services.container_files import (
    hosts_after,
    hosts_content,
    read_host_hosts,
    write_identity_files,
)


def _record(config: ContainerConfig | None = None, **host: Any) -> ContainerRecord:
    return ContainerRecord(
        id="a" * 64,
        name="web",
        created_ns=0,
        image_id="sha256:0",
        image_reference="x",
        config=config or ContainerConfig(hostname="aaaaaaaaaaaa"),
        host_config=HostConfig(**host),
        platform="linux",
        layers=(),
    )


def test_hosts_names_this_machine_and_the_container() -> None:
    lines = hosts_content(_record(), ["10.0.0.2"], "10.0.0.1").splitlines()
    assert lines[0] == "127.0.0.1\tlocalhost"
    assert "::1\tlocalhost ip6-localhost ip6-loopback" in lines
    assert lines[-1] == "10.0.0.2\taaaaaaaaaaaa"


def test_hosts_has_the_full_name_before_the_short_one() -> None:
    record = _record(ContainerConfig(hostname="box", domainname="example.org"))
    assert hosts_content(record, ["10.0.0.2"], "").splitlines()[-1] == "10.0.0.2\tbox.example.org box"


def test_extra_hosts_come_before_the_own_name_and_know_the_gateway() -> None:
    record = _record(extra_hosts=["db:10.9.9.9", "host.docker.internal:host-gateway", "six:::1"])
    assert hosts_content(record, ["10.0.0.2"], "10.0.0.1").splitlines()[-4:] == [
        "10.9.9.9\tdb",
        "10.0.0.1\thost.docker.internal",
        "::1\tsix",
        "10.0.0.2\taaaaaaaaaaaa",
    ]


def test_without_an_address_there_is_no_line_for_the_container() -> None:
    assert "aaaaaaaaaaaa" not in hosts_content(_record(), (), "")


def test_on_the_hosts_network_the_hosts_names_are_known() -> None:
    content = hosts_content(_record(extra_hosts=["db:10.9.9.9"]), (), "10.0.0.1", "127.0.0.1 localhost\n10.1.1.1 nas\n")
    assert content == "127.0.0.1 localhost\n10.1.1.1 nas\n10.9.9.9\tdb\n"


def test_each_network_has_a_line() -> None:
    lines = hosts_content(_record(), ["10.0.0.2", "10.1.0.2", "fd00::2"], "").splitlines()
    assert lines[-3:] == ["10.0.0.2\taaaaaaaaaaaa", "10.1.0.2\taaaaaaaaaaaa", "fd00::2\taaaaaaaaaaaa"]


def test_lines_of_the_container_itself_come_and_go_and_others_stay() -> None:
    content = "127.0.0.1\tlocalhost\n10.0.0.2\tbox\n10.9.9.9 mine\n"
    joined = hosts_after(content, ["10.0.0.2\tbox"], ["10.0.0.2\tbox", "10.1.0.2\tbox"])
    assert joined == content + "10.1.0.2\tbox\n"
    assert hosts_after(joined, ["10.0.0.2\tbox", "10.1.0.2\tbox"], ["10.1.0.2\tbox"]) == (
        "127.0.0.1\tlocalhost\n10.9.9.9 mine\n10.1.0.2\tbox\n"
    )


def test_a_host_without_hosts_file_is_no_trouble(tmp_path: Path) -> None:
    assert read_host_hosts(tmp_path / "hosts") == ""


def test_files_are_rewritten_in_place_and_never_through_a_link(tmp_path: Path) -> None:
    write_identity_files(tmp_path, "h\n" * 9, "box", "r\n")
    before = (tmp_path / "hosts").stat().st_ino
    write_identity_files(tmp_path, "h\n", "box", "r\n")
    assert (tmp_path / "hosts").stat().st_ino == before
    assert (tmp_path / "hosts").read_text() == "h\n"
    assert (tmp_path / "hostname").read_text() == "box\n"
    (tmp_path / "hosts").unlink()
    (tmp_path / "hosts").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="hosts"):
        write_identity_files(tmp_path, "h\n", "box", "r\n")
    assert not os.path.lexists(tmp_path / "victim")
