"""RoomKit's quick start for avatars with one line changed: a telephone number with a face, on your own server.

    pip install './visavis[roomkit]'    # beside a checkout; where it draws: .venv/bin/python -m inference_server
    python examples/quickstart_roomkit.py portrait.jpg http://127.0.0.1:8500

Give the channel your ``stt``, ``tts`` and an ``AIChannel`` (examples/avatar_call.py has all of it) and it talks.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from roomkit import AudioVideoChannel, RoomKit
from roomkit.video.backends.sip import SIPVideoBackend
from roomkit.video.pipeline.encoder.pyav import PyAVVideoEncoder

from visavis import HTTPAvatarProvider


async def main(image: bytes, avatar_url: str, sip_port: int = 5060) -> None:
    """Answer calls until interrupted."""
    avatar = HTTPAvatarProvider(base_url=avatar_url, fps=30)  # was: MuseTalkAvatarProvider(...)
    await avatar.start(image, width=512, height=512)

    backend = SIPVideoBackend(local_sip_addr=("0.0.0.0", sip_port), supported_video_codecs=["H264"])
    encoder = PyAVVideoEncoder(width=avatar.width, height=avatar.height, fps=avatar.fps)
    channel = AudioVideoChannel("voice", backend=backend, avatar=avatar, avatar_encoder=encoder)
    kit = RoomKit()
    kit.register_channel(channel)

    async def on_call(session: object) -> None:
        room_id = session.id  # type: ignore[attr-defined]
        await kit.create_room(room_id=room_id)
        await kit.attach_channel(room_id, "voice")
        await kit.join(room_id, "voice", session=session)

    backend.on_call(on_call)
    await backend.start()
    print(f"Call sip:avatar@<this machine>:{sip_port}", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await kit.close()
        await avatar.close()


if __name__ == "__main__":
    if not 3 <= len(sys.argv) <= 4:
        sys.exit(__doc__)
    asyncio.run(main(Path(sys.argv[1]).read_bytes(), sys.argv[2], *map(int, sys.argv[3:4])))
