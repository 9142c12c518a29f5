"""Calls through Kamailio, which records its route, over UDP and over TLS."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from orchestrator.sip.config import Account, TlsConfig
from tests.peers.baresip import baresip
from tests.peers.peers import absent
from tests.peers.sip_proxy import kamailio
from tests.sip.test_baresip import running
from tests.sip.test_transport import make_certificates
from tests.support.waiting import until

pytestmark = [pytest.mark.peer("kamailio", "baresip"), pytest.mark.process]
TLS_MODULE = Path("/usr/lib/x86_64-linux-gnu/kamailio/modules/tls.so")


@pytest.fixture
def secured(tmp_path: Path, transport: str) -> tuple[dict[str, str] | None, dict[str, Any], str]:
    """Certificates for all, the stack's settings, and the phone's."""
    if transport == "udp":
        return None, {"tcp": ()}, ""
    if not TLS_MODULE.exists():
        absent("Kamailio's TLS module", "apt-get install kamailio-tls-modules")
    paths = make_certificates(tmp_path)
    tls = TlsConfig(paths["server"], paths["server_key"], trust_ca=paths["ca"])
    settings = {"udp": ("127.0.0.1:0",), "tcp": (), "tls": ("127.0.0.1:0",), "tls_config": tls}
    return paths, settings, f"sip_certificate {paths['client_both']}\nsip_cafile {paths['ca']}\n"


@pytest.mark.parametrize("transport", ["udp", "tls"])
@pytest.mark.parametrize("who_hangs_up", ["phone", "we"])
async def test_a_phone_calls_through_the_proxy(
    tmp_path: Path, who_hangs_up: str, transport: str, secured: Any
) -> None:
    """ACK and BYE pass the proxy, whoever sends them: the port each came from, or went to, says so."""
    certificates, stack_settings, phone_settings = secured
    async with running(**stack_settings) as (stack, handler):
        port = stack.addresses[transport.upper()][0][1]
        async with kamailio(tmp_path, port, certificates) as proxy:
            outbound = f';outbound="sip:127.0.0.1:{proxy};transport={transport}"'
            async with baresip(
                tmp_path / "bs", film=False, account=outbound, settings=phone_settings
            ) as phone:
                await phone.command("dial", f"sip:anna@127.0.0.1:{proxy};transport={transport}")
                await phone.wait("CALL_ESTABLISHED")
                await until(lambda: ("established", "anna") in handler.events)
                (call,) = handler.calls
                if who_hangs_up == "phone":
                    await phone.command("hangup")
                else:
                    call.hangup()
                    await phone.wait("CALL_CLOSED")
                await until(lambda: not stack.calls)
        await asyncio.sleep(0.2)
        assert call.trace is not None
        entries = [(e.direction, e.data.split(b" ")[0], e.remote[1]) for e in call.trace.entries()]
        assert entries[0][:2] == ("in", b"INVITE")
        ours = proxy if transport == "udp" else entries[0][2]  # the connection that the proxy opened
        assert ("in", b"ACK", ours) in entries
        assert (("in" if who_hangs_up == "phone" else "out"), b"BYE", ours) in entries


@pytest.mark.parametrize("transport", ["udp", "tls"])
async def test_we_call_through_the_proxy(tmp_path: Path, transport: str, secured: Any) -> None:
    certificates, stack_settings, phone_settings = secured
    async with (
        kamailio(tmp_path, 9, certificates) as proxy,
        baresip(tmp_path / "bs", answer="auto", film=False, settings=phone_settings) as phone,
    ):
        trunk = Account(
            "sip:me@127.0.0.1", proxies=(f"sip:127.0.0.1:{proxy};transport={transport};lr",), register=False
        )
        port = phone.sip_port + (transport == "tls")
        async with running(**stack_settings, accounts=(trunk,)) as (stack, handler):
            call = stack.dial(f"sip:alice@127.0.0.1:{port};transport={transport}", handler.caps)
            await until(lambda: call.state in ("established", "ended"))
            assert call.state == "established", call.cause
            assert (call.account, call.source[1]) == ("sip:me@127.0.0.1", proxy)
            await phone.command("hangup")
            await until(lambda: not stack.calls)
            assert call.cause and call.cause.by == "peer"
            assert call.trace is not None
            ours = [e for e in call.trace.entries() if e.data.startswith((b"INVITE", b"ACK"))]
            assert [(e.direction, e.remote[1]) for e in ours] == [("out", proxy)] * 2
