"""The steps since the last row of metrics: their losses, and the numbers that they gave to be shown."""

import torch
from torch import Tensor

from tailmatch.engine.distributed import mean_over_processes, sum_over_processes
from tailmatch.engine.task import StepResult


class RecentSteps:
    """Collects what steps give, on their device, until a row wants their means."""

    def __init__(self) -> None:
        self._steps: list[StepResult] = []

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, result: StepResult) -> None:
        self._steps.append(StepResult(result.loss.detach(), result.scalars))

    def clear(self) -> None:
        self._steps.clear()

    def losses(self) -> Tensor:
        """The loss of each step, its mean over the processes."""
        return mean_over_processes(torch.stack([step.loss for step in self._steps]).float())

    def means(self) -> dict[str, float | None]:
        """The mean of each number over the steps and processes that know it; None where none does."""
        tags = {tag: None for step in self._steps for tag in step.scalars}
        return {tag: _mean([step.scalars[tag] for step in self._steps if tag in step.scalars]) for tag in tags}

    def shared(self, losses: Tensor) -> list[tuple[Tensor, dict[str, Tensor]]]:
        """The steps for the checkpoint, so that a row made after a resume is the row that it would have been."""
        means = [{tag: mean_over_processes(value.clone()) for tag, value in s.scalars.items()} for s in self._steps]
        return list(zip(losses, means, strict=True))

    def restore(self, shared: list[tuple[Tensor, dict[str, Tensor]]], device: torch.device) -> None:
        """Take up what `shared` gave."""
        self._steps = [
            StepResult(loss.to(device), {tag: value.to(device) for tag, value in scalars.items()})
            for loss, scalars in shared
        ]


def _mean(values: list[Tensor]) -> float | None:
    numbers = torch.stack([value.float() for value in values])
    total, known = sum_over_processes(torch.stack([numbers.nansum(), (~numbers.isnan()).float().sum()]))
    mean = total / known
    return float(mean) if bool(mean.isfinite()) else None
