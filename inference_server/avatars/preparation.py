"""Portrait or video to prepared avatar: body process, then the engine; one job per avatar however many ask."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, cast

from inference_server.avatars import ids
from inference_server.avatars.arrays import Damaged
from inference_server.avatars.body_worker import PROGRAM, Made, MakeBody, NotWritten, Progress, Rejected
from inference_server.avatars.portrait.framing import Fit
from inference_server.avatars.portrait.image import ImageRejected, known_format, read_header
from inference_server.avatars.store import AvatarStore, StoredAvatar
from inference_server.avatars.video import check_container
from inference_server.engine import messages as m
from inference_server.engine.device import EngineDevice
from inference_server.engine.devices import EngineDevices
from inference_server.errors import RequestError, invalid, unavailable
from inference_server.fair_turns import FairTurns
from inference_server.settings import Settings
from inference_server.uploads import Upload
from visavis.service.channel import ChannelClosed
from visavis.service.child import Child
from visavis.service.logs import Log

BODY_SHARE = 0.6  # of the progress shown
MOST_WAITING = 64
MOST_OF_ONE = MOST_WAITING // 2
SANDBOX_HINT = "this kernel lacks it, so that uploads are decoded with less around them: Linux 5.13 has both"


@dataclass
class PrepareRequest:
    """What PrepareAvatar asks for, with defaults filled in.

    ``file``: of a picture, or of a video; it is discarded when it is not needed any more. ``client``: who asks.
    """

    file: Upload
    width: int
    height: int
    fps: Fraction
    fit: str
    settings: dict[str, str]
    video: bool = False
    client: str = ""

    @contextlib.contextmanager
    def let_go(self) -> Iterator[None]:
        """Discard the file where this is refused: an error's trace would keep it for long."""
        try:
            yield
        except BaseException:
            self.file.discard()
            raise

    @property
    def what(self) -> str:
        """The file in one word."""
        return "video" if self.video else "image"

    def check_size(self, size: int, limits: Settings) -> None:
        """Raises :class:`RequestError` where so many bytes are too many."""
        most = limits.video_bytes if self.video else limits.image_bytes
        if size > most:
            raise invalid(f"The {self.what} has {size} bytes; at most {most} are taken: send a smaller one.")

    @property
    def cost(self) -> float:
        """Pixels times frames, as good as they are known."""
        return float(self.width * self.height * self.fps)


@dataclass
class _Job:
    client: str
    progress: float = 0.0
    task: asyncio.Task[StoredAvatar] | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0

    def move(self, progress: float) -> None:
        """Tell those who wait."""
        self.progress = max(self.progress, min(progress, 1.0))
        self.changed.set()
        self.changed = asyncio.Event()

    async def moved(self) -> None:
        """Until there is progress or the end; whoever stops waiting leaves nothing behind."""
        assert self.task is not None
        change = asyncio.create_task(self.changed.wait())
        try:
            await asyncio.wait({change, self.task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            change.cancel()


class PreparationQueue:
    """Prepares avatars at low priority."""

    def __init__(
        self,
        settings: Settings,
        store: AvatarStore,
        engine: EngineDevices,
        log: Log,
        done: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._engine = engine
        self._log = log
        self._done = done
        self._jobs: dict[str, _Job] = {}
        self._turns = FairTurns(settings.prepare_workers)
        self._numbers = itertools.count(1)
        self._told_lacking = False
        self._steps: dict[int, tuple[EngineDevice, asyncio.Queue[m.PrepareStep | m.Failed]]] = {}

    def handle(self, message: m.PrepareStep | m.Failed) -> None:
        """The engine process on a preparation."""
        number = message.job if isinstance(message, m.PrepareStep) else int(message.key)
        if number in self._steps:
            self._steps[number][1].put_nowait(message)

    def engine_down(self, device: EngineDevice, sentence: str) -> None:
        """Preparations in its engine are lost."""
        for number, (where, queue) in self._steps.items():
            if where is device:
                queue.put_nowait(m.Failed("prepare", str(number), "EngineDead", sentence))

    async def prepare(self, request: PrepareRequest) -> AsyncGenerator[float | StoredAvatar, None]:
        """Progress 0..1, then the avatar. Raises :class:`RequestError`."""
        loaded = self._engine.loaded
        if loaded is None:
            request.file.discard()
            raise unavailable(
                f"The engine is not ready ({self._engine.reason}): try again soon or elsewhere."
            )
        with request.let_go():
            self._check(request)
            _check_settings(request.settings, loaded.info)
        own = loaded.own_body
        build = own or _loop_build(request.video)
        body_id = ids.body_id(
            request.file.digest, request.width, request.height, request.fps, request.fit, build
        )
        engine, engine_build = loaded.info["name"], loaded.info["build"]
        avatar_id = ids.avatar_id(body_id, engine, engine_build, request.settings)
        known = await asyncio.to_thread(self._store.avatar, avatar_id)
        if known is not None:
            request.file.discard()
            yield known
            return
        job = self._jobs.get(avatar_id)
        if job is None:
            if len(self._jobs) >= MOST_WAITING:
                request.file.discard()
                raise RequestError(
                    "resource_exhausted", f"{MOST_WAITING} preparations are waiting already: try again later."
                )
            if sum(other.client == request.client for other in self._jobs.values()) >= MOST_OF_ONE:
                request.file.discard()
                raise RequestError(
                    "resource_exhausted", f"{MOST_OF_ONE} preparations of yours are waiting: try again later."
                )
            job = self._jobs[avatar_id] = _Job(request.client)
            job.task = asyncio.create_task(self._work(job, request, bool(own), body_id, avatar_id, loaded))
            job.task.add_done_callback(lambda _: (self._jobs.pop(avatar_id, None), request.file.discard()))
        else:
            request.file.discard()
        job.waiting += 1
        assert job.task is not None
        try:
            told = -1.0
            while not job.task.done():
                if job.progress > told:
                    told = job.progress
                    yield told
                await job.moved()
            yield await asyncio.shield(job.task)
        finally:
            job.waiting -= 1
            if not job.waiting and not job.task.done():
                job.task.cancel()

    async def close(self) -> None:
        """Give up everything under way."""
        tasks = [job.task for job in self._jobs.values() if job.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _check(self, request: PrepareRequest) -> None:
        """What the first bytes tell; the rest is found out in the body process."""
        limits, file = self._settings, request.file
        if not file.size:
            kinds = "an MP4, MOV or WebM" if request.video else "a JPEG, PNG or WebP"
            raise invalid(f"The {request.what} is empty: send {kinds} file.")
        request.check_size(file.size, limits)
        try:
            if request.video:
                check_container(file.head)
                return
            header = read_header(file.head)
        except ImageRejected as error:
            if file.size > len(file.head) and known_format(file.head):
                return
            raise invalid(str(error)) from None
        if header.width * header.height > limits.image_pixels:
            raise invalid(
                f"The image has {header.width}x{header.height} pixels; at most {limits.image_pixels} are taken: "
                "send a smaller one."
            )

    async def _work(
        self, job: _Job, request: PrepareRequest, own: bool, body_id: str, avatar_id: str, loaded: m.Loaded
    ) -> StoredAvatar:
        log = self._log.bind(avatar_id=avatar_id)
        try:
            turn = self._turns.turn(request.client, request.cost)
            async with asyncio.timeout(self._settings.prepare_timeout_s), turn:
                if await asyncio.to_thread(self._store.body, body_id) is None:
                    await self._make_body(job, request, own, body_id)
                job.move(BODY_SHARE)
                avatar = await self._ask_engine(job, request, body_id, avatar_id, loaded)
        except TimeoutError:
            raise RequestError(
                "deadline_exceeded",
                f"The preparation took more than {self._settings.prepare_timeout_s:g} s: try again.",
            ) from None
        except Damaged as error:
            raise RequestError("internal", f"What was prepared could not be stored: {error}.") from None
        except OSError as error:
            raise self._store.unwritable(error) from None
        log.info("avatar_prepared", body_id=body_id, frames=len(avatar.body))
        self._done(avatar_id)
        return avatar

    async def _make_body(self, job: _Job, request: PrepareRequest, own: bool, body_id: str) -> None:
        scratch = self._store.scratch()
        try:
            limits = self._settings
            order = MakeBody(
                body_id=body_id,
                width=request.width,
                height=request.height,
                fps=request.fps,
                fit=cast(Fit, request.fit),
                video=request.video,
                image_bytes=limits.image_bytes,
                image_pixels=limits.image_pixels,
                video_bytes=limits.video_bytes,
                video_s=limits.video_s,
                own_body=own,
                engine=limits.engine,
                engine_settings=limits.engine_settings,
                out_dir=str(scratch),
                file=str(request.file.path),
            )
            rejected = await self._run_body_process(job, order)
            if rejected:
                raise invalid(rejected)
            await asyncio.to_thread(self._store.install_body, scratch)
        finally:
            if scratch.exists():
                await asyncio.to_thread(self._store.discard, scratch)

    async def _run_body_process(self, job: _Job, order: MakeBody) -> str:
        """Returns the sentence of a rejection, "" when the body is made."""
        process = Child(PROGRAM)
        try:
            await process.start()
            process.send(order)
            while True:
                match await process.receive():
                    case Progress(share):
                        job.move(share * BODY_SHARE)
                    case Rejected(sentence):
                        return sentence
                    case Made(lacking):
                        if lacking and not self._told_lacking:
                            self._told_lacking = True
                            self._log.warning("sandbox_incomplete", lacking=lacking, hint=SANDBOX_HINT)
                        return ""
                    case NotWritten(reason):
                        raise self._store.unwritable(OSError(reason))
        except ChannelClosed as error:
            self._log.error("body_process_failed", reason=str(error))
            return "The upload could not be made into a body loop: try another one."
        finally:
            await process.end()

    async def _ask_engine(
        self, job: _Job, request: PrepareRequest, body_id: str, avatar_id: str, loaded: m.Loaded
    ) -> StoredAvatar:
        number = next(self._numbers)
        device = self._engine.preparer()
        if device is None:
            raise unavailable("The engine was started again while this avatar was prepared: try again.")
        queue: asyncio.Queue[m.PrepareStep | m.Failed] = asyncio.Queue()
        self._steps[number] = device, queue
        device.preparing += 1
        scratch = self._store.scratch()
        try:
            out = scratch / "prepared"
            device.engine.send(
                m.Prepare(number, str(self._store.body_folder(body_id)), str(out), request.settings)
            )
            while True:
                message = await queue.get()
                if isinstance(message, m.Failed):
                    raise _prepare_error(message)
                job.move(BODY_SHARE + message.progress * (1 - BODY_SHARE) * 0.99)
                if message.done:
                    break
            return await asyncio.to_thread(
                self._store.install_avatar,
                scratch,
                avatar_id,
                body_id,
                loaded.info["name"],
                loaded.info["build"],
                request.settings,
            )
        finally:
            del self._steps[number]
            device.preparing -= 1
            device.engine.send(m.CancelPrepare(number))
            if scratch.exists():
                shutil.rmtree(scratch, ignore_errors=True)


def _prepare_error(message: m.Failed) -> RequestError:
    if message.kind == "ImageRejected":
        return invalid(message.sentence)
    if message.kind == "NoMemory":
        return RequestError("resource_exhausted", message.sentence)
    if message.kind == "EngineDead":
        return unavailable(
            f"The engine stopped while it prepared this avatar ({message.sentence}): try again."
        )
    return RequestError("internal", f"The engine could not prepare this avatar: {message.sentence}.")


def _loop_build(video: bool) -> str:
    from inference_server.avatars.loop import LOOP_BUILD
    from inference_server.avatars.video_loop import VIDEO_BUILD

    return VIDEO_BUILD if video else LOOP_BUILD


def _check_settings(given: dict[str, str], engine: dict[str, Any]) -> None:
    """A misspelt setting would make another avatar, which looks the same."""
    known = engine.get("avatar_settings")
    if known is None:
        return
    for name in given:
        if name not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise invalid(
                f"settings: the {engine['name']} engine has no avatar setting {name[:64]!r}; {has}."
            )
