"""The teacher's mean prediction of each class: the class-wise global weights of IKL and GKL."""

from typing import Any

import torch
from torch import Tensor, nn

from tailmatch.declare import check_values, options_of
from tailmatch.errors import UserError
from tailmatch.losses.catalog import IKLOptions
from tailmatch.losses.checks import check_labels, check_logits, check_sample_weight
from tailmatch.losses.collective import global_sum, is_first_process, process_count

MOST_CLASSES = 32_768
"""The two [C, C] buffers take 8 GB at this many classes."""


class ClassMeans(nn.Module):
    """Row c is the mean of softmax(logits / T) over the samples of class c; uniform until a class has been seen.

    mode="epoch": `observe` collects and `roll`, at an epoch's end, puts the collected means into use. A class without
    a sample in the epoch keeps its last row.

    mode="exponential", for training without epochs: every observed sample moves its class's row at once, by
    1 - momentum, so n samples leave momentum^n of the old row. `roll` does nothing.

    All state is in persistent buffers: `means` [C, C], the rows in use; `sums` [C, C] and `counts` [C], what the
    present epoch has collected.

    Under data parallelism sums and counts are added up over the processes, in `roll` or, in exponential mode, in
    every `observe`; all processes must call them together. Keep the module outside DistributedDataParallel, which
    would overwrite the collected sums with the first process's. Nothing here waits for the device.
    """

    sums: Tensor
    counts: Tensor
    means: Tensor

    def __init__(
        self, num_classes: int, *, mode: str = "epoch", momentum: float = 0.999, temperature: float = 1.0
    ) -> None:
        super().__init__()
        values = {"mode": mode, "momentum": momentum, "weight_temperature": temperature}
        check_values(options_of(IKLOptions), values)
        if not 2 <= num_classes <= MOST_CLASSES:
            raise UserError(
                f"Class means are a square of the number of classes, which must be 2 ... {MOST_CLASSES}; "
                f"got {num_classes}: use weights='sample' instead."
            )
        self.num_classes = num_classes
        self.mode = mode
        self.momentum = momentum
        self.temperature = temperature
        self._powered: tuple[tuple[int, int, float], Tensor] | None = None
        self.register_buffer("sums", torch.zeros(num_classes, num_classes))
        self.register_buffer("counts", torch.zeros(num_classes))
        self.register_buffer("means", torch.full((num_classes, num_classes), 1 / num_classes))

    def rows(self, labels: Tensor, power: float = 1.0) -> Tensor:
        """The rows [B, C] of the classes `labels` [B], each entry raised to `power`."""
        if power == 1:
            return self.means.index_select(0, labels)
        if self.mode == "exponential":  # the means change with every batch
            return self.means.index_select(0, labels).pow_(power)
        # Taken once an epoch, not once a batch: a power costs as much as all the rest of the loss. PyTorch counts the
        # in-place changes of a tensor, so a roll or a loaded state shows here.
        key = (self.means.data_ptr(), self.means._version, power)
        if self._powered is None or self._powered[0] != key:
            self._powered = (key, self.means.pow(power))
        return self._powered[1].index_select(0, labels)

    @torch.no_grad()
    def observe(self, logits: Tensor, labels: Tensor, sample_weight: Tensor | None = None) -> None:
        """Count each row of `logits` [B, C] for the class in `labels` [B], with weight 1 or `sample_weight` [B].

        Rows with label -1, with weight 0 or with a prediction that is not finite are passed over.
        """
        check_logits("logits", logits)
        if logits.shape[1] != self.num_classes:
            raise UserError(
                f"The class means are for {self.num_classes} classes; got logits of {logits.shape[1]}: "
                "build the loss with the model's number of classes."
            )
        known = labels != -1
        labels = check_labels(labels.where(known, 0), logits)
        check_sample_weight(sample_weight, logits)
        probabilities = torch.softmax(logits.float() / self.temperature, -1)
        weights_B = torch.ones_like(probabilities[:, 0]) if sample_weight is None else sample_weight.float()
        counted = known & (weights_B > 0) & probabilities.sum(-1).isfinite()
        weights_B = weights_B.where(counted, 0)
        # Masked, not multiplied by zero: zero times NaN is NaN.
        probabilities = probabilities.masked_fill(~counted.unsqueeze(1), 0)
        self.sums.index_add_(0, labels, probabilities * weights_B.unsqueeze(1))
        self.counts.index_add_(0, labels, weights_B)
        if self.mode == "exponential":
            self._blend()

    @torch.no_grad()
    def roll(self) -> None:
        """Put the epoch's means into use and start collecting anew."""
        if self.mode == "exponential":
            return
        sums, counts = self._collected()
        seen = counts > 0
        self.means.copy_(torch.where(seen.unsqueeze(1), sums / counts.clamp_min(1e-12).unsqueeze(1), self.means))
        self._forget()

    @torch.no_grad()
    def synchronize(self) -> None:
        """Gather what all processes have collected into the first one; call on all of them before it saves a state."""
        if process_count() > 1:
            sums, counts = self._collected()
            self._forget()
            if is_first_process():
                self.sums.copy_(sums)
                self.counts.copy_(counts)

    def extra_repr(self) -> str:
        return f"num_classes={self.num_classes}, mode={self.mode!r}, temperature={self.temperature}"

    def _blend(self) -> None:
        sums, counts = self._collected()
        kept = self.momentum**counts
        # The batch's own mean carries what the old row loses; a class that is not in the batch keeps all of it.
        gain = (1 - kept) / counts.clamp_min(1e-12)
        self.means.mul_(kept.unsqueeze(1)).add_(sums * gain.unsqueeze(1))
        self._forget()

    def _collected(self) -> tuple[Tensor, Tensor]:
        return global_sum(self.sums), global_sum(self.counts)

    def _forget(self) -> None:
        self.sums.zero_()
        self.counts.zero_()

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        # A saved state holds the sums of all processes, and every process loads it: they must count once.
        if not is_first_process():
            self._forget()
