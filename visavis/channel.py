"""RoomKit's ``AudioVideoChannel`` with a face of its own for every call (RoomKit 0.109, Python 3.12)."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import inspect
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

from visavis.lead import held_back
from visavis.logs import Log
from visavis.playback import Playback, follow_playback
from visavis.roomkit import AvatarProvider, VideoFrame

try:
    from roomkit import AudioVideoChannel, HookExecution, HookTrigger
    from roomkit.video.base import VideoChunk
except ImportError as e:
    raise ImportError(
        "AvatarVideoChannel needs RoomKit: Python 3.12 or newer and pip install 'visavis[roomkit]'"
    ) from e

log = Log("visavis.channel")

AvatarFactory = Callable[[Any], AvatarProvider | Awaitable[AvatarProvider]]
"""Called with the ``VoiceSession`` of a call; returns a started provider that is the call's own."""

EncoderFactory = Callable[[AvatarProvider], Any]
"""Called with that provider; returns a ``VideoEncoderProvider`` that is the call's own."""

_START_CODE = b"\0\0\0\1"


class AvatarVideoChannel(AudioVideoChannel):  # type: ignore[misc]
    """One provider and one encoder per session, so that two calls on one channel are really two.

    Pictures follow what is played where the provider can (:meth:`~ServerAvatarProvider.attach`), carry RTP
    timestamps of the time they are shown at whatever the frame rate, and stop with the voice that is cut.
    ``lead_s`` is how much of the voice the face hears before it is played: as much as an engine looks ahead and
    needs to draw. It delays a voice that is made no faster than it is played by that much, a fast one hardly.
    The other arguments are those of ``AudioVideoChannel``. A factory that fails costs its call the picture,
    never the voice.
    """

    def __init__(
        self,
        channel_id: str,
        *,
        avatar_factory: AvatarFactory,
        encoder_factory: EncoderFactory,
        lead_s: float = 0.4,
        **options: Any,
    ) -> None:
        for name in ("avatar", "avatar_encoder"):
            if name in options:
                raise ValueError(f"{name} is one for all calls: give {name.removeprefix('avatar_')}_factory")
        super().__init__(channel_id, **options)
        self._avatar_factory = avatar_factory
        self._encoder_factory = encoder_factory
        self._lead_s = lead_s
        self._faces: dict[str, _Face] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._outbound_audio_taps.append(self._feed_face)

    def provider(self, session: Any) -> AvatarProvider | None:
        """The provider of a call, once its factory has made it."""
        face = self._faces.get(session.id)
        return face.provider if face is not None else None

    def interrupt_lips(self, session: Any) -> None:
        """The voice of a call was cut: so is its mouth. :func:`stop_lips_with_voice` calls it."""
        face = self._faces.get(session.id)
        if face is not None:
            face.interrupt()

    def unbind_session(self, session: Any) -> None:
        """The call is over; so is its face."""
        self._drop_face(session.id)
        super().unbind_session(session)

    async def close(self) -> None:
        """End every call's face, then the channel."""
        for session_id in list(self._faces):
            self._drop_face(session_id)
        if self._leaving:
            await asyncio.gather(*self._leaving, return_exceptions=True)
        await super().close()

    def _start_avatar_idle_loop(self, session: Any) -> None:
        """Called by ``bind_session`` for calls that have video."""
        video_session = self._get_video_session(session.id)
        if video_session is None or session.id in self._faces:
            return
        face = _Face(self._backend, self._video_backend, session, video_session)
        self._faces[session.id] = face
        face.begin(self._avatar_factory, self._encoder_factory)

    async def _wrap_outbound(self, session: Any, chunks: AsyncIterator[Any]) -> AsyncGenerator[Any]:
        """Called with every reply; the taps, and with them the face, hear it first."""
        tapped = super()._wrap_outbound(session, chunks)

        async def to_its_end() -> AsyncIterator[Any]:
            async for chunk in tapped:
                yield chunk
            face = self._faces.get(session.id)
            if face is not None:
                face.end_turn()

        async with contextlib.aclosing(held_back(to_its_end(), self._lead_s, _seconds)) as voice:
            async for chunk in voice:
                yield chunk

    def _feed_face(self, session: Any, data: bytes, sample_rate: int) -> None:
        face = self._faces.get(session.id)
        if face is not None:
            face.feed(data, sample_rate)

    def _drop_face(self, session_id: str) -> None:
        face = self._faces.pop(session_id, None)
        if face is not None:
            task = asyncio.get_running_loop().create_task(face.end())
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)


def stop_lips_with_voice(kit: Any, face: AvatarVideoChannel | AvatarProvider, **options: Any) -> None:
    """Have the mouth close when RoomKit cuts the voice (``ON_BARGE_IN``, ``ON_TTS_CANCELLED``).

    ``face``: a channel, or the one provider of an ``AudioVideoChannel``; ``options`` go to ``kit.hook``.
    """

    async def cut(event: Any, context: Any) -> None:
        if isinstance(face, AvatarVideoChannel):
            face.interrupt_lips(event.session)
        elif (interrupt := getattr(face, "interrupt", None)) is not None:
            interrupt()

    for trigger in (HookTrigger.ON_BARGE_IN, HookTrigger.ON_TTS_CANCELLED):
        settings = {"name": f"visavis_{trigger.value}_{id(face):x}", **options}
        kit.hook(trigger, HookExecution.ASYNC, **settings)(cut)


def _seconds(chunk: Any) -> float:
    return float(len(chunk.data) / (2 * max(1, chunk.channels) * chunk.sample_rate))


class _Face:
    """One call's provider, encoder, and the thread in which they meet."""

    def __init__(self, backend: Any, video: Any, session: Any, video_session: Any) -> None:
        self.provider: AvatarProvider | None = None
        self._encoder: Any = None
        self._backend, self._video = backend, video
        self._session, self._video_session = session, video_session
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
        self._task = self._loop.create_task(self._run(avatar_factory, encoder_factory))

    async def end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._unfollow is not None:
            self._unfollow()
        self._voice.shutdown(wait=False, cancel_futures=True)
        await self._loop.run_in_executor(None, self._picture.shutdown)
        if self.provider is not None:
            await self.provider.close()
        if self._encoder is not None:
            self._encoder.close()

    def feed(self, data: bytes, sample_rate: int) -> None:
        """In the event loop; in order, and never waited for."""
        if self._failed:
            return
        if self.provider is None:
            self._early.append((data, sample_rate))
        elif self.provider.is_started:
            self._voice.submit(self._feed, self.provider, data, sample_rate, self._cuts)

    def end_turn(self) -> None:
        """The reply has been fed; in the event loop."""
        if self.provider is not None and self.provider.is_started:
            self._voice.submit(self.provider.end_turn)

    def interrupt(self) -> None:
        self._cuts += 1
        self._early.clear()
        interrupt = getattr(self.provider, "interrupt", None)
        if interrupt is not None:
            interrupt()

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
        period, count = 1 / provider.fps, 0
        while True:
            count += 1
            await asyncio.sleep(max(0.0, self._began + count * period - time.monotonic()))
            count = max(count, int((time.monotonic() - self._began) / period))
            if time.monotonic() - self._last > 1.5 * period and not self._drawing:
                self._drawing += 1
                self._picture.submit(self._idle, provider)

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
            self._picture.submit(self._turn_picture, frame)
        except RuntimeError:
            self._drawing -= 1  # the call is over

    def _turn_picture(self, frame: VideoFrame) -> None:
        try:
            self._draw(frame)
        finally:
            self._drawing -= 1

    def _draw(self, frame: VideoFrame) -> None:
        at = (time.monotonic() - self._began) * 1000
        nals = self._encoder.encode(frame)
        if not nals:
            return
        keyframe = any(nal and nal[0] & 0x1F == 5 for nal in nals)
        data = b"".join(_START_CODE + nal for nal in nals)
        chunk = VideoChunk(
            data=data, timestamp_ms=at, keyframe=keyframe, width=frame.width, height=frame.height
        )
        asyncio.run_coroutine_threadsafe(self._send(chunk), self._loop)

    async def _send(self, chunk: Any) -> None:
        async def one() -> AsyncIterator[Any]:
            yield chunk

        try:
            await self._video.send_video(self._video_session, one())
        except Exception as e:
            log.debug("picture_not_sent", session_id=self._session.id, reason=str(e))
