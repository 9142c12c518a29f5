"""An avatar beside RoomKit's ``RealtimeAVBridge``: what the bridge leaves out when a caller speaks."""

from __future__ import annotations

from typing import Any

from visavis.roomkit.provider import ServerAvatarProvider


def stop_lips_with_speech(provider: Any, avatar: ServerAvatarProvider, backend: Any = None) -> None:
    """Have the mouth close, and the voice stop, where a speech-to-speech provider hears the caller speak.

    ``provider``: RoomKit's ``RealtimeVoiceProvider``; ``backend``: the call's, whose queued voice is dropped.
    """

    async def cut(session: Any) -> None:
        avatar.interrupt()
        call = backend.get_session(session.id) if backend is not None else None
        if call is not None:
            await backend.cancel_audio(call)

    provider.on_speech_start(cut)


def listen_to_speech(provider: Any, avatar: ServerAvatarProvider) -> None:
    """Have the face listen while a speech-to-speech provider hears the caller speak, nod at a pause and seem to
    think before an answer.

    ``provider``: RoomKit's ``RealtimeVoiceProvider``.
    """
    provider.on_speech_start(lambda session: avatar.user_speaks(True))
    provider.on_speech_end(lambda session: avatar.user_speaks(False))
