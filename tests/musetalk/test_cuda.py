"""From the settings to the first batch as on a GPU: torch's own code for one runs, what lies below is stood in.

See ``support/cuda.py`` for what that can show. No GPU has run any of this.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from inference_server.engines.base import BatchFailed, EngineError, NoMemory
from inference_server.engines.musetalk import MuseTalkEngine, batch, device, engine, group_norm, network
from inference_server.engines.musetalk.device import CUDA_IMAGE, choose_device
from inference_server.models.manifest import FILES
from tests.musetalk.support import body, checkpoint, draw, loaded, prepared, said, settings, speech
from tests.musetalk.test_face import random_parser_weights
from tests.support.cuda import TOTAL, Cuda, OnDevice
from tests.support.lines import Lines

pytestmark = pytest.mark.torch


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cuda]:
    """A machine with two GPUs."""
    made = Cuda(2)
    made.install(monkeypatch)
    with made:
        yield made


def first_batch(made: MuseTalkEngine) -> list[bytes]:
    """Three mouths in a bucket of four, and the avatar gone again."""
    loop = body()
    handle = made.attach(prepared(made, loop), loop)
    assert made.memory().used > 0
    results, pixels = draw(made, handle, said(made, handle, speech()), [3, 9, 14])
    assert [r.kind for r in results] == ["mouth"] * 3
    made.detach(handle)
    return pixels


@pytest.mark.slow
def test_every_line_from_settings_to_the_first_batch_runs(
    cuda: Cuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = Lines(engine, device, network, batch)
    told: list[str] = []
    with lines:
        made = MuseTalkEngine(settings(device="auto"))
        with pytest.raises(EngineError, match="not loaded"):
            _ = made.info
        assert [each.name for each in made.devices] == ["cuda:0", "cuda:1"]
        made.load(lambda share, sentence: told.append(sentence))
        assert made.info.buckets == (1, 2, 4) and made._dtype == torch.float16
        assert "moving the weights to cuda:0" in told and told[-1].endswith("7 MiB of device memory")
        first_batch(made)
        assert made.cost_ms(3) == pytest.approx(1.0)
        with pytest.raises(EngineError, match="not one of this engine's"):
            made.track(object(), body().fps, 0)  # type: ignore[arg-type]
        made.close()
        assert cuda.devices == {torch.device("cuda:0")} and cuda.pinned == 12

        cuda.replay_s = lambda n: 0.003 * (n + 1) ** 3  # the third bucket is too slow for live frames
        cuda.graphs.clear()
        monkeypatch.setattr(torch, "compile", lambda net, dynamic: net)  # what it makes is for a real GPU
        made = MuseTalkEngine(settings(mode="compile", device="cuda", decoder="taesd", **with_parser()))
        made.load(lambda share, sentence: None)
        assert made.info.buckets == (1, 2) and len(cuda.graphs) == 3

        def full(at: str) -> Callable[[float, str], None]:
            def tell(share: float, sentence: str) -> None:
                told.append(sentence)
                cuda.largest = 0 if sentence.startswith(at) else cuda.largest

            return tell

        monkeypatch.setattr(
            group_norm, "_kernels", Mock(side_effect=RuntimeError("no C compiler"))
        )  # Triton's
        with pytest.raises(EngineError, match="norms=fused needs Triton"):
            MuseTalkEngine(settings(device="cuda", norms="fused")).load(lambda share, sentence: None)
        made = MuseTalkEngine(settings(device="cuda", mode="eager"))
        made.load(full("warming up batches of 2"))
        assert made.info.buckets == (1,) and "batches of 2 do not fit into the device's memory" in told
        with pytest.raises(NoMemory, match="could not be prepared now"):
            prepared(made, body())
        cuda.largest = TOTAL
        with pytest.raises(BatchFailed, match="out of device memory"):
            MuseTalkEngine(settings(device="cuda")).load(full("warming up batches of 1"))
        first_batch(loaded(device="cpu"))
    runner, batcher = network.Runner, batch.Batcher
    missing = lines.missing(
        *(engine.MuseTalkEngine, device.choose_dtype, network.LipNetwork),
        *(runner.__init__, runner.run, runner.warm_up, runner._timed, runner.synchronize),
        *(batcher.__init__, batcher._host, batcher.warm_up, batcher.reserve, batcher._fill),
    )
    assert not missing, "\n".join(missing)


def with_parser() -> dict[str, str]:
    """Settings with the face parser, and random weights of it."""
    path = checkpoint() / FILES["parser"][0].path
    path.parent.mkdir(exist_ok=True)
    torch.save(random_parser_weights(), path)
    return {"parser": "true"}


@pytest.mark.parametrize(("name", "index"), [("auto", 0), ("cuda", 0), ("cuda:1", 1)])
def test_every_tensor_is_on_the_gpu_that_was_chosen(cuda: Cuda, name: str, index: int) -> None:
    assert choose_device(name) == torch.device("cuda", index)
    assert cuda.device == torch.cuda.current_device() == index
    made = loaded(device=name, batch_size="1")
    assert made._runner.device == torch.device("cuda", index)
    draw_one(made)
    assert cuda.devices == {torch.device("cuda", index)}


def draw_one(made: MuseTalkEngine) -> bytes:
    """One mouth."""
    loop = body()
    handle = made.attach(prepared(made, loop), loop)
    return draw(made, handle, said(made, handle, speech()), [7])[1][0]


def test_a_graph_draws_what_the_cpu_draws(cuda: Cuda) -> None:
    made = loaded(device="cuda", dtype="float32")
    captured = first_batch(made)
    assert [graph.replays > 0 for graph in cuda.graphs] == [True] * 3
    plain = first_batch(loaded(device="cpu"))
    for a, b in zip(captured, plain, strict=True):
        off = np.abs(np.frombuffer(a, np.uint8).astype(int) - np.frombuffer(b, np.uint8))
        assert off.max() <= 1 and (off > 0).mean() <= 0.001


def test_the_stand_in_refuses_what_a_gpu_refuses(cuda: Cuda) -> None:
    there, here = torch.ones(2, 2, device="cuda:0"), torch.ones(2, 2)
    with pytest.raises(ValueError, match="specified index"):
        torch.cuda.set_device(torch.device("cuda"))
    with pytest.raises(RuntimeError, match="same device"):
        there + here
    with pytest.raises(RuntimeError, match="same device"):
        there + torch.ones(2, 2, device="cuda:1")
    with pytest.raises(RuntimeError, match="numpy"):
        there.numpy()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = there * 3
        for wait in (
            lambda: out.sum().item(),
            lambda: out.cpu(),
            lambda: there.copy_(here),
            torch.cuda.synchronize,
        ):
            with pytest.raises(torch.AcceleratorError, match="capturing"):
                wait()
    assert isinstance(out, OnDevice) and not out.cpu().any()
    there.fill_(5)
    graph.replay()
    assert torch.equal(out.cpu(), torch.full((2, 2), 15.0))


def test_a_gpu_that_is_not_there_is_named(cuda: Cuda) -> None:
    with pytest.raises(EngineError, match=r"device='cuda:2': there is no such GPU, the last of 2 is cuda:1"):
        choose_device("cuda:2")
    for wrong in ("gpu", "cuda:x", "mps", "meta", ""):
        with pytest.raises(EngineError, match="is not auto, cpu, cuda or cuda:N"):
            choose_device(wrong)
    assert choose_device("cpu") == torch.device("cpu")


def test_the_cpu_is_refused_in_the_image_for_gpus_and_warned_of_elsewhere(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv(CUDA_IMAGE, "1")
    with pytest.raises(
        EngineError, match=r"needs a GPU and this container sees none: give it one .*device=cpu"
    ):
        MuseTalkEngine(settings(device="auto")).load(lambda share, sentence: None)
    assert not caplog.records
    assert choose_device("cpu").type == "cpu"
    monkeypatch.delenv(CUDA_IMAGE)
    with caplog.at_level(logging.WARNING):
        assert choose_device("auto").type == "cpu"
    assert [(r.levelname, r.message) for r in caplog.records] == [("WARNING", "no_gpu")]
    with pytest.raises(EngineError, match="asks for a GPU and none can be used"):
        choose_device("cuda")
