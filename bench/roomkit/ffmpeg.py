"""A RoomKit call whose phone is ffmpeg: its ports are the ones in the offer, and nothing of ours is in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from bench.lipsync.call import RECEIVED_RATE, found
from inference_server.engines.portrait.features import HOP
from inference_server.lipsync.clip import RATE, read_pictures, read_sound
from inference_server.lipsync.lips import track_lips
from inference_server.lipsync.measure import LipSyncReport, compare
from inference_server.lipsync.target import from_phones
from testing.caller.phone import offer
from testing.caller.signalling import Dialog
from testing.training.corpus import Clip
from tests.peers.receivers import ffmpeg_clip

Clock = Literal["rtcp", "arrival"]
CLOCKS: tuple[Clock, ...] = get_args(Clock)
REPORTED_S = 8.5
"""Speech after which its stream has had a sender report: RoomKit sends one every 2.5 to 7.5 s, and none before
it has sent sound."""
LOCAL = "127.0.0.1"


async def called(uri: str, talk: Callable[[], Awaitable[None]], folder: Path, clock: Clock) -> Path:
    """The clip that ffmpeg wrote of a call during which ``talk`` runs, its time stamps by ``clock``.

    It sends no sound of its own, as a phone that is muted. Raises :class:`testing.caller.CallFailed`.
    """
    async with ffmpeg_clip(folder, arrival=clock == "arrival") as receiver, Dialog(uri, LOCAL) as dialog:
        await dialog.invite(offer(LOCAL, receiver.port, receiver.port + 2))
        await talk()
    return folder / "clip.mkv"


def judged(clip: Path, said: Clip) -> LipSyncReport:
    """The lip-sync metric on the clip, by the phones of what was said in it. Raises ``ValueError``."""
    sound = read_sound(clip)
    import soxr  # of the bench's speech alone

    heard = soxr.resample(sound.pcm.astype(np.float32), RATE, RECEIVED_RATE).astype(np.int16)
    at, _ = found(heard, said.pcm)
    start, seconds = sound.start_s + at, len(said.pcm) / RATE
    lips = track_lips((t, image) for t, image in read_pictures(clip) if start - 1 < t < start + seconds + 1)
    return compare(lips, from_phones(said.phones, len(said.pcm) // HOP), start)
