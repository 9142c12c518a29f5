"""A telephone agent with a face: RoomKit's guide in full, with Visavis drawing the face.

    SIP → speech recognition (Deepgram) → Claude → voice (ElevenLabs) → face (Visavis) → H.264 → caller

    pip install './visavis[roomkit]' 'roomkit[deepgram,elevenlabs,anthropic,webrtc-aec]'    # beside a checkout
    export DEEPGRAM_API_KEY=... ELEVENLABS_API_KEY=... ANTHROPIC_API_KEY=...
    python examples/avatar_call.py --image portrait.jpg --avatar-url http://gpu-server:8500

``--musetalk DIR`` draws with MuseTalk on this machine, ``--offline`` talks without any key or service: espeak-ng's
voice, a scripted assistant, and a "recognition" that takes every utterance of the caller for the next line of
the script. ``--recordings DIR`` records the calls. Ctrl-C ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
from roomkit import ChannelCategory, RoomKit
from roomkit.channels.ai import AIChannel
from roomkit.models.event import AudioContent
from roomkit.recorder.base import ChannelRecordingConfig, MediaRecordingConfig, RoomRecorderBinding
from roomkit.recorder.pyav import PyAVMediaRecorder
from roomkit.video.backends.sip import SIPVideoBackend
from roomkit.video.pipeline.encoder.pyav import PyAVVideoEncoder
from roomkit.voice.base import AudioChunk
from roomkit.voice.interruption import InterruptionConfig, InterruptionStrategy
from roomkit.voice.pipeline import AudioPipelineConfig
from roomkit.voice.pipeline.backchannel.phrases import PhraseBackchannelDetector
from roomkit.voice.pipeline.config import AudioFormat, AudioPipelineContract
from roomkit.voice.tts.base import TTSProvider

from visavis import (
    AvatarVideoChannel,
    GrpcAvatarProvider,
    HTTPAvatarProvider,
    MuseTalkAvatarProvider,
    Resampler,
    listen_to_caller,
    portraits,
    stop_lips_with_voice,
)
from visavis.roomkit.provider import ServerAvatarProvider

KEYS = ("DEEPGRAM_API_KEY", "ELEVENLABS_API_KEY", "ANTHROPIC_API_KEY")
RATE = 16_000  # inside; a telephone line (PCMU, PCMA) has 8000
FPS = 30  # RoomKit's RTP clock takes every picture for 1/30 s
GREETING = "Hello, this is your assistant. What can I do for you?"
SCRIPT = ("I see. Could you tell me a little more?", "Thank you, I have written that down. Anything else?")
PROMPT = (
    "You are a friendly assistant on a video call; the caller sees your face. "
    "Answer in one or two short sentences."
)


def arguments() -> argparse.Namespace:
    """What the command line says."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--image", type=Path, help="the portrait, JPEG or PNG (default: the one of this project)")
    p.add_argument("--size", default="512x512", help="of the picture, WIDTHxHEIGHT")
    p.add_argument(
        "--avatar-url", default="http://127.0.0.1:8500", help="http:// or grpc:// inference servers"
    )
    p.add_argument("--musetalk", metavar="DIR", help="draw with MuseTalk here, from the weights in DIR")
    p.add_argument("--device", default="cuda", help="for --musetalk")
    p.add_argument("--offline", action="store_true", help="no keys: a scripted assistant")
    p.add_argument("--sip-host", default="0.0.0.0")
    p.add_argument("--sip-port", type=int, default=5060)
    p.add_argument("--rtp-ip", default="0.0.0.0")
    p.add_argument("--rtp-port", type=int, default=10_000, help="first of a hundred")
    p.add_argument("--recordings", metavar="DIR", help="record every call there")
    p.add_argument("--encrypted-at-rest", action="store_true", help="says that DIR lies on an encrypted disk")
    args = p.parse_args()
    width, _, height = args.size.partition("x")
    if not (width.isdigit() and height.isdigit()):
        p.error("--size is WIDTHxHEIGHT, such as 640x480")
    args.width, args.height = int(width), int(height)
    if args.recordings and not args.encrypted_at_rest:
        p.error(
            "RoomKit records calls only onto encrypted storage: say --encrypted-at-rest if DIR is on such"
        )
    missing = [key for key in KEYS if not os.environ.get(key)]
    if missing and not args.offline:
        p.error(f"{', '.join(missing)} not set; --offline needs none")
    return args


class EspeakVoice(TTSProvider):
    """espeak-ng as it comes, at the pipeline's rate."""

    @property
    def name(self) -> str:
        return "espeak-ng"

    async def synthesize(self, text: str, *, voice: str | None = None) -> AudioContent:
        raise NotImplementedError("only streams")

    async def synthesize_stream(
        self, text: str, *, voice: str | None = None, context: Any = None
    ) -> AsyncIterator[AudioChunk]:
        process = await asyncio.create_subprocess_exec(
            *("espeak-ng", "-v", voice or "en-us", "--stdout", "--", text),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )
        wav, _ = await process.communicate()
        resampler = Resampler(struct.unpack_from("<I", wav, 24)[0], RATE)
        pcm = np.frombuffer(wav[44 : len(wav) // 2 * 2], "<i2")
        pcm = np.concatenate((resampler.push(pcm), resampler.flush()))
        for at in range(0, len(pcm), RATE // 10):
            yield AudioChunk(data=pcm[at : at + RATE // 10].tobytes(), sample_rate=RATE)


def speech(offline: bool) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """Channel options (stt, tts), pipeline stages, and the assistant's provider."""
    if offline:
        from roomkit.providers.ai.mock import MockAIProvider
        from roomkit.voice.pipeline.vad.energy import EnergyVADProvider
        from roomkit.voice.stt.mock import MockSTTProvider

        if shutil.which("espeak-ng") is None:
            raise SystemExit("espeak-ng is missing: apt-get install espeak-ng")
        options = {"stt": MockSTTProvider(["(the caller said something)"]), "tts": EspeakVoice()}
        return options, {"vad": EnergyVADProvider()}, MockAIProvider(list(SCRIPT))

    from roomkit.providers.anthropic.ai import AnthropicAIProvider, AnthropicConfig
    from roomkit.voice.pipeline.aec.webrtc import WebRTCAECProvider
    from roomkit.voice.stt.deepgram import DeepgramConfig, DeepgramSTTProvider
    from roomkit.voice.tts.elevenlabs import ElevenLabsConfig, ElevenLabsTTSProvider

    deepgram, elevenlabs, anthropic = (os.environ[key] for key in KEYS)
    stt = DeepgramConfig(
        api_key=deepgram, model="nova-2", language=os.environ.get("LANGUAGE", "en")[:2], endpointing=300
    )
    tts = ElevenLabsConfig(
        api_key=elevenlabs,
        voice_id=os.environ.get("ELEVENLABS_VOICE_ID", "21m00Tcm4TlvDq8ikWAM"),
        model_id="eleven_multilingual_v2",
        output_format="pcm_16000",
    )
    claude = AnthropicConfig(
        api_key=anthropic, model=os.environ.get("AI_MODEL", "claude-sonnet-4-5"), max_tokens=256
    )
    return (
        {"stt": DeepgramSTTProvider(config=stt), "tts": ElevenLabsTTSProvider(config=tts)},
        {"aec": WebRTCAECProvider(sample_rate=RATE)},
        AnthropicAIProvider(claude),
    )


def interruption(offline: bool) -> InterruptionConfig:
    """Who speaks over the voice stops it; "mhm" does not, where words are known.

    Offline there are neither words nor an echo canceller: only a headset is safe, and speech has to last.
    """
    if offline:
        return InterruptionConfig(strategy=InterruptionStrategy.CONFIRMED, min_speech_ms=500)
    return InterruptionConfig(
        strategy=InterruptionStrategy.SEMANTIC, backchannel_detector=PhraseBackchannelDetector()
    )


def provider(args: argparse.Namespace) -> ServerAvatarProvider:
    """One for each call; the servers behind them are shared."""
    if args.avatar_url.startswith("grpc://"):
        return GrpcAvatarProvider(args.avatar_url, fps=FPS)
    return HTTPAvatarProvider(args.avatar_url, fps=FPS)


def recorders(args: argparse.Namespace) -> list[RoomRecorderBinding]:
    """What records a call's room; nothing unless asked for."""
    if not args.recordings:
        return []
    config = MediaRecordingConfig(storage=args.recordings, storage_encrypted_at_rest=args.encrypted_at_rest)
    return [RoomRecorderBinding(PyAVMediaRecorder(), config)]


async def main(args: argparse.Namespace) -> None:
    """Answer calls until interrupted."""
    portrait = args.image or portraits.DEFAULT
    image = portrait.read_bytes()
    local: MuseTalkAvatarProvider | None = None
    if args.musetalk:
        local = MuseTalkAvatarProvider(args.musetalk, fps=FPS, device=args.device)
        await local.start(image, width=args.width, height=args.height)
        args.avatar_url = f"grpc://{local.address}"

    async def face(session: Any) -> ServerAvatarProvider:
        avatar = provider(args)
        await avatar.start(image, width=args.width, height=args.height)
        return avatar

    await (await face(None)).close()  # prepares the portrait, so that the first call need not wait

    options, stages, assistant = speech(args.offline)
    line = AudioFormat(sample_rate=8000)
    contract = AudioPipelineContract(line, line, AudioFormat(sample_rate=RATE))
    backend = SIPVideoBackend(
        local_sip_addr=(args.sip_host, args.sip_port),
        local_rtp_ip=args.rtp_ip,
        rtp_port_start=args.rtp_port,
        rtp_port_end=args.rtp_port + 100,
        supported_codecs=[0, 8],
        supported_video_codecs=["H264"],
    )
    channel = AvatarVideoChannel(
        "voice",
        avatar_factory=face,
        encoder_factory=lambda avatar: PyAVVideoEncoder(width=args.width, height=args.height, fps=avatar.fps),
        backend=backend,
        pipeline=AudioPipelineConfig(contract=contract, **stages),
        interruption=interruption(args.offline),
        recording=ChannelRecordingConfig(audio=True),
        **options,
    )
    kit = RoomKit()
    kit.register_channel(channel)
    kit.register_channel(AIChannel("assistant", provider=assistant, system_prompt=PROMPT))
    stop_lips_with_voice(kit, channel)
    listen_to_caller(kit, channel)

    async def on_call(session: Any) -> None:
        await kit.create_room(room_id=session.id, recorders=recorders(args))
        await kit.attach_channel(session.id, "voice")
        await kit.attach_channel(session.id, "assistant", category=ChannelCategory.INTELLIGENCE)
        await kit.join(session.id, "voice", session=session)
        print(f"call {session.id} from {session.metadata.get('caller')}", flush=True)
        await channel.say(session, GREETING)

    leaving: set[asyncio.Task[Any]] = set()

    def on_end(session: Any) -> None:
        print(f"call {session.id} ended", flush=True)
        leaving.add(task := asyncio.get_running_loop().create_task(kit.close_room(session.id)))
        task.add_done_callback(leaving.discard)

    backend.on_call(on_call)
    backend.on_client_disconnected(on_end)
    await backend.start()
    print(f"ready: call sip:avatar@{args.sip_host}:{args.sip_port}", flush=True)
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
    try:
        await ended.wait()
    finally:
        await kit.close()
        if local is not None:
            await local.close()


if __name__ == "__main__":
    asyncio.run(main(arguments()))
