"""A stand-in of CUDA at its outer edge: torch's own Python code for GPUs runs on a machine without one.

What is replaced is what torch calls below it: the driver's functions (``torch._C._cuda_*``), its stream, event and
graph objects, and the kernels. A tensor on ``cuda:N`` wraps one on the CPU and every operation on it is the CPU's.
As on a GPU, an operation on tensors of two devices is refused; while a graph is captured nothing is computed, and
what waits for the device or reads host memory is refused; a replay reads and writes the memory of the capture.
It says nothing of speed, of a kernel's rounding, or of what runs at the same time on several streams.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack
from torch.utils._pytree import tree_flatten, tree_map

aten = torch.ops.aten
_BETWEEN = (aten.copy_.default, aten._to_copy.default, aten.index.Tensor)  # may read the host's memory
_WAITS = (
    aten._local_scalar_dense.default,
    aten.nonzero.default,
    aten.equal.default,
    aten.masked_select.default,
)
_GUARDED = (Tensor.__getitem__, Tensor.__setitem__, Tensor.__invert__, Tensor.contiguous)
_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd  # type: ignore[attr-defined]
TOTAL = 16 << 30


class Patch(Protocol):
    """Of ``pytest.MonkeyPatch`` what is used here."""

    def setattr(self, target: Any, name: str, value: Any, raising: bool = True) -> None:
        """Put ``value`` in place of what was there."""


class OnDevice(Tensor):
    """A tensor that says it is on a GPU; ``inner`` is where its numbers are."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor, device: torch.device) -> OnDevice:
        made: OnDevice = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=device,
        )
        made.inner = inner
        return made

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _GUARDED:  # these ask for the driver before any kernel: run below the wrapper
            return Cuda.running().lift(func, args, kwargs or {})
        if func is Tensor.copy_:
            return Cuda.running().__torch_dispatch__(aten.copy_.default, (), args, kwargs)
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} outside of the stand-in")

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"OnDevice({tuple(self.shape)}, {self.dtype}, {self.device})"


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, OnDevice) else value


def _on_host_first(tensor: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``torch.tensor``, which would go to the driver below the dispatcher."""

    def made(*args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        return tensor(*args, **kwargs) if device is None else tensor(*args, **kwargs).to(device)

    return made


@dataclass
class Stream:
    """``torch.cuda.Stream``."""

    device: Any = None
    stream_id: int = field(default_factory=itertools.count(1).__next__)
    device_index: int = 0
    device_type: int = 1

    def wait_stream(self, other: Stream) -> None:
        """Everything is in order here anyway."""
        assert isinstance(other, Stream)


class Graph:
    """``torch.cuda.CUDAGraph``: the operations of a capture."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self._calls: list[tuple[Any, Any, Any, list[Tensor], list[Tensor]]] = []
        self.number = 0
        self.replays = 0
        self._pool: object = object()

    def capture_begin(self, pool: object = None, **options: object) -> None:
        """From here on nothing is computed."""
        assert self._cuda.capturing is None and self._cuda.stream != 0  # not on the default stream
        self._pool = pool or self._pool
        self._cuda.capturing = self
        self.number = len(self._cuda.graphs)
        self._cuda.graphs.append(self)

    def capture_end(self) -> None:
        """As it says."""
        self._cuda.capturing = None

    def pool(self) -> object:
        """The memory that graphs may share."""
        return self._pool

    def record(self, func: Any, args: Any, kwargs: Any) -> Any:
        """An operation: its result has a place, and no value yet."""
        flat = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)]
        kept = [(t, t.clone()) for t in flat] if func._schema.is_mutable else []
        out = func(*args, **kwargs)
        outs = [t for t in tree_flatten(out)[0] if isinstance(t, Tensor)]
        taken = {t.untyped_storage().data_ptr() for t in flat}
        fresh = [t for t in outs if t.untyped_storage().data_ptr() not in taken]
        for t, before in kept:
            t.copy_(before)
        for t in fresh:
            t.zero_()
        self._calls.append((func, args, kwargs, outs, fresh))
        return out

    def replay(self) -> None:
        """The same operations on the same memory."""
        self._cuda.check()
        self.replays += 1
        for func, args, kwargs, outs, fresh in self._calls:
            again = [t for t in tree_flatten(func(*args, **kwargs))[0] if isinstance(t, Tensor)]
            for new, old in zip(again, outs, strict=True):
                if any(old is t for t in fresh):
                    old.copy_(new)
        self._cuda.now += self._cuda.replay_s(self.number)


class Event:
    """``torch.cuda.Event``: has happened when it is asked for the second time."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self._asked = 0
        self._at = -1.0

    def record(self, stream: object = None) -> None:
        """Now."""
        self._at = self._cuda.now

    def query(self) -> bool:
        """Whether all before it is done."""
        assert self._at >= 0
        self._asked += 1
        return self._asked > 1

    def elapsed_time(self, other: Event) -> float:
        """Milliseconds."""
        return (other._at - self._at) * 1000


def _of(kind: type[Graph] | type[Event], cuda: Cuda) -> type:
    """A class that may stand in annotations, whose objects are of these GPUs."""
    return type(kind.__name__, (kind,), {"__init__": lambda made, **options: kind.__init__(made, cuda)})


class Cuda(TorchDispatchMode):
    """GPUs for the time of a ``with``. ``largest``: bytes of the largest tensor that fits into their memory.
    ``replay_s(n)``: seconds that the n-th captured graph takes, on a clock that only the device moves.
    ``physical``: which of the machine's GPUs they are.
    ``check``: called at everything that is asked of the driver, may raise what CUDA would."""

    def __init__(self, count: int = 1) -> None:
        super().__init__()
        self.count = count
        self.check: Callable[[], None] = lambda: None
        self.physical = list(range(count))
        self.device = 0
        self.stream = 0
        self.now = 100.0
        self.largest = TOTAL
        self.replay_s: Callable[[int], float] = lambda n: 0.001
        self.capturing: Graph | None = None
        self.graphs: list[Graph] = []
        self.pinned = 0
        self.devices: set[torch.device] = set()
        self._lifted = False

    @staticmethod
    def running() -> Cuda:
        """The one whose ``with`` this is."""
        return next(mode for mode in reversed(_get_current_dispatch_mode_stack()) if isinstance(mode, Cuda))

    def install(self, patch: Patch) -> None:
        """In place of what torch finds on a machine with GPUs."""
        torch._C._ensureCUDADeviceGuardSet()  # type: ignore[attr-defined]

        def c(name: str, call: Any) -> None:
            patch.setattr(torch._C, name, call, raising=False)

        patch.setattr(torch, "tensor", _on_host_first(torch.tensor))
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch.cuda, "device_count", lambda: self.count)
        patch.setattr(torch.cuda, "_initialized", True)
        patch.setattr(torch.cuda, "_get_device_properties", self._properties, raising=False)
        patch.setattr(torch.cuda, "_exchange_device", self._exchange)
        patch.setattr(torch.cuda, "_maybe_exchange_device", self._exchange)
        patch.setattr(
            torch.cuda, "cudart", lambda: SimpleNamespace(cudaMemGetInfo=lambda n: (TOTAL // 4, TOTAL))
        )
        patch.setattr(torch.cuda, "Stream", Stream)
        patch.setattr(torch.cuda, "Event", _of(Event, self))
        patch.setattr(torch.cuda, "CUDAGraph", _of(Graph, self))
        patch.setattr(torch.cuda.graph, "default_capture_stream", None)
        patch.setattr(torch.backends.cudnn, "benchmark", False)
        # a wrapper is no memory that a module's parameter could be pointed at: it is given a new parameter
        patch.setattr(torch.__future__, "_overwrite_module_params_on_conversion", True)
        patch.setattr(time, "perf_counter", lambda: self.now)
        c("_cuda_setDevice", self._exchange)
        c("_cuda_getDevice", lambda: self.device)
        c("_cuda_synchronize", self._synchronize)
        c("_cuda_emptyCache", lambda: None)
        c("_host_emptyCache", lambda: None)
        c("_cuda_getCurrentStream", lambda index: (self.stream, index, 1))
        c("_cuda_setStream", self._set_stream)
        c("_cuda_memoryStats", lambda index: {"allocated_bytes": {"all": {"peak": 7 << 20}}})
        c("_cuda_resetPeakMemoryStats", lambda index: None)

    def _exchange(self, index: int) -> int:
        self.check()
        if not 0 <= index < self.count:
            raise torch.AcceleratorError("CUDA error: invalid device ordinal")
        before, self.device = self.device, index
        return before

    def _properties(self, index: int) -> Any:
        return SimpleNamespace(
            name=f"stand-in {index}",
            total_memory=TOTAL,
            major=9,
            minor=0,
            uuid=self.uuid(self.physical[index]),
        )

    @staticmethod
    def uuid(index: int) -> str:
        """As CUDA has it: without the ``GPU-`` before it."""
        return f"00000000-0000-0000-0000-00000000000{index}"

    def _set_stream(self, stream_id: int, device_index: int, device_type: int) -> None:
        self.stream = stream_id

    def _synchronize(self) -> None:
        self.check()
        self._refuse_in_capture()

    def _refuse_in_capture(self) -> None:
        if self.capturing is not None:
            raise torch.AcceleratorError("CUDA error: operation not permitted when stream is capturing")

    def lift(self, func: Any, args: Any, kwargs: Any) -> Any:
        """``func`` on what the wrappers hold, each of its operations a device's."""
        tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, OnDevice)]
        inner = tree_map(_inner, (args, kwargs))
        self._lifted = True
        try:
            out = func(*inner[0], **inner[1])
        finally:
            self._lifted = False
        known = {id(t.inner): t for t in tensors}
        device = tensors[0].device
        return tree_map(
            lambda t: known[id(t)] if id(t) in known else OnDevice(t, device) if isinstance(t, Tensor) else t,
            out,
        )

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), _COMPOSITE):
            with self:  # made of others; in inference mode it comes as it is
                return func._op_dk(_COMPOSITE, *args, **kwargs)
        if self._lifted:
            return (
                func(*args, **kwargs) if self.capturing is None else self.capturing.record(func, args, kwargs)
            )
        tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)]
        there = {t.device for t in tensors if isinstance(t, OnDevice)}
        if len(there) > 1:
            raise RuntimeError(f"Expected all tensors to be on the same device, but found {there}")
        host = [t for t in tensors if not isinstance(t, OnDevice) and t.dim()]
        if there and host and func not in _BETWEEN:
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found {there} and cpu: {func}"
            )
        if kwargs.get("pin_memory"):
            kwargs["pin_memory"] = False
            self.pinned += 1
        target = next(iter(there), torch.device("cpu"))
        if (asked := kwargs.get("device")) is not None:
            target = asked
            kwargs["device"] = asked if asked.type == "meta" else torch.device("cpu")
        elif func is aten._fused_sdp_choice.default and there:
            return 0  # the plain kernel: the fused ones are a GPU's
        if func is aten.copy_.default:
            target = tensors[0].device
        if target.type != "cuda" and not there:
            return func(*args, **kwargs)
        return self._run(func, args, kwargs, target, tensors, bool(host) or target.type != "cuda")

    def _run(
        self, func: Any, args: Any, kwargs: Any, target: torch.device, tensors: list[Tensor], crosses: bool
    ) -> Any:
        if target.type == "cuda":
            target = torch.device("cuda", self.device if target.index is None else target.index)
            if target.index is None or target.index >= self.count:
                raise torch.AcceleratorError("CUDA error: invalid device ordinal")
            self.devices.add(target)
        if crosses or func in _WAITS:
            self._refuse_in_capture()
        self.check()
        args, kwargs = tree_map(_inner, (args, kwargs))
        call = func if self.capturing is None else lambda *a, **k: self.capturing.record(func, a, k)
        out = call(*args, **kwargs)
        known = {id(_inner(t)): t for t in tensors}

        def place(value: Any) -> Any:
            if not isinstance(value, Tensor) or target.type != "cuda":
                return known.get(id(value), value)
            if tensors and value.nbytes > self.largest:
                raise torch.OutOfMemoryError(
                    f"CUDA out of memory. Tried to allocate {value.nbytes >> 20} MiB"
                )
            return known[id(value)] if id(value) in known else OnDevice(value, target)

        return tree_map(place, out)
