"""A feature store as a data set: the same splits as from the images, and the views that were stored."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tailmatch.datasets import feature_bank, load_dataset
from tailmatch.datasets.feature_bank import FeatureBank, open_bank
from tailmatch.datasets.feature_views import FeatureViews
from tailmatch.engine.seeding import generator
from tailmatch.errors import UserError
from tailmatch.features import open_store
from tests.stores import digits_store, write_store

FEATURES, NAMES = 3, ("a", "b")
IMAGES = {"train": 6, "test": 4, "unlabeled": 5}
VIEWS = {"train": {"plain": 1, "weak": 2, "strong": 3}, "unlabeled": {"plain": 1, "weak": 2, "strong": 2}, "test": {}}


def numbers(split: str, kind: str, views: int) -> np.ndarray:
    """[image, view, feature], each number another one."""
    base = 100 * list(IMAGES).index(split) + 30 * ["plain", "weak", "strong"].index(kind)
    return base + np.arange(IMAGES[split] * views * FEATURES).reshape(-1, views, FEATURES) / 4


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., Path]:
    def make(name: str = "store", **changed: dict[str, int]) -> Path:
        views = {split: {"plain": 1} | changed.get(split, VIEWS[split]) for split in IMAGES}
        features = {
            split: {kind: numbers(split, kind, count) for kind, count in kinds.items()}
            for split, kinds in views.items()
        }
        labels = {split: np.arange(count) % len(NAMES) for split, count in IMAGES.items()}
        digests = {
            split: np.arange(16 * count, dtype=np.uint8).reshape(count, 16) + place
            for place, (split, count) in enumerate(IMAGES.items())
        }
        return write_store(tmp_path / name, features, labels, digests, NAMES, rows=4)

    return make


@pytest.mark.parametrize("bytes_a_feature", [0, 2, 4], ids=["from the files", "in half precision", "standardised"])
def test_views_are_the_same_to_the_last_bit_wherever_they_are_read(
    make_store: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, bytes_a_feature: int
) -> None:
    """What fits into the memory is standardised once, what fits in half precision at every draw."""
    bank = FeatureBank(open_store(make_store()))
    rows, views = rows_of(bank, "train")[[4, 1, 1]], torch.tensor([1, 0, 1])
    mean, deviation = (torch.tensor(numbers, dtype=torch.float64) for numbers in bank.statistics)
    memory = (IMAGES["train"] + IMAGES["unlabeled"]) * 2 * FEATURES * bytes_a_feature / feature_bank.LARGEST_SHARE
    monkeypatch.setattr(feature_bank, "machine_memory", lambda: memory)
    stored = bank.gather(rows, "strong", views)
    expected = torch.addcmul(-(mean / deviation).float(), stored.float(), (1 / deviation).float())
    assert torch.equal(bank.standardised(rows, "strong", views), expected)
    in_memory = {dtype for (_, _, dtype), table in bank._tables.items() if table is not None}
    assert in_memory == {0: set(), 2: {torch.float16}, 4: {torch.float16, torch.float32}}[bytes_a_feature]


@pytest.fixture(params=["in memory", "from the files"])
def bank(
    request: pytest.FixtureRequest, make_store: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> FeatureBank:
    if request.param == "from the files":
        monkeypatch.setattr(feature_bank, "LARGEST_SHARE", 0.0)
    return FeatureBank(open_store(make_store()))


def rows_of(bank: FeatureBank, split: str) -> Tensor:
    rows = bank.rows(split)
    assert rows is not None
    return rows


def test_rows_of_every_split_and_view_are_gathered(bank: FeatureBank) -> None:
    assert bank.views == {"weak": 2, "strong": 2}  # as many as every image has
    for split in IMAGES:
        rows = rows_of(bank, split)
        np.testing.assert_array_equal(bank.gather(rows, "plain"), numbers(split, "plain", 1)[:, 0])
    train, others = rows_of(bank, "train")[[4, 1]], rows_of(bank, "unlabeled")[[2, 0]]
    rows, views = torch.stack([train, others], 1).flatten(), torch.tensor([1, 0, 0, 1])  # of both, in turn
    for kind in ("weak", "strong"):
        of_train, of_others = (numbers(split, kind, VIEWS[split][kind]) for split in ("train", "unlabeled"))
        expected = [of_train[4, 1], of_others[2, 0], of_train[1, 0], of_others[0, 1]]
        np.testing.assert_array_equal(bank.gather(rows, kind, views), expected)
    assert bank.rows("val") is None
    np.testing.assert_array_equal(bank.digests(rows_of(bank, "test")[[3]]), bank.store["test"].digests([3]))


def test_features_are_standardised_by_those_that_are_trained_on(make_store: Callable[..., Path]) -> None:
    dataset = load_dataset("store", make_store())
    plain = numbers("train", "plain", 1)[:, 0]
    np.testing.assert_allclose(dataset.mean, plain.mean(0), rtol=1e-6)
    np.testing.assert_allclose(dataset.std, plain.std(0), rtol=1e-6)
    assert dataset.features is not None
    views = FeatureViews(dataset.features, dataset.mean, dataset.std)
    found = views.plain(dataset.train.images)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(found.std(0, correction=0), 1, rtol=1e-5)


def test_a_feature_that_never_varies_is_no_division_by_zero(tmp_path: Path) -> None:
    plain = np.stack([np.full(200, 3.7), np.linspace(100, 101, 200)], 1)[:, None]
    labels, digests = np.arange(200) % 2, np.zeros((200, 16), np.uint8)
    features = {split: {"plain": plain} for split in ("train", "test")}
    both = {"train": labels, "test": labels}, {"train": digests, "test": digests}
    bank = open_bank(write_store(tmp_path / "store", features, *both, NAMES))
    mean, deviation = bank.statistics
    half = plain.astype(np.float16).astype(np.float64)[:, 0]
    np.testing.assert_allclose(mean, half.mean(0), rtol=1e-6)
    np.testing.assert_allclose(deviation, [1, half[:, 1].std()], rtol=1e-4)


def test_a_view_is_one_of_the_stored_ones_and_follows_from_the_seed(make_store: Callable[..., Path]) -> None:
    dataset = load_dataset("store", make_store())
    assert dataset.features is not None
    views = FeatureViews(dataset.features, (0.0,) * FEATURES, (1.0,) * FEATURES)
    assert views.moves
    rows = dataset.train.images.repeat(50)
    for kind in ("weak", "strong"):
        stored = numbers("train", kind, VIEWS["train"][kind])[:, :2]
        found = getattr(views, kind)(rows, generator(0, "views")).numpy()
        chosen = [np.flatnonzero((stored[row] == view).all(1)).item() for row, view in zip(rows, found, strict=True)]
        assert 100 < sum(chosen) < 200  # of 300: both come up
        np.testing.assert_array_equal(getattr(views, kind)(rows, generator(0, "views")), found)
        assert (getattr(views, kind)(rows, generator(1, "views")).numpy() != found).any()


def test_a_store_of_plain_views_is_perturbed(make_store: Callable[..., Path]) -> None:
    dataset = load_dataset("store", make_store(train={}))  # the unlabelled images' views alone are of no use
    assert dataset.features is not None
    assert dataset.features.views == {"weak": 0, "strong": 0}
    views = FeatureViews(dataset.features, dataset.mean, dataset.std)
    rows = dataset.train.images.repeat(4000)
    plain = views.plain(rows)
    noise = views.weak(rows, generator(0, "weak")) - plain
    assert abs(float(noise.std()) - 0.1) < 0.002
    assert abs(float(noise.mean())) < 0.002
    strong = views.strong(rows, generator(0, "strong"))
    dropped = strong == 0
    assert abs(float(dropped.float().mean()) - 0.5) < 0.01
    torch.testing.assert_close(strong[~dropped], 2 * plain[~dropped])


def test_splits_and_tails_are_those_of_the_images(tmp_path: Path) -> None:
    tail = {"val_fraction": 0.1, "imbalance": 20, "seed": 3}
    images = load_dataset("digits", **tail)  # type: ignore[arg-type]
    stored = load_dataset("store", digits_store(tmp_path / "digits"), **tail)  # type: ignore[arg-type]
    assert stored.name == "store-digits"
    assert (stored.class_names, stored.channels, stored.image_size) == (images.class_names, 64, 1)
    assert images.val is not None
    assert stored.val is not None
    pairs = [(images.train, stored.train), (images.val, stored.val), (images.test, stored.test)]
    for own, found in pairs:
        assert own.labels.tolist() == found.labels.tolist()
        np.testing.assert_array_equal(own.digests(), found.digests())


def test_a_store_read_twice_is_one_bank_until_it_is_another_store(make_store: Callable[..., Path]) -> None:
    store = make_store()
    bank = open_bank(store)
    assert open_bank(store) is bank
    other = make_store("other", train={"plain": 1})
    assert open_bank(other) is not bank
    assert open_bank(store) is bank  # a run has two at most, its own and its teacher's
    open_bank(other)
    open_bank(make_store("third", train={"plain": 1, "weak": 1}))
    assert open_bank(store) is not bank


def test_what_cannot_be_trained_on_is_refused(make_store: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--data-root STORE"):
        load_dataset("store")
    with pytest.raises(UserError, match=r"holds no feature store: card\.json is missing"):
        load_dataset("store", tmp_path)
    shard = make_store() / "train/00001.safetensors"
    shard.unlink()
    with pytest.raises(UserError, match=r"not finished.*train/00001"):
        load_dataset("store", tmp_path / "store")
    labels, plain = np.array([0, -1]), {"plain": np.zeros((2, 1, 3))}
    digests = np.zeros((2, 16), np.uint8)
    unlabelled = write_store(
        tmp_path / "unlabelled",
        {"train": plain, "test": plain},
        {"train": np.array([0, 1]), "test": labels},
        {"train": digests, "test": digests},
        NAMES,
    )
    with pytest.raises(UserError, match="test images without a label"):
        load_dataset("store", unlabelled)
    train_alone = write_store(
        tmp_path / "alone", {"train": plain}, {"train": np.array([0, 1])}, {"train": digests}, NAMES
    )
    with pytest.raises(UserError, match="has the splits train; training needs train and test"):
        load_dataset("store", train_alone)
