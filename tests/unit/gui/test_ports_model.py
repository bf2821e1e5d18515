"""Who holds which port, what is free, and what an engine's refusal says."""

from __future__ import annotations

import pytest

from kitepy.gui.gateway.host_ports import parse_table, read_listeners
from kitepy.gui.models.container import Container, Port, Status
from kitepy.gui.models.ports import (
    Conflict,
    Listener,
    answer_about,
    conflict_in,
    filter_ports,
    holders,
    next_free,
    port_rows,
    with_protocol,
)

WEB = Container("a" * 64, "web", "i", Status.RUNNING, (Port(80, "tcp", "0.0.0.0", 8080), Port(80, "tcp", "::", 8080)))
SSH = Listener("tcp", "0.0.0.0", 22, "", None, "root")
NODE = Listener("tcp", "127.0.0.1", 8081, "node", 12, "ada")


def test_a_published_port_is_one_row_whatever_sockets_the_engine_holds_for_it() -> None:
    sockets = [
        Listener("tcp", "0.0.0.0", 8080, "kitepy-engine", 5, "root", of_engine=True),
        Listener("tcp", "::", 8080, "kitepy-engine", 5, "root", of_engine=True),
        Listener("tcp", "127.0.0.1", 8080, "python3", 6, "root", of_engine=True),
    ]
    (row,) = port_rows([WEB], sockets)
    assert (row.holder, row.address_text, row.exact_text) == ("web", "all addresses", "0.0.0.0:8080, [::]:8080")
    assert row.as_port.url == "http://localhost:8080/"


def test_sockets_that_a_reader_without_rights_sees_are_still_the_container_s() -> None:
    (row,) = port_rows([WEB], [Listener("tcp", "0.0.0.0", 8080, "", None, "root")])
    assert row.container_name == "web"


def test_a_program_on_another_address_of_the_same_port_is_a_row_of_its_own() -> None:
    web = Container("a" * 64, "web", "i", Status.RUNNING, (Port(80, "tcp", "127.0.0.1", 8080),))
    rows = port_rows([web], [Listener("tcp", "192.168.1.5", 8080, "nginx", 7)])
    assert [row.holder for row in rows] == ["web", "nginx (pid 7)"]
    assert [row.holder for row in holders(rows, 8080, "tcp", "192.168.1.5")] == ["nginx (pid 7)"]
    assert len(holders(rows, 8080, "tcp", "0.0.0.0")) == 2


def test_a_holder_that_can_not_be_read_is_unknown_with_its_user() -> None:
    (row,) = port_rows([], [SSH])
    assert row.holder == "unknown, user root"
    assert not row.published


def test_the_filter_finds_numbers_names_and_addresses() -> None:
    rows = port_rows([WEB], [SSH, NODE])
    assert [row.port for row in filter_ports(rows, "node")] == [8081]
    assert [row.port for row in filter_ports(rows, "container tcp")] == [8080]
    assert [row.port for row in filter_ports(rows, "127.0.0.1")] == [8081]
    assert filter_ports(rows, "udp") == ()


def test_a_taken_port_s_answer_names_the_holder_and_the_next_free_one() -> None:
    rows = port_rows([WEB], [SSH, NODE])
    answer = answer_about(rows, 8080, "tcp")
    assert answer.text == "8080/tcp is held by the container web on all addresses. 8082 is free."
    assert answer_about(rows, 9000, "tcp").text == "9000/tcp is free."
    assert answer_about(rows, 9000, "tcp", bind_taken=True, bind_error="somebody holds it").text.startswith(
        "9000/tcp can't be used: somebody holds it. 9001 is free."
    )
    assert next_free(rows, 65535, "tcp") is None


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("driver failed: Bind for 0.0.0.0:8080 failed: port is already allocated", Conflict(8080, "", "0.0.0.0")),
        (
            "failed to bind host port for 0.0.0.0:53:172.17.0.2:53/udp: address already in use",
            Conflict(53, "udp", "0.0.0.0"),
        ),
        ("listen tcp4 127.0.0.1:80: bind: address already in use", Conflict(80, "tcp", "127.0.0.1")),
        ("Bind for [::1]:443 failed: port is already allocated", Conflict(443, "", "::1")),
        ('The container name "/x" is already in use by container 1234', None),
        ("No such container: 0.0.0.0:80", None),
        ("Bind for 0.0.0.0:99999 failed: port is already allocated", None),
    ],
)
def test_a_refusal_is_read_for_its_port(message: str, expected: Conflict | None) -> None:
    assert conflict_in(message) == expected


def test_a_refusal_without_a_protocol_is_about_the_one_that_somebody_holds() -> None:
    rows = port_rows([], [Listener("udp", "0.0.0.0", 53, "dnsmasq", 3), Listener("tcp", "0.0.0.0", 80, "nginx", 4)])
    assert with_protocol(Conflict(53, "", "0.0.0.0"), rows).protocol == "udp"
    assert with_protocol(Conflict(80, ""), rows).protocol == with_protocol(Conflict(81, ""), rows).protocol == "tcp"


TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0 100 0 0 10 0
   1: 0100007F:1F91 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 4243 1 0 100 0 0 10 0
   2: garbage
   3: ZZ:1 00000000:0000 0A 0:0 00:0 0 x 0 y
"""
TCP6 = """\
  sl  local_address                         remote_address                        st
   0: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 0:0 00:0 0  0 0 7 1
   1: 0000000000000000FFFF00000100007F:0051 00000000000000000000000000000000:0000 0A 0:0 00:0 0  0 0 8 1
"""


def test_the_kernel_s_tables_are_read_and_nonsense_is_passed_over() -> None:
    assert parse_table("tcp", TCP) == [("tcp", "127.0.0.1", 8080, 1000, 4242)]
    assert parse_table("tcp6", TCP6) == [("tcp", "::1", 80, 0, 7), ("tcp", "127.0.0.1", 81, 0, 8)]


def test_holders_are_found_by_their_open_files(tmp_path) -> None:
    (tmp_path / "self" / "net").mkdir(parents=True)
    (tmp_path / "self" / "net" / "tcp").write_text(TCP)
    process = tmp_path / "77"
    (process / "fd").mkdir(parents=True)
    (process / "fd" / "3").symlink_to("socket:[4242]")
    (process / "fd" / "4").symlink_to("/dev/null")
    (process / "comm").write_text("ev\x1bil\n")
    (process / "cmdline").write_bytes(b"python3\0-m\0kitepy.engine\0")
    (found,) = read_listeners(tmp_path)
    assert (found.pid, found.process, found.of_engine) == (77, "ev?il", True)
