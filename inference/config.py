"""The options of `run.py predict` and `run.py export`. Free of torch, since `--help` imports it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from tailmatch.engine.options import Device, above, thread_problems

Weights = Literal["last", "selected"]
Run = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Say what is in images, by a finished run's network; its data set is not needed.

    Images that cannot be read are named and left out, and the exit code is then 1.
    """

    run: Run
    """Run folder, or a .safetensors file out of one."""
    images: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="IMAGES ...")] = ()
    """Image files, folders (with those inside them), or npz files with an array `images` or `test_images`."""
    out: Path | None = None
    """Write all predictions to this CSV file: path, then class and probability of each rank."""
    top: int = 5
    """How many of the likeliest classes to name for each image."""
    weights: Weights = "last"
    """The weights at the end of the run, or those that its validation images chose."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON object for each image instead of the table."""
    batch_size: int = 128
    """Images that the network sees at once."""
    device: Device = "auto"
    """auto takes CUDA, then MPS, then the CPU."""
    threads: int | None = None
    """CPU threads of the tensor library; its own choice by default."""

    def problems(self) -> list[str]:
        """What is wrong with the options, one sentence each."""
        found = [] if self.images else ["Name at least one image: a file, a folder, or an npz file."]
        return found + above(self, 0, "top", "batch_size") + thread_problems(self.threads)


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Write a finished run's network for others: an ONNX file, or a folder for the Hugging Face hub."""

    run: Run
    """Run folder, or a .safetensors file out of one."""
    format: Literal["onnx", "hf"]
    """onnx: DIR/model.onnx, normalisation inside, checked against the network; hf: model card, config and weights."""
    out: Path | None = None
    """Folder to write; `onnx` or `hf` inside the run folder (or beside the file) by default."""
    weights: Weights = "last"
    """The weights at the end of the run, or those that its validation images chose."""
    push_to: str | None = None
    """Upload the hf folder to this repository of the hub (NAME/MODEL); nothing is sent without this."""

    def problems(self) -> list[str]:
        """What is wrong with the options, one sentence each."""
        wrong = self.push_to is not None and self.format != "hf"
        return ["--push-to uploads the folder of --format hf; leave it out, or take that format."] if wrong else []
