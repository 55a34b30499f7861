"""Data order and random streams are functions of the seed and nothing else."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tailmatch.engine.sampling import shuffled
from tailmatch.engine.seeding import derived_seed, generator, random_state, seed_everything, set_random_state


def test_every_epoch_shows_every_index_once_in_another_order() -> None:
    order = shuffled(10, seed=0, purpose="x")
    epochs = [order.take(10 * e, 10).tolist() for e in range(5)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 5


@given(start=st.integers(0, 60), count=st.integers(0, 40), cut=st.integers(0, 40))
def test_any_stretch_is_what_its_parts_are(start: int, count: int, cut: int) -> None:
    """So a run that asks for step 700 first gets what one gets that came there step by step."""
    cut = min(cut, count)
    whole = shuffled(7, seed=3, purpose="x").take(start, count)
    again = shuffled(7, seed=3, purpose="x")
    second = again.take(start + cut, count - cut)
    assert whole.tolist() == [*again.take(start, cut), *second]


def test_seed_and_purpose_decide_the_order() -> None:
    def order(seed: int, purpose: str) -> list[int]:
        return shuffled(50, seed, purpose).take(0, 50).tolist()

    assert order(0, "a") == order(0, "a")
    assert order(0, "a") != order(1, "a")
    assert order(0, "a") != order(0, "b")


def test_nothing_to_sample_from_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        shuffled(0, 0, "x")


def test_streams_of_different_purposes_differ() -> None:
    seeds = {derived_seed(0, "views", step, rank) for step in range(100) for rank in range(3)}
    assert len(seeds) == 300
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derived_seed(1, "2") != derived_seed(12, "")
    assert torch.equal(torch.rand(3, generator=generator(5, "a")), torch.rand(3, generator=generator(5, "a")))


def test_every_global_source_is_seeded() -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002

    seed_everything(2**40 + 7)
    first = draw()
    assert draw() != first
    seed_everything(2**40 + 7)
    assert draw() == first


def test_the_random_state_comes_back() -> None:
    state = random_state(torch.device("cpu"))
    first = torch.rand(4)
    set_random_state(state, torch.device("cpu"))
    assert torch.equal(torch.rand(4), first)
