"""FitNets: Romero et al. 2015, arXiv:1412.6550."""

import torch.nn.functional as F
from torch import Tensor, nn

from tailmatch.distill.features.base import STAGES, Activations, FeatureMethod, FeatureShapes, aligned
from tailmatch.distill.features.catalog import FitNetOptions
from tailmatch.errors import UserError


class FitNet(FitNetOptions, FeatureMethod):
    """mean (r(s) - t)^2 at one stage, r a convolution to the teacher's size, BatchNorm and ReLU."""

    looks_at = frozenset({STAGES})

    def __post_init__(self, student: FeatureShapes, teacher: FeatureShapes) -> None:
        super().__post_init__(student, teacher)
        stages = aligned(student.stages, teacher.stages)
        if self.hint_stage > len(stages):
            raise UserError(
                f"hint_stage must be one of the {len(stages)} stages after the stem that both networks have, got "
                f"{self.hint_stage}; choose 1 to {len(stages)}."
            )
        (channels, *size), (wanted_channels, *wanted) = stages[self.hint_stage - 1]
        convolution = _to_size(channels, wanted_channels, size, wanted)
        self.regressor = nn.Sequential(convolution, nn.BatchNorm2d(wanted_channels), nn.ReLU(inplace=True))

    def compare(self, student: Activations, teacher: Activations, labels: Tensor, index: Tensor) -> Tensor:
        s_BCHW, t_BCHW = aligned(student.stages, teacher.stages)[self.hint_stage - 1]
        return F.mse_loss(self.regressor(s_BCHW), t_BCHW)


def _to_size(channels: int, wanted_channels: int, size: list[int], wanted: list[int]) -> nn.Module:
    """A convolution that halves, doubles, or takes off what is too much."""
    (height, width), (wanted_height, wanted_width) = size, wanted
    if height == 2 * wanted_height:
        return nn.Conv2d(channels, wanted_channels, kernel_size=3, stride=2, padding=1)
    if 2 * height == wanted_height:
        return nn.ConvTranspose2d(channels, wanted_channels, kernel_size=4, stride=2, padding=1)
    if height >= wanted_height:
        kernel = (1 + height - wanted_height, 1 + width - wanted_width)
        return nn.Conv2d(channels, wanted_channels, kernel_size=kernel)
    raise UserError(
        f"FitNet's convolution brings features of {height} x {width} to the teacher's {wanted_height} x {wanted_width} "
        "only where these are twice as large at most; choose another hint_stage."
    )
