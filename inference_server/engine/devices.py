"""All devices of a server behind one front: an engine process for each, started as soon as one has told of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from inference_server.engine import messages as m
from inference_server.engine.device import EngineDevice
from inference_server.engines.base import Device
from visavis.service.logs import Log

MOST = 16


class EngineDevices:
    """``make`` makes a device, given what it is and who is to be told of further ones."""

    def __init__(
        self, make: Callable[[Device, Callable[[list[Device]], None]], EngineDevice], log: Log
    ) -> None:
        self._make = make
        self._log = log
        self._devices = [make(Device(""), self._found)]
        self._started = False

    def __iter__(self) -> Iterator[EngineDevice]:
        return iter(self._devices)

    def __len__(self) -> int:
        return len(self._devices)

    def start(self) -> None:
        """Start the first one's engine process; it tells of others."""
        self._started = True
        self._devices[0].engine.start()

    async def close(self) -> None:
        """End all engine processes."""
        self._started = False
        await asyncio.gather(*(device.engine.close() for device in self._devices))

    def _found(self, devices: list[Device]) -> None:
        if len(self._devices) > 1 or not self._started:
            return  # told before
        self._log.info("devices", names=[device.name for device in devices[:MOST]])
        self._devices[0].bind(devices[0])
        for device in devices[1:MOST]:
            made = self._make(device, lambda _: None)
            self._devices.append(made)
            made.engine.start()

    # --- what they can do together --------------------------------------------------------------------

    @property
    def usable(self) -> list[EngineDevice]:
        """Those that can draw, the least loaded first."""
        return sorted((d for d in self._devices if d.usable), key=lambda d: d.slots.load)

    @property
    def loaded(self) -> m.Loaded | None:
        """What an engine has told of itself: all are of one build. ``None`` while none can draw."""
        return next((d.engine.loaded for d in self._devices if d.usable), None)

    @property
    def reason(self) -> str:
        """Which devices cannot draw and why; empty where all can."""
        return "; ".join(d.why_not for d in self._devices if not d.usable)

    @property
    def slots(self) -> int:
        """Speaking slots of those that can draw; where none can, of all, as they were."""
        return sum(d.slots.total for d in self._counted)

    @property
    def slots_used(self) -> int:
        """Of these, how many have anything taken."""
        return sum(d.slots.used for d in self._counted)

    @property
    def slots_free(self) -> int:
        """Turns at 25 frames a second that could begin now."""
        return sum(d.slots.free for d in self._counted)

    @property
    def avatar_bytes(self) -> int:
        """Prepared avatars in all memories."""
        return sum(d.residency.nbytes for d in self._devices)

    def preparer(self) -> EngineDevice | None:
        """Which one prepares the next avatar."""
        return min(self.usable, key=lambda d: d.preparing, default=None)

    @property
    def _counted(self) -> list[EngineDevice]:
        return [d for d in self._devices if d.usable] or self._devices
