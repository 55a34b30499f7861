"""What a finished run mixes up most: for each pair of classes a few of its test images, small enough to stay with it.

The pairs themselves follow from the predictions; kept here is what cannot be had again without the data, the images.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tailmatch.engine.files import write_atomically

PAIRS, EXAMPLES, LARGEST_SIDE = 10, 5, 64
Pictures = Callable[[Tensor], Tensor | None]


def most_confused(predictions: Tensor, labels: Tensor, num_classes: int) -> list[tuple[int, int]]:
    """(true class, predicted class) of the most frequent mistakes, the most frequent first."""
    wrong = predictions != labels
    times = torch.bincount(labels[wrong] * num_classes + predictions[wrong], minlength=1)
    order = times.argsort(descending=True, stable=True)[:PAIRS]
    return [divmod(int(pair), num_classes) for pair in order if times[pair]]


def write_confusions(path: Path, logits: Tensor, labels: Tensor, pictures: Pictures) -> None:
    """Write confusions.npz; nothing where there was no mistake or there are no pictures.

    `true` and `predicted` [P] name the pairs; `images` uint8 [E, H, W, C] are their examples, the surest mistakes of a
    pair first, `pair` [E] says of which pair each is, and `index` [E] which test sample it is.
    """
    logits, labels = logits.float().cpu(), labels.cpu()
    predictions = logits.argmax(1)
    pairs = most_confused(predictions, labels, logits.shape[1])
    chosen = []
    for true, predicted in pairs:
        samples = ((labels == true) & (predictions == predicted)).nonzero()[:, 0]
        margin = logits[samples, predicted] - logits[samples, true]
        chosen.append(samples[margin.argsort(descending=True, stable=True)[:EXAMPLES]])
    found = pictures(torch.cat(chosen)) if chosen else None
    if found is None:
        return
    arrays: dict[str, Any] = {
        "true": np.array([true for true, _ in pairs]),
        "predicted": np.array([predicted for _, predicted in pairs]),
        "pair": np.repeat(np.arange(len(pairs)), [len(samples) for samples in chosen]),
        "index": torch.cat(chosen).numpy(),
        "images": thumbnails(found).permute(0, 2, 3, 1).contiguous().numpy(),
    }
    write_atomically(path, lambda file: np.savez_compressed(file, **arrays))


def thumbnails(images: Tensor) -> Tensor:
    """uint8 [E, C, H, W], no side longer than `LARGEST_SIDE`."""
    images = images.cpu()
    longest = max(images.shape[2:])
    if longest <= LARGEST_SIDE:
        return images
    sides = [max(1, round(side * LARGEST_SIDE / longest)) for side in images.shape[2:]]
    return torch.nn.functional.interpolate(images.float(), size=sides, mode="area").round().to(torch.uint8)
