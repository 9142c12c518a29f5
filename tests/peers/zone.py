"""A DNS server with records of every kind, on 127.0.0.1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

from testing.nameserver import TTL_S, NameServer


class Zone(NameServer):
    """``records`` maps (name, type) to texts; it may change at any moment. ``questions`` is what was asked."""

    def __init__(self, records: Mapping[tuple[str, str], Sequence[str]]) -> None:
        super().__init__("visavis.test")
        self.records = dict(records)
        self.questions: list[tuple[str, str]] = []

    @property
    def at(self) -> tuple[str, int]:
        """Where it listens."""
        host, _, port = self.address.rpartition(":")
        return host, int(port)

    def _answer(self, query: dns.message.Message) -> dns.message.Message:
        question = query.question[0]
        name, kind = question.name.to_text(omit_final_dot=True).lower(), question.rdtype.name
        self.questions.append((name, kind))
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.AA
        if self.fault == "servfail":
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif texts := self.records.get((name, kind)):
            answer.answer.append(dns.rrset.from_text(question.name, TTL_S, "IN", kind, *texts))
        elif all(known != name for known, _ in self.records):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        return answer
