"""Samplers: the distribution they promise, as a pure function of seed and step."""

import numpy as np
import pytest
import torch

from tailmatch.engine.sampling import POWERS, ClassPlan, EpochPlan, build_plan, first_draws, shuffled
from tailmatch.engine.seeding import generator
from tailmatch.errors import UserError

LABELS = np.repeat(np.arange(5), [400, 100, 25, 0, 4]).astype(np.int64)


@pytest.mark.parametrize("name", list(POWERS))
def test_classes_are_drawn_with_their_share(name: str) -> None:
    plan = build_plan(name, LABELS, seed=0, batch_size=32)
    drawn = np.concatenate([plan(step).indices for step in range(400)])
    counts = np.bincount(LABELS)
    wanted = np.where(counts > 0, counts.astype(float) ** POWERS[name], 0)
    wanted /= wanted.sum()
    found = np.bincount(LABELS[drawn], minlength=5) / len(drawn)
    assert found[3] == 0
    # Four standard deviations of 12,800 draws.
    assert np.all(np.abs(found - wanted) <= 4 * np.sqrt(wanted * (1 - wanted) / len(drawn)))


def test_images_of_a_class_are_drawn_alike() -> None:
    plan = ClassPlan(LABELS, power=0.0, batch_size=100, seed=3)
    drawn = np.concatenate([plan(step).indices for step in range(400)])
    of_the_last = np.bincount(drawn[LABELS[drawn] == 4] - 525, minlength=4)
    assert of_the_last.min() > 0.9 * of_the_last.mean()


def test_instance_sampling_draws_every_image_once_an_epoch() -> None:
    plan = build_plan("instance", LABELS, seed=0, batch_size=23)
    assert plan.steps_per_epoch == 23
    for epoch in (0, 1):
        drawn = np.concatenate([plan(step).indices for step in range(epoch * 23, (epoch + 1) * 23)])
        assert sorted(drawn) == list(range(529))


@pytest.mark.parametrize("name", ["instance", *POWERS])
def test_a_step_depends_on_seed_and_step_alone(name: str) -> None:
    def build(seed: int) -> list[int]:
        plan = build_plan(name, LABELS, seed=seed, batch_size=32)
        plan(0)  # what was asked for before does not matter
        return plan(7).indices.tolist()

    fresh = build_plan(name, LABELS, seed=1, batch_size=32)
    assert fresh(7).indices.tolist() == build(1) != build(2)


@pytest.mark.parametrize("name", ["instance", *POWERS])
def test_processes_share_the_batch_of_one(name: str) -> None:
    whole = build_plan(name, LABELS, seed=1, batch_size=32)(5)
    parts = [build_plan(name, LABELS, seed=1, batch_size=32, rank=r, world_size=2)(5) for r in (0, 1)]
    assert np.concatenate([part.indices for part in parts]).tolist() == [*whole.indices[::2], *whole.indices[1::2]]


def test_every_draw_of_an_image_has_a_number_of_its_own() -> None:
    plan = ClassPlan(LABELS, power=0.0, batch_size=32, seed=0)
    draws = np.concatenate([plan(step).draws for step in range(20)])
    assert len(set(draws)) == len(draws)


def test_refuses_a_batch_larger_than_the_set() -> None:
    with pytest.raises(UserError, match="smaller batch"):
        build_plan("class-balanced", LABELS[:20], seed=0, batch_size=32)


def test_the_first_draws_are_those_of_the_training_whatever_the_processes() -> None:
    plan = build_plan("class-balanced", LABELS, seed=0, batch_size=32)
    drawn = first_draws(plan, 80)
    assert drawn.tolist() == np.concatenate([plan(step).indices for step in range(3)])[:80].tolist()


def test_each_tasks_order_is_the_one_that_earlier_versions_drew() -> None:
    """A run that was begun with them goes on with the images it would have seen."""
    plan = EpochPlan(images=12, batch_size=5, seed=3)
    assert plan(3).indices.tolist() == np.random.default_rng((3, 1)).permutation(12)[5:10].tolist()
    row = shuffled(12, 3, "labelled order")
    epochs = [torch.randperm(12, generator=generator(3, "labelled order", epoch)) for epoch in (0, 1)]
    assert row.take(10, 5).tolist() == torch.cat(epochs)[10:15].tolist()
