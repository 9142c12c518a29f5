"""Codecs against libav's own, and the inbound stream that is made even."""

from __future__ import annotations

import av
import numpy as np
import pytest

from orchestrator.rtp.codecs import make_codec
from orchestrator.rtp.jitter import STEP, JitterBuffer


def tone(rate: int, seconds: float, hertz: float = 400.0) -> np.ndarray:
    return (8000 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)).astype(np.int16)


@pytest.mark.parametrize(("name", "library"), [("PCMU", "pcm_mulaw"), ("PCMA", "pcm_alaw")])
def test_g711_agrees_with_libav(name: str, library: str) -> None:
    codec = make_codec(name)
    decoder = av.CodecContext.create(library, "r")
    decoder.sample_rate, decoder.layout = 8000, "mono"
    every = bytes(range(256))
    reference = decoder.decode(av.Packet(every))[0].to_ndarray().reshape(-1)
    assert np.array_equal(codec.decode(every), reference)
    # Encoding picks the nearest value there is.
    samples = np.arange(-32768, 32768, 7).astype(np.int16)
    error = np.abs(codec.decode(codec.encode(samples)).astype(int) - samples)
    nearest = np.abs(reference.astype(int)[None, :] - samples[:, None].astype(int)).min(axis=1)
    assert np.array_equal(error, nearest)


@pytest.mark.parametrize("packet_ms", [20, 10, 5])
@pytest.mark.parametrize("name", ["PCMU", "PCMA", "G722", "opus"])
def test_a_tone_comes_back(name: str, packet_ms: int) -> None:
    codec = make_codec(name.lower(), packet_ms)
    size = codec.sample_rate * packet_ms // 1000
    sound = tone(codec.sample_rate, 1.0)
    decoded = np.concatenate(
        [codec.decode(codec.encode(sound[at : at + size])) for at in range(0, len(sound), size)]
    )
    assert len(decoded) == len(sound)
    spectrum = np.abs(np.fft.rfft(decoded[len(decoded) // 4 :].astype(float)))
    assert abs(np.argmax(spectrum) * codec.sample_rate / (len(decoded) - len(decoded) // 4) - 400) < 5
    ends = [codec.decode(codec.silence()) for _ in range(80 // packet_ms)]  # codecs look ahead
    assert {len(end) for end in ends} == {size}
    assert np.abs(ends[-1]).max() < 200
    assert codec.decode(b"\xff" * 7).dtype == np.int16


def test_unknown_codecs_are_refused() -> None:
    with pytest.raises(ValueError, match="speex"):
        make_codec("speex")


class TestJitterBuffer:
    def feed(self, order: list[int], steps: int, delay: int = 3) -> tuple[JitterBuffer, np.ndarray]:
        codec = make_codec("PCMU")
        sound = tone(8000, 2.0)
        buffer, out = JitterBuffer(codec, delay), []
        arrivals = iter(order)
        for _ in range(steps):
            number = next(arrivals, None)
            if number is not None and number >= 0:
                payload = codec.encode(sound[number * 160 : number * 160 + 160])
                buffer.push(7, (number * 160 - 4000) & 0xFFFFFFFF, payload)
            step = buffer.pop()
            if step is not None:
                assert step.shape == (STEP,) and step.dtype == np.int16
                out.append(step)
        return buffer, np.concatenate(out).astype(float)

    def test_reordered_packets_play_in_order(self) -> None:
        order = list(range(60))
        for at in range(5, 55, 4):
            order[at], order[at + 1] = order[at + 1], order[at]
        buffer, heard = self.feed(order, 58)
        assert buffer.lost == 0 and buffer.late == 0
        spectrum = np.abs(np.fft.rfft(heard[1600:]))
        peak = int(np.argmax(spectrum))
        assert abs(peak * 16000 / (len(heard) - 1600) - 400) < 10
        # A clean tone: next to nothing outside its own bins.
        assert spectrum[peak + 20 :].max() < spectrum[peak] / 100

    def test_a_lost_packet_is_concealed_and_time_goes_on(self) -> None:
        order = [-1 if number == 20 else number for number in range(60)]
        buffer, heard = self.feed(order, 55)
        assert buffer.lost == 1
        assert np.abs(heard[1600:-1600]).reshape(-1, 320).max(axis=1).min() > 1000

    def test_the_delay_follows_the_jitter_and_nothing_that_comes_late_is_left_out(self) -> None:
        codec, buffer = make_codec("PCMU"), JitterBuffer(make_codec("PCMU"))
        click, silence = codec.encode(np.full(160, 8000, np.int16)), codec.silence()
        clicks, heard, behind = range(40, 800, 40), list[int](), list[int]()
        for step in range(800):
            late = 300 <= step < 302  # those of two steps come with the one of the third
            for number in [] if late else [300, 301, 302] if step == 302 else [step]:
                buffer.push(7, number * 160, click if number in clicks else silence)
            pcm = buffer.pop()
            if pcm is not None and pcm[STEP // 2] > 6000:
                heard.append(step)
            behind.append(buffer.behind)
        assert (buffer.lost, buffer.late, buffer.skipped) == (0, 0, 0)
        assert (behind[10], behind[290], behind[310]) == (2 * STEP, 0, 2 * STEP) and behind[-1] == 0
        assert len(heard) == len(clicks)
        waited = {number: step - number for number, step in zip(clicks, heard, strict=True)}
        assert (waited[40], waited[280], waited[320], waited[760]) == (2, 0, 2, 0)

    def test_a_lost_packet_is_no_reason_to_wait_longer(self) -> None:
        codec, buffer = make_codec("PCMU"), JitterBuffer(make_codec("PCMU"))
        for step in range(400):
            if step % 50:
                buffer.push(7, step * 160, codec.silence())
            buffer.pop()
        assert buffer.behind == 0 and buffer.lost == 7 and buffer.late == 0

    def test_one_is_lost_and_the_next_late(self) -> None:
        codec, buffer = make_codec("PCMU"), JitterBuffer(make_codec("PCMU"))
        click, heard = codec.encode(np.full(160, 8000, np.int16)), list[int]()
        for step in range(320):
            for number in {300: [], 301: [], 302: [301, 302]}.get(step, [step]):
                buffer.push(7, number * 160, click if number == 310 else codec.silence())
            pcm = buffer.pop()
            if pcm is not None and pcm[STEP // 2] > 6000:
                heard.append(step)
        assert heard == [311] and (buffer.lost, buffer.late, buffer.behind) == (1, 0, STEP)

    def test_a_stall_of_the_network_is_caught_up_with(self) -> None:
        codec, buffer = make_codec("PCMU"), JitterBuffer(make_codec("PCMU"))
        for step in range(500):
            for number in [] if 200 <= step < 210 else range(200, 211) if step == 210 else [step]:
                buffer.push(7, number * 160, codec.silence())
            buffer.pop()
            if step == 215:
                assert buffer.behind >= 8 * STEP
        assert buffer.behind == 0 and buffer.waiting <= 1

    @pytest.mark.parametrize("slower", [1.01, 1.1, 0.99])
    def test_a_peer_of_another_clock_does_not_fall_behind(self, slower: float) -> None:
        codec, buffer = make_codec("PCMU"), JitterBuffer(make_codec("PCMU"))
        number, most = 0, 0
        for step in range(3000):
            while number * slower <= step:
                buffer.push(7, number * 160, codec.silence())
                number += 1
            buffer.pop()
            most = max(most, buffer.behind)
        assert buffer.behind <= 3 * STEP if slower < 1.1 else most <= 13 * STEP
        assert buffer.waiting <= 3

    def test_single_packets_of_a_pause_delay_nothing(self) -> None:
        codec, buffer = make_codec("PCMU"), JitterBuffer(make_codec("PCMU"))
        for step in range(130):
            if step % 20 == 0 or step >= 100:  # as of Opus with DTX
                buffer.push(7, step * 160, codec.silence())
            buffer.pop()
            assert buffer.behind <= 2 * STEP and buffer.waiting <= 3

    def test_a_clock_that_goes_back_is_not_taken_for_a_delay(self) -> None:
        codec, buffer = make_codec("PCMU"), JitterBuffer(make_codec("PCMU"))
        for step in range(200):
            if step < 100 or step > 110:
                buffer.push(7, (1000 + step - (80 if step > 110 else 0)) * 160, codec.silence())
            buffer.pop()
        assert buffer.behind <= 2 * STEP

    def test_a_pause_is_silence_and_the_stream_goes_on(self) -> None:
        order = [*range(20), *([-1] * 30), *range(50, 80)]
        _, heard = self.feed(order, 80)
        assert np.abs(heard[-3200:]).max() > 5000
        assert np.abs(heard).reshape(-1, 320).max(axis=1).min() == 0

    def test_a_burst_does_not_grow_the_delay_for_ever(self) -> None:
        codec = make_codec("PCMU")
        buffer = JitterBuffer(codec)
        for number in range(500):
            buffer.push(7, number * 160, codec.silence())
        for _ in range(40):
            buffer.pop()
        assert buffer.waiting <= 13

    def test_comfort_noise_is_soft_and_speech_comes_back_in_time(self) -> None:
        codec, buffer, out = make_codec("PCMU"), JitterBuffer(make_codec("PCMU")), []
        speech = codec.encode(tone(8000, 0.02))
        for number in range(120):
            if number < 20 or number >= 80:
                buffer.push(7, number * 160, speech)
            elif number % 20 == 0:
                buffer.push_noise(7, number * 160, b"\x00\x55")  # says that it is as loud as can be
            step = buffer.pop()
            if step is not None:
                out.append(float(np.abs(step.astype(int)).max()))
        assert buffer.lost == 0 and buffer.late == 0
        pause = out[24:74]
        assert min(pause) > 0 and max(pause) < 2500
        assert min(out[84:]) > 5000

    def test_a_peer_whose_clock_stands_still_in_a_pause_is_heard_again(self) -> None:
        codec, buffer = make_codec("PCMU"), JitterBuffer(make_codec("PCMU"))
        speech, heard = codec.encode(tone(8000, 0.02)), []
        for number in range(100):
            if number < 20:
                buffer.push(7, number * 160, speech)
            elif number == 20:
                buffer.push_noise(7, number * 160, b"\x7f")
            elif number >= 60:
                buffer.push(7, (number - 39) * 160, speech)
            step = buffer.pop()
            heard.append(0 if step is None else int(np.abs(step.astype(int)).max()))
        assert max(heard[30:58]) == 0
        assert min(heard[68:]) > 5000


def speech(packets: int, size: int) -> np.ndarray:
    """Voiced, with noise in it, that comes and goes; ``(packets, size)`` int16 at 48 kHz."""
    t = np.arange(packets * size) / 48_000
    rng = np.random.default_rng(1)
    voice = sum(
        np.sin(2 * np.pi * f * t * (1 + 0.02 * np.sin(7 * t))) / n for n, f in enumerate((130, 260, 1900), 1)
    )
    sound = 3000 * (voice + 0.2 * rng.standard_normal(len(t))) * (0.5 + 0.5 * np.sin(2 * np.pi * 3 * t))
    return sound.astype(np.int16).reshape(packets, size)


def resumed(packet_ms: int, silent: int, *, coded: bool) -> tuple[int, float]:
    """The loudest sample of a settled pause of so many packets, and how near speech after it is to the original,
    in dB; ``coded``: every packet of the pause is coded."""
    codec = make_codec("opus", packet_ms)
    size = 48 * packet_ms
    said = speech(1000 // packet_ms, size)
    zeros = np.zeros(size, np.int16)
    pause = [codec.encode(zeros) if coded else codec.silence() for _ in range(silent)]
    quiet = np.concatenate([codec.decode(payload) for payload in pause])[len(zeros) * 12 :]
    heard = np.concatenate([codec.decode(codec.encode(packet)) for packet in said]).astype(float)
    flat = said.reshape(-1).astype(float)

    def distance(delay: int) -> float:  # the codec's, which depends on its mode
        wanted, got = flat[: 48 * 900], heard[delay : delay + 48 * 900]
        return float(10 * np.log10(np.mean(wanted**2) / np.mean((wanted - got) ** 2)))

    return int(np.abs(quiet).max()), max(distance(delay) for delay in range(0, 480, 4))


@pytest.mark.parametrize("packet_ms", [20, 10, 5])
@pytest.mark.parametrize("silent", [40, 41, 42, 43])
def test_speech_after_a_pause_of_opus_that_was_not_coded_is_as_good(packet_ms: int, silent: int) -> None:
    codec = make_codec("opus", packet_ms)
    payloads = [codec.silence() for _ in range(240 // packet_ms + 12)]
    assert payloads[-4:] == payloads[-8:-4]  # nothing is coded any more
    loudest, quality = resumed(packet_ms, 240 // packet_ms + silent, coded=False)
    assert loudest <= 2
    assert quality > resumed(packet_ms, 240 // packet_ms + silent, coded=True)[1] - 0.5
