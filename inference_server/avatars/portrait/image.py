"""Image bytes from a stranger to upright 8-bit RGB.

The header is read by hand before anything is decoded, so that a small file that would unfold to gigabytes is
refused at once.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inference_server.engines.base import ImageRejected as ImageRejected

NEUTRAL = (128, 128, 128)
"""What shows through where a picture is transparent."""

_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis"}
_SOF = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_TURNS: dict[
    int, tuple[bool, int]
] = {  # EXIF orientation -> (mirror left-right, then quarter turns clockwise)
    1: (False, 0),
    2: (True, 0),
    3: (False, 2),
    4: (True, 2),
    5: (True, 3),
    6: (False, 1),
    7: (True, 1),
    8: (False, 3),
}


@dataclass(frozen=True)
class ImageLimits:
    """What is accepted: bytes of the file, pixels of the picture, and its shortest side in pixels.

    Decoded it may have four bytes for each of those pixels: half as many of 16 bits and four channels are taken.
    """

    max_bytes: int = 20 * 1024 * 1024
    max_pixels: int = 50_000_000
    min_side: int = 80


@dataclass(frozen=True)
class Header:
    """What a file's header says: format, size as stored, EXIF orientation 1 to 8.

    ``unmarked_cmyk``: where a JPEG has its frame of four inks, if no Adobe marker says that they are inverted.
    ``bytes_per_pixel``: at most, once it is decoded.
    """

    format: str
    width: int
    height: int
    orientation: int = 1
    unmarked_cmyk: int = 0
    bytes_per_pixel: int = 4


def read_header(data: bytes) -> Header:
    """Format, stored size and orientation, without decoding. Raises :class:`ImageRejected`."""
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return _png(data)
        if data.startswith(b"\xff\xd8"):
            return _jpeg(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
        if data.startswith(b"BM"):
            width, height = struct.unpack_from("<ii", data, 18)
            return Header("BMP", width, abs(height))
    except (struct.error, IndexError):
        raise ImageRejected("The picture's header is cut off or damaged: upload the file again.") from None
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS:
        raise ImageRejected("HEIC and AVIF pictures cannot be read: save the picture as JPEG or PNG.")
    raise ImageRejected("This is not a picture in a known format: upload a JPEG, PNG, WebP or BMP file.")


def known_format(head: bytes) -> bool:
    """Whether a file that begins so may be a picture; what its header says may come later."""
    webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    return webp or head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"BM"))


def load_image(data: bytes, limits: ImageLimits | None = None) -> NDArray[np.uint8]:
    """The picture upright, ``(height, width, 3)`` uint8 RGB.

    Transparency is laid over a neutral grey, 16-bit and greyscale become 8-bit RGB, CMYK is converted without
    a colour profile. Raises :class:`ImageRejected` with one sentence for whoever uploaded it.
    """
    limits = limits or ImageLimits()
    if len(data) > limits.max_bytes:
        raise ImageRejected(
            f"The picture's file has {len(data) / 2**20:.1f} MiB and at most {limits.max_bytes / 2**20:.0f} "
            "are accepted: save it smaller."
        )
    header = read_header(data)
    if header.width <= 0 or header.height <= 0:
        raise ImageRejected("The picture's header gives it no size: the file is damaged, upload it again.")
    if header.width * header.height > limits.max_pixels:
        raise ImageRejected(
            f"The picture is {header.width}x{header.height} and at most {limits.max_pixels / 1e6:.0f} megapixels "
            "are accepted: save it smaller."
        )
    if header.width * header.height * header.bytes_per_pixel > 4 * limits.max_pixels:
        raise ImageRejected(
            f"The picture is {header.width}x{header.height} with {header.bytes_per_pixel} bytes a pixel, too "
            "much to decode: save it with 8 bits a channel, or smaller."
        )
    if min(header.width, header.height) < limits.min_side:
        raise ImageRejected(
            f"The picture is {header.width}x{header.height}: its shorter side needs at least "
            f"{limits.min_side} pixels."
        )
    flags = cv2.IMREAD_UNCHANGED
    if header.format == "JPEG":
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    picture = _decoded(data, flags)
    if header.unmarked_cmyk:
        picture = _brighter(picture, _plain_cmyk(data, header.unmarked_cmyk, flags))
    if picture is None or picture.size == 0:
        raise ImageRejected(
            "The picture cannot be decoded: the file is damaged, save it again as JPEG or PNG."
        )
    return _turned(_rgb8(np.asarray(picture)), header.orientation)


def _decoded(data: bytes, flags: int) -> NDArray[np.generic] | None:
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
    return None if picture is None else np.asarray(picture)


def _plain_cmyk(data: bytes, frame: int, flags: int) -> NDArray[np.generic] | None:
    """BGR of a JPEG in which 255 is full ink, though OpenCV reads every CMYK as Adobe's, where it is none.

    A quantization table of zeros makes 128 of an ink: with the black one so, OpenCV's picture holds the three
    colours, with those so, the black (ITU-T T.81 sections B.2.2 and B.2.4.1).
    """
    inks = range(frame + 12, frame + 24, 3)  # where each component names its table
    table = next(number for number in range(4) if number not in {data[at] for at in inks[:3]})
    zeros = b"\xff\xdb\0\x43" + bytes([table]) + bytes(64)
    parts = []
    for silent in (inks[3:], inks[:3]):
        changed = bytearray(data)
        for at in silent:
            changed[at] = table
        # Right before the frame, so that no table of the file's own comes after it.
        parts.append(_decoded(bytes(changed[:frame] + zeros + changed[frame:]), flags))
    if parts[0] is None or parts[1] is None:
        return None
    no_colour = np.clip((128 - parts[0].astype(np.float32)) * 2, 0, 255)
    no_black = np.clip(255 - parts[1].astype(np.float32) * (256 / 129), 0, 255)
    return np.asarray(np.rint(no_colour * no_black / 255), np.uint8)


def _brighter(a: NDArray[np.generic] | None, b: NDArray[np.generic] | None) -> NDArray[np.generic] | None:
    """Read the wrong way round a CMYK picture is all but black."""
    if a is None or b is None:
        return b if a is None else a
    return b if b.mean() > a.mean() else a


def _rgb8(picture: NDArray[np.generic]) -> NDArray[np.uint8]:
    if picture.dtype == np.uint16:
        picture = _to_8_bits(picture)
    elif picture.dtype != np.uint8:
        raise ImageRejected("Pictures with floating-point pixels cannot be read: save it as JPEG or PNG.")
    pixels: NDArray[np.uint8] = picture.astype(np.uint8, copy=False)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    alpha: NDArray[np.uint8] | None = pixels[:, :, -1] if pixels.shape[2] in (2, 4) else None
    colour = pixels[:, :, :3] if pixels.shape[2] >= 3 else np.repeat(pixels[:, :, :1], 3, 2)
    rgb = np.ascontiguousarray(colour[:, :, ::-1])
    if alpha is not None and int(alpha.min()) < 255:
        for top in range(0, len(rgb), 256):  # in strips: a large picture in float would take 12 bytes a pixel
            strip = slice(top, top + 256)
            weight = alpha[strip, :, None].astype(np.float32) / 255
            mixed = rgb[strip] * weight + np.array(NEUTRAL, np.float32) * (1 - weight)
            rgb[strip] = np.rint(mixed).astype(np.uint8)
    return rgb


def _to_8_bits(picture: NDArray[np.generic]) -> NDArray[np.uint8]:
    out = np.empty(picture.shape, np.uint8)
    for top in range(0, len(picture), 256):  # in strips, as below
        strip = slice(top, top + 256)
        out[strip] = (picture[strip].astype(np.uint32) + 128) // 257
    return out


def _turned(rgb: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    mirror, quarters = _TURNS.get(orientation, (False, 0))
    if mirror:
        rgb = rgb[:, ::-1]
    return np.ascontiguousarray(np.rot90(rgb, -quarters))


def _png(data: bytes) -> Header:
    width, height = struct.unpack_from(">II", data, 16)
    at, orientation = 8, 1
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"eXIf":
            orientation = _orientation(data[at + 8 : at + 8 + length].removeprefix(b"Exif\0\0"))
        if kind in (b"IEND", b"eXIf"):  # which may come after the pixels (PNG third edition, section 11.3.3)
            break
        at += 12 + length
    channels = {0: 1, 2: 3, 3: 4, 4: 4, 6: 4}.get(data[25], 4)  # decoders make grey and alpha four
    return Header("PNG", width, height, orientation, bytes_per_pixel=channels * (2 if data[24] == 16 else 1))


def _jpeg(data: bytes) -> Header:
    at, orientation, adobe = 2, 1, False
    frame = 0
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            at += 1
            continue
        marker = data[at + 1]
        if marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD9:
            at += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        body = data[at + 4 : at + 2 + length]
        if marker == 0xE1 and body.startswith(b"Exif\0\0"):
            orientation = _orientation(body[6:])
        adobe = adobe or (marker == 0xEE and body.startswith(b"Adobe"))
        if marker in _SOF and not frame:
            frame = at
        if marker == 0xDA:
            break
        at += 2 + length
    if frame:
        height, width, colours = struct.unpack_from(">HHB", data, frame + 5)
        unmarked = colours == 4 and not adobe and frame + 22 <= len(data)
        return Header("JPEG", width, height, orientation, frame if unmarked else 0)
    raise ImageRejected("The JPEG file has no picture in it: upload it again.")


def _webp(data: bytes) -> Header:
    kind = data[12:16]
    if len(data) < 30:
        raise IndexError
    if kind == b"VP8X":
        width = 1 + int.from_bytes(data[24:27], "little")
        height = 1 + int.from_bytes(data[27:30], "little")
        at, orientation = 12, 1
        while at + 8 <= len(data):
            name, length = struct.unpack_from("<4sI", data, at)
            if name == b"EXIF":
                orientation = _orientation(data[at + 8 : at + 8 + length].removeprefix(b"Exif\0\0"))
            at += 8 + length + length % 2
        return Header("WebP", width, height, orientation)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return Header("WebP", 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
    width, height = struct.unpack_from("<HH", data, 26)
    return Header("WebP", width & 0x3FFF, height & 0x3FFF)


def _orientation(tiff: bytes) -> int:
    """Tag 0x0112 of the first directory (TIFF 6.0 section 2, Exif 2.3 section 4.6.4); 1 where absent.

    It is to be a SHORT; writers of bytes, longs, texts and fractions are understood.
    """
    try:
        order = {b"II": "<", b"MM": ">"}[tiff[:2]]
        (directory,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, directory)
        for entry in range(entries):
            at = directory + 2 + 12 * entry
            tag, kind = struct.unpack_from(order + "HH", tiff, at)
            if tag == 0x0112:
                value = _number(tiff, order, kind, at + 8)
                return value if 1 <= value <= 8 else 1
    except (KeyError, struct.error):
        pass
    return 1


def _number(tiff: bytes, order: str, kind: int, at: int) -> int:
    """The first value of a directory's entry, by its type (TIFF 6.0 section 2); 0 where it is no number."""
    if kind == 2:
        text = tiff[at : at + 1]
        return int(text) if text.isdigit() else 0
    if kind in (5, 10):
        (offset,) = struct.unpack_from(order + "I", tiff, at)
        above, below = struct.unpack_from(order + "II", tiff, offset)
        return above // below if below and above % below == 0 else 0
    form = {1: "B", 6: "B", 7: "B", 4: "I", 9: "I"}.get(kind, "H")
    (value,) = struct.unpack_from(order + form, tiff, at)
    return int(value)
