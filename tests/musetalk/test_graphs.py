"""The code for a GPU against stand-ins of torch.cuda: what is captured, replayed, waited for and given back.

The stand-in graph does what CUDA's does: capturing computes nothing, and a replay reads the memory that was read
at capture and writes to the memory that was written to. It says nothing of a real device.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from inference_server.engines.base import BatchFailed, Handle, Prepared, Row
from inference_server.engines.musetalk import MuseTalkEngine, batch
from inference_server.engines.musetalk.network import COLUMNS, PLACES, Runner
from tests.musetalk.support import body, loaded, said, settings, speech

pytestmark = pytest.mark.torch


class Cuda:
    """What of ``torch.cuda`` the runner uses, and a log of it."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.capturing: Graph | None = None
        self.pools: list[object] = []

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """In place of the real ones."""
        stream = SimpleNamespace(wait_stream=lambda other: self.log.append("current waits"))
        side = SimpleNamespace(wait_stream=lambda other: self.log.append("side waits"))
        patch.setattr(torch.cuda, "Stream", lambda device: side)
        patch.setattr(torch.cuda, "current_stream", lambda device: stream)
        patch.setattr(torch.cuda, "stream", self._on_side)
        patch.setattr(torch.cuda, "CUDAGraph", Graph)
        patch.setattr(torch.cuda, "graph", self._capture)
        patch.setattr(torch.cuda, "synchronize", lambda device: None)

    @contextlib.contextmanager
    def _on_side(self, stream: object) -> Iterator[None]:
        self.log.append("on side")
        yield
        self.log.append("off side")

    @contextlib.contextmanager
    def _capture(self, graph: Graph, pool: object = None) -> Iterator[None]:
        self.pools.append(pool)
        self.log.append("capture")
        self.capturing = graph
        yield
        self.capturing = None

    def wrap(self, call: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
        """The network, which only notes its memory while a graph is captured."""

        def run(mel: Tensor, table: Tensor) -> Tensor:
            if self.capturing is None:
                self.log.append(f"run {len(table)}")
                return call(mel, table)
            out = torch.full_like(call(mel, table), 77)
            self.capturing.replay = lambda: out.copy_(call(mel, table))  # type: ignore[method-assign]
            return out

        return run


class Graph:
    """One captured graph."""

    def replay(self) -> object:
        """Set by the capture."""
        raise AssertionError("nothing was captured")

    def pool(self) -> object:
        """Of this graph."""
        return ("pool of", id(self))


@pytest.fixture(scope="module")
def engine() -> MuseTalkEngine:
    made = loaded()
    assert isinstance(made, MuseTalkEngine)
    return made


def inputs(size: int, hops: int, seed: int) -> tuple[Tensor, Tensor]:
    """Mel and table of a batch, with places in a filled slab."""
    random = torch.Generator().manual_seed(seed)
    table = torch.zeros(size, COLUMNS + PLACES, dtype=torch.int64)
    table[:, 3] = 500
    table[:, COLUMNS - 1] = torch.randint(0, 4, (size,), generator=random)
    return torch.randn(size, 80, hops, generator=random), table


def test_graphs_draw_what_the_plain_network_draws(
    engine: MuseTalkEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = Cuda()
    network, plan = engine._network, engine._plan
    runner = Runner(network, plan, (1, 2, 4), "graph", torch.device("cpu"))
    assert runner.mode == "eager"  # there are no graphs on a CPU
    device: Any = SimpleNamespace(type="cuda")
    runner.device, runner.mode = device, "graph"
    runner._call = cuda.wrap(network)
    cuda.install(monkeypatch)
    with torch.inference_mode():
        network.latents[:4] = torch.randn(network.latents[:4].shape)
        for size in (1, 2, 4):
            cuda.log.clear()
            runner.warm_up(size)
            run = f"run {size}"
            assert cuda.log == [
                "side waits",
                "on side",
                run,
                run,
                run,
                "off side",
                "current waits",
                "capture",
            ]
        assert cuda.pools == [None, *[next(iter(runner._graphs.values()))[0].pool()] * 2]
        cuda.log.clear()
        for n, size in enumerate((4, 1, 2, 4, 2, 1)):
            mel, table = inputs(size, plan.hops, seed=n)
            assert torch.equal(runner.run(mel, table), network(mel, table))
        assert not cuda.log  # replays only


def test_a_batch_is_collected_when_its_event_has_happened(
    engine: MuseTalkEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = list(engine.prepare(body(), {}))[-1]
    assert isinstance(made, Prepared)
    handle = engine.attach(made, body())
    batcher = engine._batcher
    happened = {"now": False}

    def event() -> Any:
        return SimpleNamespace(
            record=lambda: None, query=lambda: happened["now"], elapsed_time=lambda other: 4.5
        )

    monkeypatch.setattr(batch, "_event", event)
    monkeypatch.setattr(batcher, "_cuda", True)

    def submit() -> tuple[Any, bytearray]:
        out = bytearray(handle.rect(0).i420_size)
        return engine.submit([Row(track, 3, 0, 1.0, memoryview(out))]), out

    track = said(engine, handle, speech())
    tickets = [submit() for _ in range(3)]
    with pytest.raises(BatchFailed, match="under way"):
        submit()
    ticket, out = tickets[0]
    assert engine.collect(ticket, 0.0) is None and not any(out)
    happened["now"] = True
    for ticket, out in tickets:
        assert (engine.collect(ticket, 0.0) or [])[0].kind == "mouth" and any(out)
        assert ticket.milliseconds == 4.5
    assert tickets[0][1] == tickets[2][1]
    ticket, _ = submit()  # the lanes are free again
    engine.collect(ticket, 0.0)
    engine.detach(handle)


def test_room_for_the_largest_rectangles_is_there_before_speech(engine: MuseTalkEngine) -> None:
    made = list(engine.prepare(body(wide=120), {}))[-1]
    assert isinstance(made, Prepared)
    handle: Handle = engine.attach(made, body(wide=120))
    most = engine.info.buckets[-1] * handle.rect(0).i420_size
    assert all(lane.out.numel() >= most for lane in engine._batcher._lanes)
    engine.detach(handle)


def test_buckets_that_do_not_fit_into_memory_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    warm_up = Runner.warm_up

    def small(self: Runner, size: int) -> float:
        if size > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 90 GiB")
        return warm_up(self, size)

    monkeypatch.setattr(Runner, "warm_up", small)
    told: list[str] = []
    engine = MuseTalkEngine(settings())
    engine.load(lambda progress, sentence: told.append(sentence))
    assert engine.info.buckets == (1, 2) and any("batches of 4 do not fit" in s for s in told)
    monkeypatch.setattr(Runner, "warm_up", lambda self, size: small(self, 4))
    with pytest.raises(BatchFailed, match="out of device memory"):
        MuseTalkEngine(settings()).load(lambda progress, sentence: None)
