"""What one device draws: its engine process, what is scheduled on it, the avatars in its memory, its slots."""

from __future__ import annotations

from collections.abc import Callable

from inference_server.avatars.store import AvatarStore
from inference_server.engine import messages as m
from inference_server.engine.process import EngineProcess
from inference_server.engine.renderer import Renderer
from inference_server.engine.residency import Residency
from inference_server.engine.scheduler import Scheduler
from inference_server.engines.base import Device
from inference_server.metrics import Metrics
from inference_server.settings import MIB, Settings
from inference_server.streams.admission import SpeakingSlots, followed_slots
from visavis.service.logs import Log


class EngineDevice:
    """One of a server's devices; a server without several has one, whose name is empty.

    ``on_message`` gets what the engine says of preparations and turns; ``on_change(device, sentence)``: its engine
    has loaded, or is down and why; ``on_devices``: what others there are; ``on_hopeless``: see ``EngineProcess``.
    """

    def __init__(
        self,
        device: Device,
        settings: Settings,
        store: AvatarStore,
        metrics: Metrics,
        log: Log,
        *,
        on_message: Callable[[EngineDevice, m.Message], None],
        on_change: Callable[[EngineDevice, str], None],
        on_devices: Callable[[list[Device]], None],
        on_hopeless: Callable[[EngineDevice, str], None],
    ) -> None:
        self.name = device.name
        self.slots = SpeakingSlots()
        self.memory_used = 0
        self.preparing = 0
        self._settings = settings
        self._log = log
        self._on_message, self._on_change, self._on_devices = on_message, on_change, on_devices
        self.renderer = Renderer(metrics, log, Scheduler([], settings.batch_ms, settings.longest_batch_ms))
        self.engine = EngineProcess(
            settings.engine,
            settings.engine_settings,
            device=device,
            silent_s=settings.engine_timeout_s,
            log=log,
            on_message=self._take,
            on_read=self._read,
            on_change=self._changed,
            on_hopeless=lambda sentence: on_hopeless(self, sentence),
        )
        self.renderer.use(self.engine)
        self.residency = Residency(self.engine, store, settings.avatar_memory_mib * MIB)

    @property
    def usable(self) -> bool:
        """Its engine can draw."""
        return self.engine.loaded is not None

    @property
    def why_not(self) -> str:
        """Why it cannot, with the device's name where it has one."""
        return f"{self.name}: {self.engine.reason}" if self.name else self.engine.reason

    def bind(self, device: Device) -> None:
        """It is known now which device this is: its engine draws on no other from its next process on."""
        self.name = device.name
        self.engine.bind(device)

    def _read(self) -> None:
        try:
            self.renderer.pump()
        except Exception:  # as below
            self._log.exception("internal_error", where="pump")

    def _take(self, message: m.Message) -> None:
        try:
            self._handle(message)
        except Exception:  # a mistake of ours at one message must not cost all streams
            self._log.exception("internal_error", where=type(message).__name__)

    def _handle(self, message: m.Message) -> None:
        match message:
            case m.Ready() | m.Rendered() | m.BatchLost():
                self.renderer.handle(message)
            case m.Attached() | m.Failed(what="attach"):
                self.residency.handle(message)
            case m.Pong():
                self._use_costs(message.costs)
                self.memory_used = message.memory_used
            case m.Devices():
                self._on_devices([Device(*each) for each in message.devices])
            case _:
                self._on_message(self, message)

    def _changed(self, loaded: m.Loaded | None, sentence: str) -> None:
        if loaded is not None:
            self._use_costs(loaded.costs)
        else:
            self.renderer.engine_down()
            self.residency.engine_down(sentence)
        self._on_change(self, sentence)

    def _use_costs(self, costs: list[tuple[int, float]]) -> None:
        self.renderer.scheduler.set_costs(costs)
        s = self._settings
        longest = self.renderer.scheduler.longest_batch_ms
        self.slots.total = s.slots or min(
            followed_slots(self.slots.total, costs, longest, s.slot_load), s.max_sessions
        )
