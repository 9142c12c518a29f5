"""What a caller is told who is answered 503, and what the log says of it."""

from __future__ import annotations

import logging

import pytest

from orchestrator.sip.agent.refusals import warning
from orchestrator.sip.call.events import RefusedCall
from orchestrator.sip.call.incoming import IncomingCall
from orchestrator.sip.config import SipConfig
from orchestrator.sip.message.message import Response
from orchestrator.worker.host import HostSettings
from orchestrator.worker.messages import Heartbeat, Setup
from orchestrator.worker.pool import MediaWorker
from tests.support.sip_fake import AUDIO, Recorder, Wire, only, request, sdp

OFFER = sdp(AUDIO)


def told(response: Response) -> tuple[str, str]:
    """(reason phrase, Warning), the latter without its code and agent."""
    text = response.headers.get("Warning") or ""
    assert text.startswith('399 visavis "') and text.endswith('"'), text
    return response.reason, text[13:-1]


async def second_call(config: SipConfig, *, draining: bool = False) -> tuple[Wire, Response]:
    """Answer one call, then refuse another from the same source."""
    wire = Wire(config=config)
    await wire.put(request("INVITE", body=OFFER))
    wire.agent.admission.draining = draining
    second = await wire.put(request("INVITE", body=OFFER, branch="z9hG4bK2", call_id="c2"))
    return wire, only(second, 503)


@pytest.mark.parametrize(
    ("config", "draining", "words"),
    [
        (SipConfig(max_calls=1), False, "full: no more calls at once"),
        (SipConfig(), True, "draining: no new calls are taken"),
        (SipConfig(max_calls_per_source=1), False, "too many calls at once from this address"),
        (SipConfig(invites_per_second=0.5), False, "too many new calls a second from this address"),
    ],
)
async def test_a_refused_caller_reads_why(config: SipConfig, draining: bool, words: str) -> None:
    wire, refused = await second_call(config, draining=draining)
    assert told(refused) == (f"Service Unavailable ({words})", words)
    assert refused.headers.get("Retry-After") == "30"
    records = [value for name, value in wire.handler.events if name == "refused"]
    assert all(isinstance(one, RefusedCall) and one.text == words for one in records)
    assert bool(records) is (draining or config.max_calls == 1)


async def test_a_drained_server_says_so_when_it_is_pinged() -> None:
    wire = Wire()
    wire.agent.admission.draining = True
    answer = only(await wire.put(request("OPTIONS")), 503)
    assert told(answer)[1] == "draining: no new calls are taken"
    # For a proxy Retry-After would also hold for the BYE of calls that go on (RFC 3261 section 21.5.4).
    assert "Retry-After" not in answer.headers and "INVITE" in (answer.headers.get("Allow") or "")


async def test_call_control_turns_a_call_away() -> None:
    wire = Wire(Recorder(on_call=lambda call: IncomingCall.turn_away(call, "overloaded", 10)))
    refused = only(await wire.put(request("INVITE", body=OFFER)), 503)
    assert told(refused) == ("Service Unavailable (overloaded)", "overloaded")
    assert refused.headers.get("Retry-After") == "10"
    assert (wire.handler.cause.kind, wire.handler.cause.status) == ("rejected", 503)


async def test_a_flood_is_one_line_a_second(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "orchestrator.sip")
    wire, _ = await second_call(SipConfig(invites_per_second=0.5))

    for number in range(6):
        if number == 5:
            await wire.pass_time(1.0)  # half a call's worth of tokens
        again = request("INVITE", branch=f"z9hG4bKf{number}", call_id=f"f{number}")
        assert only(await wire.put(again), 503).reason.startswith("Service Unavailable (")
    lines = [vars(record)["fields"] for record in caplog.records if record.getMessage() == "sip_refused"]
    assert [line["count"] for line in lines] == [1, 6]
    assert lines[0]["reason"] == "too many new calls a second from this address"


@pytest.mark.parametrize(
    ("late", "divider", "words"),
    [
        (0.03, 1, "overloaded: the media clock is late"),
        (0.001, 2, "overloaded: pictures cannot be coded in time"),
    ],
)
def test_what_a_worker_lacks(late: float, divider: int, words: str) -> None:
    worker = MediaWorker(Setup(HostSettings("127.0.0.1")))
    assert worker.strain == "starting: media is not up yet" and not worker.has_room
    worker.ready.set()
    assert worker.has_room
    worker.health = Heartbeat(1, 2, True, 0.9, divider, late, late, late, 5.0)
    assert worker.strain == words and not worker.has_room


def test_a_warning_is_one_line_whatever_it_says() -> None:
    assert warning('a "b"\r\nc\\d') == ("Warning", "399 visavis \"a 'b'c/d\"")
