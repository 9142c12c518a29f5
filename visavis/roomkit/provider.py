"""The RoomKit-shaped avatar provider over avatar servers, whatever they speak."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import time
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Literal, TypedDict

import numpy as np

from visavis.audio import Resampler, WholeSamples
from visavis.client.body_cache import BodyCache
from visavis.client.model import AvatarSource, FitMode
from visavis.client.pool import ServerPool
from visavis.client.server import ServerClient
from visavis.errors import InvalidRequest, ServerUnavailable
from visavis.frames import SAMPLE_RATE
from visavis.playout.attention import Attention, FaceState
from visavis.playout.playback import Playback, follow_playback
from visavis.roomkit.background import Background, shared_background
from visavis.roomkit.feeder import Feeder
from visavis.roomkit.provider_session import ProviderSession
from visavis.roomkit.types import AvatarProvider, VideoFrame
from visavis.service.logs import Log

log = Log("visavis.roomkit.provider")

OutputCodec = Literal["raw_rgb24", "raw_yuv420p"]


class ProviderOptions(TypedDict, total=False):
    """What every provider over a server takes beside its address; see :class:`ServerAvatarProvider`."""

    timeout: float
    connect_timeout: float
    sample_rate: int | None
    is_async: bool
    continuous: bool
    playback_delay: float
    fit: FitMode
    settings: Mapping[str, str] | None
    codec: OutputCodec
    cache_directory: str | os.PathLike[str] | None
    cache_bytes: int


class ServerAvatarProvider(AvatarProvider):
    """A RoomKit-shaped provider over avatar servers; only the transport (``connect``) differs between its kinds.

    One provider is one conversation: a second caller at the same time gets :class:`ProviderMisuse`.
    ``addresses`` are tried by load, the next is taken on failure. ``sample_rate`` is the rate of what is fed,
    where given; else the one told with each chunk. ``playback_delay`` is how many seconds after it was fed
    audio is heard. ``connect_timeout`` bounds how long :meth:`start` waits for a server: without one it
    returns all the same, and the face appears when a server is there. ``timeout`` bounds the preparation (both in
    seconds). ``fit`` is how the portrait fills the picture, ``settings`` are the engine's own. Pictures have the
    ``codec`` ``raw_rgb24`` (``height`` x ``width`` x 3 bytes) or ``raw_yuv420p`` (I420). Bodies are kept in
    ``cache_directory``, at most ``cache_bytes`` of them. ``continuous``: pictures come through :meth:`on_video` all
    the time, idle included, for callers that never ask for idle ones (RoomKit's ``RealtimeAVBridge``).
    """

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        connect: Callable[[str], ServerClient],
        fps: int | Fraction = 30,
        timeout: float = 30.0,
        connect_timeout: float = 5.0,
        sample_rate: int | None = None,
        is_async: bool = True,
        continuous: bool = False,
        playback_delay: float = 0.0,
        fit: FitMode = "crop",
        settings: Mapping[str, str] | None = None,
        codec: OutputCodec = "raw_rgb24",
        cache_directory: str | os.PathLike[str] | None = None,
        cache_bytes: int = 2 << 30,
    ) -> None:
        if continuous and not is_async:
            raise ValueError("continuous pictures come through on_video: leave is_async as it is")
        self._addresses = list(addresses)
        self._connect = connect
        self._fps = Fraction(fps)
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._sample_rate = sample_rate
        self._is_async = is_async
        self._continuous = continuous
        self._size = (0, 0)
        self._playback_delay = playback_delay
        self._fit: FitMode = fit
        self._settings = dict(settings or {})
        self._codec: OutputCodec = codec
        self._cache = BodyCache(cache_directory, cache_bytes)
        self._callbacks: list[Callable[[VideoFrame], Any]] = []
        self._background: Background | None = None
        self._preparing: concurrent.futures.Future[None] | None = None
        self._waits_for = ""  # one sentence, while the preparation cannot go on
        self._pool: ServerPool | None = None
        self._session: ProviderSession | None = None
        self._resampler: Resampler | None = None
        self._whole = WholeSamples()
        self._feeder = Feeder()
        self._playback: Playback | None = None
        self._attention = Attention(time.monotonic)
        self._detach: Callable[[], None] | None = None

    # -- RoomKit's interface --

    @property
    def name(self) -> str:
        return "visavis"

    @property
    def fps(self) -> int:
        return round(self._fps)

    @property
    def width(self) -> int:
        """Of the pictures, in pixels; 0 before :meth:`start`. Give it to the encoder."""
        return self._size[0]

    @property
    def height(self) -> int:
        """Of the pictures, in pixels; 0 before :meth:`start`. Give it to the encoder."""
        return self._size[1]

    @property
    def is_started(self) -> bool:
        return self._background is not None

    @property
    def is_async(self) -> bool:
        return self._is_async

    @property
    def is_ready(self) -> bool:
        """The face can be shown: the avatar is prepared and its body is here."""
        return self._session is not None

    async def start(self, reference_image: bytes, *, width: int = 512, height: int = 512) -> None:
        """Prepare the portrait on a server and fetch its body. Raises :class:`InvalidRequest` on a bad one."""
        await self.stop()
        if not reference_image:
            raise InvalidRequest("there is no portrait: start the avatar with one before anything else does")
        self._size = (width, height)
        source = AvatarSource(reference_image, width, height, self._fps, self._fit, self._settings)
        background = self._background = shared_background()
        try:
            self._pool = await background.run(self._start_pool())
            self._preparing = background.submit(self._prepare(self._pool, source))
            await background.run(self._pool.wait_usable(self._connect_timeout))
            async with asyncio.timeout(self._timeout):
                await asyncio.shield(asyncio.wrap_future(self._preparing))
        except (ServerUnavailable, TimeoutError) as e:
            log.warning("avatar_not_prepared", reason=str(e) or self._waits_for or "timeout")
            if self._preparing is not None:
                self._preparing.add_done_callback(_tell_refusal)
        except BaseException:
            await self.stop()
            raise

    def feed_audio(self, pcm_data: bytes, sample_rate: int = SAMPLE_RATE) -> list[VideoFrame]:
        """Speech, s16le mono of any length. In synchronous mode returns the pictures that it settles.

        A piece may end in the middle of a sample: the byte is kept for the next one, and dropped where the turn
        ends or is cut. Raises :class:`ProviderMisuse` where two threads feed one turn.
        """
        self._feeder.claim()
        if self._feeder.brings_what_was_cut():
            return []
        samples = self._whole.push(pcm_data)  # of speech that nothing shows yet as well
        session = self._session
        if session is None:
            return []
        rate = self._sample_rate or sample_rate
        if self._resampler is None or self._resampler.rate != rate:
            self._resampler = Resampler(rate)
        pcm = self._resampler.push(samples)
        if self._is_async:
            session.feed(pcm)
            self._feeder.hold_back(lambda: session.ahead_s, lambda: self._session is session)
            return []
        return session.feed_and_wait(pcm)

    def end_turn(self) -> None:
        """The voice has said what it had to say; its mouth closes when that has been shown."""
        self._finish(wait=False)

    def flush(self) -> list[VideoFrame]:
        """End the turn; in synchronous mode returns what is left of it."""
        return self._finish(wait=not self._is_async)

    def interrupt(self) -> None:
        """The voice was cut: the mouth is at rest with the next picture but one, what was fed is dropped."""
        self._feeder.cut()
        self._whole.reset()
        if self._resampler is not None:
            self._resampler.reset()
        if self._session is not None:
            self._session.interrupt()

    def user_speaks(self, speaks: bool) -> None:
        """The user begins to speak, or pauses: the face listens, nods at a pause, then seems to think."""
        self._attention.voice(speaks)

    def show_state(self, state: FaceState | None) -> None:
        """What the face does while nothing is said; ``None``, as it begins: :meth:`user_speaks` tells.

        Who is ``thinking`` does so until the first sound of a turn.
        """
        self._attention.tell(state or "")

    def attach(self, backend: Any, session: Any) -> Callable[[], None]:
        """Follow what RoomKit's voice ``backend`` really plays into ``session``; returns what ends that.

        From then on pictures are those of the sound that is heard, through pauses, late starts and cuts.
        With a backend that does not tell what it plays, pictures go on by what is fed.
        """
        self.detach()
        playback = Playback()
        stop = follow_playback(backend, session, playback)
        if stop is None:
            log.warning(
                "playback_not_told",
                reason="the voice backend does not tell what it plays: pictures follow what is fed",
            )
            return self.detach
        self.follow(playback)
        self._detach = stop
        return self.detach

    def follow(self, playback: Playback | None) -> None:
        """Pace pictures by this playback, which has counted all audio that is fed from now on."""
        self._playback = playback
        if self._session is not None:
            self._session.follow(playback)

    def detach(self) -> None:
        """Pace pictures by what is fed again."""
        stop, self._detach = self._detach, None
        if stop is not None:
            stop()
        self.follow(None)

    def on_video(self, callback: Callable[[VideoFrame], Any]) -> None:
        self._callbacks.append(callback)

    def get_idle_frame(self) -> VideoFrame | None:
        """The picture that is due: the loop goes on with every call, from where speech has left it."""
        return self._session.idle_frame() if self._session is not None else None

    async def stop(self) -> None:
        self.detach()
        background, self._background = self._background, None
        session, self._session = self._session, None
        pool, self._pool = self._pool, None
        preparing, self._preparing = self._preparing, None
        if background is None:
            return
        if preparing is not None:
            preparing.cancel()
        if session is not None:
            await background.run(session.close())
        if pool is not None:
            await background.run(pool.close())

    # -- inside --

    def _finish(self, wait: bool) -> list[VideoFrame]:
        self._feeder.release()
        self._whole.reset()
        session = self._session
        if session is None:
            return []
        tail = self._resampler.flush() if self._resampler is not None else np.zeros(0, np.int16)
        if wait:
            return session.feed_and_wait(tail, end=True)
        session.feed(tail)
        session.end()
        return []

    async def _start_pool(self) -> ServerPool:
        pool = ServerPool(self._addresses, connect=self._connect)
        await pool.start()
        return pool

    async def _prepare(self, pool: ServerPool, source: AvatarSource) -> None:
        """Until the face can be shown, or the portrait is refused."""

        def on_wait(reason: str) -> None:
            self._waits_for = reason

        avatar, body = await pool.ready(source, self._cache, on_wait=on_wait)
        if pool is not self._pool:
            return  # stopped meanwhile
        session = ProviderSession(
            pool,
            source,
            self._cache,
            self._show,
            attention=self._attention,
            codec=self._codec,
            paced=self._is_async,
            continuous=self._continuous,
            delay_s=self._playback_delay,
            wait_s=min(1.0, self._timeout),
            playback=self._playback,
        )
        session.open(avatar, body)
        self._session = session

    def _show(self, frame: VideoFrame) -> None:
        for callback in self._callbacks:
            try:
                callback(frame)
            except Exception:
                log.exception("video_callback_failed")


def _tell_refusal(preparing: concurrent.futures.Future[None]) -> None:
    if not preparing.cancelled() and (error := preparing.exception()) is not None:
        log.error("avatar_refused", reason=str(error))
