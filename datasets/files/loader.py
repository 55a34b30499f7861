"""Batches of decoded images, made by processes of their own and handed over on the device as uint8.

Which images make up step k is a plan, a pure function of k, and a crop depends on (seed, draw, index) alone. So a run
may be resumed at any step, even within an epoch, and with another number of workers, and still sees the same pixels.

Shape suffixes: B images, C channels, H and W pixels.
"""

import signal
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from tailmatch.datasets.files.decode import reason_of
from tailmatch.datasets.files.file_set import FileSet
from tailmatch.datasets.files.views import View, draws_of
from tailmatch.engine.files import read_plain
from tailmatch.engine.sampling import Draws, Plan
from tailmatch.errors import UserError


class ImageBatch(NamedTuple):
    """What `ImageLoader` gives, on the device."""

    images: Tensor
    """uint8 [B, C, H, W], not normalised."""
    labels: Tensor
    """int64 [B]"""
    indices: Tensor
    """int64 [B]: which images of the set these are."""


class ImageLoader:
    """The batches of a plan, decoded ahead of time by `workers` processes (in this process if there are none).

    Use it as a context manager, or call `close()`: it ends the worker processes.

    Args:
        files: the images.
        view: what becomes of each.
        plan: the images of each step.
        steps: how many steps the plan has.
        seed: of the views' random numbers.
        workers: processes that decode.
        device: where the batches go.
        ahead: batches that each worker prepares before they are asked for.
    """

    def __init__(
        self,
        files: FileSet,
        view: View,
        plan: Plan,
        steps: int,
        *,
        seed: int = 0,
        workers: int = 0,
        device: torch.device | str = "cpu",
        ahead: int = 2,
    ) -> None:
        self.steps, self.device = steps, torch.device(device)
        self._order = _StepOrder(plan, steps)
        self._loader: DataLoader[Any] = DataLoader(
            _DecodedBatches(files, view, seed),
            batch_size=None,  # the sampler's items are whole batches already
            sampler=self._order,
            num_workers=workers,
            pin_memory=self.device.type == "cuda",
            prefetch_factor=ahead if workers else None,
            persistent_workers=workers > 0,
            worker_init_fn=_start_worker,
            # Its own, or each start would draw a number from torch's global generator, and a resumed run differ.
            generator=torch.Generator(),
        )
        self._running: Iterator[Any] | None = None
        self._next_step = 0

    def batch(self, step: int) -> ImageBatch:
        """The batch of a step. Asked for in order they are ready; any other step starts the row anew from there.

        Raises:
            UserError: naming the file, if an image is missing or broken.
        """
        if not 0 <= step < self.steps:
            raise IndexError(f"the plan has steps 0 ... {self.steps - 1}, got {step}")
        if self._running is None or step != self._next_step:
            self._order.start = step
            self._running = iter(self._loader)
        try:
            decoded = next(self._running)
        except (RuntimeError, EOFError, OSError) as error:
            self.close()
            if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
                raise
            # Killed while it handed over a batch, it leaves a torn connection instead of its exit code.
            reason = str(error).splitlines()[0] if str(error) else "its connection broke"
            raise UserError(
                f"A process that decodes images has died ({reason}); give it more (shared) memory or choose fewer "
                "--workers."
            ) from error
        if isinstance(decoded, str):
            self.close()
            raise UserError(decoded)
        self._next_step = step + 1
        return ImageBatch(*(part.to(self.device, non_blocking=True) for part in decoded))

    def batches(self, start: int = 0) -> Iterator[ImageBatch]:
        """All batches from a step on."""
        for step in range(start, self.steps):
            yield self.batch(step)

    def close(self) -> None:
        """End the worker processes; a later `batch` starts new ones."""
        self._running = None
        # The DataLoader keeps its persistent workers; they end with their iterator.
        self._loader._iterator = None

    def __enter__(self) -> "ImageLoader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _StepOrder(Sampler[Draws]):
    """The rest of the plan from `start` on; evaluated in the main process, where the plan may keep its order."""

    def __init__(self, plan: Plan, steps: int) -> None:
        self.plan, self.steps, self.start = plan, steps, 0

    def __iter__(self) -> Iterator[Draws]:
        return (self.plan(step) for step in range(self.start, self.steps))

    def __len__(self) -> int:
        return self.steps - self.start


class _DecodedBatches(Dataset[Any]):
    """What a worker does: from the draws of a batch to its pixels, or to one sentence about a file."""

    def __init__(self, files: FileSet, view: View, seed: int) -> None:
        self.files, self.view, self.seed = files, view, seed

    def __getitem__(self, batch: Draws) -> ImageBatch | str:
        images = torch.empty((len(batch.indices), 3, self.view.size, self.view.size), dtype=torch.uint8)
        for row, (index, draw) in enumerate(zip(batch.indices.tolist(), batch.draws.tolist(), strict=True)):
            path = self.files.path(index)
            try:
                data = read_plain(path)
                images[row] = self.view(data, draws_of(self.seed, draw, index))
            except (OSError, ValueError, SyntaxError) as error:  # Pillow reports a broken PNG as a SyntaxError
                # An exception would arrive with the worker's whole traceback as its message.
                return (
                    f"The image {path} cannot be read ({reason_of(error)}); `run.py data check` lists all such files."
                )
        labels = torch.from_numpy(self.files.labels[batch.indices])
        return ImageBatch(images, labels, torch.from_numpy(batch.indices.astype(np.int64)))


def _start_worker(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The main process may be interrupted while a batch is handed over; the torn connection is no news then.
    sys.excepthook = _silent_about_connections


def _silent_about_connections(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)
