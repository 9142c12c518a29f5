"""Figures of the driver as metrics: NVIDIA's own Python over a library that is faked, and servers without a GPU."""

from __future__ import annotations

import ctypes
from typing import Any

import pynvml
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from inference_server.gpu import STALE_S, GpuMetrics, read_gpus
from visavis.service.logs import Log


class Driver:
    """``libnvidia-ml.so.1``: functions that fill what their arguments point at and return a code."""

    def __init__(self) -> None:
        self.names = [b"NVIDIA H200", b"NVIDIA L4"]
        self.reasons = [0x1, 0x4 | 0x40]
        self.lost = False
        self.no_power = {1}

    def __getattr__(self, name: str) -> Any:
        def called(*arguments: Any) -> int:
            return int(getattr(type(self), f"_{name.removesuffix('_v2')}")(self, *arguments))

        if not hasattr(type(self), f"_{name.removesuffix('_v2')}"):
            raise AttributeError(name)
        return called

    def _nvmlInitWithFlags(self, flags: int) -> int:
        return 0

    def _nvmlShutdown(self) -> int:
        return 0

    def _nvmlErrorString(self, code: int) -> bytes:
        return b"GPU is lost"

    def _nvmlDeviceGetCount(self, out: Any) -> int:
        out._obj.value = len(self.names)
        return int(pynvml.NVML_ERROR_GPU_IS_LOST) if self.lost else 0

    def _nvmlDeviceGetHandleByIndex(self, index: Any, out: Any) -> int:
        ctypes.cast(out, ctypes.POINTER(ctypes.c_void_p))[0] = index.value + 1
        return 0

    @staticmethod
    def _index(handle: Any) -> int:
        return int(ctypes.cast(handle, ctypes.c_void_p).value or 0) - 1

    def _nvmlDeviceGetName(self, handle: Any, out: Any, size: Any) -> int:
        out.value = self.names[self._index(handle)]
        return 0

    def _nvmlDeviceGetUtilizationRates(self, handle: Any, out: Any) -> int:
        out._obj.gpu, out._obj.memory = 83, 20
        return 0

    def _nvmlDeviceGetMemoryInfo(self, handle: Any, out: Any) -> int:
        out._obj.total, out._obj.used = 24 << 30, 6 << 30
        return 0

    def _nvmlDeviceGetClockInfo(self, handle: Any, kind: Any, out: Any) -> int:
        out._obj.value = 1200
        return 0

    def _nvmlDeviceGetMaxClockInfo(self, handle: Any, kind: Any, out: Any) -> int:
        out._obj.value = 1980
        return 0

    def _nvmlDeviceGetTemperature(self, handle: Any, kind: Any, out: Any) -> int:
        out._obj.value = 71
        return 0

    def _nvmlDeviceGetPowerUsage(self, handle: Any, out: Any) -> int:
        if self._index(handle) in self.no_power:
            return int(pynvml.NVML_ERROR_NOT_SUPPORTED)
        out._obj.value = 350_500
        return 0

    def _nvmlDeviceGetCurrentClocksEventReasons(self, handle: Any, out: Any) -> int:
        out._obj.value = self.reasons[self._index(handle)]
        return 0


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    made = Driver()
    monkeypatch.setattr(pynvml, "nvmlLib", made)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    pynvml.nvmlInit()
    return made


def exposed(metrics: GpuMetrics) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(metrics)
    lines = [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_what_the_driver_tells_of_each_gpu(driver: Driver) -> None:
    metrics = GpuMetrics(Log("test"))
    metrics.take(read_gpus(pynvml))
    told = exposed(metrics)
    first, second = 'gpu="0",name="NVIDIA H200"', 'gpu="1",name="NVIDIA L4"'
    assert told[f"visavis_gpu_utilization_ratio{{{first}}}"] == 0.83
    assert told[f"visavis_gpu_memory_used_bytes{{{first}}}"] == 6 << 30
    assert told[f"visavis_gpu_memory_total_bytes{{{second}}}"] == 24 << 30
    assert told[f"visavis_gpu_sm_clock_hertz{{{first}}}"] == 1.2e9
    assert told[f"visavis_gpu_sm_clock_max_hertz{{{first}}}"] == 1.98e9
    assert told[f"visavis_gpu_temperature_celsius{{{second}}}"] == 71
    assert told[f"visavis_gpu_power_watts{{{first}}}"] == 350.5
    assert f"visavis_gpu_power_watts{{{second}}}" not in told  # this one does not tell it
    slow = {key: value for key, value in told.items() if key.startswith("visavis_gpu_throttled")}
    assert [key for key, value in slow.items() if value] == [
        f'visavis_gpu_throttled{{{second},reason="power"}}',
        f'visavis_gpu_throttled{{{second},reason="thermal"}}',
    ]
    assert len(slow) == 6  # an idle GPU is not a slowed one


def test_a_lost_gpu_is_an_error_and_old_figures_are_not_told(driver: Driver) -> None:
    now = 0.0
    metrics = GpuMetrics(Log("test"), now=lambda: now)
    metrics.take(read_gpus(pynvml))
    driver.lost = True
    with pytest.raises(pynvml.NVMLError):
        read_gpus(pynvml)
    now = STALE_S
    assert exposed(metrics)
    now = STALE_S + 1
    assert exposed(metrics) == {}


def test_without_a_driver_there_are_no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise pynvml.NVMLError_LibraryNotFound

    monkeypatch.setattr(pynvml, "_LoadNvmlLibrary", missing)
    metrics = GpuMetrics(Log("test"))
    metrics._follow(pynvml)  # returns
    assert exposed(metrics) == {}
