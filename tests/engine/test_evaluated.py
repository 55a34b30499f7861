"""What is evaluated in short runs: an average that keeps up, and BatchNorm statistics of the very weights."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tailmatch.engine.batchnorm import with_batchnorm
from tailmatch.engine.evaluated import (
    SAMPLE,
    EvaluatedWeights,
    batches_of,
    in_words,
    moving_norms,
    recomputed_statistics,
    sample_indices,
    settled,
)
from tailmatch.engine.loop import Trainer
from tailmatch.engine.options import OptimOptions
from tailmatch.errors import UserError

MakeTrainer = Callable[..., Trainer]


def network(momentum: float | None = 0.1) -> nn.Sequential:
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(5, momentum=momentum)
    return nn.Sequential(nn.Linear(3, 5), norm, nn.Dropout(0.5), nn.Linear(5, 2))


def snapshot(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert all(torch.equal(one[name], other[name]) for name in one | other)


def test_recomputed_statistics_are_those_of_the_images_and_leave_no_trace() -> None:
    model, images = network(), torch.randn(8, 3)
    model.train()(torch.randn(4, 3))
    before, drawn_before = snapshot(model), torch.get_rng_state()
    with recomputed_statistics(model, [images[:4], images[4:]]):
        hidden = model[0](images)
        parts = hidden[:4], hidden[4:]
        torch.testing.assert_close(model[1].running_mean, hidden.mean(0))
        torch.testing.assert_close(model[1].running_var, torch.stack([part.var(0) for part in parts]).mean(0))
        assert not any(module.training for module in model.modules())
    assert_same(snapshot(model), before)
    assert torch.equal(torch.get_rng_state(), drawn_before)


def test_they_are_those_that_training_would_arrive_at() -> None:
    model, images = network(momentum=None), torch.randn(8, 3)
    with torch.no_grad():
        for part in images.split(4):
            model.train()(part)
    trained = snapshot(model)
    with recomputed_statistics(model, images.split(4)):
        torch.testing.assert_close(snapshot(model), trained)


@pytest.mark.parametrize("layers", ["chunks:4", "per-process"])
def test_layers_that_train_in_a_way_of_their_own_take_part_too(layers: str) -> None:
    model, images = with_batchnorm(network(), layers, 1), torch.randn(9, 3)  # nine do not divide into four chunks
    with recomputed_statistics(model, [images]):
        torch.testing.assert_close(model[1].running_var, model[0](images).var(0))


def test_an_error_within_leaves_no_trace_either() -> None:
    model = network()
    before = snapshot(model)
    with pytest.raises(RuntimeError), recomputed_statistics(model, [torch.randn(4, 7)]):
        pass
    assert_same(snapshot(model), before)
    model(torch.randn(4, 3))  # and nothing watches any more
    assert_same(snapshot(model), before)


def test_the_average_has_statistics_of_its_own_weights() -> None:
    model, images = network(), torch.randn(8, 3)
    weights = EvaluatedWeights.of(
        model, OptimOptions(ema_decay=0.5, batchnorm_statistics="recomputed"), lambda: [images]
    )
    assert weights.average is not None
    with torch.no_grad():
        model[0].weight += 1
    weights.average.update(0)
    with weights.ready() as averaged, weights.ready(online=True) as online:
        for evaluated in (averaged, online):
            torch.testing.assert_close(evaluated[1].running_mean, evaluated[0](images).mean(0))
        assert averaged is not online is model
        assert not torch.equal(averaged[0].weight, online[0].weight)


@pytest.mark.parametrize(
    ("momentum", "steps", "expected"),
    [(0.001, 800, "recomputed"), (0.001, 49_999, "recomputed"), (0.001, 50_000, "running"),
     (0.1, 499, "recomputed"), (0.1, 500, "running"), (None, 10_000, "recomputed")],
)  # fmt: skip
def test_a_run_too_short_for_the_running_statistics_recomputes_them(
    momentum: float | None, steps: int, expected: str
) -> None:
    found = settled(OptimOptions(), moving_norms(network(momentum)), steps)
    assert found.batchnorm_statistics == expected
    for asked in ("running", "recomputed"):
        given = settled(OptimOptions(batchnorm_statistics=asked), moving_norms(network(momentum)), steps)
        assert given.batchnorm_statistics == asked


def test_what_has_no_batchnorm_has_nothing_to_recompute() -> None:
    assert settled(OptimOptions(), moving_norms(nn.Linear(2, 2)), 5).batchnorm_statistics == "running"
    with pytest.raises(UserError, match="recomputed has nothing to act on"):
        settled(OptimOptions(batchnorm_statistics="recomputed"), moving_norms(nn.Linear(2, 2)), 5)


@pytest.mark.parametrize(
    ("decay", "steps", "expected"),
    [(0.999, 68, True), (0.999, 7_999, True), (0.999, 8_000, False), (0.99, 799, True), (0.99, 800, False),
     (0.0, 5, False)],
)  # fmt: skip
def test_a_run_too_short_for_the_average_warms_it_up(decay: float, steps: int, expected: bool) -> None:
    assert settled(OptimOptions(ema_decay=decay), [], steps).ema_warmup is expected
    assert settled(OptimOptions(ema_decay=decay, ema_warmup=False), [], steps).ema_warmup is False


def test_a_warm_up_without_an_average_is_refused() -> None:
    assert OptimOptions(ema_decay=0, ema_warmup=True).problems() == [
        "ema_warmup is for a moving average, and ema_decay is 0; leave it out, or give a decay."
    ]


def test_the_sample_is_bounded_and_always_the_same() -> None:
    assert torch.equal(sample_indices(3000, seed=1), sample_indices(3000, seed=1))
    assert len(sample_indices(3000, seed=1).unique()) == SAMPLE
    assert not torch.equal(sample_indices(3000, seed=1), sample_indices(3000, seed=2))
    assert sorted(sample_indices(7, seed=0).tolist()) == list(range(7))
    for count in (7, 129, 300, SAMPLE):
        sizes = [len(batch) for batch in batches_of(torch.arange(count))]
        assert sum(sizes) == count
        assert max(sizes) - min(sizes) <= 1


def test_a_short_run_is_evaluated_at_what_its_weights_are_worth(tmp_path: Path, toy_trainer: MakeTrainer) -> None:
    """With a momentum of 0.001 the running statistics of 24 steps are the initial ones, and accuracy is chance."""

    def run(name: str, **options: object) -> tuple[dict, dict]:
        optim = OptimOptions(lr=0.1, ema_decay=0.999, **options)
        trainer = toy_trainer(tmp_path / name, 24, optim=optim)
        trainer.task.model[1].momentum = 0.001
        return trainer.fit(), load_file(tmp_path / name / "weights.safetensors")

    (published, slow), (recomputed, fitting) = (
        run("published"),
        run("recomputed", ema_warmup=True, batchnorm_statistics="recomputed"),
    )
    assert published["accuracy"]["last"]["all"] < 0.3 < 0.5 < recomputed["accuracy"]["last"]["all"]
    assert recomputed["evaluated_weights"] == {
        "averaged": True, "ema_decay": 0.999, "ema_warmup": True, "batchnorm_statistics": "recomputed",
    }  # fmt: skip
    assert float(slow["1.running_var"].sub(1).abs().max()) < 0.2  # what the file holds is what was evaluated
    task = toy_trainer(tmp_path / "other", 24).task
    for weights, result in ((slow, published), (fitting, recomputed)):
        task.model.load_state_dict(weights)
        with torch.inference_mode():
            right = task.logits(task.model.eval(), "test").argmax(1) == task.labels["test"]
        assert float(right.float().mean()) == pytest.approx(result["accuracy"]["last"]["all"])


def test_evaluating_changes_nothing_of_the_training(tmp_path: Path, toy_trainer: MakeTrainer) -> None:
    ended = []
    for statistics, every in (("running", 24), ("recomputed", 24), ("recomputed", 2)):
        optim = OptimOptions(lr=0.1, ema_decay=0.9, batchnorm_statistics=statistics)
        trainer = toy_trainer(tmp_path / f"{statistics}{every}", 24, optim=optim, eval_every=every)
        trainer.fit()
        ended.append(snapshot(trainer.task.model))
    assert_same(ended[0], ended[1])
    assert_same(ended[0], ended[2])


def test_in_words() -> None:
    short = settled(OptimOptions(ema_decay=0.99), moving_norms(network(0.001)), 68)
    assert in_words(short) == "averaged (decay 0.99, rising to it); BatchNorm statistics recomputed for each evaluation"
    assert in_words(settled(OptimOptions(ema_decay=0), [], 68)) == "the latest; BatchNorm statistics running"
