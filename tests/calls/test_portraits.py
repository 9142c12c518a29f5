"""Which portrait a dialled user part means, and what is taken as one."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.calls import portraits
from orchestrator.calls.portraits import AvatarCatalog, AvatarError, avatar_name, media_type
from orchestrator.sip.message.message import parse_request_uri
from tests.support.sip_fake import AUDIO, Wire, only, request, sdp

PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)


@pytest.fixture
def catalog(tmp_path: Path) -> AvatarCatalog:
    default = tmp_path / "default.png"
    default.write_bytes(PNG)
    return AvatarCatalog(tmp_path / "avatars", default)


@pytest.mark.parametrize(
    "uri",
    [
        "sip:4930123@host",
        "sip:+4930123@host",
        "sip:%2B4930123@host",
        "sip:+49-30-123@host",
        "sip:+49.30.123@host",
        "sip:+49(30)123@host;user=phone",
        "sip:+49%2030%20123@host",
        "sip:4930123;phone-context=example.com@host",
        "sip:+4930123;isub=1411;postd=pp22@host;user=phone",
        "sip:4930123;phone-context=+49:secret@host",
        "tel:+49-30-123",
        "tel:4930123;phone-context=+1",
        "TEL:+49%2030123",
    ],
)
@pytest.mark.parametrize("stored", ["4930123", "+4930123", "+49-30-123"])
def test_a_number_is_found_however_it_is_dialled(catalog: AvatarCatalog, stored: str, uri: str) -> None:
    catalog.put(stored, PNG)
    assert catalog.for_user(parse_request_uri(uri).decoded_user).name == "4930123"


@pytest.mark.parametrize(
    ("stored", "dialled"),
    [
        ("anna.smith", "anna.smith"),
        ("anna.smith", "Anna.Smith"),
        ("Anna", "anna;tag=x"),
        ("front-desk", "front-desk"),
        ("team_2.b", "+team_2.b"),
        ("a..b", "a..b"),
    ],
)
def test_names_of_people(catalog: AvatarCatalog, stored: str, dialled: str) -> None:
    assert catalog.for_user(dialled).name == "default"
    name = catalog.put(stored, PNG).name
    assert catalog.for_user(dialled).name == name == stored.lower()
    assert catalog.names() == ["default", name]


def test_separators_count_in_what_is_no_number(catalog: AvatarCatalog) -> None:
    catalog.put("anna-smith", PNG)
    assert catalog.for_user("annasmith").name == catalog.for_user("anna.smith").name == "default"


@pytest.mark.parametrize(
    "name", ["", "+", ";x", ".", "..", "../x", ".hidden", "-x", "a/b", "a\0", "x" * 65, "ä", "٣٤", "*100#"]
)
def test_names_that_cannot_be(catalog: AvatarCatalog, name: str) -> None:
    with pytest.raises(AvatarError, match="is not an avatar name"):
        catalog.put(name, PNG)
    assert catalog.for_user(name).name == "default" and catalog.get(name) is None


def test_a_number_stored_as_it_used_to_be_written(catalog: AvatarCatalog, tmp_path: Path) -> None:
    catalog.put("anna", PNG)
    (tmp_path / "avatars" / "anna.image").rename(tmp_path / "avatars" / "100-200.image")
    assert catalog.for_user("100-200").name == "100-200" and catalog.delete("100-200")
    assert catalog.names() == ["default"]


def test_an_erased_portrait_is_gone_from_the_disk(catalog: AvatarCatalog, tmp_path: Path) -> None:
    catalog.put("anna", PNG)
    assert catalog.delete("Anna") is not None
    assert list((tmp_path / "avatars").iterdir()) == [] and catalog.delete("anna") is None
    with pytest.raises(AvatarError, match="cannot be deleted"):
        catalog.delete("DEFAULT")


def test_an_upload_hides_the_built_in_portrait_of_its_name(tmp_path: Path) -> None:
    built_in = {"lumi": tmp_path / "lumi.png", "omar": tmp_path / "omar.png"}
    for path in built_in.values():
        path.write_bytes(PNG)
    catalog = AvatarCatalog(tmp_path / "avatars", Path("omar"), built_in)
    assert catalog.names() == ["default", "lumi", "omar"]
    assert catalog.for_user("Lumi").path == built_in["lumi"]
    assert catalog.for_user("stranger").path == built_in["omar"]
    with pytest.raises(AvatarError, match="lumi is built in and cannot be deleted"):
        catalog.delete("lumi")
    uploaded = catalog.put("lumi", PNG)
    assert catalog.names() == ["default", "lumi", "omar"] and catalog.get("lumi") == uploaded
    assert catalog.delete("lumi") == uploaded
    lumi = catalog.get("lumi")
    assert lumi and lumi.built_in and lumi.path == built_in["lumi"]


def test_a_default_that_is_neither_file_nor_built_in_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        AvatarError, match=r"portrait lumy does not exist: name a file, or one of lumi, omar$"
    ):
        AvatarCatalog(tmp_path, Path("lumy"), {"lumi": tmp_path, "omar": tmp_path})


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\0\0\0\x18ftypheic" + bytes(40), "HEIC or AVIF files cannot be read: save"),
        (b"\0\0\0\x1cftypmif1" + bytes(40), "HEIC or AVIF"),
        (b"\0\0\0\x20ftypavif" + bytes(40), "HEIC or AVIF"),
        (b"\0\0\0\x20ftyphevc" + bytes(40), "HEIC or AVIF"),
        (b"II*\0" + bytes(40), "TIFF files cannot be read"),
        (b"MM\0*" + bytes(40), "TIFF files cannot be read"),
        (b"GIF89a" + bytes(40), "GIF files"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL files"),
        (b"\n<svg xmlns", "SVG files"),
        (b"%PDF-1.7", "PDF files"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "not a picture: upload a JPEG, PNG, WebP or BMP file$"),
        (b"hello", "not a picture"),
        (b"", "not a picture"),
    ],
)
def test_what_is_not_taken_is_called_by_its_name(catalog: AvatarCatalog, data: bytes, says: str) -> None:
    with pytest.raises(AvatarError, match=says):
        catalog.put("anna", data)


def test_media_types() -> None:
    assert media_type(b"RIFF\x24\0\0\0WEBPVP8 ") == "image/webp"
    assert media_type(b"RIFF\x24\0\0\0WAVEfmt ") == ""


def test_the_name_of_a_name_is_itself() -> None:
    for user in ("+49 30-123", "Anna.Smith", "+x", "a;b"):
        assert avatar_name(avatar_name(user)) == avatar_name(user)


async def test_a_call_to_a_telephone_number_shows_its_portrait() -> None:
    wire = Wire()
    for number, uri in enumerate(("tel:+4930123", "tel:911;phone-context=example.com")):
        invite = request("INVITE", uri=uri, branch=f"z9hG4bK{number}", call_id=f"c{number}", body=sdp(AUDIO))
        only(await wire.put(invite), 200)
    assert [call.user for call in wire.handler.calls] == ["+4930123", "911;phone-context=example.com"]


def test_avatars_are_bounded(catalog: AvatarCatalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portraits, "MOST_AVATARS", len(catalog.names()) + 1)
    for name in ("one", "two"):
        catalog.put(name, PNG)
    with pytest.raises(AvatarError, match="delete one that is not needed"):
        catalog.put("three", PNG)
    catalog.put("two", PNG)
    catalog.delete("one")
    catalog.put("three", PNG)
