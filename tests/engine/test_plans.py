"""Samplers: the distribution they promise, as a pure function of seed and step."""

from typing import Any

import numpy as np
import pytest
import torch

from tailmatch.engine.sampling import POWERS, EpochPlan, Indices, SamplingPlan, build_plan, first_draws, shuffled
from tailmatch.engine.seeding import generator
from tailmatch.errors import UserError

LABELS = np.repeat(np.arange(5), [400, 100, 25, 0, 4]).astype(np.int64)


def plan_of(name: str, labels: Indices, **sizes: Any) -> SamplingPlan:
    return build_plan(name, labels, EpochPlan(images=len(labels), **sizes))


@pytest.mark.parametrize("name", list(POWERS))
def test_classes_are_drawn_with_their_share(name: str) -> None:
    plan = plan_of(name, LABELS, seed=0, batch_size=32)
    drawn = np.concatenate([plan(step).indices for step in range(400)])
    counts = np.bincount(LABELS)
    wanted = np.where(counts > 0, counts.astype(float) ** POWERS[name], 0)
    wanted /= wanted.sum()
    found = np.bincount(LABELS[drawn], minlength=5) / len(drawn)
    assert found[3] == 0
    # Four standard deviations of 12,800 draws.
    assert np.all(np.abs(found - wanted) <= 4 * np.sqrt(wanted * (1 - wanted) / len(drawn)))


def test_images_of_a_class_are_drawn_alike() -> None:
    plan = plan_of("class-balanced", LABELS, batch_size=100, seed=3)
    drawn = np.concatenate([plan(step).indices for step in range(400)])
    of_the_last = np.bincount(drawn[LABELS[drawn] == 4] - 525, minlength=4)
    assert of_the_last.min() > 0.9 * of_the_last.mean()


def test_instance_sampling_draws_every_image_once_an_epoch() -> None:
    plan = plan_of("instance", LABELS, seed=0, batch_size=23)
    assert plan.steps_per_epoch == 23
    for epoch in (0, 1):
        drawn = np.concatenate([plan(step).indices for step in range(epoch * 23, (epoch + 1) * 23)])
        assert sorted(drawn) == list(range(529))


@pytest.mark.parametrize("name", ["instance", "class-aware", *POWERS])
def test_a_step_depends_on_seed_and_step_alone(name: str) -> None:
    def build(seed: int) -> list[int]:
        plan = plan_of(name, LABELS, seed=seed, batch_size=32)
        plan(0)  # what was asked for before does not matter
        return plan(7).indices.tolist()

    fresh = plan_of(name, LABELS, seed=1, batch_size=32)
    assert fresh(7).indices.tolist() == build(1) != build(2)


@pytest.mark.parametrize("name", ["instance", "class-aware", *POWERS])
def test_processes_share_the_batch_of_one(name: str) -> None:
    whole = plan_of(name, LABELS, seed=1, batch_size=32)(5)
    parts = [plan_of(name, LABELS, seed=1, batch_size=32, rank=r, world_size=2)(5) for r in (0, 1)]
    assert np.concatenate([part.indices for part in parts]).tolist() == [*whole.indices[::2], *whole.indices[1::2]]


def test_every_draw_of_an_image_has_a_number_of_its_own() -> None:
    plan = plan_of("class-balanced", LABELS, batch_size=32, seed=0)
    draws = np.concatenate([plan(step).draws for step in range(20)])
    assert len(set(draws)) == len(draws)


def test_refuses_a_batch_larger_than_the_set() -> None:
    with pytest.raises(UserError, match="smaller batch"):
        plan_of("class-balanced", LABELS[:20], seed=0, batch_size=32)


def test_the_first_draws_are_those_of_the_training_whatever_the_processes() -> None:
    plan = plan_of("class-balanced", LABELS, seed=0, batch_size=32)
    drawn = first_draws(plan, 80)
    assert drawn.tolist() == np.concatenate([plan(step).indices for step in range(3)])[:80].tolist()


def test_each_tasks_order_is_the_one_that_earlier_versions_drew() -> None:
    """A run that was begun with them goes on with the images it would have seen."""
    plan = EpochPlan(images=12, batch_size=5, seed=3)
    assert plan(3).indices.tolist() == np.random.default_rng((3, 1)).permutation(12)[5:10].tolist()
    row = shuffled(12, 3, "labelled order")
    epochs = [torch.randperm(12, generator=generator(3, "labelled order", epoch)) for epoch in (0, 1)]
    assert row.take(10, 5).tolist() == torch.cat(epochs)[10:15].tolist()


def test_what_is_left_of_an_epoch_makes_a_smaller_batch_where_it_is_kept() -> None:
    plan = EpochPlan(images=10_847, batch_size=128, seed=0, keep_incomplete=True)
    assert (plan.steps_per_epoch, plan.last_batch, plan.images_per_step) == (85, 95, pytest.approx(10_847 / 85))
    for epoch in (0, 1):
        batches = [plan(step).indices for step in range(85 * epoch, 85 * (epoch + 1))]
        assert [len(batch) for batch in batches] == [128] * 84 + [95]
        assert sorted(np.concatenate(batches)) == list(range(10_847))
    dropping = EpochPlan(images=10_847, batch_size=128, seed=0)
    assert (dropping.steps_per_epoch, dropping.last_batch, dropping.images_per_step) == (84, 128, 128)
    assert all(np.array_equal(plan(step).indices, dropping(step).indices) for step in range(84))


def test_draws_by_class_have_epochs_as_long() -> None:
    plan = plan_of("class-balanced", LABELS, seed=0, batch_size=100, keep_incomplete=True)
    assert [len(plan(step).indices) for step in range(7)] == [100] * 5 + [29, 100]
    draws = np.concatenate([plan(step).draws for step in range(20)])
    assert len(set(draws)) == len(draws)


def test_the_smaller_batch_divides_among_the_processes_too() -> None:
    with pytest.raises(UserError, match=r"95 images, does not divide among 2 processes.*--incomplete-batch drop"):
        EpochPlan(images=10_847, batch_size=128, seed=0, keep_incomplete=True, world_size=2)
    parts = [
        EpochPlan(images=22, batch_size=8, seed=0, keep_incomplete=True, rank=r, world_size=2)(2).indices
        for r in (0, 1)
    ]
    whole = EpochPlan(images=22, batch_size=8, seed=0, keep_incomplete=True)(2).indices
    assert sorted(np.concatenate(parts)) == sorted(whole)
    assert len(whole) == 6


def test_class_aware_draws_take_the_classes_in_turn_with_four_images_each() -> None:
    plan = plan_of("class-aware", LABELS, seed=0, batch_size=32)
    drawn = np.concatenate([plan(step).indices for step in range(200)]).reshape(-1, 4)  # 1,600 visits of a class
    visited = LABELS[drawn]
    assert (visited == visited[:, :1]).all()
    cycles = visited[:, 0].reshape(-1, 4)  # four classes have images
    assert all(sorted(cycle) == [0, 1, 2, 4] for cycle in cycles.tolist())
    assert len({tuple(cycle) for cycle in cycles.tolist()}) > 10  # each cycle has an order of its own
    for label, count in ((0, 400), (1, 100), (2, 25), (4, 4)):
        row = drawn[visited[:, 0] == label].ravel()
        for start in range(0, len(row) - count + 1, count):
            assert len(set(row[start : start + count])) == count  # every image once in a cycle of its class
    positions = np.concatenate([plan(step).draws for step in range(20)])
    assert len(set(positions)) == len(positions)


def test_a_class_of_fewer_images_than_are_drawn_of_it_gives_them_again() -> None:
    plan = plan_of("class-aware", np.repeat([0, 1], [9, 1]), seed=1, batch_size=8)
    assert np.bincount(np.repeat([0, 1], [9, 1])[plan(0).indices]).tolist() == [4, 4]
    uneven = plan_of("class-aware", LABELS, seed=1, batch_size=6)  # a batch may end within a visit
    whole = plan_of("class-aware", LABELS, seed=1, batch_size=12)
    assert np.concatenate([uneven(0).indices, uneven(1).indices]).tolist() == whole(0).indices.tolist()
