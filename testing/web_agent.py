"""A browser's signalling and handshake without a browser: SIP over WebSocket, one check, DTLS, BYE."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import time
from typing import Any

from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from orchestrator.rtp import stun
from testing.dtls_client import DtlsClient

_SDP = """v=0
o=- 1 1 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0 1
m=audio 9 UDP/TLS/RTP/SAVPF 111
c=IN IP4 0.0.0.0
a=ice-ufrag:{ufrag}
a=ice-pwd:{password}
a=fingerprint:{algorithm} {digest}
a=setup:actpass
a=mid:0
a=rtcp-mux
a=rtpmap:111 opus/48000/2
m=video 9 UDP/TLS/RTP/SAVPF 103
c=IN IP4 0.0.0.0
a=ice-ufrag:{ufrag}
a=ice-pwd:{password}
a=fingerprint:{algorithm} {digest}
a=setup:actpass
a=mid:1
a=recvonly
a=rtcp-mux
a=rtpmap:103 H264/90000
a=fmtp:103 packetization-mode=1;profile-level-id=42e01f
a=rtcp-fb:103 nack pli
"""


class _Media(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.came: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if data and data[0] < 64:
            self.came.put_nowait(data)


async def set_up(
    port: int, token: str, hold_s: float, *, url: str = "", **options: Any
) -> tuple[float, float]:
    """A call to the API's ``port``: seconds from INVITE to 200, and to keys; then it lasts so long.

    ``url`` is another one's, such as a proxy's; ``options`` are the connection's, and ``headers`` more of its own.
    """
    client, ufrag = DtlsClient(), secrets.token_hex(4)
    body = _SDP.format(
        ufrag=ufrag,
        password=secrets.token_hex(12),
        algorithm=client.fingerprint.algorithm,
        digest=client.fingerprint.value,
    ).replace("\n", "\r\n")
    call, tag, to = secrets.token_hex(8), secrets.token_hex(4), "<sip:default@127.0.0.1>"
    host = f"{secrets.token_hex(4)}.invalid"

    def request(method: str, number: int, target: str, content: str = "") -> str:
        return "\r\n".join(
            [
                f"{method} {target} SIP/2.0",
                f"Via: SIP/2.0/WS {host};branch=z9hG4bK{secrets.token_hex(8)}",
                f"From: <sip:bench@{host}>;tag={tag}",
                f"To: {to}",
                f"Call-ID: {call}",
                f"CSeq: {number} {method}",
                f"Contact: <sip:bench@{host};transport=ws>",
                "Max-Forwards: 70",
                *(["Content-Type: application/sdp"] if content else []),
                f"Content-Length: {len(content)}",
                "",
                content,
            ]
        )

    headers = {"Authorization": f"Bearer {token}", **options.pop("headers", {})}
    url = url or f"ws://127.0.0.1:{port}/v1/sip"
    own = {"additional_headers": headers, "proxy": None, **options}
    async with connect(url, subprotocols=[Subprotocol("sip")], **own) as socket:
        began = time.monotonic()
        await socket.send(request("INVITE", 1, "sip:default@127.0.0.1", body))
        while not (text := str(await socket.recv())).startswith("SIP/2.0 200"):
            if not text.startswith("SIP/2.0 1"):
                raise RuntimeError(text.partition("\r\n")[0])
        answered = time.monotonic() - began
        (found,) = re.findall(r"(?m)^To: (.*)\r$", text, re.I)
        to = found
        (target,) = re.findall(r"(?m)^Contact: <(.*?)>", text, re.I)
        await socket.send(request("ACK", 1, target))
        own, password = re.findall(r"a=ice-ufrag:(\S+)\r\na=ice-pwd:(\S+)", text)[0]
        media_port = int(re.findall(r"a=candidate:\S+ 1 udp \d+ \S+ (\d+)", text)[0])
        transport, media = await asyncio.get_running_loop().create_datagram_endpoint(
            _Media, remote_addr=("127.0.0.1", media_port)
        )
        try:

            def check() -> None:
                attributes = [(stun.USERNAME, f"{own}:{ufrag}".encode()), (stun.USE_CANDIDATE, b"")]
                transport.sendto(
                    stun.build(stun.BINDING_REQUEST, os.urandom(12), attributes, password.encode())
                )

            async with asyncio.timeout(5):
                while (
                    media.came.empty()
                ):  # as ICE does: the answer may be there before the media worker knows of it
                    check()
                    await asyncio.sleep(0.02)
            media.came.get_nowait()
            for datagram in client.receive(None, time.monotonic()):
                transport.sendto(datagram)
            async with asyncio.timeout(5):
                while client.keys is None:
                    data = await media.came.get()
                    for datagram in client.receive(data, time.monotonic()) if data[0] >= 20 else ():
                        transport.sendto(datagram)
            secured = time.monotonic() - began
            await asyncio.sleep(hold_s)
            await socket.send(request("BYE", 2, target))
            await asyncio.wait_for(socket.recv(), 5)
        finally:
            transport.close()
    return answered, secured
