"""Which of a server's devices draws a stream's turns: the least loaded as one begins, and that until it ends."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from fractions import Fraction

from inference_server.engine.device import EngineDevice
from inference_server.engine.messages import Message
from inference_server.engine.renderer import Resident
from inference_server.streams.session import Session
from visavis.frames import Rect


class StreamDevices:
    """The devices that hold a stream's avatar. For its :class:`Session` these are its speaking slots.

    ``session`` is asked for later than this is made.
    """

    def __init__(self, first: EngineDevice, resident: Resident, session: Callable[[], Session]) -> None:
        self.largest_rect: Rect = resident.largest
        self._residents = {first: resident}
        self._session = session
        self._here: EngineDevice = first

    # --- the avatar -----------------------------------------------------------------------------------

    def __contains__(self, device: EngineDevice) -> bool:
        return device in self._residents

    def add(self, device: EngineDevice, resident: Resident) -> None:
        """The avatar is there, too."""
        self._residents[device] = resident

    def lost(self, device: EngineDevice) -> bool:
        """The device's memory is gone; whether that ends the stream: a turn was drawn there, or no other has it."""
        resident = self._residents.pop(device, None)
        if resident is not None:
            device.residency.release(resident)
        return not self._residents or (self._here is device and self._session().speaking)

    def close(self) -> None:
        """Let go of all of it."""
        self._here.renderer.remove(self._session())
        for device, resident in self._residents.items():
            device.residency.release(resident)
        self._residents.clear()

    # --- speaking slots, as SpeakingSlots has them -----------------------------------------------------

    @property
    def total(self) -> int:
        """Slots of all that could draw."""
        return sum(device.slots.total for device in self._residents)

    def take(self, fps: Fraction) -> bool:
        """A slot for a turn at ``fps``: on the device where turns of ours live already, else on any."""
        if self._session().speaking:
            return self._here.slots.take(fps)
        order = sorted(self._residents, key=lambda device: (device.slots.load, device is not self._here))
        for device in order:
            if device.slots.take(fps):
                self._move(device)
                return True
        return False

    def give(self, fps: Fraction) -> None:
        """The slot is given back where it was taken."""
        self._here.slots.give(fps)

    # --- drawing --------------------------------------------------------------------------------------

    def new_track(self) -> int:
        """A number for a new turn's track."""
        return self._here.renderer.new_track(self._session)()

    def command(self, message: Message) -> None:
        """A message about a turn, to the engine that has it."""
        self._here.renderer.command(message)

    def touch(self) -> None:
        """There may be a frame to draw."""
        self._here.renderer.touch(self._session())

    def pump(self) -> None:
        """There is less to draw than was thought."""
        self._here.renderer.pump()

    @property
    def queue_ms(self) -> deque[float]:
        """What frames waited lately on the device."""
        return self._here.renderer.queue_ms

    @property
    def render_ms(self) -> deque[float]:
        """What batches took lately on the device."""
        return self._here.renderer.render_ms

    def _move(self, device: EngineDevice) -> None:
        session = self._session()
        if device is not self._here:
            self._here.renderer.remove(session)
        self._here = device
        device.renderer.add(session, self._residents[device])
