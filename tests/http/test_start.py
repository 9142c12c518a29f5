"""The picture of RoomKit's ``/start`` in the base64 that encoders write."""

from __future__ import annotations

import base64
import binascii
import textwrap

import pytest

from inference_server.frontends.http.roomkit import picture_bytes

DATA = bytes(range(256)) * 3 + b"\xfb\xef\xff"
TEXT = base64.b64encode(DATA).decode()


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        base64.encodebytes(DATA).decode(),
        "\r\n".join(textwrap.wrap(TEXT, 64)) + "\r\n",
        " ".join(textwrap.wrap(TEXT, 76)),
        base64.urlsafe_b64encode(DATA).decode(),
        f"data:image/png;base64,{TEXT}",
        f"data:image/jpeg;base64,\n{base64.encodebytes(DATA).decode()}",
    ],
)
def test_base64_of_any_encoder(text: str) -> None:
    assert picture_bytes(text) == DATA


@pytest.mark.parametrize("size", [4, 5, 6])
def test_missing_padding(size: int) -> None:
    assert picture_bytes(base64.b64encode(DATA[:size]).decode().rstrip("=")) == DATA[:size]


@pytest.mark.parametrize("text", ["%%%", "AAAAA", "a=b=", "data:text/plain,hello", "ÄÄÄÄ", "AA.A"])
def test_what_is_no_base64(text: str) -> None:
    with pytest.raises(binascii.Error):
        picture_bytes(text)
