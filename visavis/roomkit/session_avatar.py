"""One session's avatar beside RoomKit's voice: speech goes in order to its provider, pictures to its encoder."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from roomkit.video.base import VideoChunk

from visavis.playout.playback import Playback, follow_playback
from visavis.roomkit.types import AvatarProvider, VideoFrame
from visavis.service.logs import Log
from visavis.service.unhandled import logged

log = Log("visavis.roomkit.channel")

AvatarFactory = Callable[[Any], AvatarProvider | Awaitable[AvatarProvider]]
"""Called with the ``VoiceSession`` of a call; returns a started provider that is the call's own."""

EncoderFactory = Callable[[AvatarProvider], Any]
"""Called with that provider; returns a ``VideoEncoderProvider`` that is the call's own."""

_START_CODE = b"\0\0\0\1"


class SessionAvatar:
    """One call's provider, its encoder, and the threads in which they work.

    ``backend`` and ``session`` are those of the voice, ``video`` and ``video_session`` those of the picture;
    ``recording`` is the feed of a track that RoomKit records the picture in.
    Methods are for the event loop; none of them waits but :meth:`end`.
    """

    def __init__(
        self, backend: Any, video: Any, session: Any, video_session: Any, recording: Any = None
    ) -> None:
        self.provider: AvatarProvider | None = None
        self._recording = recording
        self._encoder: Any = None
        self._session = session
        self._video, self._video_session = video, video_session
        self._loop = asyncio.get_running_loop()
        self._voice = concurrent.futures.ThreadPoolExecutor(1, f"visavis-voice-{session.id[:8]}")
        self._picture = concurrent.futures.ThreadPoolExecutor(1, f"visavis-picture-{session.id[:8]}")
        self._began = self._last = time.monotonic()
        self._cuts = 0
        self._task: asyncio.Task[None] | None = None
        self._drawing = 0
        self._failed = False
        self._early: list[tuple[bytes, int]] = []  # speech from before the provider was there
        playback = Playback(ends_told=True)
        self._unfollow = follow_playback(backend, session, playback)
        self._playback = playback if self._unfollow is not None else None

    def begin(self, avatar_factory: AvatarFactory, encoder_factory: EncoderFactory) -> None:
        """Make provider and encoder, then show the loop while no turn is on."""
        self._task = logged(self._loop.create_task(self._run(avatar_factory, encoder_factory)), "avatar")

    async def end(self) -> None:
        """The call is over."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._unfollow is not None:
            self._unfollow()
        if self._recording is not None:
            self._recording.close()
        self._voice.shutdown(wait=False, cancel_futures=True)
        await self._loop.run_in_executor(None, self._picture.shutdown)
        if self.provider is not None:
            await self.provider.close()
        if self._encoder is not None:
            self._encoder.close()

    def feed(self, data: bytes, sample_rate: int) -> None:
        """Speech, s16le mono; it is kept until there is a provider."""
        if self._failed:
            return
        if self.provider is None:
            self._early.append((data, sample_rate))
        elif self.provider.is_started:
            logged(self._voice.submit(self._feed, self.provider, data, sample_rate, self._cuts), "speech")

    def end_turn(self) -> None:
        """The reply has been fed."""
        if self.provider is not None and self.provider.is_started:
            logged(self._voice.submit(self.provider.end_turn), "end of a turn")

    def interrupt(self) -> None:
        """The voice was cut: what was fed is dropped."""
        self._cuts += 1
        self._early.clear()
        interrupt = getattr(self.provider, "interrupt", None)
        if interrupt is not None:
            interrupt()

    def user_speaks(self, speaks: bool) -> None:
        """The caller begins to speak, or pauses."""
        tell = getattr(self.provider, "user_speaks", None)
        if tell is not None:
            tell(speaks)

    async def _run(self, avatar_factory: AvatarFactory, encoder_factory: EncoderFactory) -> None:
        try:
            made = avatar_factory(self._session)
            provider = await made if inspect.isawaitable(made) else made
            self._encoder = encoder_factory(provider)
        except Exception:
            log.exception("face_missing", session_id=self._session.id)
            self._failed = True
            return
        provider.on_video(self._show)
        if (follow := getattr(provider, "follow", None)) is not None:
            follow(self._playback)
        self.provider, early, self._early = provider, self._early, []
        for data, sample_rate in early:
            self.feed(data, sample_rate)
        await self._show_loop(provider)

    async def _show_loop(self, provider: AvatarProvider) -> None:
        """A picture of the loop whenever none of a turn has come for a while."""
        period, count = 1 / provider.fps, 0
        while True:
            count += 1
            await asyncio.sleep(max(0.0, self._began + count * period - time.monotonic()))
            count = max(count, int((time.monotonic() - self._began) / period))
            if time.monotonic() - self._last > 1.5 * period and not self._drawing:
                self._drawing += 1
                logged(self._picture.submit(self._idle, provider), "idle picture")

    def _feed(self, provider: AvatarProvider, data: bytes, sample_rate: int, cuts: int) -> None:
        if cuts != self._cuts:
            return
        try:
            for frame in provider.feed_audio(data, sample_rate):
                self._show(frame)
        except Exception:
            log.exception("speech_not_taken", session_id=self._session.id)

    def _idle(self, provider: AvatarProvider) -> None:
        try:
            frame = provider.get_idle_frame()
            if frame is not None:
                self._draw(frame)
        except Exception:
            log.exception("idle_picture_missing", session_id=self._session.id)
        finally:
            self._drawing -= 1

    def _show(self, frame: VideoFrame) -> None:
        """A picture of a turn; from the provider's thread."""
        self._last = time.monotonic()
        if self._drawing > 2:
            return  # the encoder does not keep up
        self._drawing += 1
        try:
            logged(self._picture.submit(self._turn_picture, frame), "picture")
        except RuntimeError:
            self._drawing -= 1  # the call is over

    def _turn_picture(self, frame: VideoFrame) -> None:
        try:
            self._draw(frame)
        finally:
            self._drawing -= 1

    def _draw(self, frame: VideoFrame) -> None:
        at = (time.monotonic() - self._began) * 1000
        if self._recording is not None and frame.codec == "raw_rgb24":
            self._recording.feed(frame.data, at)
        nals = self._encoder.encode(frame)
        if not nals:
            return
        keyframe = any(nal and nal[0] & 0x1F == 5 for nal in nals)
        data = b"".join(_START_CODE + nal for nal in nals)
        chunk = VideoChunk(
            data=data, timestamp_ms=at, keyframe=keyframe, width=frame.width, height=frame.height
        )
        logged(asyncio.run_coroutine_threadsafe(self._send(chunk), self._loop), "picture")

    async def _send(self, chunk: Any) -> None:
        async def one() -> AsyncIterator[Any]:
            yield chunk

        if self._video.get_session(self._session.id) is None:
            return  # the call is over
        try:
            await self._video.send_video(self._video_session, one())
        except Exception as e:
            log.debug("picture_not_sent", session_id=self._session.id, reason=str(e))
