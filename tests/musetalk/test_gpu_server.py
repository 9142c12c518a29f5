"""A real server process whose engine process finds GPUs: what CUDA is, is stood in below torch's own Python.

See ``tests/support/gpus.py``: nothing of the product is replaced. No real GPU has run any of this.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from inference_server.engines.musetalk import engine
from tests.musetalk.support import settings, speech
from tests.musetalk.test_cuda import with_parser
from tests.support.avatar_client import Conversation, connect, prepare, refusal
from tests.support.gpus import Gpus
from tests.support.lines import Lines
from tests.support.servers import InferenceServer, running_server
from visavis import portraits
from visavis.avatar.v1 import avatar_pb2 as pb

MODULE = pytest.mark.asyncio(loop_scope="module")
pytestmark = [pytest.mark.process, pytest.mark.torch, pytest.mark.slow]

FACE = portraits.DEFAULT.read_bytes()
PATIENCE_S = 240.0  # with the start of a process, on a busy machine with two cores
SIZE: dict[str, Any] = {"width": 192, "height": 192, "fps": pb.FrameRate(num=5, den=1)}


@dataclass
class House:
    """A server, its GPUs, and a client's stub."""

    server: InferenceServer
    gpus: Gpus
    stub: Any

    def sentences(self) -> list[str]:
        """What the engine process has said while it loaded."""
        return [line["what"] for line in self.server.log if line["event"] == "engine_loading"]

    async def capacity(self, until: Callable[[pb.Capacity], bool] = lambda capacity: True) -> pb.Capacity:
        """The next one that is so."""
        watch = self.stub.WatchCapacity(pb.WatchCapacityRequest(), timeout=PATIENCE_S)
        try:
            while not until(told := await watch.read()):
                pass
            return told
        finally:
            watch.cancel()

    async def drawn(self, avatar: pb.Avatar, seconds: float = 1.0) -> list[bytes]:
        """The mouths of a turn in a stream of its own."""
        talk = Conversation(self.stub)
        await talk.open(avatar.avatar_id)
        await talk.say(speech(seconds))
        frames, finished = await talk.collect()
        talk.call.cancel()
        assert finished.late == 0
        return [frame.pixels for frame in frames if frame.kind == pb.FRAME_KIND_MOUTH]


class Houses:
    """Servers that share what they have prepared."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines: Path | None = None
        self._count = 0

    @contextlib.asynccontextmanager
    async def house(
        self, count: int = 1, *, ready: bool = True, row_ms: float = 1.0, **changes: str
    ) -> AsyncIterator[House]:
        """One of them; ``changes`` of the engine's settings."""
        self._count += 1
        folder = self.folder / str(self._count)
        folder.mkdir()
        gpus = Gpus(folder, count, lines=self.lines, row_ms=row_ms)
        # so that what a turn shows does not depend on how soon its sound came
        changes = {"device": "auto", "most_look_ahead_ms": "100", **changes}
        async with (
            running_server(
                engine="musetalk",
                engine_settings=settings(**changes),
                environ=gpus.environ,
                cache_dir=self.folder / "cache",
                batch_ms=200,
                longest_batch_ms=200,
                ready=False,
            ) as server,
            connect(server.address) as stub,
        ):
            if ready:
                await server.event("engine_ready", within_s=PATIENCE_S)
            await stub.GetCapabilities(pb.GetCapabilitiesRequest())  # connected from here on
            yield House(server, gpus, stub)


@pytest.fixture(scope="module")
def houses(tmp_path_factory: pytest.TempPathFactory) -> Houses:
    return Houses(tmp_path_factory.mktemp("gpu-servers"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(houses: Houses) -> AsyncIterator[House]:
    """One server with one GPU for those tests that leave it well."""
    async with houses.house(row_ms=8.0) as each:
        yield each


async def avatar_of(house: House) -> pb.Avatar:
    """Prepared, or found as it was."""
    return await prepare(house.stub, FACE, **SIZE)


@MODULE
async def test_start(house: House) -> None:
    told = await house.stub.GetCapabilities(pb.GetCapabilitiesRequest())
    assert (told.engine, told.ready, told.not_ready_reason) == ("musetalk", True, "")
    assert "moving the weights to cuda:0" in house.sentences()
    assert not [line for line in house.server.log if line["event"] == "no_gpu"]


async def test_load(houses: Houses) -> None:
    """While it loads, the server answers and says what it does; a GPU that is lost then is tried again."""
    async with houses.house(ready=False) as house:
        house.gpus.lose()
        told = await house.server.event("engine_down", PATIENCE_S)
        assert "CUDA error: unspecified launch failure" in told["reason"]
        assert "unspecified launch failure" in (await house.capacity()).not_ready_reason
        house.gpus.mend()
        loading = await house.capacity(lambda told: "the engine is loading" in told.not_ready_reason)
        assert not loading.ready and loading.speaking_slots_free == 0
        assert (await house.capacity(lambda told: told.ready)).not_ready_reason == ""


@MODULE
async def test_warm_up(house: House) -> None:
    """Every bucket is timed on the device's clock, and slots follow from that: 8 ms a row, 125 rows a second."""
    assert "warming up the preparation of avatars" in house.sentences()
    assert house.sentences()[-1].endswith("7 MiB of device memory")
    ready = await house.server.event("engine_ready", PATIENCE_S)
    assert ready["slots"] == int(125 * 0.75 / 25) == 3


@MODULE
async def test_capture(house: House, houses: Houses) -> None:
    """What replays draw is what the same code draws without graphs, byte for byte."""
    buckets = [s for s in house.sentences() if s.startswith("warming up batches")]
    assert buckets == [f"warming up batches of {n} (graph)" for n in (1, 2, 4)]
    captured = await house.drawn(await avatar_of(house))
    async with houses.house(mode="eager") as plain:
        assert "warming up batches of 4 (eager)" in plain.sentences()
        assert await plain.drawn(await avatar_of(plain)) == captured
    assert len(captured) >= 5


@MODULE
async def test_prepare(house: House) -> None:
    """A preparation is made in steps between live frames, and no second time."""
    request = pb.PrepareAvatarRequest(image=FACE, settings={"extra_margin": "12"}, **SIZE)
    told = [each async for each in house.stub.PrepareAvatar(request)]
    assert told[-1].avatar.loop_length > 20
    shares = [each.progress for each in told]
    assert shares == sorted(shares) and len(shares) >= 4
    again = [each async for each in house.stub.PrepareAvatar(request)]
    assert [each.avatar.avatar_id for each in again] == [told[-1].avatar.avatar_id]


@MODULE
async def test_serve(house: House) -> None:
    avatar = await avatar_of(house)
    first, second = await asyncio.gather(house.drawn(avatar), house.drawn(avatar))
    assert first == second and len(first) >= 5 and len(set(first)) > 1


@MODULE
async def test_overload(house: House) -> None:
    """Beyond its slots it refuses turns, and those under way go on. A turn at 5 frames a second takes a fifth."""
    avatar = await avatar_of(house)
    talks = [Conversation(house.stub) for _ in range(16)]
    for talk in talks:
        await talk.open(avatar.avatar_id)
    for talk in talks[:15]:
        await talk.say(speech(1.0), end=False)
        await talk.wait("turn_accepted")
    await talks[15].send(turn_start=pb.TurnStart(turn_id=1))
    told = await talks[15].wait("turn_rejected")
    assert told.reason == "all 3 speaking slots are taken: try another server"
    assert (await house.capacity()).speaking_slots_free == 0
    for talk in talks:
        talk.call.cancel()
    assert (await house.capacity(lambda told: told.speaking_slots_free == 3)).ready


async def test_out_of_memory(houses: Houses) -> None:
    """A batch that does not fit is lost, said, and drawn again once there is room; a preparation is refused."""
    async with houses.house() as house:
        avatar = await avatar_of(house)
        talk = Conversation(house.stub)
        await talk.open(avatar.avatar_id)
        house.gpus.full()
        code, told = await refusal(prepare(house.stub, FACE, **{**SIZE, "width": 208}))
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED and "could not be prepared now" in told
        await talk.say(speech(1.0))
        failed = await house.server.event("batch_failed")
        assert failed["reason"].startswith("out of device memory: CUDA out of memory")
        house.gpus.mend()
        _, finished = await talk.collect()
        assert finished.frames > 0
        assert len(await house.drawn(avatar)) >= 5
        assert not [line for line in house.server.log if line["event"] == "engine_down"]


async def test_device_lost_and_restart(houses: Houses) -> None:
    """Streams are told at once where to go; the engine is started again until the device is back."""
    async with houses.house() as house:
        avatar = await avatar_of(house)
        before = await house.drawn(avatar)
        first_life = house.server.engine_pid
        talk = Conversation(house.stub)
        await talk.open(avatar.avatar_id)
        await talk.say(speech(1.0), end=False)
        await talk.wait("frame")
        house.gpus.lose()
        await talk.send(playhead=pb.Playhead(turn_id=1, audio_sample=6400, playing=True))
        code, told = await refusal(talk.wait("nothing"))
        assert code == grpc.StatusCode.UNAVAILABLE and "open the stream again" in told
        lost = await house.server.event("engine_down", PATIENCE_S)
        assert lost["reason"] == "the GPU has failed: CUDA error: unspecified launch failure"
        assert "unspecified launch failure" in (await house.capacity()).not_ready_reason
        house.gpus.mend()
        await house.server.event("engine_ready", PATIENCE_S, count=2)
        assert house.server.engine_pid != first_life
        assert await house.drawn(avatar) == before


async def test_every_line_of_the_engine_from_settings_to_first_batch_runs_in_a_server(
    houses: Houses, tmp_path: Path
) -> None:
    """In the processes of this test: the ways that a start on a GPU can take."""
    houses.lines = tmp_path / "lines"
    async with houses.house(ready=False, norms="fused") as house:
        told = await house.server.event("engine_down", PATIENCE_S)
        assert "norms=fused needs Triton, a C compiler" in told["reason"]
    async with houses.house(ready=False, row_ms=20.0, decoder="taesd", **with_parser()) as house:
        house.gpus.full_at_capture(0)  # not even a batch of one
        assert "out of device memory" in (await house.server.event("engine_down", PATIENCE_S))["reason"]
        house.gpus.mend()
        ready = await house.server.event(
            "engine_ready", PATIENCE_S
        )  # 80 ms a batch of four: too slow for live frames
        assert ready["slots"] == 1
    async with houses.house(ready=False, version="v1") as house:
        house.gpus.full_at_capture(1)
        await house.server.event("engine_ready", PATIENCE_S)
        assert "batches of 2 do not fit into the device's memory" in house.sentences()
        house.gpus.mend()
        assert await house.drawn(await avatar_of(house))
    lines = Lines(engine)
    lines.add(houses.lines)
    houses.lines = None
    made = engine.MuseTalkEngine
    missing = lines.missing(
        *(made.__init__, made.load, made._warm_up, made._memory_words, made.prepare, made.attach),
        *(made.track, made.cost_ms, made.submit, made.collect),
    )
    on_purpose = ("on the CPU", "not one of this engine's", "TORCHINDUCTOR", "inductor")
    assert not [line for line in missing if not any(word in line for word in on_purpose)]


async def test_two_gpus(houses: Houses) -> None:
    """A process for each, which is shown no other; turns go to the idler one; a lost one costs only its own."""
    async with houses.house(2, row_ms=8.0) as house:
        told = await house.capacity(lambda told: told.speaking_slots == 6)
        assert told.ready and told.not_ready_reason == ""
        started = [line for line in house.server.log if line["event"] == "engine_started"]
        assert [line.get("device") for line in started] == [None, "cuda:1"]
        avatar = await avatar_of(house)
        talks = [Conversation(house.stub) for _ in range(3)]
        for talk in talks:
            await talk.open(avatar.avatar_id)
        await house.server.event("avatar_there", count=3)
        for talk in talks[:2]:
            await talk.say(speech(1.0), end=False)
            await talk.wait("frame")
        assert (await house.capacity()).speaking_slots_free == 4  # one is taken on each
        house.gpus.lose(1)
        for talk in talks[:2]:
            await talk.send(playhead=pb.Playhead(turn_id=1, audio_sample=6400, playing=True))
        code, sentence = await refusal(talks[1].wait("nothing"))
        assert code == grpc.StatusCode.UNAVAILABLE and "open the stream again" in sentence
        told = await house.capacity(lambda told: told.speaking_slots == 3)
        assert told.ready and told.not_ready_reason.startswith("cuda:1: the GPU has failed")
        await talks[0].send(end_of_turn=pb.EndOfTurn(turn_id=1))
        _, finished = await talks[0].collect()
        await talks[2].say(speech(1.0))  # had not spoken: it knows nothing of all this
        _, other = await talks[2].collect()
        assert finished.frames and other.frames
        house.gpus.mend(1)
        assert (await house.capacity(lambda told: told.speaking_slots == 6)).not_ready_reason == ""
        for talk in talks:
            talk.call.cancel()
