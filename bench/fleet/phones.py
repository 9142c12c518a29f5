"""Many phones in a process of their own, and what each of them saw and heard."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import av
import numpy as np

from testing.caller import CallFailed, Phone
from testing.caller.recording import Recording
from testing.card import read_card

CALLS_A_SECOND = 15
REFUSED_S = 60.0
"""A busy machine may refuse a call for a while, which is as it should be."""
LATE_S = 0.020
_LOUD = 500


@dataclass
class CallFigures:
    """One call as its phone had it; seconds, on the voice's time line.

    ``away``: for each turn, the longest time without a new mouth. ``astray``: for each turn, how far from its own
    place in the voice the worst mouth was shown.
    """

    hung_up: bool
    packets: int
    lost: int
    skipped: int
    late: int
    worst_late: float
    turns: list[float] = field(default_factory=list)  # heard
    away: list[float] = field(default_factory=list)
    astray: list[float] = field(default_factory=list)
    ticks: int = 0
    shown: int = 0


def judge(recording: Recording, hung_up: bool, fps: float) -> CallFigures:
    """What a recording shows: voice by its packets, lips by the test cards."""
    voice = recording.audio.ordered()
    stamps = np.array([p.timestamp for p in voice])
    delay = np.array([p.arrived for p in voice]) - stamps / 8000
    late = delay - delay.min()
    figures = CallFigures(
        hung_up,
        len(voice),
        recording.audio.lost,
        int((np.diff(stamps) - 160).sum() // 160),
        int((late > LATE_S).sum()),
        float(late.max()),
    )
    said = spans(recording)
    mouths = new_mouths(recording, said, fps)
    for begin, end in said:
        seen = [at for at, _ in mouths if begin <= at <= end]
        places = [at - begin - number / fps for at, number in mouths if begin <= at <= end]
        figures.astray.append(max(map(abs, places), default=0.0))
        figures.turns.append(end - begin)
        figures.ticks += round((end - begin) * fps)
        figures.shown += min(len(seen), round((end - begin) * fps))
        figures.away.append(max(0.0, float(np.diff([begin, *seen, end]).max()) - 1 / fps))
    return figures


def new_mouths(
    recording: Recording, said: Sequence[tuple[float, float]], fps: float
) -> list[tuple[float, int]]:
    """Pictures with another mouth than the one before, while it spoke: moment on the voice's time line, and the
    number of the mouth's frame in its turn."""
    if not said or not recording.audio.reports or not recording.video.reports:
        return []
    zero = recording.audio.sender_time(recording.audio.ordered()[0].timestamp)
    decoder: Any = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    out, previous, turn = [], -1, 0
    for data, timestamp, _ in recording.access_units():
        at = recording.video.sender_time(timestamp) - zero
        while turn < len(said) - 1 and at > said[turn][1]:
            turn, previous = turn + 1, -1
        try:
            pictures = decoder.decode(av.Packet(data))
        except av.error.InvalidDataError:  # what it refers to was lost on the way: nothing is seen
            continue
        for picture in pictures:
            if said[turn][0] - 0.5 / fps <= at <= said[turn][1]:
                card = read_card(picture.to_ndarray()[: picture.height])
                if card is not None and card.mouth is not None and card.mouth.frame != previous:
                    previous = card.mouth.frame
                    out.append((max(said[turn][0], at), card.mouth.frame))
    return out


def spans(recording: Recording) -> list[tuple[float, float]]:
    """When somebody spoke: (begin, end) on the voice's time line, short pauses included."""
    samples = recording.samples()
    blocks = np.abs(samples[: len(samples) // 160 * 160].astype(np.int32)).reshape(-1, 160).max(axis=1)
    loud = np.flatnonzero(blocks > _LOUD)
    if not len(loud):
        return []
    cuts = np.flatnonzero(np.diff(loud) > 25)
    begins, ends = loud[[0, *(cuts + 1)]], loud[[*cuts, -1]] + 1
    return [(0.02 * b, 0.02 * e) for b, e in zip(begins, ends, strict=True)]


def run(pipe: Connection, uris: Sequence[str], fps: float) -> None:
    """The process: opens the calls and says so; at a word hangs up and sends a list of :class:`CallFigures`."""
    try:
        global _heard
        _heard = asyncio.run(_call(pipe, uris))
        gc.unfreeze()
        context = multiprocessing.get_context("fork")
        with context.Pool(os.cpu_count()) as pool:
            pipe.send(pool.starmap(_judge, [(i, fps) for i in range(len(_heard))]))
    except Exception as error:
        pipe.send(error)


_heard: list[tuple[Recording, bool]] = []


def _judge(index: int, fps: float) -> CallFigures:
    return judge(*_heard[index], fps)


async def _call(pipe: Connection, uris: Sequence[str]) -> list[tuple[Recording, bool]]:
    phones: list[Phone] = []
    gc.collect()
    gc.freeze()
    gc.disable()
    for uri in uris:
        phones.append(await _dial(uri))
        await asyncio.sleep(1 / CALLS_A_SECOND)
    pipe.send(len(phones))
    await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
    heard = [(phone.recording, phone.hung_up.is_set()) for phone in phones]
    await asyncio.gather(*(phone.__aexit__() for phone in phones))
    return heard


async def _dial(uri: str) -> Phone:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + REFUSED_S
    while True:
        try:
            return await Phone(uri).__aenter__()
        except CallFailed as refused:
            if "503" not in str(refused) or loop.time() > deadline:
                raise
            await asyncio.sleep(1.0)


class Phones:
    """The process from outside; use from a thread of its own where the event loop must not wait."""

    def __init__(self, uris: Sequence[str], fps: float) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, end = context.Pipe()
        self._process = context.Process(target=run, args=(end, list(uris), fps))
        self._process.start()
        end.close()

    def called(self) -> int:
        """Waits until every call is answered. Raises what went wrong."""
        called = self._receive()
        assert isinstance(called, int)
        return called

    def hang_up(self) -> list[CallFigures]:
        """End all calls; returns what they were like."""
        self._pipe.send("hang up")
        figures = self._receive()
        assert isinstance(figures, list)
        self._process.join()
        return figures

    def close(self) -> None:
        """End the process."""
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        self._pipe.close()

    def _receive(self) -> object:
        news: object = self._pipe.recv()
        if isinstance(news, Exception):
            raise news
        return news
