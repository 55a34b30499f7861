"""Splits: golden counts of the papers, properties, refusals."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tailmatch.datasets import (
    class_balanced_draw,
    hold_out,
    largest_head,
    long_tail_counts,
    make_long_tailed,
    proportional_counts,
    proportional_draw,
    split_fingerprint,
    ssl_split,
    unlabeled_profile,
)
from tailmatch.errors import UserError


def balanced_labels(num_classes: int, per_class: int) -> torch.Tensor:
    """Labels in an order that mixes the classes, as in a data file."""
    return torch.arange(num_classes).repeat(per_class)


@pytest.mark.parametrize(
    ("num_classes", "head", "imbalance", "total"),
    [
        (100, 500, 10, 19_573),
        (100, 500, 50, 12_608),
        (100, 500, 100, 10_847),
        (100, 500, 200, 9_502),
        (10, 5000, 10, 20_431),
        (10, 5000, 50, 13_996),
        (10, 5000, 100, 12_406),
        (10, 1500, 100, 3_720),
        (10, 3000, 100, 7_443),
        (10, 500, 100, 1_236),
        (10, 4000, 100, 9_922),
        (100, 150, 10, 5_835),
        (100, 300, 10, 11_720),
        (10, 150, 10, 609),
        (10, 150, 20, 507),
    ],
)
def test_long_tail_totals_are_those_of_the_papers(num_classes, head, imbalance, total):
    counts = long_tail_counts(head, imbalance, num_classes)
    assert sum(counts) == total
    assert counts[0] == head
    assert counts[-1] == int(head / imbalance)
    assert sum(unlabeled_profile(head, imbalance, num_classes)) == total


def test_long_tail_counts_per_class():
    assert long_tail_counts(1500, 100, 10) == [1500, 899, 539, 323, 193, 116, 69, 41, 25, 15]
    assert long_tail_counts(500, 100, 10) == [500, 299, 179, 107, 64, 38, 23, 13, 8, 5]


def test_step_profile():
    counts = long_tail_counts(500, 100, 100, "step")
    assert counts == [500] * 50 + [5] * 50
    assert sum(counts) == 25_250


@pytest.mark.parametrize(
    ("imbalance", "default_groups", "oltr_groups"),
    [(10, (69, 31, 0), (70, 30, 0)), (50, (41, 41, 18), (41, 40, 19)), (100, (35, 35, 30), (35, 34, 31)),
     (200, (30, 31, 39), (31, 29, 40))],
)  # fmt: skip
def test_cifar100_groups_follow_from_the_counts(imbalance, default_groups, oltr_groups):
    counts = long_tail_counts(500, imbalance, 100)
    many, few = sum(n > 100 for n in counts), sum(n < 20 for n in counts)
    assert (many, 100 - many - few, few) == default_groups
    many, few = sum(n >= 100 for n in counts), sum(n <= 20 for n in counts)
    assert (many, 100 - many - few, few) == oltr_groups


@given(st.integers(2, 30), st.integers(1, 60), st.integers(1, 60))
def test_the_last_class_is_exact_where_floating_point_would_truncate(num_classes, tail, imbalance):
    """head / imbalance is whole: the last class has that many, not one fewer."""
    counts = long_tail_counts(tail * imbalance, imbalance, num_classes)
    assert counts[0] == tail * imbalance
    assert counts[-1] == tail
    assert counts == sorted(counts, reverse=True)


@given(st.integers(2, 40), st.integers(100, 3000), st.floats(1, 100))
def test_the_two_conventions_agree(num_classes, head, imbalance):
    """N1 · γ^(−c/(C−1)) of long-tailed SSL, and max · f^(c/(C−1)) with f = 1/IF of CIFAR-LT."""
    counts = long_tail_counts(head, imbalance, num_classes)
    for c, count in enumerate(counts):
        for exact in (head * imbalance ** (-c / (num_classes - 1)), head * (1 / imbalance) ** (c / (num_classes - 1))):
            assert count - 1e-6 <= exact < count + 1 + 1e-6


def test_unlabelled_profiles():
    assert unlabeled_profile(4000, 100, 10, "reversed") == long_tail_counts(4000, 100, 10)[::-1]
    assert unlabeled_profile(3000, 100, 10, "uniform") == [3000] * 10


@given(st.integers(0, 2**70), st.integers(1, 5), st.integers(2, 8))
def test_class_balanced_draw_takes_the_same_number_of_each_class(seed, per_class, num_classes):
    labels = balanced_labels(num_classes, 9)
    chosen = class_balanced_draw(labels, per_class * num_classes, num_classes, seed)
    assert torch.bincount(labels[chosen], minlength=num_classes).tolist() == [per_class] * num_classes
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert torch.equal(chosen, class_balanced_draw(labels, per_class * num_classes, num_classes, seed))


@given(st.lists(st.integers(0, 60), min_size=1, max_size=12).filter(any), st.data())
def test_proportional_counts_are_the_largest_remainders_with_one_of_each(available, data):
    classes = sum(n > 0 for n in available)
    total = data.draw(st.integers(classes, sum(available)))
    counts = proportional_counts(total, available)
    assert sum(counts) == total
    assert all(min(have, 1) <= count <= have for count, have in zip(counts, available, strict=True))
    pairs = itertools.product(zip(available, counts, strict=True), repeat=2)
    assert all(count >= less for (have, count), (fewer, less) in pairs if have > fewer)


def test_proportional_counts_by_hand():
    assert proportional_counts(10, [50, 30, 20]) == [5, 3, 2]
    assert proportional_counts(10, [52, 29, 19]) == [5, 3, 2]  # 5.2, 2.9, 1.9: the two largest fractions go up
    assert proportional_counts(4, [1, 1, 1, 97]) == [1, 1, 1, 1]
    assert proportional_counts(20, [1, 1, 98]) == [1, 1, 18]  # two shares of 0.2 become ones, the rest is the third's
    assert proportional_counts(100, [1, 1, 98]) == [1, 1, 98]
    assert proportional_counts(2, [5, 0, 5]) == [1, 0, 1]


def test_proportional_draw_takes_these_counts_and_follows_the_seed():
    labels = torch.tensor([0] * 50 + [1] * 30 + [2] * 20 + [-1] * 40)
    chosen = proportional_draw(labels, 10, 3, seed=0)
    assert torch.bincount(labels[chosen]).tolist() == [5, 3, 2]
    assert torch.equal(chosen, proportional_draw(labels, 10, 3, seed=0))
    assert not torch.equal(chosen, proportional_draw(labels, 10, 3, seed=1))


def test_every_label_and_a_split_by_hand():
    labels = torch.tensor([0, 1, -1, 0, 1, 1])
    labeled, unlabeled = ssl_split(labels, 2, labels_total="all", seed=0)
    assert labeled.tolist() == [0, 1, 3, 4, 5]
    assert unlabeled.tolist() == [0, 1, 2, 3, 4, 5]
    assert ssl_split(labels, 2, labels_total="all", include_labeled=False, seed=0)[1].tolist() == [2]
    labeled, unlabeled = ssl_split(labels, 2, labeled_indices=torch.tensor([1, 3]), include_labeled=False, seed=0)
    assert (labeled.tolist(), unlabeled.tolist()) == ([1, 3], [0, 2, 4, 5])


def test_every_image_is_drawn_about_equally_often():
    labels = balanced_labels(2, 10)
    drawn = torch.zeros(20)
    for seed in range(600):
        drawn[class_balanced_draw(labels, 4, 2, seed)] += 1
    # 120 draws expected of each image, with a standard deviation of 9.8.
    assert drawn.min() > 80
    assert drawn.max() < 160


def test_seeds_change_the_split_and_mean_the_same_images_everywhere():
    labels = balanced_labels(10, 50)
    draws = {split_fingerprint(class_balanced_draw(labels, 40, 10, seed)) for seed in (-1, 0, 1, 2, 3)}
    assert len(draws) == 5
    assert split_fingerprint(class_balanced_draw(labels, 40, 10, 0)) == "ce46b602312c37ec"
    assert split_fingerprint(*ssl_split(labels, 10, labeled_head=20, unlabeled_head=30, imbalance=10, seed=0)) == (
        "e358a53ad15d5f7e"
    )


def test_images_without_a_label_are_never_drawn():
    labels = torch.tensor([-1, 0, 1, -1, 0, 1])
    assert class_balanced_draw(labels, 4, 2, 0).tolist() == [1, 2, 4, 5]
    kept, held_out = hold_out(labels, 0.5)
    assert set(held_out.tolist()) <= {1, 2, 4, 5}
    assert len(kept) + len(held_out) == 6


@given(st.integers(0, 100), st.floats(1, 20))
def test_make_long_tailed_has_the_counts_asked_for(seed, imbalance):
    labels = balanced_labels(6, 30)
    counts = long_tail_counts(25, imbalance, 6)
    chosen = make_long_tailed(labels, counts, seed)
    assert torch.bincount(labels[chosen], minlength=6).tolist() == counts
    assert len(set(chosen.tolist())) == sum(counts)


@given(
    st.lists(st.integers(1, 400), min_size=2, max_size=12), st.floats(1, 10), st.sampled_from(["exponential", "step"])
)
def test_largest_head_fits_and_one_more_does_not(available, imbalance, shape):
    head = largest_head(available, imbalance, shape)

    def fits(head: int) -> bool:
        wanted = long_tail_counts(head, imbalance, len(available), shape)
        return all(n <= have for n, have in zip(wanted, available, strict=True))

    if head >= imbalance:
        assert fits(head)
    if head + 1 >= imbalance:
        assert head + 1 > max(available) or not fits(head + 1)


@given(
    shape=st.sampled_from(["consistent", "uniform", "reversed"]),
    include=st.booleans(),
    seed=st.integers(0, 1000),
    imbalance=st.floats(1, 10),
    unlabeled_imbalance=st.none() | st.floats(1, 10),
)
def test_long_tailed_ssl_split(shape, include, seed, imbalance, unlabeled_imbalance):
    labels = balanced_labels(5, 60)
    labeled, unlabeled = ssl_split(
        labels, 5, labeled_head=20, unlabeled_head=40, imbalance=imbalance, unlabeled_imbalance=unlabeled_imbalance,
        unlabeled_shape=shape, include_labeled=include, seed=seed,
    )  # fmt: skip
    wanted_labeled = long_tail_counts(20, imbalance, 5)
    wanted_unlabeled = unlabeled_profile(40, unlabeled_imbalance or imbalance, 5, shape)
    assert torch.bincount(labels[labeled], minlength=5).tolist() == wanted_labeled
    only_unlabeled = unlabeled[~torch.isin(unlabeled, labeled)]
    assert torch.bincount(labels[only_unlabeled], minlength=5).tolist() == wanted_unlabeled
    assert torch.isin(labeled, unlabeled).all() if include else not torch.isin(labeled, unlabeled).any()
    assert unlabeled.unique().shape == unlabeled.shape


@pytest.mark.parametrize("include", [True, False])
def test_balanced_ssl_split_leaves_no_image_out(include):
    labels = balanced_labels(10, 12)
    labeled, unlabeled = ssl_split(labels, 10, labels_total=40, include_labeled=include, seed=3)
    assert torch.equal(labeled, class_balanced_draw(labels, 40, 10, 3))
    assert len(unlabeled) == (120 if include else 80)
    assert torch.equal(torch.cat([labeled, unlabeled]).unique(), torch.arange(120))


def test_long_tailed_labels_without_an_unlabelled_head_leave_the_rest_unlabelled():
    labels = balanced_labels(4, 20)
    labeled, unlabeled = ssl_split(labels, 4, labeled_head=10, imbalance=5, include_labeled=False, seed=0)
    assert len(labeled) + len(unlabeled) == 80


@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.floats(0.05, 0.9))
def test_hold_out_parts_and_shares(raw, fraction):
    labels = torch.tensor(raw)
    kept, held_out = hold_out(labels, fraction)
    assert torch.equal(torch.cat([kept, held_out]).sort().values, torch.arange(len(raw)))
    for label in labels.unique():
        have, taken = int((labels == label).sum()), int((labels[held_out] == label).sum())
        assert taken == (0 if have == 1 else max(1, int(have * fraction)))


def test_hold_out_is_spread_over_the_file():
    _, held_out = hold_out(torch.zeros(100, dtype=torch.int64), 0.1)
    assert held_out.diff().tolist() == [10] * 9


def test_fingerprint_tells_parts_and_order_apart():
    a, b = torch.tensor([1, 2]), torch.tensor([3])
    assert split_fingerprint(a, b) == split_fingerprint(a.clone(), b.to(torch.int32))
    assert split_fingerprint(a, b) != split_fingerprint(torch.tensor([1]), torch.tensor([2, 3]))
    assert split_fingerprint(a, b) != split_fingerprint(a.flip(0), b)
    assert len(split_fingerprint(a)) == 16


LABELS = balanced_labels(10, 20)


@pytest.mark.parametrize(
    ("attempt", "sentence"),
    [
        (lambda: class_balanced_draw(LABELS, 45, 10, 0), "45 labels cannot be shared equally by 10 classes; the "
         "nearest that can: 40 or 50"),
        (lambda: class_balanced_draw(LABELS, 4, 10, 0), "the nearest that can: 10"),
        (lambda: class_balanced_draw(LABELS, 0, 10, 0), "the nearest that can: 10"),
        (lambda: proportional_draw(LABELS, 9, 10, 0), "there are 10 classes with at least one each, and 200 labelled"),
        (lambda: proportional_draw(LABELS, 201, 10, 0), "ask for a number between, or for --labels all"),
        (lambda: class_balanced_draw(LABELS, 210, 10, 0, [f"n{c}" for c in range(10)]), "Class 'n0' has 20 images"),
        (lambda: class_balanced_draw(LABELS, 210, 10, 0), "Class 0 has 20 images, but the split asks for 21"),
        (lambda: long_tail_counts(100, 0.01, 10), "at least 1, got 0.01; for a tail of 0.01 of the head say 100"),
        (lambda: long_tail_counts(100, 0, 10), "at least 1, got 0"),
        (lambda: long_tail_counts(100, float("nan"), 10), "at least 1, got nan"),
        (lambda: long_tail_counts(50, 100, 10), "leaves the last class without any"),
        (lambda: long_tail_counts(100, 10, 1), "at least 2 classes, got 1"),
        (lambda: long_tail_counts(100, 10, 10, "exponental"), "Did you mean 'exponential'"),
        (lambda: unlabeled_profile(100, 10, 10, "reverse"), "Did you mean 'reversed'"),
        (lambda: hold_out(LABELS, 1.0), "must lie between 0 and 1, got 1"),
        (lambda: ssl_split(LABELS, 10, seed=0), "by one of these, got 0"),
        (lambda: ssl_split(LABELS, 10, labels_total=40, labeled_head=4, seed=0), "by one of these, got 2"),
        (lambda: ssl_split(LABELS, 10, labels_total=40, imbalance=10, seed=0), "are for long-tailed splits"),
        (lambda: ssl_split(LABELS, 10, labels_total=40, unlabeled_shape="reversd", seed=0), "Did you mean 'reversed'"),
        (lambda: ssl_split(LABELS, 10, labeled_head=10, unlabeled_head=15, imbalance=5, seed=0),
         "Class 0 has 20 images, but the split asks for 25"),
    ],
)  # fmt: skip
def test_refusals(attempt, sentence):
    with pytest.raises(UserError) as refusal:
        attempt()
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)
