"""Weight files: what is missing or damaged is named, what is fetched is whole, what is loaded runs nothing."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
import torch
from safetensors.torch import save_file

from inference_server.engines.base import EngineError, ModelMissing
from inference_server.engines.musetalk import MuseTalkEngine
from inference_server.engines.musetalk import checkpoint as loading
from inference_server.engines.musetalk.settings import Settings
from inference_server.models.__main__ import hub_token, main
from inference_server.models.check import check
from inference_server.models.download import DownloadFailed, Hub
from inference_server.models.manifest import ModelFile, required
from tests.musetalk.support import checkpoint, settings

pytestmark = pytest.mark.torch


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copytree(checkpoint(), tmp_path / "models")
    return tmp_path / "models"


def load(root: Path, **changes: str) -> loading.Models:
    values = settings(musetalk_dir=str(root), cache_dir=str(root.parent / "cache"), **changes)
    return loading.load_models(Settings.of(values), torch.float32, lambda *_: None)


def damage(root: Path, name: str, how: str) -> None:
    path = root / name
    data = path.read_bytes()
    match how:
        case "missing":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "cut":
            path.write_bytes(data[: len(data) * 2 // 3])
        case "page":
            path.write_bytes(b"<!DOCTYPE html><title>Not found</title>")
        case "pointer":
            path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


@pytest.mark.parametrize("how", ["missing", "empty", "cut", "page", "pointer"])
@pytest.mark.parametrize(
    "name",
    [
        "musetalkV15/unet.pth",
        "musetalkV15/musetalk.json",
        "sd-vae/diffusion_pytorch_model.bin",
        "whisper/config.json",
    ],
)
def test_missing_and_damaged_files_are_named(root: Path, name: str, how: str) -> None:
    damage(root, name, how)
    found = [f for f in check(root, required()) if f.state != "ok"]
    assert [f.file.path for f in found] == [name]
    assert found[0].state == ("missing" if how == "missing" else "damaged")
    with pytest.raises(ModelMissing) as caught:
        load(root)
    assert name in str(caught.value)
    assert "visavis-models download" in str(caught.value)


def test_the_engine_says_all_that_is_missing_at_once(root: Path) -> None:
    for name in ("musetalkV15/unet.pth", "whisper/pytorch_model.bin"):
        damage(root, name, "missing")
    engine = MuseTalkEngine(settings(musetalk_dir=str(root)))
    with pytest.raises(ModelMissing, match=r"2 of 7 .*unet\.pth.*whisper/pytorch_model\.bin"):
        engine.load(lambda *_: None)


def test_check_prints_one_list(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--dir", str(root)]) == 0
    assert "all 7 files are there" in capsys.readouterr().out
    damage(root, "sd-vae/config.json", "missing")
    damage(root, "musetalkV15/unet.pth", "cut")
    assert main(["check", "--dir", str(root)]) == 1
    out = capsys.readouterr().out
    assert out.count("ok ") == 5
    assert "2 of 7 cannot be used" in out
    assert main(["check", "--dir", str(root), "--sha256", "--version", "v1"]) == 1
    assert "not the published one" in capsys.readouterr().out  # random weights are not the official ones


def test_pickled_code_is_never_run(root: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (tmp_path / "ran",)

    for protocol in (2, 4):
        (root / "musetalkV15/unet.pth").write_bytes(pickle.dumps({"conv_in.weight": Evil()}, protocol))
        with pytest.raises(ModelMissing, match=r"unet\.pth is damaged"):
            load(root)
    torch.save({"conv_in.weight": Evil()}, root / "musetalkV15/unet.pth")
    with pytest.raises(ModelMissing, match=r"unet\.pth is damaged"):
        load(root)
    assert not (tmp_path / "ran").exists()


def test_weights_that_do_not_fit_are_refused(root: Path) -> None:
    weights = torch.load(root / "musetalkV15/unet.pth", weights_only=True)
    torch.save({**weights, "conv_in.weight": torch.zeros(1)}, root / "musetalkV15/unet.pth")
    with pytest.raises(ModelMissing, match=r"conv_in\.weight is \(1,\) instead of"):
        load(root)
    del weights["conv_in.weight"]
    torch.save(weights, root / "musetalkV15/unet.pth")
    with pytest.raises(ModelMissing, match="lacks 1 tensors"):
        load(root)
    torch.save([1, 2], root / "musetalkV15/unet.pth")
    with pytest.raises(ModelMissing, match="table of weights"):
        load(root)


def test_converted_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(root)
    with monkeypatch.context() as patch:
        patch.setattr(loading, "read_weights", lambda path: pytest.fail(f"{path} was read again"))
        again = load(root)
    assert again.digest == first.digest
    assert torch.equal(again.unet.conv_in.weight, first.unet.conv_in.weight)
    for path in (root.parent / "cache").glob("*/weights.safetensors"):
        path.write_bytes(path.read_bytes()[:100])  # a disk that was full
    assert load(root).digest == first.digest
    weights = torch.load(root / "musetalkV15/unet.pth", weights_only=True)
    torch.save({**weights, "conv_in.bias": weights["conv_in.bias"] + 1}, root / "musetalkV15/unet.pth")
    changed = load(root)
    assert changed.digest != first.digest
    assert not torch.equal(changed.unet.conv_in.bias, first.unet.conv_in.bias)


def test_the_cache_is_half_as_large_in_float16(root: Path) -> None:
    values = settings(musetalk_dir=str(root), cache_dir=str(root.parent / "half"))
    models = loading.load_models(Settings.of(values), torch.float16, lambda *_: None)
    assert models.unet.conv_in.weight.dtype == torch.float16
    kept = max((root.parent / "half").glob("*/weights.safetensors"), key=lambda p: p.stat().st_size)
    assert kept.stat().st_size < 0.6 * (root / "musetalkV15/unet.pth").stat().st_size


def test_a_cache_that_cannot_be_written_is_done_without(root: Path) -> None:
    (root.parent / "cache").write_text("a file where the folder should be")
    assert load(root).digest


def test_older_names_and_other_containers(root: Path) -> None:
    """The official VAE calls its attention otherwise; Whisper comes as safetensors and with a prefix too."""
    wanted = load(root)
    old = {"to_q": "query", "to_k": "key", "to_v": "value"}
    weights = torch.load(root / "sd-vae/diffusion_pytorch_model.bin", weights_only=True)
    renamed = {}
    for name, tensor in weights.items():
        for new, before in old.items():
            name = name.replace(f".{new}.", f".{before}.")
        renamed[name.replace(".to_out.0.", ".proj_attn.")] = tensor
    assert set(renamed) != set(weights)
    torch.save(renamed, root / "sd-vae/diffusion_pytorch_model.bin")
    whisper = torch.load(root / "whisper/pytorch_model.bin", weights_only=True)
    (root / "whisper/pytorch_model.bin").unlink()
    save_file({f"model.{n}": t.clone() for n, t in whisper.items()}, root / "whisper/model.safetensors")
    ours = load(root)
    for a, b in ((ours.vae, wanted.vae), (ours.whisper, wanted.whisper)):
        assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_settings_name_what_is_wrong() -> None:
    for values, word in (
        ({"musetalk_dir": ""}, "musetalk_dir"),
        ({"batchsize": "4"}, "batchsize"),
        ({"batch_size": "many"}, "batch_size"),
        ({"batch_size": "65"}, "from 1 to 64"),
        ({"parsing_mode": "chin"}, "one of jaw, raw"),
        ({"look_ahead_ms": "110"}, "multiple of 20"),
        ({"fps": "0"}, "fps"),
    ):
        with pytest.raises(EngineError, match=word):
            Settings.of({**settings(), **values})
    assert Settings.of(settings(batch_size="6")).buckets == (1, 2, 4, 6)
    with pytest.raises(EngineError, match="GPU"):
        MuseTalkEngine(settings(device="cuda:0")).load(lambda *_: None)


class HubStandIn:
    """Serves files as the public hub does: redirects large ones, ranges, digests in headers."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.break_after: dict[str, list[int]] = {}  # path: bytes to send, one entry per answer
        self.ranges: list[str] = []
        self.wrong: set[str] = set()
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_HEAD(self) -> None:
                self._answer(body=False)

            def do_GET(self) -> None:
                self._answer(body=True)

            def _answer(self, body: bool) -> None:
                name = self.path.removeprefix("/store")
                data = stand_in.files.get(name)
                if data is None:
                    self.send_response(404)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                if not self.path.startswith("/store"):
                    self.send_response(302)
                    self.send_header("Location", f"/store{name}")
                    self.send_header("X-Linked-Size", str(len(data)))
                    self.send_header("X-Linked-Etag", f'"{hashlib.sha256(data).hexdigest()}"')
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                if name in stand_in.wrong:
                    data = bytes(len(data))
                start = 0
                if asked := self.headers.get("Range"):
                    stand_in.ranges.append(asked)
                    start = int(asked.removeprefix("bytes=").removesuffix("-"))
                self.send_response(206 if asked else 200)
                self.send_header("Content-Length", str(len(data) - start))
                self.end_headers()
                rest = data[start:]
                plan = stand_in.break_after.get(name, [])
                if body and plan:
                    self.wfile.write(rest[: plan.pop(0)])
                    self.close_connection = True
                elif body:
                    self.wfile.write(rest)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def hub() -> Iterator[HubStandIn]:
    stand_in = HubStandIn()
    yield stand_in
    stand_in.close()


def offer(
    hub: HubStandIn, name: str = "unet.pth", data: bytes | None = None, pinned: bool = True
) -> ModelFile:
    data = data if data is not None else b"\x80" + bytes(range(256)) * 9000
    hub.files[f"/me/model/resolve/abc/{name}"] = data
    digest = hashlib.sha256(data).hexdigest()
    return ModelFile(
        f"weights/{name}", "me/model", "abc", name, *((len(data), digest) if pinned else (0, ""))
    )


def fetch(hub: HubStandIn, root: Path, *files: ModelFile, accept: str = "") -> list[tuple[int, int]]:
    told: list[tuple[int, int]] = []
    with Hub(hub.url, pause=lambda s: None, accept=[accept]) as client:
        client.fetch(root, files, lambda file, here, total: told.append((here, total)))
    return told


@pytest.mark.parametrize("pinned", [True, False])
def test_download_tells_progress_and_keeps_the_digest(hub: HubStandIn, tmp_path: Path, pinned: bool) -> None:
    file = offer(hub, pinned=pinned)
    digest = hashlib.sha256(hub.files["/me/model/resolve/abc/unet.pth"]).hexdigest()
    told = fetch(hub, tmp_path, file, accept="" if pinned else digest)
    whole = hub.files["/me/model/resolve/abc/unet.pth"]
    assert (tmp_path / file.path).read_bytes() == whole
    assert told[-1] == (len(whole), len(whole))
    assert len(told) >= 3
    known = json.loads((tmp_path / "checksums.json").read_text())
    assert known == {file.path: hashlib.sha256(whole).hexdigest()}
    assert check(tmp_path, [file], deep=True)[0].state == "ok"
    hub.files.clear()
    assert fetch(hub, tmp_path, file) == [(len(whole), len(whole))]  # it is there: nothing is asked for


def test_weights_whose_digest_nobody_knows_are_not_taken(hub: HubStandIn, tmp_path: Path) -> None:
    """Whatever the hub tells of them: it may be the hub that was changed."""
    file = offer(hub, pinned=False)
    digest = hashlib.sha256(hub.files["/me/model/resolve/abc/unet.pth"]).hexdigest()
    with pytest.raises(DownloadFailed, match=f"{digest}, and no digest of it is pinned: compare .* --accept"):
        fetch(hub, tmp_path, file)
    assert not (tmp_path / file.path).exists()
    fetch(hub, tmp_path, file, accept=digest)
    size = (tmp_path / file.path).stat().st_size
    assert hub.ranges == [f"bytes={size}-"]  # what had come is not fetched again
    (tmp_path / "checksums.json").unlink()
    (found,) = check(tmp_path, [file], deep=True)
    assert found.state == "unknown" and digest in found.detail
    assert check(tmp_path, [file], deep=True, accept=[digest])[0].state == "ok"
    config = offer(hub, "config.json", b"{}", pinned=False)
    fetch(hub, tmp_path, config)
    assert check(tmp_path, [config], deep=True)[0].state == "ok"


def test_a_pinned_digest_stands_above_what_lies_beside_the_files(hub: HubStandIn, tmp_path: Path) -> None:
    file = offer(hub)
    fetch(hub, tmp_path, file)
    changed = (tmp_path / file.path).read_bytes()[:-1] + b"x"
    (tmp_path / file.path).write_bytes(changed)
    (tmp_path / "checksums.json").write_text(json.dumps({file.path: hashlib.sha256(changed).hexdigest()}))
    assert check(tmp_path, [file], deep=True)[0].state == "damaged"


def test_download_goes_on_where_it_broke_off(hub: HubStandIn, tmp_path: Path) -> None:
    file = offer(hub)
    hub.break_after["/me/model/resolve/abc/unet.pth"] = [1_200_000, 500_000]
    fetch(hub, tmp_path, file)
    assert (tmp_path / file.path).read_bytes() == hub.files["/me/model/resolve/abc/unet.pth"]
    starts = [int(r.removeprefix("bytes=").removesuffix("-")) for r in hub.ranges]
    assert len(starts) == 2
    assert 0 < starts[0] < starts[1]


def test_download_given_up_goes_on_next_time(hub: HubStandIn, tmp_path: Path) -> None:
    file = offer(hub)
    hub.break_after["/me/model/resolve/abc/unet.pth"] = [400_000] + [0] * 4
    with pytest.raises(DownloadFailed, match="goes on where it stopped"):
        fetch(hub, tmp_path, file)
    assert not (tmp_path / file.path).exists()
    assert (tmp_path / (file.path + ".part")).stat().st_size == 400_000
    hub.ranges.clear()
    fetch(hub, tmp_path, file)
    assert hub.ranges == ["bytes=400000-"]


def test_download_with_a_wrong_digest_is_not_kept(hub: HubStandIn, tmp_path: Path) -> None:
    file = offer(hub)
    hub.wrong.add("/me/model/resolve/abc/unet.pth")
    with pytest.raises(DownloadFailed, match="SHA-256"):
        fetch(hub, tmp_path, file)
    assert list((tmp_path / "weights").iterdir()) == []


def test_download_of_what_is_not_there(hub: HubStandIn, tmp_path: Path) -> None:
    file = ModelFile("weights/x.pth", "me/model", "abc", "x.pth", 10, "0" * 64)
    with pytest.raises(DownloadFailed, match="404"):
        fetch(hub, tmp_path, file)
    with (
        Hub("http://127.0.0.1:1", pause=lambda s: None) as nowhere,
        pytest.raises(DownloadFailed, match="cannot be reached"),
    ):
        nowhere.fetch(tmp_path, [file], lambda *_: None)


def test_the_command_fetches_a_whole_installation(
    hub: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All files of the manifest, with the stand-in's own digests in place of the pinned ones."""
    from inference_server.models import __main__ as command

    files = []
    for file in (*required(), *required(decoder="taesd")):
        data = (checkpoint() / file.path).read_bytes()
        hub.files[f"/{file.repo}/resolve/{file.revision}/{file.remote}"] = data
        digest = hashlib.sha256(data).hexdigest()
        entry = ModelFile(file.path, file.repo, file.revision, file.remote, len(data), digest)
        if entry not in files:
            files.append(entry)
    monkeypatch.setattr(command, "required", lambda *_: files)
    monkeypatch.setattr(command, "FILES", {"taesd": ()})
    assert main(["download", "--dir", str(tmp_path), "--hub", hub.url]) == 0
    assert f"{len(files)} files fetched" in capsys.readouterr().out
    assert load(tmp_path).digest
    assert main(["download", "--dir", str(tmp_path), "--hub", hub.url]) == 0
    assert f"0 files fetched into {tmp_path}, {len(files)} were there" in capsys.readouterr().out
    assert main(["check", "--dir", str(tmp_path), "--sha256"]) == 0
    path = tmp_path / "musetalkV15/unet.pth"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1  # one bit
    path.write_bytes(data)
    assert main(["check", "--dir", str(tmp_path)]) == 0
    assert main(["check", "--dir", str(tmp_path), "--sha256"]) == 1


def test_unreachable_hub_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["download", "--dir", str(tmp_path), "--hub", "http://127.0.0.1:1", "--version", "v1"]) == 1
    assert "visavis-models:" in capsys.readouterr().err
    assert issubclass(httpx.ConnectError, httpx.HTTPError)


def test_the_hubs_token_is_a_variable_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    named = {"HF_TOKEN_PATH": str(file)}
    assert hub_token({}) == hub_token(named) == ""
    file.write_text("hf_file\n")
    assert hub_token(named) == "hf_file"
    assert hub_token({**named, "HF_TOKEN": "hf_variable"}) == "hf_variable"
