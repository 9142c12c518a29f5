"""Lets a container on the host's network look up the containers of a Docker network by their service names.

Docker answers such names only inside the network, at 127.0.0.11. This relays DNS, UDP and TCP, from port 5353 to
there, byte for byte; ``docker-compose.yml`` publishes it on a loopback address of the host. ``--check`` asks it
for its own name: exit status 0 when it is answered. ``--check FILE`` is not content either where a VISAVIS_* of the
environment is no setting of that file (``check_names.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import cast

RESOLVER = ("127.0.0.11", 53)
PORT = 5353
TIMEOUT_S = 5.0
MOST_WAITING = 512
"""Questions under way at once; the next is dropped and the resolver asks again."""


class _Answer(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.data: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        if not self.data.done():
            self.data.set_result(data)

    def error_received(self, error: Exception) -> None:
        if not self.data.done():
            self.data.set_exception(error)


class Questions(asyncio.DatagramProtocol):
    """The UDP face: one socket upstream for each question, so that no answer can be mistaken for another."""

    def __init__(self, resolver: tuple[str, int] = RESOLVER) -> None:
        self._resolver = resolver
        self._waiting: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if len(self._waiting) < MOST_WAITING:
            task = asyncio.create_task(self._ask(data, addr))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)

    async def _ask(self, question: bytes, addr: tuple[str, int]) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            upstream, answer = await asyncio.get_running_loop().create_datagram_endpoint(
                _Answer, remote_addr=self._resolver
            )
            try:
                upstream.sendto(question)
                async with asyncio.timeout(TIMEOUT_S):
                    self._transport.sendto(await answer.data, addr)
            finally:
                upstream.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()
        sink.write_eof()


async def relay(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, resolver: tuple[str, int] = RESOLVER
) -> None:
    """The TCP face: one connection through, for answers that do not fit into a datagram."""
    with contextlib.closing(writer), contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(TIMEOUT_S):
            up_reader, up_writer = await asyncio.open_connection(*resolver)
            with contextlib.closing(up_writer):
                await asyncio.gather(_pump(reader, up_writer), _pump(up_reader, writer))


def check(address: tuple[str, int] = ("127.0.0.1", PORT), name: str = "names") -> int:
    """Exit status: whether an address of ``name`` comes back (RFC 1035 section 4.1)."""
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    question = struct.pack("!6H", 0x5656, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.settimeout(TIMEOUT_S / 2)
        try:
            probe.sendto(question, address)
            number, flags, _, answers = struct.unpack_from("!4H", probe.recv(4096))
        except (OSError, struct.error) as error:
            print(f"no answer: {error}")
            return 1
    if (number, flags & 15) == (0x5656, 0) and answers:
        return 0
    print(f"the name {name} has no address")
    return 1


def wrong_settings(file: str) -> int:
    """Exit status: whether every VISAVIS_* of the environment is a setting; one sentence for each that is not."""
    sys.path.insert(0, str(Path(__file__).parent))
    import check_names

    names = [name for name in os.environ if name.startswith("VISAVIS_")]
    told = check_names.problems(names, check_names.known(Path(file).read_text()))
    for sentence in told:
        print(sentence)
    return 1 if told else 0


async def main() -> int:
    """Relay until SIGTERM."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    transport, _ = await loop.create_datagram_endpoint(Questions, local_addr=("0.0.0.0", PORT))
    server = await asyncio.start_server(relay, "0.0.0.0", PORT)
    await stop.wait()
    transport.close()
    server.close()
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] != ["--check"]:
        sys.exit(asyncio.run(main()))
    sys.exit((wrong_settings(sys.argv[2]) if sys.argv[2:] else 0) or check())
