"""Phones for the media bench: a process that sends every call 50 audio and 75 video packets a second."""

from __future__ import annotations

import os
import socket
import time
from multiprocessing.connection import Connection

from orchestrator.rtp.packet import HEADER_SIZE, write_header

_TICK = 0.02
VIDEO_PACKETS = 3


def run_phones(pipe: Connection, calls: int, busy_core: int | None) -> None:
    """Tell the phones' ports, be told the host's, send until told to stop; what arrives is not read."""
    if busy_core is not None:
        os.sched_setaffinity(0, {core for core in range(os.cpu_count() or 1) if core != busy_core} or {0})
    sockets = [(bound_socket(), bound_socket()) for _ in range(calls)]
    pipe.send([(audio.getsockname()[1], video.getsockname()[1]) for audio, video in sockets])
    targets = [(("127.0.0.1", audio), ("127.0.0.1", video)) for audio, video in pipe.recv()]
    audio_packet = bytearray(HEADER_SIZE) + bytes(160)
    video_packet = bytearray(HEADER_SIZE) + bytes(1000)
    started, tick = time.monotonic(), 0
    groups = 4  # not all phones at the same instant
    while not pipe.poll():
        for group in range(groups):
            for call in range(group, calls, groups):
                audio, video = sockets[call]
                to_audio, to_video = targets[call]
                write_header(audio_packet, 0, tick == 0, tick & 0xFFFF, tick * 160, call + 1)
                send(audio, audio_packet, to_audio)
                if tick % 2 == 0:
                    for part in range(VIDEO_PACKETS):
                        number = tick // 2 * VIDEO_PACKETS + part
                        write_header(video_packet, 96, part == 2, number & 0xFFFF, tick // 2 * 3600, call + 1)
                        send(video, video_packet, to_video)
            pause = started + (tick + (group + 1) / groups) * _TICK - time.monotonic()
            if pause > 0:
                time.sleep(pause)
        tick += 1
    for audio, video in sockets:
        audio.close()
        video.close()


def bound_socket(host: str = "127.0.0.1") -> socket.socket:
    """A UDP socket that keeps next to nothing of what comes."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.bind((host, 0))
    sock.setblocking(False)
    return sock


def send(sock: socket.socket, packet: bytes | bytearray, target: tuple[str, int]) -> None:
    """Send a packet, whether or not anybody is there."""
    try:
        sock.sendto(packet, target)
    except OSError:
        return  # the host has hung up
