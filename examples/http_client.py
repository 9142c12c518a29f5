"""An avatar's lips over HTTP in plain Python: ``python examples/http_client.py face.jpg speech.wav http://...:8500``.

Needs ``httpx`` and ``websockets``, and in ``VISAVIS_TOKEN`` what ``visavis-token fleet`` prints. ``speech.wav`` is
16-bit mono at 16 kHz. Prints every frame that comes; a player would paste ``pixels`` (I420) over frame
``loop_index`` of the body when ``sample`` is heard, wherever in the loop the server leads it: the head moves with
the voice.
"""

import json
import os
import struct
import sys
import wave
from pathlib import Path

import httpx
from websockets.sync.client import connect

AUDIO = struct.Struct("<BBHIQQ")
FRAME = struct.Struct("<BBHIQQIHHHHI")


def speak(image: bytes, pcm: bytes, url: str, token: str) -> int:
    """Send one turn, print its frames and return how many came."""
    who = {"Authorization": f"Bearer {token}"}
    answer = httpx.post(f"{url}/v1/avatars", content=image, headers=who, timeout=120)
    avatar = answer.raise_for_status().json()
    print(f"avatar {avatar['avatar_id']}: {avatar['loop_length']} body frames at {avatar['fps']} per second")
    where = url.replace("http", "ws", 1) + "/v1/converse"
    with connect(where, additional_headers=who, compression=None, max_size=None) as socket:

        def say(kind: str, **fields: object) -> None:
            socket.send(json.dumps({"type": kind, **fields}))

        turn, frames = {"turn_id": 1, "epoch": 0}, 0
        say("open", avatar_id=avatar["avatar_id"], body_sha256=avatar["body_sha256"], follows_path=True)
        say("turn_start", **turn)
        say("anchor", **turn, audio_sample=0, loop_index=0)
        for at in range(0, len(pcm), 3200):
            socket.send(AUDIO.pack(1, 0, 0, 0, 1, at // 2) + pcm[at : at + 3200])
        say("end_of_turn", **turn)
        for message in socket:
            if isinstance(message, bytes):
                _, kind, last, _, _, sample, index, x, y, w, h, _ = FRAME.unpack_from(message)
                print(
                    f"sample {sample:7d} over body frame {index:3d}: {w}x{h} at {x},{y}"
                    if kind == 1
                    else "rest"
                )
                frames += 1
                say("playhead", **turn, audio_sample=sample if last else sample - 640, playing=True)
            elif (told := json.loads(message))["type"] in ("turn_finished", "turn_rejected", "error"):
                print(told)
                return frames
    return frames


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    with wave.open(sys.argv[2]) as voice:
        speak(
            Path(sys.argv[1]).read_bytes(),
            voice.readframes(voice.getnframes()),
            sys.argv[3],
            os.environ["VISAVIS_TOKEN"],
        )
