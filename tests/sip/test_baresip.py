"""baresip and our signalling, both directions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.sip.config import SipConfig, TlsConfig
from orchestrator.sip.stack import SipStack
from tests.peers.baresip import baresip
from tests.sip.test_transport import make_certificates
from tests.support.sip_fake import Recorder
from tests.support.waiting import until

pytestmark = pytest.mark.peer("baresip")


@asynccontextmanager
async def running(**settings: object) -> AsyncIterator[tuple[SipStack, Recorder]]:
    handler = Recorder()
    stack = SipStack(SipConfig(**{"udp": ("127.0.0.1:0",), "tcp": ("127.0.0.1:0",), **settings}), handler)  # type: ignore[arg-type]
    await stack.start()
    stack.trace_calls()
    try:
        yield stack, handler
    finally:
        await stack.close()


@pytest.mark.process
@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_baresip_calls(tmp_path: Path, transport: str) -> None:
    async with running() as (stack, handler), baresip(tmp_path / "bs", film=False) as phone:
        port = stack.addresses[transport.upper()][0][1]
        await phone.command("dial", f"sip:anna@127.0.0.1:{port};transport={transport}")
        await phone.wait("CALL_ESTABLISHED")
        await until(lambda: ("established", "anna") in handler.events)
        (call,) = handler.calls
        assert call.media and call.media.video and call.media.video.packetization_mode == 1
        assert call.media.video.feedback == {"nack pli"}
        await phone.command("hold")
        await until(lambda: handler.media and handler.media[-1].on_hold)
        await phone.command("resume")
        await until(lambda: not handler.media[-1].on_hold)
        if transport == "udp":
            await phone.command("hangup")
            await until(lambda: not stack.calls)
            assert handler.cause.by == "peer"
        else:
            call.hangup()  # over TCP our BYE finds its way back through the phone's own connection
            await phone.wait("CALL_CLOSED")


@pytest.mark.process
@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_we_call_baresip(tmp_path: Path, transport: str) -> None:
    async with running() as (stack, handler), baresip(tmp_path / "bs", answer="auto", film=False) as phone:
        call = stack.dial(f"sip:alice@127.0.0.1:{phone.sip_port};transport={transport}", handler.caps)
        await until(lambda: call.state == "established")
        assert call.media and call.media.audio and call.media.video
        await phone.wait("CALL_ESTABLISHED")
        held = await call.reoffer(handler.caps)
        assert held.audio and held.video
        await phone.command("hangup")
        await until(lambda: not stack.calls)
        assert call.cause and call.cause.by == "peer"


@pytest.mark.process
async def test_we_cancel_a_call_to_baresip(tmp_path: Path) -> None:
    async with running() as (stack, handler), baresip(tmp_path / "bs", film=False) as phone:
        call = stack.dial(f"sip:alice@127.0.0.1:{phone.sip_port};transport=udp", handler.caps)
        await until(lambda: call.state == "ringing")
        call.hangup()
        await until(lambda: call.state == "ended")
        assert call.cause and call.cause.kind == "cancelled"
        await phone.wait("CALL_CLOSED")


@pytest.mark.process
@pytest.mark.parametrize("who_calls", ["phone", "we"])
async def test_calls_over_tls(tmp_path: Path, who_calls: str) -> None:
    paths = make_certificates(tmp_path)
    settings = f"sip_certificate {paths['client_both']}\nsip_cafile {paths['ca']}\n"
    tls = TlsConfig(paths["server"], paths["server_key"], trust_ca=paths["ca"])
    async with (
        running(tcp=(), tls=("127.0.0.1:0",), tls_config=tls) as (stack, handler),
        baresip(tmp_path / "bs", answer="auto", film=False, settings=settings) as phone,
    ):
        if who_calls == "phone":
            await phone.command("dial", f"sip:anna@127.0.0.1:{stack.addresses['TLS'][0][1]};transport=tls")
            await until(lambda: ("established", "anna") in handler.events)
            (call,) = handler.calls
            call.hangup()
            await phone.wait("CALL_CLOSED")
        else:
            # baresip listens for TLS on the port after the one for UDP and TCP
            dialled = stack.dial(f"sip:alice@127.0.0.1:{phone.sip_port + 1};transport=tls", handler.caps)
            await until(lambda: dialled.state == "established")
            await phone.command("hangup")
        await until(lambda: not stack.calls)


@pytest.mark.process
@pytest.mark.parametrize(
    ("srtp", "encryption", "accepted"),
    [
        ("optional", "srtp-mand", True),
        ("required", "srtp", True),
        ("off", "srtp-mand", False),
        ("required", "", False),
    ],
)
async def test_srtp_is_agreed_or_refused(tmp_path: Path, srtp: str, encryption: str, accepted: bool) -> None:
    account = f";mediaenc={encryption}" if encryption else ""
    async with (
        running() as (stack, handler),
        baresip(tmp_path / "bs", film=False, account=account) as phone,
    ):
        handler.caps = replace(handler.caps, srtp=srtp)
        await phone.command("dial", f"sip:anna@127.0.0.1:{stack.addresses['UDP'][0][1]}")
        if not accepted:
            closed = await phone.wait("CALL_CLOSED")
            assert "488" in closed["param"]
            return
        await phone.wait("CALL_ESTABLISHED")
        (call,) = handler.calls
        assert call.media and call.media.audio and call.media.audio.keys
        assert call.media.audio.keys.suite == "AES_CM_128_HMAC_SHA1_80"
        await phone.command("hangup")
        await until(lambda: not stack.calls)


@pytest.mark.process
@pytest.mark.parametrize(
    ("srtp", "encryption", "keys"),
    [
        ("required", "srtp-mand", True),
        ("required", "srtp", True),
        ("optional", "srtp", True),
        ("optional", "", False),
        ("off", "srtp-mand", None),
        ("required", "", None),
    ],
)
async def test_srtp_we_offer(tmp_path: Path, srtp: str, encryption: str, keys: bool | None) -> None:
    """With keys, without, or not at all where the two do not fit."""
    account = f";mediaenc={encryption}" if encryption else ""
    async with (
        running() as (stack, handler),
        baresip(tmp_path / "bs", answer="auto", film=False, account=account) as phone,
    ):
        capabilities = replace(handler.caps, srtp=srtp)
        call = stack.dial(f"sip:alice@127.0.0.1:{phone.sip_port};transport=udp", capabilities)
        await until(lambda: call.state in ("established", "ended"))
        if keys is None:
            assert call.cause and (call.cause.kind, call.cause.status) == ("not_acceptable", 488)
            return
        assert call.media and call.media.audio and call.media.video
        for stream in (call.media.audio, call.media.video):
            assert (stream.keys is not None) is keys
        call.hangup()
        await phone.wait("CALL_CLOSED")
