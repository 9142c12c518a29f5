"""A NAT of sources before us is noticed, and told once."""

from __future__ import annotations

import pytest

from orchestrator.sip.agent.source_nat import ENOUGH, SourceNat
from orchestrator.sip.config import SipConfig
from tests.support.sip_fake import AUDIO, PEER, Wire, request, sdp


def test_one_private_address_with_the_calls_of_many_public_ones() -> None:
    nat = SourceNat()
    told = [nat.note("172.17.0.1", f"8.8.{number}.8") for number in range(20)]
    assert [bool(each) for each in told] == [number == ENOUGH - 1 for number in range(20)]
    assert "172.17.0.1, which is private" in told[ENOUGH - 1] and "VISAVIS_SIP_PROXIES" in told[ENOUGH - 1]


@pytest.mark.parametrize(
    ("source", "sent_by"),
    [("8.8.8.8", "8.8.{}.8"), ("10.0.0.1", "10.0.0.{}"), ("127.0.0.1", "8.8.{}.8"), ("10.0.0.1", "phone{}.example"),
     ("10.0.0.1", "8.8.8.8")],
)  # fmt: skip
def test_what_is_no_nat_is_not_told(source: str, sent_by: str) -> None:
    nat = SourceNat()
    assert not any(nat.note(source, sent_by.format(number)) for number in range(50))


def test_what_is_remembered_is_bounded() -> None:
    nat = SourceNat()
    for number in range(5000):
        nat.note(f"10.0.{number // 256}.{number % 256}", "8.8.8.8")
    assert len(nat._seen) <= 256


async def test_calls_are_watched(caplog: pytest.LogCaptureFixture) -> None:
    wire = Wire(config=SipConfig(proxies=(), max_calls=100))
    wire.flow.remote = ("192.168.1.1", PEER[1])
    for number in range(10):
        text = request("INVITE", branch=f"z9hG4bK{number}", call_id=f"c{number}", body=sdp(AUDIO))
        await wire.put(text.replace(f"UDP {PEER[0]}:", f"UDP 8.8.{number}.8:"))
    assert [record.getMessage() for record in caplog.records].count("source_nat") == 1
