"""The portrait as a still picture: what calls show that no inference server can help, made beside the clock."""

from __future__ import annotations

import asyncio
import socket
import struct
import subprocess
import sys
import threading
import zlib
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from orchestrator.avatar import avatars as avatars_module
from orchestrator.avatar import still_process
from orchestrator.avatar.avatars import WorkerAvatars
from orchestrator.avatar.call_avatar import CallAvatar
from orchestrator.avatar.source import PortraitFile
from orchestrator.avatar.still import fit, grey_body
from orchestrator.avatar.still_process import still_body
from orchestrator.media.sources import StillBody

RED_LUMA, BLUE_LUMA = 81, 41  # BT.601


def png(image: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", image)[1])


def white(width: int, height: int) -> bytes:
    """A PNG of one bit a pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack("!I", len(data)) + kind + data + struct.pack("!I", zlib.crc32(kind + data))

    rows = zlib.compress((b"\0" + b"\xff" * ((width + 7) // 8)) * height, 1)
    head = chunk(b"IHDR", struct.pack("!IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_the_upper_middle_of_a_tall_picture() -> None:
    image = np.zeros((400, 100, 3), np.uint8)
    image[:200, :, 2], image[200:, :, 0] = 255, 255  # red above blue
    frame = fit(png(image), 96, 96)
    assert frame is not None and frame.shape == (144, 96)
    assert np.abs(frame[:90].mean() - RED_LUMA) < 5


@pytest.mark.parametrize(
    "data", [b"", b"no picture", white(64, 64)[:60], white(8000, 7000), white(1, 5000)],
    ids=["empty", "text", "cut", "too large", "too thin"],
)  # fmt: skip
def test_nothing_where_there_is_no_picture_to_show(data: bytes) -> None:
    assert fit(data, 128, 96) is None


@pytest.mark.process
def test_a_portrait_is_decoded_in_another_process(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    image = np.zeros((96, 96, 3), np.uint8)
    image[..., 2] = 255
    body = still_body(png(image), 96, 64)
    assert (body.width, body.height) == (96, 64)
    assert np.abs(body.frames[0, :64].mean() - RED_LUMA) < 5
    assert np.array_equal(still_body(b"no picture", 96, 64).frames, grey_body(96, 64).frames)
    assert not caplog.records  # the kernel of whoever runs this has a whole sandbox
    monkeypatch.setattr(still_process, "MODULE", "tests.support.nothing")
    assert np.array_equal(still_body(png(image), 96, 64).frames, grey_body(96, 64).frames)
    assert [record.msg for record in caplog.records] == ["portrait_not_decoded"]


@pytest.mark.process
def test_the_decoder_of_portraits_is_in_the_sandbox(tmp_path: Path) -> None:
    """The process itself, whose decoder is one that breaks out."""
    secret = tmp_path / "secret"
    secret.touch()
    code = f"""
import socket, sys
from orchestrator.avatar import still_process

def outcome(act):
    try:
        act()
    except OSError as error:
        return type(error).__name__
    return "done"

def evil(data, width, height):
    told = [outcome(act) for act in (lambda: open({str(secret)!r}), socket.socket, still_process.os.fork)]
    print(*told, dict(still_process.os.environ), flush=True)

still_process.fit = evil
sys.argv = ["still", "--channel", sys.argv[1]]
sys.exit(still_process.main())
"""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(still_process.codec.encode(still_process.MakeStill(64, 64, b"x")))
        run = subprocess.run(
            [sys.executable, "-c", code, str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            env=still_process.ENVIRONMENT,
            cwd=Path(still_process.__file__).parents[2],
        )
    assert run.stdout == "PermissionError PermissionError PermissionError {}\n", run.stderr


def turned(orientation: int, order: str, image: np.ndarray) -> bytes:
    """A JPEG whose EXIF tells an orientation."""
    jpeg = bytes(cv2.imencode(".jpg", image)[1])
    entry = struct.pack(f"{order}HHIHH", 0x112, 3, 1, orientation, 0)
    tiff = (b"MM" if order == ">" else b"II") + struct.pack(f"{order}HIH", 42, 8, 1) + entry + bytes(4)
    exif = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack("!H", len(exif) + 2) + exif + jpeg[2:]


@pytest.mark.parametrize("order", [">", "<"])
@pytest.mark.parametrize(("orientation", "quarters"), [(1, 0), (2, 0), (3, 2), (4, 0), (6, 1), (8, 3)])
def test_a_portrait_that_was_taken_on_its_side_is_upright(
    orientation: int, quarters: int, order: str
) -> None:
    upright = np.zeros((96, 96, 3), np.uint8)
    upright[:48, :, 2], upright[48:, :, 0] = 255, 255  # red above blue
    if orientation == 4:
        upright = upright[::-1]  # mirrored top to bottom: nobody's camera does that
    frame = fit(turned(orientation, order, np.rot90(upright, quarters).copy()), 96, 96)
    assert frame is not None
    top, bottom = frame[4:40].mean(), frame[56:92].mean()
    told = (top, bottom) if orientation != 4 else (bottom, top)
    assert np.abs(np.array(told) - (RED_LUMA, BLUE_LUMA)).max() < 6


def test_a_tall_portrait_on_its_side_is_cropped_upright() -> None:
    image = np.zeros((100, 400, 3), np.uint8)
    image[:, :200, 2], image[:, 200:, 0] = 255, 255  # red left of blue: above it once turned clockwise
    frame = fit(turned(6, ">", image[::-1, ::1].copy()), 96, 96)
    assert frame is not None and np.abs(frame[:90].mean() - RED_LUMA) < 6


async def test_an_avatar_that_is_ready_waits_for_no_still_portrait(tmp_path: Path) -> None:
    """Nor for one that fails."""
    loop = asyncio.get_running_loop()
    stills = [loop.create_future() for _ in range(2)]
    stills[1].set_exception(OSError("no process"))
    for still in stills:
        avatar = loop.create_future()
        avatars: Any = SimpleNamespace(
            avatar=lambda _, avatar=avatar: avatar, still=lambda _, still=still: still
        )
        portrait = PortraitFile(tmp_path / "none", 64, 64, Fraction(25), "crop")
        call = CallAvatar(
            avatars, portrait, session_id="", rate=8000, on_turn=lambda _: None, on_avatar=lambda *_: None
        )
        avatar.set_result(ready := object())
        for _ in range(5):
            await asyncio.sleep(0)
        assert call._pending is ready
        await call.close()


async def test_a_call_is_heard_while_its_portrait_is_still_being_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading a picture takes as long as ten packets of sound: it may not hold the clock's thread."""
    go = threading.Event()

    def slow(data: bytes, width: int, height: int) -> StillBody:
        assert go.wait(30)
        frame = fit(data, width, height)
        assert frame is not None
        return StillBody("still", frame[None])

    monkeypatch.setattr(avatars_module, "still_body", slow)
    avatars = WorkerAvatars(["127.0.0.1:9"], tmp_path, 1 << 20, lambda *_: None)
    (tmp_path / "portrait").write_bytes(white(64, 64))
    portrait = PortraitFile.now(tmp_path / "portrait", 64, 64, Fraction(25), "crop")
    calls = [
        CallAvatar(
            avatars, portrait, session_id=f"{n}", rate=8000, on_turn=lambda _: None, on_avatar=lambda *_: None
        )
        for n in range(2)
    ]
    try:
        speaker = calls[0].speaker
        speaker.start_turn(1)
        speaker.feed(1, np.full(3200, 7, np.int16), np.full(1600, 7, np.int16))
        assert calls[0].tick(0).loop_index == 0
        heard = [calls[0].read(packet) for packet in range(10)]
        assert sum(sound is not None for sound in heard) >= 8
        assert calls[0].body.frames[0, 0, 0] == grey_body(64, 64).frames[0, 0, 0]
        go.set()
        async with asyncio.timeout(30):
            while calls[0].body is not await avatars.still(portrait):
                await asyncio.sleep(0.001)
            while calls[1].body is not calls[0].body:
                await asyncio.sleep(0.001)
        assert calls[0].body.frames[0, :64].min() > 200
    finally:
        go.set()
        for call in calls:
            await call.close()
        await avatars.close()
