"""How far a RoomKit call's lips are behind its voice: ``python -m bench.roomkit.lag`` (as ``make test-roomkit``).

A phone calls RoomKit's ``SIPVideoBackend``; the voice comes in pieces of 100 ms, in real time or faster. A lag is
the arrival of a picture less the moment its sound is played by a receiver without a delay of its own. Pictures of
the mock engine say which sound they belong to; ``--speech`` adds the lip-sync metric of ``bench.lipsync`` on the
portrait engine and a voice whose phones are known, ``--receiver ffmpeg`` the same on the clip of an ffmpeg that
takes the call in the phone's place. Each reply is measured from its second second on.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from roomkit import AudioVideoChannel
from roomkit.video.pipeline.encoder.pyav import PyAVVideoEncoder

from bench.lipsync.call import found
from bench.lipsync.engine import joined
from bench.roomkit import ffmpeg
from bench.roomkit.ffmpeg import CLOCKS, REPORTED_S, Clock
from inference_server.engines.portrait.features import HOP, RATE
from inference_server.lipsync.lips import track_lips
from inference_server.lipsync.measure import compare
from inference_server.lipsync.target import from_phones
from testing.caller import Phone
from testing.training.corpus import VOICES, Clip
from testing.training.dataset import test_set
from tests.support.house import picture, tone
from tests.support.servers import InferenceServer, running_server
from tests.with_roomkit.app import App, roomkit_app
from tests.with_roomkit.lag import heard_when, lips, voices
from visavis import AvatarVideoChannel, HTTPAvatarProvider, portraits

FPS = 30


@dataclass(frozen=True)
class Case:
    """``speed``: of the voice against real time; ``prebuffer``: RoomKit's ``pacer_prebuffer_ms``."""

    name: str
    speed: float
    attach: bool
    own_channel: bool = False
    voice_delay_s: float = 0.4
    prebuffer: int = 80

    def __str__(self) -> str:
        return f"{self.name}, voice {self.speed:g}x, attach={self.attach}"


CASES = (
    Case("AudioVideoChannel", 8.0, False),
    Case("AudioVideoChannel", 8.0, True),
    Case("AudioVideoChannel, late voice", 3.0, False, prebuffer=900),
    Case("AudioVideoChannel, late voice", 3.0, True, prebuffer=900),
    Case("AudioVideoChannel", 1.0, False),
    Case("AudioVideoChannel", 1.0, True),
    Case("AvatarVideoChannel, no delay", 1.0, True, own_channel=True, voice_delay_s=0.0),
    Case("AvatarVideoChannel", 1.0, True, own_channel=True),
    Case("AvatarVideoChannel", 8.0, True, own_channel=True),
)


@contextlib.asynccontextmanager
async def application(case: Case, server: InferenceServer, portrait: bytes, side: int) -> AsyncIterator[App]:
    """An application whose calls are of this case."""
    folder = tempfile.TemporaryDirectory(prefix="visavis-bench-")

    async def avatar(_: object = None) -> HTTPAvatarProvider:
        url = f"http://127.0.0.1:{server.http_port}"
        face = HTTPAvatarProvider(
            url, fps=FPS, cache_directory=folder.name, connect_timeout=20.0, timeout=90.0
        )
        await face.start(portrait, width=side, height=side)
        return face

    def encoder(_: object = None) -> PyAVVideoEncoder:
        return PyAVVideoEncoder(width=side, height=side, fps=FPS, preset="ultrafast")

    shared = None if case.own_channel else await avatar()

    def channel(backend: Any, voice: dict[str, Any]) -> AudioVideoChannel:
        if shared is not None:
            return AudioVideoChannel("v", backend=backend, avatar=shared, avatar_encoder=encoder(), **voice)
        return AvatarVideoChannel(
            "v",
            backend=backend,
            avatar_factory=avatar,
            encoder_factory=encoder,
            voice_delay_s=case.voice_delay_s,
            **voice,
        )

    def on_session(app: App, session: Any) -> None:
        if shared is not None and case.attach:
            shared.attach(app.backend, session)

    settings: dict[str, Any] = {"speed": case.speed, "pacer_prebuffer_ms": case.prebuffer}
    with folder:
        async with roomkit_app(channel, on_session=on_session, **settings) as app:
            yield app
        if shared is not None:
            await shared.close()


async def talk(app: App, sounds: list[NDArray[np.int16]]) -> None:
    """Say these (8 kHz) to the one who calls."""
    session = await app.call()
    if isinstance(app.channel, AvatarVideoChannel):
        while app.channel.provider(session) is None:  # noqa: ASYNC110 - a moment
            await asyncio.sleep(0.05)
    for sound in sounds:
        await asyncio.sleep(1.5)
        await app.say(session, sound)
    await asyncio.sleep(1.5)


async def call(app: App, sounds: list[NDArray[np.int16]]) -> Phone:
    """One call of our phone in which these are said."""
    async with Phone(app.uri) as phone:
        await talk(app, sounds)
    return phone


async def with_card(case: Case, server: InferenceServer, replies: int) -> str:
    """Figures of the mock engine's pictures."""
    async with application(case, server, picture(), 320) as app:
        phone = await call(app, [tone(5, rate=8000)] * replies)
    turns = [lips(phone.recording, FPS, turn) for turn in range(len(voices(phone.recording)))]
    lags = [m.lag * 1000 for turn in turns for m in turn if m.frame > FPS]
    if not lags:
        return f"{len(turns)} replies, no lips"
    median, high = np.percentile(lags, (50, 95))
    return f"{len(turns)} replies, {len(lags)} pictures: median {median:+.0f} ms, p95 {high:+.0f} ms"


def speech(voice: str) -> tuple[Clip, NDArray[np.int16]]:
    """Sentences of the voice whose name has this in it, and their sound at 8 kHz."""
    import soxr  # only where speech is asked for, as docs/roomkit.md says

    chosen = next(v for v in VOICES if v.test and voice.lower() in v.name.lower())
    clip = joined(test_set(chosen)[:6])
    return clip, soxr.resample(clip.pcm, RATE, 8000)


async def with_speech(case: Case, server: InferenceServer, voice: str) -> str:
    """The lip-sync metric over a voice whose phones are known."""
    clip, sound = speech(voice)
    async with application(case, server, portraits.DEFAULT.read_bytes(), 512) as app:
        recording = (await call(app, [sound])).recording
    try:
        start, _ = found(recording.samples(), clip.pcm)
    except ValueError as error:  # a voice with gaps, on a machine that cannot keep up
        return str(error)
    times, seconds = heard_when(recording)
    shown = track_lips((float(np.interp(f.arrived, times, seconds)), f.image) for f in recording.frames())
    report = compare(shown, from_phones(clip.phones, len(clip.pcm) // HOP), start)
    return f"lag {report.lag_ms:+.0f} ms, r {report.r_lag:.3f}"


async def with_ffmpeg(case: Case, server: InferenceServer, voice: str, folder: Path, clock: Clock) -> str:
    """The same metric on the clip that ffmpeg received in the place of our phone, once reports have come."""
    said, sound = speech(voice)
    sound = np.concatenate((sound[: round(REPORTED_S * 8000)], sound))
    async with application(case, server, portraits.DEFAULT.read_bytes(), 512) as app:
        clip = await ffmpeg.called(app.uri, lambda: talk(app, [sound]), folder, clock)
    try:
        report = ffmpeg.judged(clip, said)
    except ValueError as error:
        return str(error)
    return f"lag {report.lag_ms:+.0f} ms, r {report.r_lag:.3f}, {report.pictures} pictures, {clip}"


async def run(options: argparse.Namespace) -> None:
    """Every case, one call each."""
    async with running_server() as server:
        for case in CASES:
            print(f"{case}: {await with_card(case, server, options.replies)}", flush=True)
    if options.speech:
        async with running_server(engine="portrait") as server:
            for case in (CASES[2], CASES[3], CASES[7]):
                print(
                    f"{case}, {options.speech}: {await with_speech(case, server, options.speech)}", flush=True
                )


async def run_ffmpeg(options: argparse.Namespace) -> None:
    """Both clocks that ffmpeg knows, one call each; the clips stay in ``options.out``."""
    async with running_server(engine="portrait") as server:
        for case in (CASES[7], CASES[3]):
            for clock in CLOCKS:
                folder = options.out / f"{'own' if case.own_channel else 'stock'}-{clock}"
                figures = await with_ffmpeg(case, server, options.speech or "Andrea", folder, clock)
                print(f"{case}, stamps of {clock}: {figures}", flush=True)


def main() -> None:
    """Entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replies", type=int, default=3)
    parser.add_argument("--speech", help="part of the name of a voice of the portrait engine's test set")
    parser.add_argument("--receiver", choices=("phone", "ffmpeg"), default="phone")
    parser.add_argument("--out", type=Path, default=Path("out/roomkit"), help="for the clips of ffmpeg")
    options = parser.parse_args()
    asyncio.run(run_ffmpeg(options) if options.receiver == "ffmpeg" else run(options))


if __name__ == "__main__":
    main()
