"""Sockets: UDP, TCP, TLS and IPv6 between two stacks of ours, framing, and connections that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import ssl
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.sip.config import SipConfig, TlsConfig
from orchestrator.sip.message.grammar import parse_uri
from orchestrator.sip.message.parsing import MAX_HEAD
from orchestrator.sip.stack import SipStack
from orchestrator.sip.transport.addresses import split_address
from orchestrator.sip.transport.flow import Flow
from orchestrator.sip.transport.framing import Framer, FramingError
from orchestrator.sip.transport.locate import Hop
from orchestrator.sip.transport.tls import server_context, untrusted
from tests.peers.peers import require
from tests.support.sip_fake import Recorder, capabilities, request
from tests.support.waiting import until

OPTIONS = request("OPTIONS", transport="TCP").replace("\n", "\r\n").encode()


async def call_between(
    server: SipConfig, client: SipConfig, transport: str, host: str, scheme: str = "sip"
) -> None:
    """One whole call, hung up by the called side, so that requests go both ways."""
    callee, caller = SipStack(server, Recorder()), SipStack(client, Recorder())
    await callee.start()
    await caller.start()
    try:
        port = callee.addresses[transport][0][1]
        uri = f"{scheme}:anna@{host}:{port}" + (f";transport={transport.lower()}" if scheme == "sip" else "")
        call = caller.dial(uri, capabilities())
        await until(lambda: call.state != "new")
        assert call.state == "established", call.cause
        await until(lambda: any(c.state == "established" for c in callee.calls.values()))
        (answered,) = callee.calls.values()
        answered.hangup()
        await until(lambda: not caller.calls and not callee.calls)
        assert call.cause and call.cause.by == "peer"
    finally:
        await caller.close()
        await callee.close()


@pytest.mark.parametrize("transport", ["UDP", "TCP"])
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
async def test_call(transport: str, host: str) -> None:
    config = SipConfig(udp=(f"{host}:0",), tcp=(f"{host}:0",))
    await call_between(config, config, transport, host)


def make_certificates(folder: Path, lacking: str = "") -> dict[str, str]:
    """A CA and two certificates of it, in PEM files; the CA may lack what strict verification wants of it."""
    openssl = require("openssl", "openssl")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "36500")
    paths: dict[str, str] = {}
    for name in ("ca", "server", "client"):
        paths[name], paths[f"{name}_key"] = str(folder / f"{name}.pem"), str(folder / f"{name}.key")
        command = [openssl, "req", "-x509", *curve, "-keyout", paths[f"{name}_key"], "-out", paths[name]]
        command += ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
        if name == "ca":
            critical = "" if lacking == "basicConstraints" else "critical,"
            command += ["-addext", f"basicConstraints={critical}CA:TRUE"]
            if lacking != "keyUsage":
                command += ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
        else:
            command += ["-CA", paths["ca"], "-CAkey", paths["ca_key"]]
            command += ["-addext", "basicConstraints=critical,CA:FALSE"]
        subprocess.run(command, check=True, capture_output=True)
        paths[f"{name}_both"] = str(folder / f"{name}_both.pem")
        both = Path(paths[name]).read_text() + Path(paths[f"{name}_key"]).read_text()
        Path(paths[f"{name}_both"]).write_text(both)
    return paths


@pytest.mark.process
@pytest.mark.peer("openssl")
@pytest.mark.parametrize("scheme", ["sip", "sips"])
async def test_call_over_tls_with_certificates_on_both_sides(tmp_path: Path, scheme: str) -> None:
    paths = make_certificates(tmp_path)
    tls = TlsConfig(paths["server"], paths["server_key"], client_ca=paths["ca"], trust_ca=paths["ca"])
    own = TlsConfig(paths["client"], paths["client_key"], trust_ca=paths["ca"])
    server = SipConfig(udp=(), tcp=(), tls=("127.0.0.1:0",), tls_config=tls)
    client = SipConfig(udp=("127.0.0.1:0",), tcp=(), tls_config=own)
    await call_between(server, client, "TLS", "127.0.0.1", scheme)


@pytest.mark.process
@pytest.mark.peer("openssl")
async def test_a_tls_server_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    paths = make_certificates(tmp_path)
    tls = TlsConfig(paths["server"], paths["server_key"])
    callee = SipStack(SipConfig(udp=(), tcp=(), tls=("127.0.0.1:0",), tls_config=tls), Recorder())
    caller = SipStack(SipConfig(udp=("127.0.0.1:0",), tcp=()), Recorder())
    await callee.start()
    await caller.start()
    port = callee.addresses["TLS"][0][1]
    call = caller.dial(f"sip:anna@127.0.0.1:{port};transport=tls", capabilities())
    await until(lambda: call.state == "ended")
    assert call.cause and call.cause.kind == "unreachable"
    assert call.cause.text.startswith("the TLS certificate of 127.0.0.1 is not trusted: ")
    await caller.close()
    await callee.close()


@pytest.mark.process
@pytest.mark.peer("openssl")
@pytest.mark.parametrize("lacking", ["keyUsage", "basicConstraints"])
async def test_a_private_ca_that_strict_verification_refuses_is_named(tmp_path: Path, lacking: str) -> None:
    """As Python 3.13 verifies by default (RFC 5280 sections 4.2.1.3 and 4.2.1.9)."""
    paths = make_certificates(tmp_path, lacking)
    context = ssl.create_default_context(cafile=paths["ca"])
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(ours, theirs, server_hostname="127.0.0.1")
    server = server_context(TlsConfig(paths["server"], paths["server_key"])).wrap_bio(
        theirs, ours, server_side=True
    )
    with pytest.raises(ssl.SSLCertVerificationError) as refused:
        for side in itertools.cycle((client, server)):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    told = untrusted(refused.value, "pbx.example")
    assert str(told).count("docs/sip.md") == 1 and refused.value.verify_message in str(told)


@pytest.mark.process
@pytest.mark.peer("openssl")
async def test_a_tls_connection_serves_the_name_it_was_checked_for(tmp_path: Path) -> None:
    """And the bare address, as Contact has it; any other name gets a connection and a check of its own."""
    paths = make_certificates(tmp_path)
    tls = TlsConfig(paths["server"], paths["server_key"], trust_ca=paths["ca"])
    callee = SipStack(SipConfig(udp=(), tcp=(), tls=("127.0.0.1:0",), tls_config=tls), Recorder())
    caller = SipStack(SipConfig(udp=("127.0.0.1:0",), tcp=(), tls_config=tls), Recorder())
    await callee.start()
    await caller.start()
    port = callee.addresses["TLS"][0][1]

    async def flow(domain: str) -> Flow:
        return await caller._transports.open_flow(Hop("TLS", "127.0.0.1", port, domain))

    first = await flow("localhost")
    assert await flow("localhost") is first
    assert await flow("127.0.0.1") is first
    with pytest.raises(ssl.SSLCertVerificationError):
        await flow("bank.example")
    await caller.close()
    await callee.close()


async def test_a_large_request_goes_over_tcp_and_falls_back() -> None:
    callee = SipStack(SipConfig(udp=("127.0.0.1:0",), tcp=("127.0.0.1:0",)), Recorder())
    caller = SipStack(SipConfig(udp=("127.0.0.1:0",), tcp=()), Recorder())
    await callee.start()
    await caller.start()
    uri = parse_uri(f"sip:anna@127.0.0.1:{callee.addresses['UDP'][0][1]}")
    transports = caller._transports
    (hop,) = await transports.locate(uri)
    assert (await transports.open_flow(hop, size=900)).transport == "UDP"
    assert (await transports.open_flow(hop, size=2000)).transport == "TCP"
    (nobody,) = await transports.locate(parse_uri(f"sip:anna@127.0.0.1:{caller.addresses['UDP'][0][1]}"))
    assert (await transports.open_flow(nobody, size=2000)).transport == "UDP"
    assert (await transports.open_flow(hop, size=2000)) is (await transports.open_flow(hop, size=2000))
    await caller.close()
    await callee.close()


async def test_an_address_in_use_is_named() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        stack = SipStack(SipConfig(udp=(f"127.0.0.1:{port}",), tcp=()), Recorder())
        with pytest.raises(OSError, match=f"cannot listen for SIP on UDP 127.0.0.1:{port}"):
            await stack.start()


async def test_pieces_pings_and_garbage_on_a_connection() -> None:
    stack = SipStack(SipConfig(udp=(), tcp=("127.0.0.1:0",)), Recorder())
    await stack.start()
    reader, writer = await asyncio.open_connection(*stack.addresses["TCP"][0])
    for byte in OPTIONS:
        writer.write(bytes([byte]))
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    assert head.startswith(b"SIP/2.0 200 OK")
    writer.write(b"\r\n\r\n")
    assert await asyncio.wait_for(reader.readexactly(2), 10) == b"\r\n"
    second = OPTIONS.replace(b"z9hG4bKa", b"z9hG4bKb").replace(b"CSeq: 1", b"CSeq: 2")
    writer.write(OPTIONS.replace(b"Call-ID: c1", b"Call-ID: c2") + second)
    for _ in range(2):
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).startswith(b"SIP/2.0 200")
    writer.write(b"INVITE x\r\nContent-Length: nonsense\r\n\r\n")
    assert await asyncio.wait_for(reader.read(), 10) == b""
    writer.close()
    await writer.wait_closed()
    await stack.close()


@given(st.lists(st.integers(1, 80), max_size=30))
def test_framing_does_not_depend_on_the_pieces(cuts: list[int]) -> None:
    body = b"v=0\r\n\r\nx"
    message = b"MESSAGE sip:a SIP/2.0\r\nl: %d\r\n\r\n%s" % (len(body), body)
    stream = b"\r\n" + message + b"\r\n\r\n" + message + message
    framer = Framer()
    found: list[bytes] = []
    for cut in cuts:
        found += framer.feed(stream[:cut])
        stream = stream[cut:]
    found += framer.feed(stream)
    assert found == [message] * 3


KEEPALIVES = [b"\r\n\0", b"\0", b"\0\0\0\0", b"\r\n", b"\r\n\0\r\n\0", b"\n", b"\r", b"\n\n", b"\0\r\n"]


@pytest.mark.parametrize("keepalive", KEEPALIVES)
def test_what_phones_send_between_messages_spoils_none(keepalive: bytes) -> None:
    message = b"MESSAGE sip:a SIP/2.0\r\nl: 1\r\n\r\nx"
    whole, pieces = Framer(), Framer()
    stream = keepalive + message + keepalive * 3 + message + keepalive
    assert whole.feed(stream) == [message] * 2
    assert [m for at in range(len(stream)) for m in pieces.feed(stream[at : at + 1])] == [message] * 2
    assert pieces.pings == whole.pings == (1 if keepalive == b"\r\n" else 0)


def test_a_ping_after_zero_bytes_is_still_answered() -> None:
    framer = Framer()
    assert framer.feed(b"\0\0\r\n\r\n\0\r\n") == [] and framer.pings == 1
    assert framer.feed(b"\r\n") == [] and framer.pings == 2


@pytest.mark.parametrize(
    "data",
    [
        b"x" * (MAX_HEAD + 10),
        b"A\r\nContent-Length: -1\r\n\r\n",
        b"A\r\nl: 1\r\nl: 2\r\n\r\n",
        b"A\r\nl: 1 2\r\n\r\n",
        b"A\r\nl: 99999999\r\n\r\n",
    ],
)
def test_streams_that_cannot_be_understood(data: bytes) -> None:
    with pytest.raises(FramingError):
        Framer().feed(data)


UNMEASURED = OPTIONS.replace(b"Content-Length: 0\r\n", b"Content-Type: text/plain\r\n")


@pytest.mark.parametrize("kind", [b"Content-Type: text/plain", b"c:text/plain", b"CONTENT-TYPE : a/b"])
def test_nothing_is_found_behind_a_body_of_unknown_length(kind: bytes) -> None:
    head = b"MESSAGE sip:a SIP/2.0\r\n" + kind + b"\r\n\r\n"
    stream = head + b"BYE sip:a SIP/2.0\r\nl: 0\r\n\r\n"
    whole, pieces = Framer(), Framer()
    assert whole.feed(stream) == [head] and whole.lost
    assert [m for at in range(len(stream)) for m in pieces.feed(stream[at : at + 1])] == [head]
    assert whole.feed(stream) == [] and pieces.lost
    bare = Framer()
    assert len(bare.feed(b"OPTIONS sip:a SIP/2.0\r\n\r\n" * 2)) == 2 and not bare.lost


async def test_a_body_of_unknown_length_is_answered_and_the_connection_closed() -> None:
    stack = SipStack(SipConfig(udp=(), tcp=("127.0.0.1:0",)), Recorder())
    await stack.start()
    reader, writer = await asyncio.open_connection(*stack.addresses["TCP"][0])
    assert b"Content-Length" not in UNMEASURED
    writer.write(UNMEASURED + b"body\r\n" + OPTIONS)
    answer = await asyncio.wait_for(reader.read(), 10)
    assert answer.count(b"SIP/2.0 ") == 1 and answer.startswith(b"SIP/2.0 400 ")
    writer.close()
    await writer.wait_closed()
    await stack.close()


def test_addresses() -> None:
    assert split_address("0.0.0.0:5060") == ("0.0.0.0", 5060)
    assert split_address("[::]:5061") == ("::", 5061)
    for wrong in ("5060", "host:", "host:port", "1.2.3.4:70000"):
        with pytest.raises(ValueError, match="host:port"):
            split_address(wrong)
