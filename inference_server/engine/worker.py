"""The engine process: one thread that draws batches, and prepares avatars in small steps in between.

Started by ``process.py`` as ``python -m inference_server.engine.worker`` with a socket and the frame
ring as inherited file descriptors. It ends when its parent does.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from inference_server.avatars.arrays import Damaged, read_body, read_prepared
from inference_server.engine import messages as m
from inference_server.engine.frame_ring import FrameRing
from inference_server.engine.preparations import Preparations
from inference_server.engine.voices import Voices
from inference_server.engines.base import (
    BodyLoop,
    Device,
    Engine,
    EngineDead,
    EngineError,
    Handle,
    ModelMissing,
    Row,
    Ticket,
)
from inference_server.engines.discovery import engine_factory
from visavis.service.child import parent_socket
from visavis.service.logs import configure_logging
from visavis.service.unhandled import log_threads

WAIT_S = 0.002  # for a batch, before messages are looked at again
SWITCH_S = 0.0005  # another thread that computes in Python keeps the engine's from going on for so long
DEPTH = 2  # batches submitted to the engine at once
_DROPPED: m.Answer = ("dropped", None, None)


@dataclass(slots=True)
class _Batch:
    number: int
    ticket: Ticket
    places: list[int]  # of the submitted rows in the message
    rows: int
    began: float


class EngineWorker:
    """Messages in, engine calls, messages out."""

    def __init__(self, engine: Engine, channel: socket.socket, ring: FrameRing) -> None:
        self._engine = engine
        self._channel = channel
        self._ring = ring
        self._decoder = m.codec.decoder()
        self._out = bytearray()
        self._handles: dict[str, Handle] = {}
        self._voices = Voices(engine, self._handles, self._send)
        self._waiting: deque[m.Render] = deque()
        self._batches: deque[_Batch] = deque()
        self._preparations = Preparations(engine, self._send)

    def load(self, own_body: str) -> None:
        """Load the engine and say so, after where else one could draw. Raises :class:`EngineError`."""
        devices: Sequence[Device] = getattr(self._engine, "devices", ())
        if len(devices) > 1:
            self._send(m.Devices([(d.name, dict(d.settings), dict(d.environment)) for d in devices]))
            self._flush()

        def tell(progress: float, sentence: str) -> None:
            self._send(m.Loading(progress, sentence))
            self._flush()

        self._engine.load(tell)
        self._send(m.Loaded(asdict(self._engine.info), self._costs(), own_body))
        self._flush()

    def run(self) -> None:
        """Until the other side closes the socket."""
        while True:
            readable, _, _ = select.select([self._channel], [], [], self.pause_s)
            if readable and not self._receive():
                return
            self.work()
            self._flush()

    @property
    def pause_s(self) -> float | None:
        """How long to wait for messages before there is :meth:`work`; ``None``: until one comes."""
        busy = bool(self._batches or self._waiting or self._voices.busy)
        return 0 if busy else self._preparations.pause_s

    def work(self) -> None:
        """A piece of what is due: a slice of audio, batches, a step of a preparation while there is neither."""
        self._voices.listen()
        self._submit()
        if self._batches:
            self._collect()
        elif not self._voices.busy:
            self._preparations.step()

    # --- messages -------------------------------------------------------------------------------------

    def _receive(self) -> bool:
        data = self._channel.recv(1 << 20)
        if not data:
            return False
        for message in self._decoder.feed(data):
            self.handle(message)
        return True

    def _send(self, message: m.Message) -> None:
        self._out += m.codec.encode(message)

    def _flush(self) -> None:
        """What was said in one piece of work leaves together, so that the front plans batches of all of it."""
        if self._out:
            out, self._out = self._out, bytearray()
            self._channel.sendall(out)

    def handle(self, message: m.Message) -> None:
        """A message of the front."""
        match message:
            case m.OpenTrack() | m.Append() | m.EndTrack() | m.CloseTrack():
                self._voices.take(message)
            case m.Render():
                self._waiting.append(message)
            case m.Attach():
                self._attach(message)
            case m.Detach():
                handle = self._handles.pop(message.avatar_id, None)
                if handle is not None:
                    self._engine.detach(handle)
            case m.Prepare():
                self._preparations.add(message)
            case m.CancelPrepare():
                self._preparations.cancel(message.job)
            case m.Ping():
                memory = self._engine.memory()
                self._send(m.Pong(message.number, self._costs(), memory.used, memory.total))
            case _:
                raise ValueError(f"unexpected {type(message).__name__}")

    def _costs(self) -> list[tuple[int, float]]:
        return [(rows, self._engine.cost_ms(rows)) for rows in self._engine.info.buckets]

    # --- drawing --------------------------------------------------------------------------------------

    def _submit(self) -> None:
        while self._waiting and len(self._batches) < DEPTH:
            message = self._waiting.popleft()
            places: list[int] = []
            rows: list[Row] = []
            for place, (track, frame, loop_index, alpha, offset, size) in enumerate(message.rows):
                voice = self._voices.track(track)
                if voice is None:
                    continue  # closed meanwhile: it costs nothing
                places.append(place)
                rows.append(Row(voice, frame, loop_index, alpha, self._ring.view(offset, size)))
            began = time.monotonic()
            if not rows:
                self._send(m.Rendered(message.batch, [_DROPPED] * len(message.rows), 0.0))
                continue
            try:
                ticket = self._engine.submit(rows)
            except EngineDead:
                raise
            except Exception as error:
                self._send(m.BatchLost(message.batch, _sentence(error)))
                continue
            self._batches.append(_Batch(message.batch, ticket, places, len(message.rows), began))

    def _collect(self) -> None:
        batch = self._batches[0]
        try:
            results = self._engine.collect(batch.ticket, WAIT_S)
        except EngineDead:
            raise
        except Exception as error:
            self._batches.popleft()
            self._send(m.BatchLost(batch.number, _sentence(error)))
            return
        if results is None:
            return
        self._batches.popleft()
        answers: list[m.Answer] = [_DROPPED] * batch.rows
        for place, result in zip(batch.places, results, strict=True):
            rect = None if result.rect is None else (*result.rect,)
            answers[place] = (result.kind, rect, result.error)
        self._send(m.Rendered(batch.number, answers, (time.monotonic() - batch.began) * 1000))

    # --- avatars --------------------------------------------------------------------------------------

    def _attach(self, message: m.Attach) -> None:
        try:
            body = read_body(Path(message.body_dir), verify=False)
            handle, nbytes = self._handles.get(message.avatar_id), 0
            if handle is None:
                prepared = read_prepared(Path(message.avatar_dir), verify=False)
                handle, nbytes = self._engine.attach(prepared, body), prepared.nbytes
                self._check_rects(handle, body)
                self._handles[message.avatar_id] = handle
        except EngineDead:
            raise
        except (EngineError, Damaged) as error:
            self._send(m.Failed("attach", message.avatar_id, type(error).__name__, str(error)))
        except Exception as error:
            sentence = f"{type(error).__name__}: {error}"
            self._send(m.Failed("attach", message.avatar_id, "EngineError", sentence))
        else:
            rects: list[tuple[int, int, int, int]] = [handle.rect(index) for index in range(len(body))]
            self._send(m.Attached(message.avatar_id, handle.largest_rect, rects, nbytes))

    @staticmethod
    def _check_rects(handle: Handle, body: BodyLoop) -> None:
        for rect in (handle.largest_rect, *map(handle.rect, range(len(body)))):
            rect.validate(body.width, body.height)


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, EngineError) else f"{type(error).__name__}: {error}"


def main() -> int:
    """Entry of the process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", required=True)
    parser.add_argument("--settings", required=True)
    parser.add_argument("--channel", type=int, required=True)
    parser.add_argument("--ring", type=int, required=True)
    parser.add_argument("--ring-size", type=int, required=True)
    parser.add_argument("--lanes", type=int, required=True)
    options = parser.parse_args()
    channel = parent_socket(options.channel)
    configure_logging()
    log_threads()
    sys.setswitchinterval(SWITCH_S)
    ring = FrameRing(options.ring, options.ring_size, options.lanes)
    made = False
    try:
        factory = engine_factory(options.engine)
        engine = factory(json.loads(options.settings))
        made = True
        worker = EngineWorker(engine, channel, ring)
        worker.load(str(getattr(engine, "body_build", "")))
    except Exception as error:
        known = isinstance(error, EngineError | ValueError)
        hopeless = not made or isinstance(error, ModelMissing | ImportError)
        kind = m.HOPELESS if hopeless else type(error).__name__
        sentence = str(error) if known else f"{type(error).__name__}: {error}"
        channel.sendall(m.codec.encode(m.Failed("load", "", kind, sentence)))
        return 1
    try:
        worker.run()
    except EngineDead as error:
        with contextlib.suppress(OSError):
            channel.sendall(m.codec.encode(m.Failed("engine", "", "EngineDead", str(error))))
        return 1
    except (BrokenPipeError, ConnectionError):
        return 0
    with contextlib.suppress(Exception):
        engine.close()
    return 0


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # an engine's threads must not keep a dead process alive
