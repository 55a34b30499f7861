"""Logits and labels the tests of the losses share."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor


@dataclass
class Batch:
    student: Tensor
    teacher: Tensor
    labels: Tensor
    weights: Tensor
    """Class weights [B, C]."""
    mask: Tensor
    """Sample weights [B], some zero."""


def draw(batch: int = 5, classes: int = 7, dtype: torch.dtype = torch.float64, scale: float = 2.0) -> Batch:
    generator = torch.Generator().manual_seed(batch * 1000 + classes)

    def normal() -> Tensor:
        return torch.randn(batch, classes, generator=generator, dtype=torch.float64).mul_(scale).to(dtype)

    mask = torch.rand(batch, generator=generator, dtype=torch.float64).to(dtype)
    mask[:: max(2, batch // 2)] = 0
    return Batch(
        student=normal().requires_grad_(),
        teacher=normal().requires_grad_(),
        labels=torch.randint(classes, (batch,), generator=generator),
        weights=torch.softmax(normal(), -1),
        mask=mask,
    )


@pytest.fixture
def draw_batch():
    return draw


@pytest.fixture
def batch() -> Batch:
    return draw()
