"""A media session on loopback: what a phone receives from start to stop."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from orchestrator.media.parameters import AudioParameters, VideoParameters
from orchestrator.media.sources import SilentVoice
from orchestrator.rtp import h264, packet, rtcp
from orchestrator.rtp.codecs import SAMPLE_RATES, make_codec
from orchestrator.worker.host import MediaHost
from testing.loop_face import LoopFace
from tests.support.media import Phone, access_units, card, card_body, decode, read_card
from tests.support.waiting import until
from visavis.frames import Frame, Rect, crop_i420
from visavis.playout.playout import Picture

pytest_plugins = ["tests.support.media_fixtures"]

LOOP = 125


class Tone:
    """1 kHz."""

    def __init__(self, rate: int = 8000) -> None:
        self.rate = rate

    def read(self, number: int) -> np.ndarray:
        samples = np.arange(self.rate // 50) + self.rate // 50 * number
        return (8000 * np.sin(2 * np.pi * 1000 * samples / self.rate)).astype(np.int16)


class TalkingFace:
    """Idle, then a mouth for some pictures, then idle. The mouth's rectangle carries its own number."""

    def __init__(self, body, first: int, last: int) -> None:
        self.body, self.first, self.last = body, first, last

    def tick(self, number: int) -> Picture:
        index = number % len(self.body.frames)
        if not self.first <= number <= self.last:
            return Picture(index)
        rect = Rect(32, 64, 128, 32)
        patch = np.full((192, 192), 128, np.uint8)
        patch[:128] = 235
        pixels = crop_i420(patch, 192, 128, rect)
        return Picture(index, Frame(1, 1, 0, index, "mouth", rect, pixels))


def parameters(phone: Phone, **video) -> tuple[AudioParameters, VideoParameters]:
    options = {"feedback": frozenset({"nack pli"}), "width": 192, "height": 128, "bitrate": 1_500_000} | video
    return (
        AudioParameters("PCMU", 0, phone.address("audio"), phone.address("audio_rtcp")),
        VideoParameters(96, phone.address("video"), remote_rtcp=phone.address("video_rtcp"), **options),
    )


async def gather(phone: Phone, name: str, count: int) -> None:
    """Wait for some datagrams."""
    got: list[bytes] = []
    await until(lambda: got.extend(phone.drain(name)) or len(got) >= count)


@pytest.mark.parametrize("mode", [0, 1])
async def test_idle_speech_idle_arrives_whole(host: MediaHost, phone: Phone, mode: int) -> None:
    body = card_body(LOOP)
    face = TalkingFace(body, 30, 50)
    session = host.session(Tone(), face)
    audio, video = parameters(phone, packetization_mode=mode)
    session.update(audio, video)
    await until(
        lambda: host.idle.get(body, session.video._idle[1]) if session.video._idle else _prime(session, body)
    )
    session.start()
    packets: list[packet.RtpPacket] = []
    await until(lambda: packets.extend(phone.packets("video")) or session.video.counters.cached > 60, 30)
    stats = session.stats(time.monotonic())
    session.stop()
    packets += phone.packets("video")
    assert all(len(p.payload) <= h264.MAX_PAYLOAD for p in packets)
    units = access_units(packets)
    pictures = decode([nals for _, nals in units])
    assert len(pictures) == len(units)
    skipped = stats.pictures_dropped
    if not skipped:
        stamps = [stamp for stamp, _ in units]
        assert {(b - a) & 0xFFFFFFFF for a, b in itertools.pairwise(stamps)} == {3600}
        assert [read_card(p) for p in pictures] == [k % LOOP for k in range(len(pictures))]
        talking = [k for k, p in enumerate(pictures) if p[70:90, 40:150].mean() > 200]
        assert talking == list(range(30, 51))
        first_spoken = units[30][1]
        assert h264.is_idr(first_spoken)
    kinds = {h264.nal_type(nal) for _, nals in units for nal in nals}
    assert kinds <= {h264.SPS, h264.PPS, h264.IDR, h264.SLICE}
    assert stats.pictures_cached > 60 and stats.pictures_live >= 21 - skipped


def _prime(session, body) -> bool:
    session.video._idle_loop(body)
    return False


async def test_audio_leads_with_silence_and_ends_with_bye(host: MediaHost, phone: Phone) -> None:
    session = host.session(SilentVoice(), None)
    session.update(AudioParameters("PCMA", 8, phone.address("audio"), phone.address("audio_rtcp")), None)
    session.start()
    await asyncio.sleep(0.5)
    session.stop()
    packets = phone.packets("audio")
    assert len(packets) > 10
    assert packets[0].marker and not packets[1].marker
    steps = {(b.timestamp - a.timestamp) & 0xFFFFFFFF for a, b in itertools.pairwise(packets)}
    assert all(step % 160 == 0 for step in steps)
    assert {p.payload for p in packets} == {b"\xd5" * 160}
    compounds = [rtcp.parse(data) for data in phone.drain("audio_rtcp")]
    assert isinstance(compounds[0][0], rtcp.SenderReport)
    assert compounds[-1][-1] == rtcp.Goodbye((packets[0].ssrc,))
    assert host.ports.in_use == 0


@pytest.mark.parametrize(
    ("codec", "packet_ms", "ticks", "size"),
    [("PCMU", 10, 80, 80), ("G722", 5, 40, 40), ("opus", 10, 480, None)],
)
async def test_packets_are_as_short_as_the_phone_wants_them(
    host: MediaHost, phone: Phone, codec: str, packet_ms: int, ticks: int, size: int | None
) -> None:
    """``a=maxptime``: the 20 ms of a tick go out as two or four packets, which follow each other in time."""
    session = host.session(Tone(SAMPLE_RATES[codec]), None)
    session.update(AudioParameters(codec, 96, phone.address("audio"), packet_ms=packet_ms), None)
    session.start()
    packets: list[packet.RtpPacket] = []
    await until(lambda: packets.extend(phone.packets("audio")) or len(packets) > 40)
    session.stop()
    packets, parts = packets[:40], 20 // packet_ms
    steps = [(b.timestamp - a.timestamp) & 0xFFFFFFFF for a, b in itertools.pairwise(packets)]
    assert all(step == ticks for number, step in enumerate(steps, 1) if number % parts)
    assert all((step - ticks) % (ticks * parts) == 0 for step in steps)  # a late clock skips whole ticks
    assert {(b.sequence - a.sequence) & 0xFFFF for a, b in itertools.pairwise(packets)} == {1}
    assert [p.marker for p in packets] == [True] + [False] * 39
    assert size is None or {len(p.payload) for p in packets} == {size}
    decoder = make_codec(codec)
    heard = np.concatenate([decoder.decode(p.payload) for p in packets[8:40]]).astype(float)
    rate = SAMPLE_RATES[codec]
    assert len(heard) == 32 * rate * packet_ms // 1000
    assert abs(np.argmax(np.abs(np.fft.rfft(heard))) * rate / len(heard) - 1000) < 10


async def test_sender_reports_align_both_streams(host: MediaHost, phone: Phone) -> None:
    session = host.session(Tone(), LoopFace(card_body(10)))
    session.update(*parameters(phone))
    session.start()
    await asyncio.sleep(0.5)
    session.stop()
    found = {}
    for name, rate in (("audio", 8000), ("video", 90000)):
        first = phone.packets(name)[0].timestamp
        report = next(
            p
            for data in phone.drain(f"{name}_rtcp")
            for p in rtcp.parse(data)
            if isinstance(p, rtcp.SenderReport)
        )
        # NTP time at which the stream's first packet belongs.
        found[name] = report.ntp / 2**32 - ((report.rtp_timestamp - first) & 0xFFFFFFFF) / rate
    assert abs(found["audio"] - found["video"]) < 0.0005


async def test_pyav_plays_the_session_from_its_sdp(host: MediaHost, tmp_path) -> None:
    ports = [Phone() for _ in range(1)]
    phone = ports[0]
    sdp = tmp_path / "call.sdp"
    audio_port, video_port = _free_pair(), _free_pair()
    sdp.write_text(
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\n"
        f"m=audio {audio_port} RTP/AVP 0\na=rtpmap:0 PCMU/8000\n"
        f"m=video {video_port} RTP/AVP 96\na=rtpmap:96 H264/90000\na=fmtp:96 packetization-mode=1\n"
    )
    phone.close()
    session = host.session(Tone(), LoopFace(card_body(LOOP)))
    session.update(
        AudioParameters("PCMU", 0, ("127.0.0.1", audio_port)),
        VideoParameters(96, ("127.0.0.1", video_port), 192, 128, feedback=frozenset({"nack pli"})),
    )
    session.start()

    def receive() -> tuple[list[int], np.ndarray]:
        cards: list[int] = []
        sound: list[np.ndarray] = []
        options = {"protocol_whitelist": "file,udp,rtp", "reorder_queue_size": "0"}
        with av.open(str(sdp), options=options, timeout=20) as container:
            for item in container.demux():
                for frame in item.decode():
                    if isinstance(frame, av.VideoFrame):
                        cards.append(read_card(frame.to_ndarray()[: frame.height]))
                    else:
                        sound.append(frame.to_ndarray().reshape(-1))
                if len(cards) >= 40 and len(sound) >= 60:
                    break
        return cards, np.concatenate(sound).astype(float)

    receiving = asyncio.get_running_loop().run_in_executor(None, receive)
    while not receiving.done():
        # It asks for no key frame by itself: ffmpeg's receiver joins at the next IDR.
        session.request_keyframe()
        await asyncio.sleep(0.1)
    cards, sound = await receiving
    session.stop()
    # In order and none lost on the way; a loaded machine may leave pictures out before they are coded.
    absent = sum((b - a) % LOOP - 1 for a, b in itertools.pairwise(cards))
    assert 0 <= absent <= session.stats(time.monotonic()).pictures_dropped
    spectrum = np.abs(np.fft.rfft(sound))
    assert abs(np.argmax(spectrum) * 8000 / len(sound) - 1000) < 5


def _free_pair() -> int:
    from orchestrator.rtp.ports import PortPool

    pair = PortPool("127.0.0.1").open()
    pair.close()
    return pair.port


async def test_key_frames_on_request_are_limited(host: MediaHost, phone: Phone) -> None:
    body = card_body(1)
    session = host.session(SilentVoice(), LoopFace(body))
    session.update(*parameters(phone))
    session.start()
    await until(lambda: session.video.cached)
    await asyncio.sleep(0.6)
    phone.packets("video")
    ours = session.video.reports.ssrc
    before = session.video.counters.idr
    for sequence in range(5):
        for message in (
            rtcp.PictureLoss(7, ours),
            rtcp.FullIntra(7, ours, 9),
            rtcp.PictureLoss(7, 7, legacy=True),
        ):
            data = rtcp.build(rtcp.ReceiverReport(7), message)
            phone.video_rtcp.sendto(data, ("127.0.0.1", session.video_port + 1))
        await asyncio.sleep(0.03)
        del sequence
    await until(lambda: session.video.counters.idr > before)
    assert session.video.counters.idr - before <= 2
    assert session.video.keyframes.count == 11
    session.stop()


async def test_a_full_intra_request_that_names_no_source_is_for_the_only_one(
    host: MediaHost, phone: Phone
) -> None:
    session = host.session(SilentVoice(), LoopFace(card_body(1)))
    session.update(*parameters(phone))
    session.start()
    await until(lambda: session.video.reports.packets > 5)
    for sequence, source in enumerate((0, 0, session.video.reports.ssrc, 77)):
        data = rtcp.build(rtcp.ReceiverReport(7), rtcp.FullIntra(7, source, sequence))
        phone.video_rtcp.sendto(data, ("127.0.0.1", session.video_port + 1))
    await until(lambda: session.video.keyframes.count >= 3)
    await asyncio.sleep(0.05)
    assert session.video.keyframes.count == 3
    session.stop()


async def test_hold_stops_rtp_and_resume_starts_with_a_key_frame(host: MediaHost, phone: Phone) -> None:
    session = host.session(Tone(), LoopFace(card_body(LOOP)))
    audio, video = parameters(phone)
    session.update(audio, video)
    session.start()
    await until(lambda: session.video.reports.packets > 5)
    session.update(replace(audio, direction="recvonly"), replace(video, direction="inactive"))
    await asyncio.sleep(0.1)
    phone.drain("audio"), phone.drain("video")
    await asyncio.sleep(0.2)
    assert phone.drain("audio") == [] and phone.drain("video") == []
    session.update(audio, video)
    packets: list[packet.RtpPacket] = []
    await until(lambda: packets.extend(phone.packets("video")) or len(packets) > 8)
    session.stop()
    assert h264.is_idr(access_units(packets + phone.packets("video"))[0][1])
    assert phone.packets("audio")[0].marker


async def test_the_caller_is_heard_and_keys_are_seen(host: MediaHost, phone: Phone) -> None:
    class Ear:
        listens = True

        def __init__(self) -> None:
            self.pcm: list[np.ndarray] = []
            self.digits = ""

        def heard(self, pcm: np.ndarray, sent: np.ndarray, rate: int) -> None:
            self.pcm.append(pcm)

        def digit(self, digit: str, milliseconds: int) -> None:
            self.digits += digit

    from orchestrator.rtp.dtmf import event_payloads

    ear, tone, codec = Ear(), Tone(), make_codec("PCMU")
    session = host.session(SilentVoice(), None, ear)
    session.update(AudioParameters("PCMU", 0, phone.address("audio"), telephone_event=101), None)
    session.start()
    sequence = 65530
    for number in range(60):
        data = packet.RtpPacket(0, sequence & 0xFFFF, number * 160, 5, codec.encode(tone.read(number)))
        sequence += 1
        phone.audio.sendto(packet.build(data), ("127.0.0.1", session.audio_port))
        if number == 30:
            for marker, payload in event_payloads("7", 800, 160):
                event = packet.RtpPacket(101, sequence & 0xFFFF, number * 160, 5, payload, marker)
                sequence += 1
                phone.audio.sendto(packet.build(event), ("127.0.0.1", session.audio_port))
        await asyncio.sleep(0.01)
    await until(lambda: len(ear.pcm) > 40)
    stats = session.stats(time.monotonic())
    session.stop()
    assert ear.digits == "7"
    assert stats.audio.received_lost == 0
    heard = np.concatenate(ear.pcm[5:25]).astype(float)
    assert abs(np.argmax(np.abs(np.fft.rfft(heard))) * 16000 / len(heard) - 1000) < 10


async def test_another_picture_size_is_letterboxed(host: MediaHost, phone: Phone) -> None:
    session = host.session(SilentVoice(), LoopFace(card_body(1)))
    session.update(*parameters(phone, width=176, height=176, fps=Fraction(30)))
    session.start()
    packets: list[packet.RtpPacket] = []
    await until(lambda: packets.extend(phone.packets("video")) or len(packets) > 10)
    session.stop()
    picture = decode([nals for _, nals in access_units(packets + phone.packets("video"))])[0]
    assert picture.shape == (176, 176)
    assert picture[:20].mean() < 20 and picture[88].mean() > 90


async def test_a_stray_sender_does_not_take_over_and_a_nat_does(host: MediaHost, phone: Phone) -> None:
    session = host.session(SilentVoice(), None)
    # The phone is behind a NAT: the address in its SDP is not where its packets come from.
    session.update(AudioParameters("PCMU", 0, phone.address("video")), None)
    session.start()

    def speak(sock, number: int, ssrc: int) -> None:
        data = packet.RtpPacket(0, number, number * 160, ssrc, b"\xff" * 160)
        sock.sendto(packet.build(data), ("127.0.0.1", session.audio_port))

    speak(phone.video_rtcp, 900, 99)
    for number in range(10):
        speak(phone.audio, number, 5)
        await asyncio.sleep(0.01)
    await until(lambda: session.audio.socket.remote == phone.address("audio"))
    await until(lambda: session.audio.socket.deliver == session.audio.socket._rtp.send)
    phone.drain("audio")
    for number in range(50):
        speak(phone.video_rtcp, number, 99)
    await gather(phone, "audio", 3)
    assert session.audio.socket.remote == phone.address("audio")
    assert phone.drain("video_rtcp") == []
    # A re-INVITE names another address: media goes there at once, and it may latch again.
    session.update(AudioParameters("PCMU", 0, phone.address("audio_rtcp")), None)
    await gather(phone, "audio_rtcp", 3)
    session.stop()


async def test_video_that_comes_in_is_dropped_by_the_kernel(host: MediaHost, phone: Phone) -> None:
    session = host.session(SilentVoice(), LoopFace(card_body(1)))
    audio, video = parameters(phone)
    session.update(audio, video)
    session.start()
    data = packet.build(packet.RtpPacket(96, 1, 1, 5, bytes(1000)))
    phone.video.sendto(data, ("127.0.0.1", session.video_port))
    sock = session.video.socket
    await until(lambda: sock.deliver == sock._rtp.send)
    for _ in range(20):
        phone.video.sendto(data, ("127.0.0.1", session.video_port))
    with pytest.raises(BlockingIOError):
        sock._rtp.recv(2000)
    # A new address opens the socket again.
    session.update(audio, replace(video, remote=phone.address("audio_rtcp"), rtcp_mux=True))
    ours = session.video.reports.ssrc
    phone.audio_rtcp.sendto(data, ("127.0.0.1", session.video_port))
    await until(lambda: sock.deliver == sock._rtp.send)
    before = session.video.keyframes.count
    for message in (data, rtcp.build(rtcp.ReceiverReport(5), rtcp.PictureLoss(5, ours)), data):
        phone.audio_rtcp.sendto(message, ("127.0.0.1", session.video_port))
    await until(lambda: session.video.keyframes.count == before + 1)
    assert sock.malformed == 0
    session.stop()


@pytest.mark.parametrize("remote", [("phone.example", 4000), ("239.1.2.3", 4000)])
async def test_media_goes_to_one_machine_by_its_address(host: MediaHost, remote: tuple[str, int]) -> None:
    session = host.session(SilentVoice(), None)
    with pytest.raises(ValueError, match="media address"):
        session.update(AudioParameters("PCMU", 0, remote), None)
    session.update(AudioParameters("PCMU", 0, ("0.0.0.0", 4000)), None)
    session.start()
    await until(lambda: session.audio._next > 3)
    session.stop()
    assert session.audio.reports.packets == 0


async def test_datagrams_of_nonsense_are_counted_and_dropped(host: MediaHost, phone: Phone) -> None:
    session = host.session(SilentVoice(), LoopFace(card_body(1)))
    session.update(*parameters(phone))
    session.start()
    ports = [session.audio_port, session.audio_port + 1, session.video_port, session.video_port + 1]
    rng = np.random.default_rng(4)
    for number in range(200):
        data = rng.integers(0, 256, number % 60).astype(np.uint8).tobytes()
        for name in ("audio", "audio_rtcp", "video", "video_rtcp"):
            getattr(phone, name).sendto(data, ("127.0.0.1", ports[number % 4]))
        if number % 20 == 0:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    before = session.audio.reports.packets
    await until(lambda: session.audio.reports.packets > before + 5)
    assert session.audio.socket.malformed > 0 and host.clock.wheel.failures == 0
    session.stop()


def test_card_can_be_read() -> None:
    assert read_card(card(613)[:128]) == 613
