"""Portraits as strangers send them."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from inference_server.avatars.portrait.image import ImageLimits, load_image, read_header
from inference_server.engines.base import ImageRejected

WIDTH, HEIGHT = 120, 96


def scene() -> Image.Image:
    """Red top left, green top right, blue bottom left, grey bottom right."""
    picture = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    picture[: HEIGHT // 2, : WIDTH // 2] = (220, 30, 30)
    picture[: HEIGHT // 2, WIDTH // 2 :] = (30, 200, 30)
    picture[HEIGHT // 2 :, : WIDTH // 2] = (30, 30, 220)
    return Image.fromarray(picture)


def encoded(picture: Image.Image, form: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def corners(rgb: np.ndarray) -> list[tuple[int, ...]]:
    h, w = rgb.shape[:2]
    return [tuple(int(v) for v in rgb[y, x]) for y, x in ((9, 9), (9, w - 10), (h - 10, 9), (h - 10, w - 10))]


def assert_scene(rgb: np.ndarray, tolerance: int = 12) -> None:
    assert rgb.dtype == np.uint8 and rgb.shape == (HEIGHT, WIDTH, 3)
    expected = [(220, 30, 30), (30, 200, 30), (30, 30, 220), (128, 128, 128)]
    assert np.abs(np.array(corners(rgb)) - expected).max() <= tolerance


@pytest.mark.parametrize("form", ["PNG", "BMP", "JPEG", "WEBP"])
def test_the_common_formats(form: str) -> None:
    assert_scene(load_image(encoded(scene(), form)))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_undone(form: str, orientation: int) -> None:
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = scene() if undo is None else scene().transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(stored, form, exif=exif)
    assert read_header(data).orientation == orientation
    assert_scene(load_image(data))


def test_transparency_lies_over_neutral_grey() -> None:
    picture = scene().convert("RGBA")
    picture.putalpha(
        Image.fromarray(np.where(np.arange(WIDTH) < 60, 255, 0)[None].repeat(HEIGHT, 0).astype(np.uint8))
    )
    rgb = load_image(encoded(picture, "PNG"))
    assert corners(rgb)[0] == (220, 30, 30)
    assert corners(rgb)[1] == (128, 128, 128)


def test_grey_with_and_without_alpha() -> None:
    grey = load_image(encoded(scene().convert("L"), "PNG"))
    assert grey.shape == (HEIGHT, WIDTH, 3) and (grey[:, :, 0] == grey[:, :, 2]).all()
    both = scene().convert("LA")
    both.putalpha(0)
    assert (load_image(encoded(both, "PNG")) == 128).all()


def test_palette_with_a_transparent_colour() -> None:
    picture = scene().quantize(4)
    index = picture.getpixel((WIDTH - 5, 5))
    rgb = load_image(encoded(picture, "PNG", transparency=index))
    assert np.abs(np.array(corners(rgb)[1]) - 128).max() <= 2
    assert np.abs(np.array(corners(rgb)[0]) - (220, 30, 30)).max() <= 12


def test_cmyk_jpeg() -> None:
    assert_scene(load_image(encoded(scene().convert("CMYK"), "JPEG", quality=95)), tolerance=30)


def without_adobe(data: bytes) -> bytes:
    at = data.index(b"\xff\xee\x00\x0eAdobe")
    return data[:at] + data[at + 16 :]


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_cmyk_jpeg_without_adobe_marker_is_read_the_way_that_shows_something(
    inverted: bool, options: dict[str, object]
) -> None:
    inks = scene().convert("CMYK")
    if not inverted:  # Pillow writes every file as Adobe does
        inks = Image.merge("CMYK", [band.point(lambda v: 255 - v) for band in inks.split()])
    data = without_adobe(encoded(inks, "JPEG", quality=95, **options))
    assert_scene(load_image(data), tolerance=30)
    for end in range(0, len(data), 11):
        try:
            load_image(data[:end])
        except ImageRejected:
            continue


def exif_of(form: str, kind: int, value: bytes) -> bytes:
    """A directory with an Orientation of this type."""
    order = "<" if form == "II" else ">"
    entry = struct.pack(order + "HHI", 0x0112, kind, 1) + value.ljust(4, b"\0")
    return (
        form.encode()
        + struct.pack(order + "HIH", 42, 8, 1)
        + entry
        + bytes(4)
        + struct.pack(order + "II", 6, 1)
    )


@pytest.mark.parametrize("form", ["II", "MM"])
@pytest.mark.parametrize(
    ("kind", "code"),
    [(1, "B"), (3, "H"), (4, "I"), (6, "b"), (7, "B"), (8, "h"), (9, "i"), (2, "6"), (5, "at")],
)
def test_orientations_of_odd_types(form: str, kind: int, code: str) -> None:
    order = "<" if form == "II" else ">"
    value = {"6": b"6\0", "at": struct.pack(order + "I", 26)}.get(code)
    exif = exif_of(form, kind, value or struct.pack(order + code, 6))
    stored = scene().transpose(Image.Transpose.ROTATE_90)
    for container in ("JPEG", "PNG", "WEBP"):
        assert_scene(load_image(encoded(stored, container, exif=b"Exif\0\0" + exif)))


@pytest.mark.parametrize("value", [0, 9, 255])
def test_an_orientation_that_is_none_is_left_alone(value: int) -> None:
    for kind in (1, 3, 4):
        exif = exif_of("II", kind, struct.pack("<I", value))
        assert read_header(encoded(scene(), "PNG", exif=b"Exif\0\0" + exif)).orientation == 1


@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
def test_exif_of_a_png_after_its_pixels(prefix: bytes) -> None:
    """PNG third edition, section 11.3.3: eXIf may stand before or after IDAT."""
    data = encoded(scene().transpose(Image.Transpose.ROTATE_90), "PNG")
    body = b"eXIf" + prefix + exif_of("MM", 3, b"\0\x06")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    end = data.rindex(b"IEND") - 4
    assert_scene(load_image(data[:end] + chunk + data[end:]))


def test_exif_of_a_jpeg_after_its_frame_header() -> None:
    data = encoded(scene().transpose(Image.Transpose.ROTATE_90), "JPEG")
    body = b"Exif\0\0" + exif_of("MM", 3, b"\0\x06")
    at = data.index(b"\xff\xda")
    assert_scene(load_image(data[:at] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[at:]))


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"avif", b"avis"])
def test_heif_of_any_brand_is_called_by_its_name(brand: bytes) -> None:
    with pytest.raises(ImageRejected, match="HEIC and AVIF"):
        load_image(b"\0\0\0\x18ftyp" + brand + bytes(40))


def test_sixteen_bits() -> None:
    ramp = np.linspace(0, 65535, WIDTH).astype(np.uint16)[None].repeat(HEIGHT, 0)
    rgb = load_image(encoded(Image.fromarray(ramp), "PNG"))
    assert rgb[0, 0, 0] == 0 and rgb[0, -1, 0] == 255 and abs(int(rgb[0, WIDTH // 2, 0]) - 128) <= 2


def test_twelve_megapixels() -> None:
    picture = scene().resize((4000, 3000))
    assert load_image(encoded(picture, "JPEG")).shape == (3000, 4000, 3)


def png_header(width: int, height: int) -> bytes:
    body = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + body
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"hello, this is a text file", "not a picture"),
        (b"", "not a picture"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "HEIC"),
        (png_header(20_000, 20_000), "20000x20000"),
        (png_header(0, 10), "no size"),
        (png_header(60, 200), "80 pixels"),
        (png_header(200, 200) + b"\0\0\0\x05IDATxxxxx", "cannot be decoded"),
        (b"\x89PNG\r\n\x1a\n\0\0", "cut off"),
        (b"\xff\xd8\xff\xe0\x00", "no picture"),
        (b"RIFF\0\0\0\0WEBPVP8X", "cut off"),
    ],
)
def test_what_cannot_be_read_says_why(data: bytes, words: str) -> None:
    with pytest.raises(ImageRejected, match=words) as caught:
        load_image(data)
    assert str(caught.value).endswith(".")


def test_limits_are_those_given() -> None:
    data = encoded(scene(), "PNG")
    with pytest.raises(ImageRejected, match="megapixels"):
        load_image(data, ImageLimits(max_pixels=1000))
    with pytest.raises(ImageRejected, match="MiB"):
        load_image(data, ImageLimits(max_bytes=10))


def test_every_cut_of_a_picture_is_read_or_refused() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for form in ("JPEG", "PNG", "WEBP"):
        data = encoded(scene(), form, exif=exif)
        for end in range(0, len(data), 7):
            try:
                load_image(data[:end])
            except ImageRejected:
                continue


def test_a_picture_that_unfolds_to_more_bytes_than_pixels_is_refused_before_it_is_decoded() -> None:
    wide = cv2.imencode(".png", np.zeros((1000, 1000, 4), np.uint16))[1].tobytes()
    with pytest.raises(ImageRejected, match="8 bytes a pixel"):
        load_image(wide, ImageLimits(max_pixels=1_500_000))
    assert load_image(wide, ImageLimits(max_pixels=2_000_000)).shape == (1000, 1000, 3)
    plain = cv2.imencode(".png", np.zeros((1000, 1000, 4), np.uint8))[1].tobytes()
    assert load_image(plain, ImageLimits(max_pixels=1_000_000)).shape == (1000, 1000, 3)
