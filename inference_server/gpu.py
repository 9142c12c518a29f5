"""What NVIDIA's driver tells of the GPUs (NVML), as metrics: use, memory, clocks, heat, and what slows a GPU down.

Needs the package ``nvidia-ml-py`` and the library of the driver; where either is missing there are no such metrics.
NVML needs no CUDA context. A driver that hangs stops a thread of its own, whose figures are then no longer told.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from visavis.service.logs import Log

EVERY_S = 5.0
STALE_S = 20.0
"""Figures older than this are not told."""
MIB = 1 << 20

THROTTLES = {
    "power": 0x4 | 0x80,  # software power cap, hardware power brake
    "thermal": 0x20 | 0x40,  # software and hardware thermal slowdown
    "hardware": 0x8,  # hardware slowdown, whatever the cause
}
"""Bits of ``nvmlDeviceGetCurrentClocksEventReasons`` (nvml.h) that mean: slower than it could."""

_SERIES = {
    "utilization": ("visavis_gpu_utilization_ratio", "Share of time in which a kernel ran"),
    "memory_used": ("visavis_gpu_memory_used_bytes", "Memory in use on the GPU, by anybody"),
    "memory_total": ("visavis_gpu_memory_total_bytes", "Memory of the GPU"),
    "clock": ("visavis_gpu_sm_clock_hertz", "Clock of the multiprocessors"),
    "clock_max": ("visavis_gpu_sm_clock_max_hertz", "Highest clock of the multiprocessors"),
    "temperature": ("visavis_gpu_temperature_celsius", "Temperature of the GPU"),
    "power": ("visavis_gpu_power_watts", "Power drawn"),
}


@dataclass(frozen=True)
class GpuFigures:
    """One GPU now. ``figures`` by the keys of the series, in their units; what it does not tell is missing."""

    index: int
    name: str
    figures: dict[str, float] = field(default_factory=dict)
    throttled: dict[str, bool] = field(default_factory=dict)


def _questions(nvml: Any, gpu: Any) -> dict[str, Callable[[], float]]:
    sm = nvml.NVML_CLOCK_SM
    return {
        "utilization": lambda: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100,
        "memory_used": lambda: nvml.nvmlDeviceGetMemoryInfo(gpu).used,
        "memory_total": lambda: nvml.nvmlDeviceGetMemoryInfo(gpu).total,
        "clock": lambda: nvml.nvmlDeviceGetClockInfo(gpu, sm) * 1e6,
        "clock_max": lambda: nvml.nvmlDeviceGetMaxClockInfo(gpu, sm) * 1e6,
        "temperature": lambda: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU),
        "power": lambda: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000,
        "throttles": lambda: nvml.nvmlDeviceGetCurrentClocksEventReasons(gpu),
    }


def read_gpus(nvml: Any) -> list[GpuFigures]:
    """Every GPU that ``nvml`` (the module ``pynvml``, initialised) sees. Raises its ``NVMLError``."""
    out = []
    for index in range(nvml.nvmlDeviceGetCount()):
        gpu = nvml.nvmlDeviceGetHandleByIndex(index)
        figures: dict[str, float] = {}
        for key, ask in _questions(nvml, gpu).items():
            with contextlib.suppress(nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound):
                figures[key] = float(ask())
        bits = figures.pop("throttles", None)
        throttled = {} if bits is None else {why: bool(int(bits) & mask) for why, mask in THROTTLES.items()}
        out.append(GpuFigures(index, str(nvml.nvmlDeviceGetName(gpu)), figures, throttled))
    return out


class GpuMetrics(Collector):
    """Collector of a Prometheus registry; a thread asks the driver each five seconds."""

    def __init__(self, log: Log, now: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._now = now
        self._told: tuple[float, list[GpuFigures]] = (float("-inf"), [])
        self._stop = threading.Event()

    def start(self) -> None:
        """Begin to ask, where there is a driver to ask."""
        try:
            import pynvml
        except ImportError:
            return
        threading.Thread(target=self._follow, args=(pynvml,), name="nvml", daemon=True).start()

    def close(self) -> None:
        """Ask no more."""
        self._stop.set()

    def take(self, gpus: list[GpuFigures]) -> None:
        """Figures of now."""
        self._told = (self._now(), gpus)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """See prometheus_client."""
        at, gpus = self._told
        gpus = gpus if self._now() - at <= STALE_S else []
        for key, (name, text) in _SERIES.items():
            family = GaugeMetricFamily(name, text, labels=["gpu", "name"])
            for gpu in gpus:
                if key in gpu.figures:
                    family.add_metric([str(gpu.index), gpu.name], gpu.figures[key])
            yield family
        slowed = GaugeMetricFamily(
            "visavis_gpu_throttled",
            "1 while a GPU runs slower than it could",
            labels=["gpu", "name", "reason"],
        )
        for gpu in gpus:
            for reason, active in gpu.throttled.items():
                slowed.add_metric([str(gpu.index), gpu.name, reason], int(active))
        yield slowed

    def _follow(self, nvml: Any) -> None:
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:  # no driver: a server on a CPU
            self._log.debug("no_gpu_figures", reason=str(error))
            return
        while True:
            try:
                self.take(read_gpus(nvml))
            except nvml.NVMLError as error:
                self._log.warning("gpu_figures_lost", reason=str(error))
            if self._stop.wait(EVERY_S):
                nvml.nvmlShutdown()
                return
