"""What the networks' name service answers; the table is what dockerd 28 answered to the same questions."""

from __future__ import annotations

import struct
from collections.abc import Callable

import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kitepy.engine.network.resolver_answers import Answerer, Forward, answers_to, failure, question_of
from kitepy.engine.network.resolver_names import Directory, NamedEndpoint, View

FRONT, BACK, INNER, DOTTED = "1" * 64, "2" * 64, "3" * 64, "4" * 64
LONG = "a" * 60
ENDPOINTS = [
    NamedEndpoint("c1", FRONT, "n1", ("c1", "al.one", "web", "Mixed", "d45620430b08", "hostc1"), "172.18.0.2"),
    NamedEndpoint("c2", FRONT, "n1", ("c2", "web"), "172.18.0.3"),
    NamedEndpoint("c3", BACK, "n2", ("c3", "web", "only2"), "172.19.0.2"),
    NamedEndpoint("both1", FRONT, "n1", ("both",), "172.18.0.4"),
    NamedEndpoint("both2", BACK, "n2", ("both", "bb"), "172.19.0.3"),
    NamedEndpoint("dotted", DOTTED, "n.dots", ("x.y",), "172.19.0.9"),
    NamedEndpoint("six", INNER, "n6", ("six",), "", "fd00::6"),
    NamedEndpoint("dual", INNER, "n6", ("dual",), "172.20.0.7", "fd00::7"),
    *(NamedEndpoint(f"t{number}", INNER, "n6", (f"t{number}", LONG, "many"), f"10.1.0.{number}") for number in range(1, 41)),
]
ONE = View((FRONT,))
BOTH = View((FRONT, BACK), links=((FRONT, "lnk", "/c1"), (BACK, "c2", "c3")))
ALL = View((FRONT, BACK, INNER))
DOTS = View((FRONT,), keeps_single_labels=True)


def answerer() -> Answerer:
    directory = Directory()
    for endpoint in ENDPOINTS:
        directory.announce(endpoint)
    return Answerer(directory)


def ask(name: str, kind: str = "A", view: View = ONE, *, tcp: bool = False, **options: object) -> dns.message.Message | None:
    """None when the question is to be asked elsewhere."""
    query = dns.message.make_query(name, kind, **options)  # type: ignore[arg-type]
    outcome = answerer().answer(query.to_wire(), "c", view, stream=tcp)
    if isinstance(outcome, Forward):
        return None
    assert outcome is not None
    answer = dns.message.from_wire(outcome)
    assert answer.id == query.id
    assert answer.question == query.question
    assert answer.question[0].name.labels == query.question[0].name.labels, "names come back in the case they were asked in"
    assert not answer.authority
    assert not answer.additional
    return answer


def values(answer: dns.message.Message | None) -> set[str] | None:
    return None if answer is None else {str(record) for records in answer.answer for record in records}


WEB = {"172.18.0.2", "172.18.0.3"}


@pytest.mark.parametrize(
    ("name", "kind", "view", "expected"),
    [
        ("c1", "A", ONE, {"172.18.0.2"}),
        ("C1.", "A", ONE, {"172.18.0.2"}),
        ("c1.n1", "A", ONE, {"172.18.0.2"}),
        ("al.one", "A", ONE, {"172.18.0.2"}),
        ("al.one.n1", "A", ONE, {"172.18.0.2"}),
        ("MIXED", "A", ONE, {"172.18.0.2"}),
        ("hostc1", "A", ONE, {"172.18.0.2"}),
        ("d45620430b08.n1.", "A", ONE, {"172.18.0.2"}),
        ("c1.n2", "A", ONE, None),
        ("c1.n1.foo", "A", ONE, None),
        ("foo.c1", "A", ONE, None),
        ("n1", "A", ONE, None),
        ("web", "A", ONE, WEB),
        ("c3", "A", ONE, None),
        ("only2", "A", ONE, None),
        ("lnk", "A", ONE, None),
        ("bb", "A", ONE, None),
        ("c1", "AAAA", ONE, set()),
        ("c1", "MX", ONE, set()),
        ("web.n1", "MX", ONE, set()),
        *((("c1", kind, ONE, None)) for kind in ("TXT", "SRV", "ANY", "NS", "CNAME", "SOA", "TYPE0", "HTTPS", "NAPTR")),
        ("nosuch", "AAAA", ONE, None),
        ("nosuch", "MX", ONE, None),
        (".", "A", ONE, None),
        ("2.0.18.172.in-addr.arpa", "PTR", ONE, {"c1.n1."}),
        ("2.0.18.172.in-addr.arpa", "A", ONE, None),
        ("2.0.19.172.in-addr.arpa", "PTR", ONE, None),
        ("foo.2.0.18.172.in-addr.arpa", "PTR", ONE, None),
        ("18.172.in-addr.arpa", "PTR", ONE, None),
        ("c1", "PTR", ONE, None),
        # The first network that knows a name answers alone.
        ("web", "A", BOTH, WEB),
        ("web.n2", "A", BOTH, {"172.19.0.2"}),
        ("web", "A", View((BACK, FRONT)), {"172.19.0.2"}),
        ("both", "A", BOTH, {"172.18.0.4"}),
        ("both.n2", "A", BOTH, {"172.19.0.3"}),
        ("c3", "A", BOTH, {"172.19.0.2"}),
        ("bb.n1", "A", BOTH, None),
        ("2.0.19.172.in-addr.arpa", "PTR", BOTH, {"c3.n2."}),
        # Names of its own.
        ("lnk", "A", BOTH, {"172.18.0.2"}),
        ("lnk.n1", "A", BOTH, {"172.18.0.2"}),
        ("lnk.n2", "A", BOTH, None),
        ("lnk", "AAAA", BOTH, set()),
        ("c2", "A", BOTH, {"172.19.0.2"}),
        # Dots in both halves.
        ("x.y.n.dots", "A", View((DOTTED,)), {"172.19.0.9"}),
        ("x.y", "A", View((DOTTED,)), {"172.19.0.9"}),
        ("x.y.dots", "A", View((DOTTED,)), None),
        ("x", "A", View((DOTTED,)), None),
        # Networks with IPv6.
        ("six", "A", ALL, set()),
        ("six", "AAAA", ALL, {"fd00::6"}),
        ("dual", "AAAA", ALL, {"fd00::7"}),
        ("six", "MX", ALL, set()),
        ("7.0.0.0." + "0." * 24 + "0.0.d.f.ip6.arpa", "PTR", ALL, {"dual.n6."}),
        # Nobody's network.
        ("c1", "A", View(()), None),
        # The number of dots is set.
        ("nosuch", "A", DOTS, set()),
        ("nosuch", "AAAA", DOTS, set()),
        ("nosuch", "MX", DOTS, None),
        ("no.such", "A", DOTS, None),
        ("c1", "A", DOTS, {"172.18.0.2"}),
    ],
)
def test_answers(name: str, kind: str, view: View, expected: set[str] | None) -> None:
    answer = ask(name, kind, view)
    assert values(answer) == expected
    if answer is not None:
        assert answer.rcode() == dns.rcode.NOERROR
        assert answer.flags == dns.flags.QR | dns.flags.RD | dns.flags.RA
        assert all(records.ttl == 600 for records in answer.answer)


@pytest.mark.parametrize(
    ("network", "label"),
    [
        ("web\r\nX: y", b"web\r\nX: y"),
        ('a "b" ; (c', b'a "b" ; (c'),
        ("é", "é".encode()),
        ("a\\b", b"a\\b"),
        ("x" * 64, None),
        ("../x", None),
    ],
)
def test_whatever_a_network_is_called_is_no_more_than_a_name(network: str, label: bytes | None) -> None:
    directory = Directory()
    directory.announce(NamedEndpoint("e", FRONT, network, ("c1",), "172.18.0.2"))
    packet = dns.message.make_query("2.0.18.172.in-addr.arpa", "PTR").to_wire()
    outcome = Answerer(directory).answer(packet, "c", ONE, stream=False)
    assert isinstance(outcome, bytes)
    answer = dns.message.from_wire(outcome)
    if label is None:
        assert answer.rcode() == dns.rcode.SERVFAIL, "it fits into no packet"
    else:
        assert answer.answer[0][0].target.labels == (b"c1", label, b"")


def test_every_address_comes_first_at_times() -> None:
    service = answerer()
    packet = dns.message.make_query("many", "A").to_wire()
    firsts = set()
    for _ in range(2000):
        outcome = service.answer(packet, "c", ALL, stream=True)
        assert isinstance(outcome, bytes)
        assert struct.unpack_from("!H", outcome, 6) == (40,)
        firsts.add(outcome[len(packet) + 12 : len(packet) + 16])
    assert len(firsts) == 40


def test_an_answer_that_is_too_long_keeps_what_fits() -> None:
    sizes: list[tuple[dict[str, object], int]] = [
        ({}, 512),
        ({"use_edns": 0, "payload": 600}, 600),
        ({"use_edns": 0, "payload": 100}, 512),
    ]
    for options, limit in sizes:
        packet = dns.message.make_query(LONG, "A", **options).to_wire()  # type: ignore[arg-type]
        outcome = answerer().answer(packet, "c", ALL, stream=False)
        assert isinstance(outcome, bytes)
        assert limit - 16 < len(outcome) <= limit
        answer = dns.message.from_wire(outcome)
        assert answer.flags & dns.flags.TC
        assert len(values(answer) or ()) < 40
    for tcp, options in ((True, {}), (False, {"use_edns": 0, "payload": 4096})):
        answer = ask(LONG, "A", ALL, tcp=tcp, **options)  # type: ignore[arg-type]
        assert answer is not None
        assert not answer.flags & dns.flags.TC
        assert len(values(answer) or ()) == 40


def test_flags_of_the_question_come_back_where_they_should() -> None:
    query = dns.message.make_query("c1", "A")
    query.flags = dns.flags.AD | dns.flags.CD | dns.flags.AA | dns.flags.TC
    outcome = answerer().answer(query.to_wire(), "c", ONE, stream=False)
    assert isinstance(outcome, bytes)
    assert dns.message.from_wire(outcome).flags == dns.flags.QR | dns.flags.RA | dns.flags.CD


def test_changes_are_seen_at_once() -> None:
    directory = Directory()
    service = Answerer(directory)

    def found(name: str) -> set[str] | None:
        outcome = service.answer(dns.message.make_query(name, "A").to_wire(), "c", ONE, stream=False)
        assert outcome is not None
        return None if isinstance(outcome, Forward) else values(dns.message.from_wire(outcome))

    for change, expected in (
        (lambda: None, {"a": None, "b": None}),
        (lambda: directory.announce(NamedEndpoint("e", FRONT, "n1", ("a",), "10.0.0.1")), {"a": {"10.0.0.1"}, "b": None}),
        (lambda: directory.announce(NamedEndpoint("f", FRONT, "n1", ("a",), "10.0.0.1")), {"a": {"10.0.0.1"}, "b": None}),
        (lambda: directory.announce(NamedEndpoint("f", FRONT, "n1", ("b",), "10.0.0.2")), {"a": {"10.0.0.1"}, "b": {"10.0.0.2"}}),
        (lambda: directory.withdraw("e"), {"a": None, "b": {"10.0.0.2"}}),
        (lambda: directory.withdraw("f"), {"a": None, "b": None}),
        (lambda: directory.withdraw("f"), {"a": None, "b": None}),
    ):
        change()
        service.forget()
        assert {name: found(name) for name in ("a", "b")} == expected
    assert not list(directory)


def test_what_is_remembered_is_one_containers_alone_and_has_an_end() -> None:
    service = answerer()
    packet = dns.message.make_query("c3", "A").to_wire()
    assert isinstance(service.answer(packet, "sees it", BOTH, stream=False), bytes)
    assert isinstance(service.answer(packet, "does not", ONE, stream=False), Forward)
    for number in range(10_000):
        service.answer(dns.message.make_query(f"n{number}", "A").to_wire(), "c", ONE, stream=False)
    assert len(service._remembered) <= 2048


HEADER: Callable[..., bytes] = lambda flags=0x0100, questions=1, answers=0, authorities=0, additional=0: struct.pack(  # noqa: E731
    "!6H", 7, flags, questions, answers, authorities, additional
)
QUESTION = b"\2c1\0\0\1\0\1"
RECORD = b"\0\0\1\0\1\0\0\0\1\0\4\1\2\3\4"


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        (b"", None),
        (b"\0\7\1\0", None),
        (HEADER(0x8100) + QUESTION, None),
        (HEADER(questions=0), dns.rcode.FORMERR),
        (HEADER(questions=2) + QUESTION * 2, dns.rcode.FORMERR),
        (HEADER(answers=2) + QUESTION + RECORD * 2, dns.rcode.FORMERR),
        (HEADER(authorities=2) + QUESTION + RECORD * 2, dns.rcode.FORMERR),
        (HEADER(additional=3) + QUESTION + RECORD * 3, dns.rcode.FORMERR),
        (HEADER() + b"\xc0\x0c\0\1\0\1", dns.rcode.FORMERR),
        (HEADER() + b"\xc0\x50\0\1\0\1", dns.rcode.FORMERR),
        (HEADER() + (b"\x3f" + b"a" * 63) * 4 + QUESTION[3:], dns.rcode.FORMERR),
        (HEADER() + b"\x80ab\0\0\1\0\1", dns.rcode.FORMERR),
        (HEADER(additional=1) + QUESTION + b"\0\0\x29\x04\xd0\0\0", dns.rcode.FORMERR),
        (HEADER(dns.opcode.STATUS << 11), dns.rcode.NOTIMP),
        (HEADER(dns.opcode.UPDATE << 11) + QUESTION, dns.rcode.NOTIMP),
        (HEADER(dns.opcode.NOTIFY << 11) + QUESTION, dns.rcode.NOERROR),
        (HEADER(answers=1) + QUESTION + RECORD, dns.rcode.NOERROR),
        (HEADER() + QUESTION + b"more", dns.rcode.NOERROR),
        (HEADER() + b"\2c1\0\0\1\0\xff", dns.rcode.NOERROR),
    ],
)
def test_packets_that_are_no_plain_queries(packet: bytes, code: dns.rcode.Rcode | None) -> None:
    outcome = answerer().answer(packet, "c", ONE, stream=False)
    if code is None:
        assert outcome is None
    else:
        assert isinstance(outcome, bytes)
        assert outcome[:2] == packet[:2]
        assert outcome[2] & 0x80
        assert outcome[3] & 0xF == code


@pytest.mark.parametrize("name", [b"\3c\x001", b"\5c1.n1", b"\2\xc3\xa9"])
def test_bytes_in_a_label_are_no_other_name(name: bytes) -> None:
    assert isinstance(answerer().answer(HEADER() + name + b"\0\0\1\0\1", "c", ONE, stream=False), Forward)


SERVICE = answerer()
LABELS = st.lists(st.binary(min_size=1, max_size=63) | st.sampled_from([b"c1", b"web", b"n1"]), max_size=5)
QUERIES = st.builds(
    lambda header, labels, tail: struct.pack("!6H", *header) + b"".join(bytes([len(x)]) + x for x in labels) + b"\0" + tail,
    st.tuples(*[st.integers(0, 0xFFFF)] * 2, *[st.integers(0, 3)] * 4),
    LABELS,
    st.binary(max_size=60),
)


@settings(max_examples=150, deadline=None)
@given(packet=st.binary(max_size=600) | QUERIES, stream=st.booleans())
def test_any_packet_has_an_outcome(packet: bytes, stream: bool) -> None:
    outcome = SERVICE.answer(packet, "c", BOTH, stream=stream)
    if isinstance(outcome, bytes):
        assert outcome[:2] == packet[:2]
        assert outcome[2] & 0x80
        dns.message.from_wire(outcome)
    elif isinstance(outcome, Forward):
        assert dns.message.from_wire(packet, ignore_trailing=True, keyring=False).question


@settings(max_examples=150, deadline=None)
@given(answer=st.binary(max_size=100) | QUERIES, number=st.integers(0, 0xFFFF))
def test_any_answer_from_outside_is_judged(answer: bytes, number: int) -> None:
    query = dns.message.make_query("c1.example", "A")
    packet = query.to_wire()
    if answers_to(answer, number, question_of(packet)):
        assert int.from_bytes(answer[:2], "big") == number
        assert answer[2] & 0x80
    assert answers_to(dns.message.make_response(query).to_wire(), query.id, question_of(packet))
    assert not answers_to(dns.message.make_response(query).to_wire(), query.id ^ 1, question_of(packet))
    assert not answers_to(packet, query.id, question_of(packet))


def test_a_failure_tells_what_it_is_about() -> None:
    query = dns.message.make_query("c1.example", "TXT")
    found = dns.message.from_wire(failure(query.to_wire(), dns.rcode.SERVFAIL))
    assert (found.id, found.rcode(), found.question) == (query.id, dns.rcode.SERVFAIL, query.question)
    assert found.flags & ~0xF == dns.flags.QR | dns.flags.RD


@settings(max_examples=30, deadline=None)
@given(
    view=st.builds(
        View,
        st.lists(st.text(max_size=4)).map(tuple),
        st.lists(st.tuples(*[st.text(max_size=3)] * 3)).map(tuple),
        st.lists(st.text(max_size=3)).map(tuple),
        st.booleans(),
        st.booleans(),
    )
)
def test_views_survive_the_way_to_the_process(view: View) -> None:
    assert View.from_message(view.to_message()) == view
