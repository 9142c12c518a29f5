"""What a stranger gets out of calls, beside an honest one: ``python -m bench.media_attack [--seconds 32]``

Three attacks on an orchestrator of its own, on the loopback. An INVITE that is never acknowledged, and one that
is, whose session descriptions name a third party that says nothing: how many octets that party gets. Packets
sprayed at the ports of an honest call whose phone speaks, and then is silent: how many packets of voice and picture
go to their sender. While it is flooded the honest call's voice is compared with a busy loop of equal CPU, both at
nice 19: it must stay within 5 ms, its picture must go on, and the exit status says whether all held.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import multiprocessing
import os
import secrets
import socket
import struct
import sys
import time
from multiprocessing.connection import Connection

from testing.caller import Phone
from testing.caller.media import addresses
from testing.caller.phone import offer
from testing.caller.signalling import Dialog
from testing.ports import free_port
from tests.support.house import House, orchestrator

THIRD, STRANGER, ATTACKER = "127.0.0.20", "127.0.0.66", "127.0.0.30"
ALLOWED_MS = 5.0
HALF_A_SECOND = 25 * (12 + 160)
REPORT_OCTETS = 200
NICE = 19
Address = tuple[str, int]


def udp(host: str) -> socket.socket:
    """A socket that nothing is lost at."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    sock.bind((host, 0))
    sock.setblocking(False)
    return sock


def drain(sock: socket.socket) -> list[bytes]:
    """Everything that has come."""
    got = []
    with contextlib.suppress(BlockingIOError):
        while True:
            got.append(sock.recv(4096))
    return got


def invite(house: House, audio: int, video: int) -> bytes:
    """One datagram that names the third party."""
    body = offer(THIRD, audio, video)
    mark = secrets.token_hex(6)
    lines = [
        f"INVITE {house.uri} SIP/2.0",
        f"Via: SIP/2.0/UDP {ATTACKER}:5098;branch=z9hG4bK{mark};rport",
        "Max-Forwards: 70",
        f"From: <sip:a@{ATTACKER}>;tag={mark}",
        f"To: <{house.uri}>",
        f"Call-ID: {mark}",
        "CSeq: 1 INVITE",
        f"Contact: <sip:a@{ATTACKER}>",
        "Content-Type: application/sdp",
        f"Content-Length: {len(body)}",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


async def unacknowledged(house: House, seconds: float) -> int:
    """Octets that the third party gets for one INVITE; prints them."""
    with udp(THIRD) as audio, udp(THIRD) as video, udp(ATTACKER) as attacker:
        data = invite(house, audio.getsockname()[1], video.getsockname()[1])
        attacker.sendto(data, ("127.0.0.1", house.sip_port))
        octets = 0
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            await asyncio.sleep(0.2)
            octets += sum(len(packet) for sock in (audio, video) for packet in drain(sock))
        answered = any(b"SIP/2.0 200" in packet for packet in drain(attacker))
    print(
        f"INVITE never acknowledged ({len(data)} octets, {'answered 200' if answered else 'not answered'}): "
        f"{octets} octets to a third party in {seconds:g} s, {octets / len(data):.1f} times"
    )
    return octets


async def acknowledged(house: House, seconds: float) -> int:
    """The same for a caller that acknowledges and sends no media; prints them."""
    with udp(THIRD) as audio, udp(THIRD) as video:
        async with Dialog(house.uri, ATTACKER) as dialog:
            await dialog.invite(offer(THIRD, audio.getsockname()[1], video.getsockname()[1]))
            await asyncio.sleep(seconds)
            octets = sum(len(packet) for sock in (audio, video) for packet in drain(sock))
    print(f"INVITE acknowledged, no media sent: {octets} octets to a third party in {seconds:g} s")
    return octets


def rtp(kind: int, number: int, ssrc: int) -> bytes:
    """A packet that looks like a phone's."""
    return struct.pack("!BBHII", 0x80, kind, number & 0xFFFF, number * 160 & 0xFFFFFFFF, ssrc) + bytes(160)


def flood(pipe: Connection, audio: Address, video: Address, seconds: float, rate: float) -> None:
    """Spray both ports from a stranger's address; answers with packets sent, voice and picture got, CPU seconds."""
    os.nice(NICE)
    sent = voice = picture = 0
    with udp(STRANGER) as first, udp(STRANGER) as second:
        started, cpu = time.monotonic(), time.process_time()
        while (passed := time.monotonic() - started) < seconds:
            if sent >= passed * rate:
                time.sleep(0.002)
                continue
            for _ in range(10):
                number = sent // 2
                with contextlib.suppress(OSError):
                    first.sendto(rtp(0, number, 99), audio)
                    second.sendto(rtp(96, number, 99), video)
                sent += 2
            voice += len(drain(first))
            picture += len(drain(second))
        pipe.send((sent, voice, picture, time.process_time() - cpu))


def busy(pipe: Connection, share: float, seconds: float) -> None:
    """Burn this share of one processor."""
    os.nice(NICE)
    started, cpu = time.monotonic(), time.process_time()
    while (passed := time.monotonic() - started) < seconds:
        if time.process_time() - cpu > passed * share:
            time.sleep(0.002)
    pipe.send(time.process_time() - cpu)


async def aside(target: object, *arguments: object) -> object:
    """Run a function in a process of its own; what it says."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=target, args=(theirs, *arguments))  # type: ignore[arg-type]
    process.start()
    try:
        said = await asyncio.to_thread(ours.recv)
    finally:
        await asyncio.to_thread(process.join)
    return said


def p99_ms(arrived: list[float]) -> float:
    """Of how far the gaps between packets are from 20 ms."""
    gaps = sorted(abs(later - sooner - 0.02) * 1000 for sooner, later in itertools.pairwise(arrived))
    return gaps[int(0.99 * (len(gaps) - 1))] if gaps else float("inf")


def since(phone: Phone, voice: int, picture: int) -> tuple[list[float], int]:
    """When the voice came, and how many pictures did."""
    recording = phone.recording
    pictures = {packet.timestamp for packet in recording.video.packets[picture:]}
    return [packet.arrived for packet in recording.audio.packets[voice:]], len(pictures)


def answered_ports(phone: Phone) -> dict[str, Address]:
    """What the answer to a call that is yet to be made will name, once it has come."""
    ports: dict[str, Address] = {}
    invite = phone._dialog.invite

    async def watched(offer: str) -> str:
        answer = await invite(offer)
        ports.update(addresses(answer))
        return answer

    phone._dialog.invite = watched  # type: ignore[method-assign]
    return ports


async def sprayed(house: House, seconds: float, rate: float) -> bool:
    """An honest call under a flood, under a busy loop, and silent under a flood; whether it held."""
    phone = Phone(house.uri)
    ports = answered_ports(phone)
    async with phone:
        await asyncio.sleep(3.0)
        rows = {}
        share = 0.0
        stolen = 0
        recording = phone.recording
        for name in ("flood", "busy loop", "flood, phone silent"):
            if name == "flood, phone silent":
                phone.mute()
                await asyncio.sleep(11.0)
            marks = len(recording.audio.packets), len(recording.video.packets)
            if name == "busy loop":
                cpu = await aside(busy, share, seconds)
                print(f"busy loop at nice {NICE}: {cpu:.2f} s of CPU", end="; ")
            else:
                said = await aside(flood, ports["audio"], ports["video"], seconds, rate)
                assert isinstance(said, tuple)
                sent, voice, picture, cpu = said
                share = share or cpu / seconds
                stolen += voice + picture
                print(
                    f"{name} ({sent} packets, {cpu:.2f} s of CPU at nice {NICE}): {voice} packets of voice and "
                    f"{picture} of picture to the stranger",
                    end="; ",
                )
            arrived, pictures = since(phone, *marks)
            rows[name] = p99_ms(arrived), pictures / max(1, len(arrived))
            print(
                f"the honest call got {len(arrived)} packets, {rows[name][0]:.1f} ms off at p99, "
                f"{pictures} pictures"
            )
    worse = rows["flood"][0] - rows["busy loop"][0]
    shown = rows["flood"][1] >= 0.9 * rows["busy loop"][1] and rows["flood, phone silent"][1] > 0
    print(f"voice p99 under flood against a busy loop: {worse:+.1f} ms (at most {ALLOWED_MS:g})")
    return stolen == 0 and worse <= ALLOWED_MS and shown


async def main(seconds: float, flood_seconds: float, rate: float) -> bool:
    """All three."""
    server = f"127.0.0.1:{free_port()}"
    async with orchestrator([server], wait=False, greeting="Hello, this is a call.") as house:
        await house.answering()
        async with Phone(house.uri) as beside:
            for _ in range(100):
                if beside.recording.video.packets:
                    break
                await asyncio.sleep(0.1)
            unasked = await unacknowledged(house, seconds)
            asked = await acknowledged(house, min(seconds, 10.0))
            bounded = asked <= HALF_A_SECOND + REPORT_OCTETS
        kept = await sprayed(house, flood_seconds, rate)
    held = not unasked and bounded and kept
    print("held" if held else "NOT HELD")
    return held


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=32.0, help="how long the third party is watched")
    parser.add_argument("--flood-seconds", type=float, default=20.0, help="length of each flood")
    parser.add_argument("--rate", type=float, default=2000.0, help="packets a second of the flood")
    given = parser.parse_args()
    sys.exit(not asyncio.run(main(given.seconds, given.flood_seconds, given.rate)))
