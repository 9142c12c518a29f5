"""SRTP of one stream against libsrtp used directly."""

from __future__ import annotations

import pytest
from pylibsrtp import Policy, Session

from orchestrator.rtp import packet, rtcp
from orchestrator.rtp.agreed import SrtpKeys
from orchestrator.rtp.srtp import Protection

SUITES = {
    "AES_CM_128_HMAC_SHA1_80": (Policy.SRTP_PROFILE_AES128_CM_SHA1_80, 10),
    "AES_CM_128_HMAC_SHA1_32": (Policy.SRTP_PROFILE_AES128_CM_SHA1_32, 4),
}
OURS, THEIRS = bytes(range(30)), bytes(range(100, 130))


def rtp(sequence: int, ssrc: int = 9) -> bytes:
    return packet.build(packet.RtpPacket(0, sequence & 0xFFFF, sequence * 160, ssrc, b"voice" * 20))


@pytest.mark.parametrize("suite", SUITES)
def test_the_peer_reads_what_is_protected_and_we_what_it_protects(suite: str) -> None:
    profile, tag = SUITES[suite]
    ours = Protection(SrtpKeys(suite, OURS, THEIRS))
    reads = Session(Policy(OURS, Policy.SSRC_ANY_INBOUND, 0, profile))
    writes = Session(Policy(THEIRS, Policy.SSRC_ANY_OUTBOUND, 0, profile))
    sent = ours.protect(bytearray(rtp(1)))
    assert len(sent) == len(rtp(1)) + tag
    assert sent[:12] == rtp(1)[:12]
    assert b"voice" not in sent
    assert reads.unprotect(sent) == rtp(1)
    assert ours.protect(rtp(1)) == sent
    report = rtcp.build(rtcp.ReceiverReport(9))
    assert reads.unprotect_rtcp(ours.protect_rtcp(report)) == report
    heard = writes.protect(rtp(5))
    assert ours.unprotect(heard) == rtp(5)
    assert ours.unprotect(heard) is None
    assert ours.unprotect_rtcp(writes.protect_rtcp(report)) == report


@pytest.mark.parametrize("data", [b"", b"\x80", rtp(1), bytes(40), bytes(1600), rtp(2) + bytes(10)])
def test_what_the_peer_did_not_send_is_not_let_through(data: bytes) -> None:
    ours = Protection(SrtpKeys("AES_CM_128_HMAC_SHA1_80", OURS, THEIRS))
    assert ours.unprotect(data) is None
    assert ours.unprotect_rtcp(data) is None


def test_too_much_to_protect_is_an_error_that_senders_catch() -> None:
    ours = Protection(SrtpKeys("AES_CM_128_HMAC_SHA1_80", OURS, THEIRS))
    for protect in (ours.protect, ours.protect_rtcp):
        with pytest.raises(OSError, match="SRT"):
            protect(rtp(1) + bytes(1500))
        with pytest.raises(OSError, match="SRT"):
            protect(b"")


def test_a_key_that_stays_keeps_its_rollover_counter() -> None:
    suite = "AES_CM_128_HMAC_SHA1_80"
    ours = Protection(SrtpKeys(suite, OURS, THEIRS))
    reads = Session(Policy(OURS, Policy.SSRC_ANY_INBOUND))
    for sequence in range(65_000, 66_000):
        assert reads.unprotect(ours.protect(rtp(sequence)))
    ours = ours.rekeyed(SrtpKeys(suite, OURS, bytes(30)))
    assert reads.unprotect(ours.protect(rtp(66_000))) == rtp(66_000)
    ours = ours.rekeyed(SrtpKeys(suite, bytes(30), bytes(30)))
    reads = Session(Policy(bytes(30), Policy.SSRC_ANY_INBOUND))
    assert reads.unprotect(ours.protect(rtp(66_001))) == rtp(66_001)


def test_keys_are_not_printed_and_wrong_ones_are_refused() -> None:
    assert repr(SrtpKeys("x", b"secret" * 5, b"hidden" * 5)) == "SrtpKeys(suite='x')"
    with pytest.raises(ValueError, match="no SRTP suite"):
        Protection(SrtpKeys("AEAD_AES_256_GCM", OURS, THEIRS))
    with pytest.raises(ValueError, match="bytes"):
        Protection(SrtpKeys("AES_CM_128_HMAC_SHA1_80", b"short", THEIRS))


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("mki", [b"\x01", b"\x00\x00\x00\x07"])
def test_packets_carry_the_identifier_of_their_key(suite: str, mki: bytes) -> None:
    profile, tag = SUITES[suite]
    ours = Protection(SrtpKeys(suite, OURS, THEIRS, mki, mki))
    peer = Protection(SrtpKeys(suite, THEIRS, OURS, mki, mki))
    bare = Session(Policy(OURS, Policy.SSRC_ANY_INBOUND, 0, profile))
    sent, report = ours.protect(rtp(1)), rtcp.build(rtcp.ReceiverReport(9))
    assert sent[-tag - len(mki) : -tag] == mki
    assert bare.unprotect(sent[: -tag - len(mki)] + sent[-tag:]) == rtp(1)
    secured = ours.protect_rtcp(report)
    assert secured[-10 - len(mki) : -10] == mki
    assert bare.unprotect_rtcp(secured[: -10 - len(mki)] + secured[-10:]) == report
    assert peer.unprotect(sent) == rtp(1) and peer.unprotect_rtcp(secured) == report


@pytest.mark.parametrize("data", [b"", b"\x01", bytes(11), rtp(1), bytes(40)])
def test_an_identifier_alone_lets_nothing_through(data: bytes) -> None:
    ours = Protection(SrtpKeys("AES_CM_128_HMAC_SHA1_80", OURS, THEIRS, b"\x01", b"\x01"))
    assert ours.unprotect(data) is None and ours.unprotect_rtcp(data) is None


def test_a_peer_that_leaves_its_identifier_out_is_understood() -> None:
    suite = "AES_CM_128_HMAC_SHA1_80"
    ours = Protection(SrtpKeys(suite, OURS, THEIRS, b"\x01", b"\x01"))
    assert ours.unprotect(Protection(SrtpKeys(suite, THEIRS, OURS)).protect(rtp(3))) == rtp(3)
