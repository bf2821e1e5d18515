"""DNS packets in, DNS packets out: what the networks' name service answers itself, and what has to be asked elsewhere.

No I/O. Whatever a packet holds, the outcome is an answer, a wish to forward, or silence. dnspython knows the wire format;
what it made of a packet is remembered, since clients ask the same questions over and over.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, replace

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from dns.rdtypes.ANY.PTR import PTR

from kitepy.engine.network.resolver_names import Directory, View

TTL_S = 600
"""As with dockerd."""
HEADER = struct.Struct("!6H")
MAX_UDP_WITHOUT_EDNS = 512
MAX_MESSAGE = 65535

_QR, _RCODE_MASK = 0x8000, 0xF
_OPCODE_SHIFT, _OPCODE_MASK = 11, 0xF
_REMEMBERED = 2048
_REMEMBERED_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Forward:
    """The question is for others: send it on, under another identifier."""

    name: str


Outcome = bytes | Forward | None
"""An answer to send, a question to send on, or nothing to say."""


@dataclass(frozen=True)
class _Known:
    """An answer that can be given again, beginning with any of its records, which all have one length."""

    flags: int
    question: bytes
    records: bytes
    record_bytes: int
    limit: int

    def to_packet(self, number: bytes) -> bytes:
        fits = self.limit - HEADER.size - len(self.question)
        if len(self.records) <= fits:
            flags, records = self.flags, self.records
        else:  # those that fit; the client asks again over TCP
            flags, records = self.flags | dns.flags.TC, self.records[: fits - fits % self.record_bytes]
        return number + struct.pack("!5H", flags, 1, len(records) // (self.record_bytes or 1), 0, 0) + self.question + records

    def turned(self) -> _Known:
        """With another record first, so that clients spread over a name's addresses."""
        count = len(self.records) // (self.record_bytes or 1)
        if count < 2:
            return self
        at = random.randrange(count) * self.record_bytes  # noqa: S311 - spreads load, hides nothing
        return replace(self, records=self.records[at:] + self.records[:at])

    @property
    def size_bytes(self) -> int:
        return len(self.question) + len(self.records)


class Answerer:
    """Answers from a directory. Forgets what it remembers when ``forget`` says that the directory or a view has changed."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._remembered: dict[tuple[str, bool, bytes], _Known | Forward] = {}
        self._remembered_bytes = 0

    def forget(self) -> None:
        """Names or views have changed."""
        self._remembered.clear()
        self._remembered_bytes = 0

    def answer(self, packet: bytes, container_id: str, view: View, *, stream: bool) -> Outcome:
        """What to do about a packet from a container; ``stream``: it came over TCP, so any length of answer will do."""
        refusal = refusal_of(packet)
        if refusal is not None:
            return refusal or None
        key = (container_id, stream, packet[2:])
        known = self._remembered.get(key)
        if known is None:
            decided = self._decide(packet, view, stream=stream)
            if isinstance(decided, bytes):
                return decided
            known = decided
            self._remember(key, known, len(packet) + (0 if isinstance(known, Forward) else known.size_bytes))
        return known if isinstance(known, Forward) else known.turned().to_packet(packet[:2])

    def _remember(self, key: tuple[str, bool, bytes], known: _Known | Forward, size_bytes: int) -> None:
        if len(self._remembered) >= _REMEMBERED or self._remembered_bytes + size_bytes > _REMEMBERED_BYTES:
            self.forget()
        self._remembered[key] = known
        self._remembered_bytes += size_bytes

    def _decide(self, packet: bytes, view: View, *, stream: bool) -> _Known | Forward | bytes:
        """An answer to remember, or one not worth it."""
        try:
            query = dns.message.from_wire(packet, keyring=False, ignore_trailing=True)
        except dns.exception.DNSException:
            return failure(packet, dns.rcode.FORMERR)
        except Exception:  # a packet must not end the service of all containers, whatever the parser makes of it
            return failure(packet, dns.rcode.SERVFAIL)
        try:
            question = query.question[0]
            name = question.name.to_text(omit_final_dot=True)
            records = self._records(view, name, question)
            if records is None:
                if self._may_ask(view, name, question.rdtype):
                    return Forward(name)
                records = []
            return _known(query, records, MAX_MESSAGE if stream else max(MAX_UDP_WITHOUT_EDNS, query.payload))
        except Exception:  # the name of a network fits into no packet, or the like: one question's trouble
            return failure(packet, dns.rcode.SERVFAIL)

    @staticmethod
    def _may_ask(view: View, name: str, kind: dns.rdatatype.RdataType) -> bool:
        is_address = kind in (dns.rdatatype.A, dns.rdatatype.AAAA)
        return not (is_address and view.keeps_single_labels and "." not in name.rstrip("."))

    def _records(self, view: View, name: str, question: dns.rrset.RRset) -> list[dns.rrset.RRset] | None:
        """The answers that are known here; None for a question that has to be forwarded."""
        kind = question.rdtype
        if kind in (dns.rdatatype.A, dns.rdatatype.AAAA):
            found = self._directory.addresses(view, name, ipv6=kind == dns.rdatatype.AAAA)
            if found is None:
                return None
            return [_record(question, kind, address) for address in random.sample(found, len(found))]
        if kind == dns.rdatatype.MX:
            # "Nothing" makes mail programs ask for the address instead (RFC 5321, 5.1).
            return None if self._directory.addresses(view, name, ipv6=False) is None else []
        if kind == dns.rdatatype.PTR:
            target = self._directory.pointer(view, name)
            return None if target is None else [_pointer_record(question, target)]
        return None


def refusal_of(packet: bytes) -> bytes | None:
    """The answer to what is no query by its header, empty where there is none to give; None for what may be a query."""
    if len(packet) < HEADER.size:
        return b""
    _, flags, questions, answers, authorities, additional = HEADER.unpack_from(packet)
    if flags & _QR:
        return b""  # an answer to an answer could go round for ever
    if flags >> _OPCODE_SHIFT & _OPCODE_MASK not in (dns.opcode.QUERY, dns.opcode.NOTIFY):
        return failure(packet, dns.rcode.NOTIMP, with_question=False)
    # NOTIFY has one answer, a transfer one authority; EDNS and a signature are additional.
    if questions != 1 or answers > 1 or authorities > 1 or additional > 2:
        return failure(packet, dns.rcode.FORMERR, with_question=False)
    return None


def failure(packet: bytes, code: dns.rcode.Rcode, *, with_question: bool = True) -> bytes:
    """An answer without records; its question is left out where it can't be read."""
    number, flags = struct.unpack_from("!2H", packet)
    kept = flags & (_OPCODE_MASK << _OPCODE_SHIFT | dns.flags.RD | (dns.flags.CD if with_question else 0))
    question = question_of(packet) if with_question else b""
    return HEADER.pack(number, _QR | kept | (code & _RCODE_MASK), 1 if question else 0, 0, 0, 0) + question


def question_of(packet: bytes) -> bytes:
    """The question's bytes; empty when there is none to be read. A name there is never compressed."""
    at = HEADER.size
    while at < len(packet) and packet[at]:
        if packet[at] > 63:
            return b""
        at += 1 + packet[at]
    end = at + 5
    return packet[HEADER.size : end] if end <= len(packet) and end - HEADER.size <= 255 + 4 else b""


def answers_to(packet: bytes, number: int, question: bytes) -> bool:
    """Whether a server's packet answers a question that was sent under this identifier."""
    if len(packet) < HEADER.size:
        return False
    given, flags, questions, *_ = HEADER.unpack_from(packet)
    if given != number or not flags & _QR:
        return False
    # Servers that can't read a question leave it out; names come back in any case.
    return not questions or question_of(packet).lower() == question.lower()


def code_of(packet: bytes) -> int:
    """The code in the header of a message."""
    return int(struct.unpack_from("!2H", packet)[1] & _RCODE_MASK)


def _record(question: dns.rrset.RRset, kind: dns.rdatatype.RdataType, value: str) -> dns.rrset.RRset:
    # In the class of the question: dockerd's answers are of class IN whatever was asked, and so are ours.
    return dns.rrset.from_text(question.name, TTL_S, dns.rdataclass.IN, kind, value)


def _pointer_record(question: dns.rrset.RRset, target: str) -> dns.rrset.RRset:
    # Made of labels: text would be parsed, and a network may be called anything.
    name = dns.name.Name([label.encode() for label in target.split(".")] + [b""])
    record = PTR(dns.rdataclass.IN, dns.rdatatype.PTR, name)  # type: ignore[no-untyped-call]  # dnspython's records have no types
    return dns.rrset.from_rdata(question.name, TTL_S, record)


def _known(query: dns.message.Message, records: list[dns.rrset.RRset], limit: int) -> _Known:
    answer = dns.message.QueryMessage(query.id)
    answer.flags = dns.flags.QR | dns.flags.RA | (query.flags & (dns.flags.RD | dns.flags.CD))
    answer.set_opcode(query.opcode())
    answer.question = list(query.question)
    head = len(answer.to_wire())
    answer.answer = records
    packet = answer.to_wire(max_size=MAX_MESSAGE, prefer_truncation=True)
    _, flags, _, count, *_ = HEADER.unpack_from(packet)
    return _Known(flags, packet[HEADER.size : head], packet[head:], (len(packet) - head) // (count or 1), limit)
