"""The class-wise global predictions: collected, rolled, kept, resumed."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tailmatch.losses import GKL, IKL, ClassMeans, decoupled_kl


def random_epoch(seed: int, batch: int = 32, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, classes, generator=generator), torch.randint(classes, (batch,), generator=generator)


def test_uniform_before_the_first_roll() -> None:
    means = ClassMeans(5)
    means.observe(*random_epoch(0))
    assert torch.equal(means.means, torch.full((5, 5), 0.2))


def test_roll_puts_the_epochs_means_into_use_and_starts_anew() -> None:
    means = ClassMeans(5, temperature=2.0)
    for epoch in range(2):
        batches = [random_epoch(10 * epoch + step) for step in range(3)]
        for logits, labels in batches:
            means.observe(logits, labels)
        means.roll()
        logits, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
        for label in range(5):
            expected = torch.softmax(logits[labels == label] / 2.0, -1).mean(0)
            torch.testing.assert_close(means.means[label], expected)
        assert not means.sums.any()
        assert not means.counts.any()


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_means_of_two_epochs_are_those_of_the_authors_code(temperature: float) -> None:
    """jiequancui/DKL, DKLv2/Adv-training-dkl/train_dkl_cifar100.py: what its statements make of these logits."""
    golden = np.load(Path(__file__).with_name("golden_class_means.npz"))
    means = ClassMeans(6, temperature=temperature)
    for epoch in range(2):
        for logits, labels in zip(golden["logits"][epoch], golden["labels"][epoch], strict=True):
            means.observe(torch.from_numpy(logits), torch.from_numpy(labels))
        means.roll()
        expected = torch.from_numpy(golden[f"means_T{temperature:g}"][epoch])
        torch.testing.assert_close(means.means.double(), expected, rtol=0, atol=1e-7)


def test_an_unseen_class_keeps_its_last_row() -> None:
    means = ClassMeans(3)
    means.observe(torch.tensor([[4.0, 0, 0], [0, 4.0, 0]]), torch.tensor([0, 1]))
    means.roll()
    first = means.means.clone()
    means.observe(torch.tensor([[0.0, 0, 9]]), torch.tensor([1]))
    means.roll()
    assert torch.equal(means.means[0], first[0])
    assert torch.equal(means.means[2], torch.full((3,), 1 / 3))
    assert not torch.equal(means.means[1], first[1])
    means.roll()
    assert means.means.isfinite().all()


def test_sample_weights_weigh() -> None:
    logits, labels = random_epoch(3)
    weights = torch.rand(32, generator=torch.Generator().manual_seed(0))
    means = ClassMeans(5)
    means.observe(logits, labels, weights)
    means.roll()
    chosen = labels == 2
    expected = (torch.softmax(logits[chosen], -1) * weights[chosen, None]).sum(0) / weights[chosen].sum()
    torch.testing.assert_close(means.means[2], expected)


@pytest.mark.parametrize("mode", ["epoch", "exponential"])
def test_unknown_masked_and_broken_rows_are_passed_over(mode: str) -> None:
    logits, labels = random_epoch(4, batch=6)
    spoilt, bad_labels = logits.clone(), labels.clone()
    spoilt = torch.cat([spoilt, torch.full((3, 5), torch.nan)])
    bad_labels = torch.cat([bad_labels, torch.tensor([-1, 0, 1])])
    weights = torch.tensor([1.0] * 6 + [1.0, 0.0, 1.0])
    clean, dirty = ClassMeans(5, mode=mode, momentum=0.5), ClassMeans(5, mode=mode, momentum=0.5)
    clean.observe(logits, labels)
    dirty.observe(spoilt, bad_labels, weights)
    dirty.observe(spoilt, torch.full((9,), -1), weights)
    for means in (clean, dirty):
        means.roll()
    torch.testing.assert_close(dirty.means, clean.means)


def test_boolean_mask() -> None:
    logits, labels = random_epoch(4)
    mask = labels != 3
    means = ClassMeans(5)
    means.observe(logits, labels, mask)
    assert float(means.counts[3]) == 0
    assert float(means.counts.sum()) == float(mask.sum())


def test_exponential_mode_follows_every_sample() -> None:
    means = ClassMeans(3, mode="exponential", momentum=0.9)
    logits, labels = torch.randn(4, 3, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 0, 1, 0])
    means.observe(logits, labels)
    rows = torch.softmax(logits, -1)
    kept = 0.9**3
    torch.testing.assert_close(means.means[0], kept / 3 + (1 - kept) * rows[[0, 1, 3]].mean(0))
    torch.testing.assert_close(means.means[1], 0.9 / 3 + 0.1 * rows[2])
    assert torch.equal(means.means[2], torch.full((3,), 1 / 3))
    before = means.means.clone()
    means.roll()
    assert torch.equal(means.means, before)
    torch.testing.assert_close(means.means.sum(-1), torch.ones(3))


@pytest.mark.parametrize("mode", ["epoch", "exponential"])
def test_resume_in_the_middle_of_an_epoch_changes_nothing(mode: str) -> None:
    straight, first_half = IKL(5, mode=mode), IKL(5, mode=mode)
    for seed in range(3):
        straight.observe(*random_epoch(seed))
        first_half.observe(*random_epoch(seed))
    resumed = IKL(5, mode=mode)
    resumed.load_state_dict(first_half.state_dict())
    for loss in (straight, resumed):
        loss.roll()
        loss.observe(*random_epoch(9))
        loss.roll()
    assert set(straight.state_dict()) == {f"class_means.{name}" for name in ("sums", "counts", "means")}
    for name, value in straight.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value)


def test_the_modules_use_the_rows_of_the_labels() -> None:
    logits, labels = random_epoch(5)
    student = torch.randn(32, 5, generator=torch.Generator().manual_seed(8))
    for loss, options in (
        (IKL(5, beta=2.0), {"beta": 2.0}),
        (GKL(5, gamma=0.3), {"gamma": 0.3, "normalize": "weights"}),
    ):
        loss.observe(logits, labels)
        loss.roll()
        rows = loss.class_means.means[labels]
        torch.testing.assert_close(loss(student, logits, labels), decoupled_kl(student, logits, rows, **options))
        assert not rows.requires_grad


@pytest.mark.parametrize("mode", ["epoch", "exponential"])
def test_powers_of_the_rows_follow_every_change_of_the_means(mode: str) -> None:
    means = ClassMeans(5, mode=mode, momentum=0.5)
    labels = torch.tensor([4, 0, 4])

    def check() -> None:
        for power in (0.3, 1.0, 0.5):
            torch.testing.assert_close(means.rows(labels, power), means.means[labels].pow(power))

    check()
    means.observe(*random_epoch(1))
    check()
    means.roll()
    check()
    other = ClassMeans(5)
    other.observe(*random_epoch(2))
    other.roll()
    means.load_state_dict(other.state_dict())
    check()
    means.double()
    check()


def test_own_softmax_keeps_no_state() -> None:
    loss = IKL(100_000, weights="sample")
    assert loss.class_means is None
    assert not loss.state_dict()
    loss.observe(torch.zeros(1, 100_000), torch.zeros(1, dtype=torch.int64))
    loss.roll()
