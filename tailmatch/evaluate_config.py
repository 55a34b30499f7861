"""The options of `run.py evaluate`. Free of torch, since `--help` imports it."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from tailmatch.engine.options import Device, thread_problems


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Test a run's weights again, or other weights of the same network, on the run's data set."""

    run: tyro.conf.Positional[Path]
    """Run folder."""
    weights: Path | None = None
    """Weights to test, as .safetensors; the run's own by default (its selected.safetensors is another choice)."""
    data_root: Path | None = None
    """Where the data set lies, where that has changed since the run."""
    out: Path | None = None
    """Write the logits to this predictions.npz, which `analyze` reads."""
    device: Device = "auto"
    """auto takes CUDA, then MPS, then the CPU."""
    threads: int | None = None
    """CPU threads of the tensor library; its own choice by default."""

    def problems(self) -> list[str]:
        return thread_problems(self.threads)
