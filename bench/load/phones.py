"""Many light phones in one process: each sends voice, 25 pictures a second and RTCP; what comes is not read."""

from __future__ import annotations

import os
import time
from multiprocessing.connection import Connection

from bench.media.phones import VIDEO_PACKETS, bound_socket, send
from orchestrator.rtp import rtcp
from orchestrator.rtp.packet import HEADER_SIZE, write_header

_TICK = 0.02
_GROUPS = 8
_REPORT_TICKS = 125
"""Sender reports every 2.5 seconds."""


def run(pipe: Connection, hosts: list[str]) -> None:
    """Tell the ports of a phone on each host, be told one by one where they send, send until told to stop."""
    os.nice(5)
    sockets = [(bound_socket(host), bound_socket(host)) for host in hosts]
    pipe.send([(audio.getsockname()[1], video.getsockname()[1]) for audio, video in sockets])
    targets: list[tuple[tuple[str, int], tuple[str, int]]] = []
    audio_packet = bytearray(HEADER_SIZE) + bytes(160)
    video_packet = bytearray(HEADER_SIZE) + bytes(1000)
    started, tick = time.monotonic(), 0
    while True:
        while pipe.poll():
            target = pipe.recv()
            if target is None:
                pipe.send(tick * _TICK / (time.monotonic() - started))
                return
            targets.append(target)
        for group in range(_GROUPS):
            for call in range(group, len(targets), _GROUPS):
                audio, video = sockets[call]
                to_audio, to_video = targets[call]
                ssrc = call + 1
                write_header(audio_packet, 0, tick == 0, tick & 0xFFFF, tick * 160, ssrc)
                send(audio, audio_packet, to_audio)
                if tick % 2 == call % 2:
                    picture = tick // 2
                    for part in range(VIDEO_PACKETS):
                        number = picture * VIDEO_PACKETS + part
                        last = part == VIDEO_PACKETS - 1
                        write_header(video_packet, 96, last, number & 0xFFFF, picture * 3600, ssrc)
                        send(video, video_packet, to_video)
                if (tick + call) % _REPORT_TICKS == 0:
                    report = rtcp.build(
                        rtcp.SenderReport(ssrc, 1 << 40, tick * 160, tick, tick * 160),
                        rtcp.SourceDescription(ssrc, f"phone{call}"),
                    )
                    for sock, (host, port) in ((audio, to_audio), (video, to_video)):
                        send(sock, report, (host, port + 1))
            pause = started + (tick + (group + 1) / _GROUPS) * _TICK - time.monotonic()
            if pause > 0:
                time.sleep(pause)
        tick += 1
