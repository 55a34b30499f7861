"""Where to compute, in which precision, and with which memory."""

import ctypes
import sys
from contextlib import suppress
from dataclasses import dataclass

import torch

from tailmatch.engine.options import Device, Precision
from tailmatch.errors import UserError


def pick_device(name: Device, local_rank: int = 0) -> torch.device:
    """The named device; `auto` takes CUDA, then MPS, then the CPU."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = "cuda" if available["cuda"] else "mps" if available["mps"] else "cpu"
    if not available[name]:
        usable = ", ".join(device for device, there in available.items() if there)
        raise UserError(f"Device {name!r} is not available here; use one of: auto, {usable}.")
    return torch.device("cuda", local_rank) if name == "cuda" else torch.device(name)


@dataclass(frozen=True)
class Autocast:
    """Mixed precision: enters `torch.autocast` where the precision asks for it."""

    device: torch.device
    dtype: torch.dtype | None  # None: plain float32

    @classmethod
    def pick(cls, precision: Precision, device: torch.device) -> "Autocast":
        """`auto` is bf16 on a GPU that computes in it and fp32 elsewhere (bf16 is slower on most CPUs)."""
        if precision == "auto":
            fast = device.type == "cuda" and torch.cuda.is_bf16_supported()
            precision = "bf16" if fast else "fp32"
        if precision == "fp16" and device.type == "cpu":
            raise UserError("Precision 'fp16' needs a GPU; on the CPU use fp32 or bf16.")
        return cls(device, {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision])

    def __call__(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=self.dtype or torch.bfloat16, enabled=self.dtype is not None)

    def scaler(self) -> torch.amp.GradScaler:
        """Loss scaling, needed by fp16 alone (its smallest gradients would vanish)."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)


def keep_freed_memory() -> None:
    """Have what a step frees kept for the next one, where the C library is glibc.

    By itself it gives large blocks back to the system, and every step waits for their pages anew: a tenth of the time
    of a run on stored features.
    """
    trim_threshold, mmap_threshold = -1, -3  # their numbers in malloc.h
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            set_option = ctypes.CDLL(None).mallopt
            set_option(mmap_threshold, 32 << 20)  # the highest that it takes
            set_option(trim_threshold, 1 << 30)
