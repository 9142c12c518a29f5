"""The engine itself: what the engine process calls."""

from __future__ import annotations

import gc
import hashlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

import torch

from inference_server.engines.base import (
    BodyLoop,
    Device,
    EngineError,
    EngineInfo,
    Handle,
    Memory,
    Prepared,
    Progress,
    Result,
    Row,
    Ticket,
    Track,
)
from inference_server.engines.musetalk import prepare
from inference_server.engines.musetalk.avatar import ResidentAvatar, Residents
from inference_server.engines.musetalk.batch import Batcher, DeviceBatch, SpeechTrack
from inference_server.engines.musetalk.blocks import fold
from inference_server.engines.musetalk.checkpoint import load_models, read_weights
from inference_server.engines.musetalk.device import all_gpus, choose_device, choose_dtype
from inference_server.engines.musetalk.group_norm import fused
from inference_server.engines.musetalk.network import LipNetwork, Runner, device_errors
from inference_server.engines.musetalk.parser import FaceParser
from inference_server.engines.musetalk.settings import Settings
from inference_server.engines.musetalk.speech import HISTORY, Plan, Speech
from inference_server.models.manifest import FILES

CODE = "4"  # raised with every change that alters pixels
AVATAR_SETTINGS = ("bbox_shift", "extra_margin", "parsing_mode", "match_sharpness")
LONGEST_BATCH_MS = 60.0  # a server plans none that is longer, whatever its settings


class MuseTalkEngine:
    """See ``engines/base.py`` and ``docs/musetalk.md``."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.settings = Settings.of(values)
        self._info: EngineInfo | None = None
        self._parser: FaceParser | None = None
        self._costs: dict[int, float] = {}

    @property
    def info(self) -> EngineInfo:
        """Known after :meth:`load`."""
        if self._info is None:
            raise EngineError("the MuseTalk engine is not loaded")
        return self._info

    @property
    def devices(self) -> list[Device]:
        """Every GPU that this process sees, where the settings leave the choice open."""
        return all_gpus() if self.settings.device == "auto" else []

    def load(self, progress: Progress) -> None:
        """Weights, memory, and a run of every bucket. Raises :class:`ModelMissing`."""
        began = time.monotonic()
        s = self.settings
        self._device = choose_device(s.device)
        self._dtype = choose_dtype(s.dtype, self._device)
        if s.mode == "compile":  # kernels compiled once are found again at the next start
            kept = s.cache_dir.expanduser() / "inductor"
            os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(kept))
        os.environ.setdefault("TRITON_CACHE_DIR", str(s.cache_dir.expanduser() / "triton"))
        if s.threads:
            torch.set_num_threads(s.threads)
        plan = Plan(s.right, s.further)
        progress(0.0, "checking the MuseTalk files")
        models = load_models(s, self._dtype, progress)
        build = hashlib.sha256(
            f"{CODE} {models.digest} {self._dtype} {s.decoder}{' fused' * (s.norms == 'fused')}".encode()
        ).hexdigest()[:16]
        progress(0.3, f"moving the weights to {self._device}")
        with torch.inference_mode(), device_errors():
            self._side = models.side
            self._residents = Residents(s.avatar_mb << 20, models.side // 8, self._dtype, self._device)
            if s.norms == "fused":
                fold(models.unet, models.vae.decoder)
            network = LipNetwork(models, plan, self._residents.latents)
            network = network.to(self._device).eval()
            network.unet.to(memory_format=torch.channels_last)
            network.vae.to(memory_format=torch.channels_last)
            if self._device.type == "cuda":
                torch.backends.cudnn.benchmark = True
                if s.norms == "fused" and not fused(self._device):
                    raise EngineError(
                        "norms=fused needs Triton, a C compiler and a cache folder whose files may be executed: "
                        "leave it at norms=torch"
                    )
            self._network = network
            if s.parser:
                path = s.musetalk_dir / FILES["parser"][0].path
                self._parser = FaceParser(read_weights(path), self._device)
            self._runner = Runner(network, plan, s.buckets, s.mode, self._device)
            self._batcher = Batcher(self._runner, self._residents, plan, self._dtype)
            buckets = self._warm_up(progress)
        self._plan = plan
        self._info = EngineInfo(
            "musetalk", build, plan.after, HISTORY * 320, buckets, avatar_settings=AVATAR_SETTINGS
        )
        gc.collect()
        gc.freeze()  # a collection over the weights' objects is a stall in the middle of speech
        progress(1.0, f"ready after {time.monotonic() - began:.0f} s, {self._memory_words()}")

    def _warm_up(self, progress: Progress) -> tuple[int, ...]:
        """All buckets, smallest first; on a GPU those too slow for a live server, or too large for its memory,
        are left out. Also what else a GPU would choose kernels for at its first use, amid live streams."""
        if self._device.type == "cuda":
            progress(0.35, "warming up the preparation of avatars")
            blank = torch.zeros(1, 3, self._side, self._side, dtype=self._dtype, device=self._device)
            blank = blank.contiguous(memory_format=torch.channels_last)
            self._network.decode(self._network.encode_face(blank))
        sizes = self._runner.buckets
        kept: list[int] = []
        for n, size in enumerate(sizes):
            progress(0.4 + 0.6 * n / len(sizes), f"warming up batches of {size} ({self._runner.mode})")
            try:
                cost = self._runner.warm_up(size)
                self._batcher.warm_up(size)
            except torch.OutOfMemoryError:
                if not kept:
                    raise
                progress(0.4 + 0.6 * n / len(sizes), f"batches of {size} do not fit into the device's memory")
                break
            if kept and self._device.type == "cuda" and cost > LONGEST_BATCH_MS:
                break
            kept.append(size)
            self._costs[size] = cost
        return tuple(kept)

    def _memory_words(self) -> str:
        if self._device.type != "cuda":
            return "on the CPU"
        return f"{torch.cuda.max_memory_allocated(self._device) >> 20} MiB of device memory"

    def prepare(self, body: BodyLoop, settings: Mapping[str, str]) -> Iterator[float | Prepared]:
        """See :func:`prepare.prepare`. ``settings`` may change those of ``AVATAR_SETTINGS`` for this avatar."""
        own = {k: settings[k] for k in AVATAR_SETTINGS if k in settings}
        chosen = self.settings.changed(own)
        return prepare.prepare(body, self._network, chosen, self._side, self.info.build, self._parser)

    def attach(self, prepared: Prepared, body: BodyLoop) -> Handle:
        """Raises :class:`NoMemory`."""
        with torch.inference_mode(), device_errors():
            avatar = self._residents.attach(prepared, body, self.info.build)
            self._batcher.reserve(avatar.rects[0].i420_size)
            return avatar

    def detach(self, handle: Handle) -> None:
        """Its places are free for the next avatar."""
        if isinstance(handle, ResidentAvatar):
            self._residents.detach(handle)

    def track(self, handle: Handle, fps: Fraction, origin: int) -> Track:
        """A new turn's audio."""
        if not isinstance(handle, ResidentAvatar):
            raise EngineError("the avatar is not one of this engine's")
        return SpeechTrack(handle, Speech(self._plan, Fraction(fps), origin, self.settings.silence_dbfs))

    def cost_ms(self, rows: int) -> float:
        """Measured at warm-up, then followed slowly."""
        return self._costs[min((b for b in self.info.buckets if b >= rows), default=self.info.buckets[-1])]

    def submit(self, rows: Sequence[Row]) -> Ticket:
        """Raises :class:`BatchFailed` or :class:`EngineDead`."""
        with torch.inference_mode(), device_errors():
            return self._batcher.submit(rows)

    def collect(self, ticket: Ticket, wait_s: float) -> list[Result] | None:
        """Raises as :meth:`submit`."""
        assert isinstance(ticket, DeviceBatch)
        with device_errors():
            results = self._batcher.collect(ticket, wait_s)
        if results is not None and ticket.milliseconds:
            known = self._costs.get(ticket.size, ticket.milliseconds)
            self._costs[ticket.size] = known + 0.02 * (ticket.milliseconds - known)
        return results

    def memory(self) -> Memory:
        """Of the device; on the CPU of what is set aside for avatars."""
        if self._device.type == "cuda":
            free, total = torch.cuda.mem_get_info(self._device)
            return Memory(total - free, total)
        return Memory(self._residents.used, self._residents.total)

    def close(self) -> None:
        """Let go of everything on the device."""
        for name in ("_batcher", "_runner", "_network", "_residents"):
            self.__dict__.pop(name, None)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
