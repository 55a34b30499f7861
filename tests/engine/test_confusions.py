"""What a run keeps of its mistakes: the right pairs, the surest examples, and pictures of a size to keep."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tailmatch.engine.confusions import EXAMPLES, LARGEST_SIDE, PAIRS, most_confused, thumbnails, write_confusions

# Six images of class 0, of which three are taken for 1 and one for 2; class 1 is right, class 2 once taken for 0.
LABELS = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 2, 2])
PREDICTED = torch.tensor([1, 1, 0, 1, 2, 0, 1, 1, 0, 2])


def logits_for(predicted: Tensor, sureness: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(predicted, 3) * sureness[:, None].float()


def numbered(indices: Tensor) -> Tensor:
    """Images whose every pixel is the number of the sample."""
    return indices.to(torch.uint8)[:, None, None, None].expand(-1, 3, 8, 6).contiguous()


def test_the_most_frequent_mistakes_come_first() -> None:
    assert most_confused(PREDICTED, LABELS, 3) == [(0, 1), (0, 2), (2, 0)]
    assert most_confused(LABELS, LABELS, 3) == []
    many = torch.arange(40)
    assert len(most_confused((many + 1) % 40, many, 40)) == PAIRS


def test_each_pair_keeps_its_surest_examples(tmp_path: Path) -> None:
    sureness = torch.tensor([1, 3, 9, 2, 5, 9, 9, 9, 4, 9])
    write_confusions(tmp_path / "c.npz", logits_for(PREDICTED, sureness), LABELS, numbered)
    with np.load(tmp_path / "c.npz", allow_pickle=False) as file:
        found = dict(file)
    assert list(zip(found["true"], found["predicted"], strict=True)) == [(0, 1), (0, 2), (2, 0)]
    assert found["pair"].tolist() == [0, 0, 0, 1, 2]
    assert found["index"].tolist() == [1, 3, 0, 4, 8]
    assert found["images"].shape == (5, 8, 6, 3)
    assert found["images"][:, 0, 0, 0].tolist() == [1, 3, 0, 4, 8]


def test_a_pair_keeps_a_few_examples_of_many(tmp_path: Path) -> None:
    labels = torch.zeros(50, dtype=torch.int64)
    write_confusions(tmp_path / "c.npz", logits_for(labels + 2, torch.ones(50)), labels, numbered)
    with np.load(tmp_path / "c.npz") as file:
        assert len(file["images"]) == EXAMPLES


@pytest.mark.parametrize("why", ["no mistake", "no pictures"])
def test_there_may_be_nothing_to_keep(tmp_path: Path, why: str) -> None:
    predicted = LABELS if why == "no mistake" else PREDICTED
    pictures = numbered if why == "no mistake" else lambda indices: None
    write_confusions(tmp_path / "c.npz", logits_for(predicted, torch.ones(10)), LABELS, pictures)
    assert not (tmp_path / "c.npz").exists()


def test_large_images_shrink_in_proportion_and_small_ones_stay() -> None:
    large = torch.full((2, 1, 128, 256), 200, dtype=torch.uint8)
    small = thumbnails(large)
    assert small.shape == (2, 1, LARGEST_SIDE // 2, LARGEST_SIDE)
    assert small.unique().tolist() == [200]
    assert thumbnails(large[:, :, :30, :30]).shape == (2, 1, 30, 30)
