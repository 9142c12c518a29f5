"""RoomKit's ``AudioVideoChannel`` with an avatar of its own for every call (RoomKit 0.109, Python 3.12)."""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

from visavis.roomkit.delay import delayed
from visavis.roomkit.types import AvatarProvider
from visavis.service.unhandled import logged

try:
    from roomkit import AudioVideoChannel, HookExecution, HookTrigger
    from roomkit.recorder.base import RecordingTrack

    from visavis.roomkit.session_avatar import AvatarFactory, EncoderFactory, SessionAvatar
except ImportError as e:
    raise ImportError(
        "AvatarVideoChannel needs RoomKit: Python 3.12 or newer, pip install '.[roomkit]' in a checkout"
    ) from e

__all__ = [
    "AvatarFactory",
    "AvatarVideoChannel",
    "EncoderFactory",
    "listen_to_caller",
    "stop_lips_with_voice",
]


class AvatarVideoChannel(AudioVideoChannel):  # type: ignore[misc]
    """One provider and one encoder per session, so that two calls on one channel are really two.

    Pictures follow what is played where the provider can (:meth:`~ServerAvatarProvider.attach`), carry RTP
    timestamps of the time they are shown at whatever the frame rate, and stop with the voice that is cut.
    ``voice_delay_s`` is how much of the voice the avatar hears before it is played: what an engine looks ahead and
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
        voice_delay_s: float = 0.4,
        lead_s: float | None = None,
        **options: Any,
    ) -> None:
        for name in ("avatar", "avatar_encoder"):
            if name in options:
                raise ValueError(f"{name} is one for all calls: give {name.removeprefix('avatar_')}_factory")
        if lead_s is not None:
            warnings.warn(
                "lead_s goes with the next release: use voice_delay_s", DeprecationWarning, stacklevel=2
            )
        super().__init__(channel_id, **options)
        self._avatar_factory = avatar_factory
        self._encoder_factory = encoder_factory
        self._voice_delay_s = voice_delay_s if lead_s is None else lead_s
        self._session_avatars: dict[str, SessionAvatar] = {}
        self._recordings: dict[str, Any] = {}  # of calls that have not joined yet
        self._leaving: set[asyncio.Task[None]] = set()
        self.add_outbound_media_tap(self._feed_avatar)

    def provider(self, session: Any) -> AvatarProvider | None:
        """The provider of a call, once its factory has made it."""
        avatar = self._session_avatars.get(session.id)
        return avatar.provider if avatar is not None else None

    def interrupt_lips(self, session: Any) -> None:
        """The voice of a call was cut: so is its mouth. :func:`stop_lips_with_voice` calls it."""
        avatar = self._session_avatars.get(session.id)
        if avatar is not None:
            avatar.interrupt()

    def user_speaks(self, session: Any, speaks: bool) -> None:
        """The caller begins to speak, or pauses. :func:`listen_to_caller` calls it."""
        avatar = self._session_avatars.get(session.id)
        if avatar is not None:
            avatar.user_speaks(speaks)

    async def record_picture(
        self, kit: Any, room_id: str, session: Any, *, width: int = 512, height: int = 512
    ) -> bool:
        """Have the avatar's picture in a room's recordings, idle included; to be called before ``kit.join``.

        RoomKit records the caller's picture and both voices by itself. ``width``, ``height``: of the avatar. False
        where the room records nothing.
        """
        track = RecordingTrack(
            f"avatar-{session.id}", "video", self.channel_id, codec="raw_rgb24", width=width, height=height
        )
        feed = await kit.add_room_recording_track(room_id, track)
        if feed is not None:
            self._recordings[session.id] = feed
        return feed is not None

    def bind_session(self, session: Any, *args: Any, **options: Any) -> None:
        """A call is there; one with video gets an avatar."""
        super().bind_session(session, *args, **options)
        video = getattr(self.backend, "video", None)
        video_session = video.get_session(session.id) if video is not None else None
        if video_session is None or session.id in self._session_avatars:
            return
        recording = self._recordings.pop(session.id, None)
        avatar = SessionAvatar(self.backend, video, session, video_session, recording)
        self._session_avatars[session.id] = avatar
        avatar.begin(self._avatar_factory, self._encoder_factory)

    def unbind_session(self, session: Any) -> None:
        """The call is over; so is its avatar."""
        self._drop_avatar(session.id)
        super().unbind_session(session)

    async def close(self) -> None:
        """End every call's avatar, then the channel."""
        for session_id in list(self._session_avatars):
            self._drop_avatar(session_id)
        if self._leaving:
            await asyncio.gather(*self._leaving, return_exceptions=True)
        await super().close()

    async def _wrap_outbound(self, session: Any, chunks: AsyncIterator[Any]) -> AsyncGenerator[Any]:
        """Called with every reply; the taps, and with them the avatar, hear it first.

        The one private hook of RoomKit that is overridden: no public one can delay a reply or tells its end.
        """
        tapped = super()._wrap_outbound(session, chunks)

        async def to_its_end() -> AsyncIterator[Any]:
            async for chunk in tapped:
                yield chunk
            avatar = self._session_avatars.get(session.id)
            if avatar is not None:
                avatar.end_turn()

        async with contextlib.aclosing(delayed(to_its_end(), self._voice_delay_s, _seconds)) as voice:
            async for chunk in voice:
                yield chunk

    def _feed_avatar(self, session: Any, data: bytes, sample_rate: int) -> None:
        avatar = self._session_avatars.get(session.id)
        if avatar is not None:
            avatar.feed(data, sample_rate)

    def _drop_avatar(self, session_id: str) -> None:
        avatar = self._session_avatars.pop(session_id, None)
        if avatar is not None:
            task = logged(asyncio.get_running_loop().create_task(avatar.end()), "avatar")
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
        _hook(kit, trigger, face, cut, options)


def listen_to_caller(kit: Any, face: AvatarVideoChannel | AvatarProvider, **options: Any) -> None:
    """Have the face listen while RoomKit hears the caller speak, nod at a pause and seem to think before an answer
    (``ON_SPEECH_START``, ``ON_SPEECH_END``: the pipeline has a ``vad``, or the ``stt`` finds speech itself).

    ``face``: a channel, or the one provider of an ``AudioVideoChannel``; ``options`` go to ``kit.hook``.
    """

    def hear(speaks: bool) -> Callable[[Any, Any], Awaitable[None]]:
        async def heard(session: Any, context: Any) -> None:
            if isinstance(face, AvatarVideoChannel):
                face.user_speaks(session, speaks)
            elif (tell := getattr(face, "user_speaks", None)) is not None:
                tell(speaks)

        return heard

    _hook(kit, HookTrigger.ON_SPEECH_START, face, hear(True), options)
    _hook(kit, HookTrigger.ON_SPEECH_END, face, hear(False), options)


def _hook(kit: Any, trigger: Any, face: Any, call: Callable[..., Any], options: dict[str, Any]) -> None:
    settings = {"name": f"visavis_{trigger.value}_{id(face):x}", **options}
    kit.hook(trigger, HookExecution.ASYNC, **settings)(call)


def _seconds(chunk: Any) -> float:
    return float(len(chunk.data) / (2 * max(1, chunk.channels) * chunk.sample_rate))
