"""The embedded sets, the catalog, and the options of load_dataset."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from tailmatch.datasets import CATALOG, Dataset, DatasetRow, ImageSet, load_dataset, long_tailed
from tailmatch.datasets.load import pixel_statistics, with_validation
from tailmatch.errors import UserError
from tailmatch.longtail.config import LongtailConfig, TeacherLossOptions
from tailmatch.longtail.resolve import resolved
from tailmatch.ssl.api import configure


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


def test_digits(digits):
    assert (len(digits.train), len(digits.test), digits.val, digits.unlabeled) == (1352, 445, None, None)
    assert (digits.num_classes, digits.channels, digits.image_size) == (10, 1, 8)
    assert digits.train.images.dtype == torch.uint8
    assert digits.train.images.is_contiguous()
    assert (int(digits.train.images.min()), int(digits.train.images.max())) == (0, 255)
    assert digits.test.class_counts(10).tolist() == [44, 45, 44, 45, 45, 45, 45, 44, 43, 45]
    mean, std = pixel_statistics(digits.train)
    assert digits.mean == pytest.approx(mean, abs=1e-4)
    assert digits.std == pytest.approx(std, abs=1e-4)
    assert not digits.flip


def test_digits_test_and_train_images_are_different_images(digits):
    train = {bytes(image.numpy()) for image in digits.train.images}
    assert not any(bytes(image.numpy()) in train for image in digits.test.images)


def test_only_the_long_tail_depends_on_the_seed(digits):
    first, second = (load_dataset("digits-lt", seed=seed) for seed in (0, 1))
    assert torch.equal(first.test.images, digits.test.images)
    assert torch.equal(first.test.images, second.test.images)
    assert torch.equal(first.val.images, second.val.images)
    assert not torch.equal(first.train.images, second.train.images)
    assert torch.equal(first.train.images, load_dataset("digits-lt", seed=0).train.images)


def test_digits_lt_has_all_three_groups_and_balanced_validation():
    dataset = load_dataset("digits-lt")
    counts = dataset.train_class_counts.tolist()
    assert counts == [121, 78, 50, 32, 21, 13, 8, 5, 3, 2]
    assert any(n > 100 for n in counts)
    assert any(20 <= n <= 100 for n in counts)
    assert any(n < 20 for n in counts)
    assert dataset.val.class_counts(10).tolist() == [13] * 10
    assert dataset.name == "digits-lt"


def test_validation_images_are_taken_from_training(digits):
    with_val = load_dataset("digits", val_fraction=0.2)
    assert len(with_val.train) + len(with_val.val) == len(digits.train)
    together = torch.cat([with_val.train.images, with_val.val.images]).flatten(1)
    assert torch.equal(together.sort(0).values, digits.train.images.flatten(1).sort(0).values)
    assert load_dataset("digits-lt", val_fraction=0).val is None


def test_long_tail_options(digits):
    assert load_dataset("digits", imbalance=10, head=50).train_class_counts.tolist()[::9] == [50, 5]
    step = long_tailed(digits, 10, "step", head=100, seed=0)
    assert step.train_class_counts.tolist() == [100] * 5 + [10] * 5
    assert torch.equal(step.test.images, digits.test.images)


def test_what_the_augmentation_may_do_can_be_said():
    dataset = load_dataset("digits", flip=True, crop_padding=0)
    assert (dataset.flip, dataset.crop_padding) == (True, 0)


def test_to_moves_every_part(digits):
    dataset = replace(digits, val=digits.test, unlabeled=digits.test).to("meta")
    parts = (dataset.train, dataset.test, dataset.val, dataset.unlabeled)
    assert {part.images.device.type for part in parts} == {"meta"}
    assert {part.labels.device.type for part in parts} == {"meta"}


def test_image_set_is_contiguous_and_counts_only_known_labels():
    images = torch.zeros(3, 4, 4, 1, dtype=torch.uint8).permute(0, 3, 1, 2).expand(3, 2, 4, 4)
    image_set = ImageSet(images=images, labels=torch.tensor([-1, 1, 1]))
    assert image_set.images.is_contiguous()
    assert image_set.class_counts(3).tolist() == [0, 2, 0]
    assert image_set.subset(torch.tensor([2, 0])).labels.tolist() == [1, -1]


def test_image_set_refuses_what_does_not_fit():
    with pytest.raises(TypeError, match=r"uint8 images .* and int64 labels, got torch\.float32"):
        ImageSet(images=torch.zeros(1, 1, 2, 2), labels=torch.zeros(1, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"got \[2, 1, 2, 2\] and \[1\]"):
        ImageSet(images=torch.zeros(2, 1, 2, 2, dtype=torch.uint8), labels=torch.zeros(1, dtype=torch.int64))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_image_set_takes_arrays_and_lists(layout):
    pixels = np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 4, 4)
    images = pixels if layout == "NCHW" else pixels.transpose(0, 2, 3, 1)
    images.flags.writeable = False  # as of a memory-mapped file
    for labels in ([1, 0], np.array([1, 0], dtype=np.int32), np.array([1, 0], dtype=np.uint8)):
        image_set = ImageSet(images=images, labels=labels)
        assert torch.equal(image_set.images, torch.tensor(pixels))
        assert torch.equal(image_set.labels, torch.tensor([1, 0]))
    assert image_set.images.is_contiguous()
    assert replace(image_set, labels=[0, -1]).labels.dtype == torch.int64
    assert ImageSet(images=pixels[:, 0], labels=[0, 1]).images.shape == (2, 1, 4, 4)


def test_image_set_says_what_it_takes():
    pixels = np.zeros((2, 4, 4, 3), dtype=np.uint8)
    with pytest.raises(TypeError, match=r"uint8 images \(0 to 255\) and int64 labels, got float64 and int64\."):
        ImageSet(images=pixels / 255, labels=[0, 1])
    with pytest.raises(TypeError, match="got uint8 and float64"):
        ImageSet(images=pixels, labels=np.array([0.0, 1.0]))
    with pytest.raises(ValueError, match=r"NumPy's also as \[N, H, W, C\].* got \[2, 4, 4, 3\] and \[1\]"):
        ImageSet(images=pixels, labels=[0])


def test_pixel_statistics_match_the_direct_computation():
    images = torch.randint(0, 256, (50, 3, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = pixel_statistics(ImageSet(images=images, labels=torch.zeros(50, dtype=torch.int64)))
    pixels = images.double() / 255
    assert mean == pytest.approx(pixels.mean((0, 2, 3)).tolist())
    assert std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist())
    black = ImageSet(images=torch.zeros_like(images), labels=torch.zeros(50, dtype=torch.int64))
    assert min(pixel_statistics(black)[1]) > 0


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("cifar1O", {}, "Unknown dataset 'cifar1O'. Did you mean 'cifar10'?"),
        ("digits", {"image_size": 32}, "--image-size is an option of dataset folder, got dataset 'digits'"),
        ("digits", {"extra": True}, "--extra is an option of dataset svhn"),
        ("digits", {"fold": 0}, "--fold is an option of dataset stl10"),
        ("digits", {"lt_shape": "step"}, "without its --imbalance"),
        ("digits", {"head": 5}, "without its --imbalance"),
        ("digits", {"imbalance": 50, "head": 500}, "Class '0' has 134 images, but the split asks for 500"),
        ("digits", {"imbalance": 500}, "leaves the last class without any"),
        (
            "digits",
            {"imbalance": 50, "val_fraction": 0.99},
            "--val-fraction 0.99 leaves 2 training images of the largest class, too few for a tail of imbalance 50",
        ),
        ("digits", {"val_fraction": 2}, "must lie between 0 and 1, got 2"),
        ("folder", {}, "--data-root DIR"),
        ("npz", {}, "--data-root FILE.npz"),
    ],
)
def test_refusals(name, options, sentence):
    with pytest.raises(UserError) as refusal:
        load_dataset(name, **options)
    assert sentence in str(refusal.value)


def test_a_set_with_its_own_validation_images_is_not_given_others(digits):
    with pytest.raises(UserError, match="has validation images of its own"):
        with_validation(replace(digits, val=digits.test), 0.1)


def test_catalog_rows():
    assert {"digits", "digits-lt", "cifar10", "cifar10-lt", "cifar100", "cifar100-lt", "svhn", "stl10", "folder",
            "npz"} <= CATALOG.keys()  # fmt: skip
    assert CATALOG["svhn"].flip is False
    assert CATALOG["stl10"].crop_padding == 12
    for row in CATALOG.values():
        assert (row.base is None) == (row.imbalance is None)
        assert row.description
        assert row.obtain


def test_catalog_is_free_of_torch_and_numpy():
    program = (
        "import sys; from tailmatch.datasets import CATALOG; assert CATALOG; "
        "print([m for m in ('torch', 'numpy', 'torchvision', 'sklearn') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_a_row_is_all_that_a_data_set_needs_in_both_tasks(monkeypatch):
    row = DatasetRow(
        description="the digits again",
        obtain="nothing to get",
        reader="digits:read_digits",
        source="library",
        flip=True,
        crop_padding=2,
        ssl={"model": "wrn-10-1", "steps": 70, "lr": 0.02, "labeled_head": 9, "imbalance": 3.0},
        longtail={"model": "resnet20", "epochs": 7, "warmup": 2.0, "lr": 0.2, "teacher": "resnet32"},
    )
    monkeypatch.setitem(CATALOG, "again", row)
    assert load_dataset("again").crop_padding == 2
    few = configure(dataset="again")
    assert (few.algorithm.model, few.optim.steps, few.optim.lr, few.optim.batch_size) == ("wrn-10-1", 70, 0.02, 64)
    assert (few.data.labeled_head, few.data.imbalance, few.data.labels) == (9, 3.0, None)
    tail = LongtailConfig.suited_to("again")
    tail = replace(tail, data=replace(tail.data, dataset="again"), loss=TeacherLossOptions(name="kl"))
    assert (tail.optim.epochs, tail.optim.lr) == (None, 0.2)
    tail = resolved(tail)
    assert (tail.method.model, tail.optim.epochs, tail.optim.warmup) == ("resnet20", 7, 2.0)
    assert tail.distillation.teacher == "resnet32"
