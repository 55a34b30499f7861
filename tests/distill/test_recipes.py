"""Recipes of pairs of networks: their schedules, and every method's constants, as the sources have them."""

from typing import Any

import pytest

from tailmatch.distill.config import DistillConfig
from tailmatch.distill.presets import PAIRS
from tailmatch.distill.resolve import resolved
from tailmatch.engine.command_line import parse_run
from tailmatch.engine.schedule import Schedule

# alpha and beta of IKL; alpha, beta, gamma of GKL and whose prediction weighs; beta of DKD; the rate: of the files
# cifar100/ikl_kd, cifar100_config_gkl and cifar100/dkd of jiequancui/DKL.
CIFAR = {
    "resnet56_resnet20": "1 4 | 1 4 0.2 class | 2 | 0.05",
    "resnet110_resnet32": "1 12 | 1 4 0.1 sample | 2 | 0.05",
    "resnet32x4_resnet8x4": "1 8 | 1 16 0.05 class | 8 | 0.05",
    "wrn40_2_wrn16_2": "3 12 | 3 20 0.3 sample | 6 | 0.05",
    "wrn40_2_wrn40_1": "1 8 | 1 12 0.3 sample | 6 | 0.05",
    "vgg13_vgg8": "1 12 | 1 8 0.2 class | 6 | 0.05",
    "resnet32x4_shufflenet_v1": "1 8 | 1 8 0.0 class | 8 | 0.01",
    "wrn40_2_shufflenet_v1": "1 4 | 1 8 0.0 sample | 8 | 0.01",
    "vgg13_mobilenet_v2": "4 12 | 4 12 0.1 class | 6 | 0.01",
    "resnet50_mobilenet_v2": "1 12 | 1 8 0.05 class | 8 | 0.01",
    "resnet32x4_shufflenet_v2": "3 12 | 3 12 0.1 class | 8 | 0.01",
}
# alpha and beta of IKL and GKL, gamma of GKL, beta of DKD: of imagenet/*/ikl_kd.yaml, imagenet_config_gkl, dkd.yaml.
IMAGENET = {"r34_r18": "1 0.5 0.6 0.5", "r50_mobilenet": "4 1 0.5 2"}


def recipe(name: str, *words: str) -> DistillConfig:
    teacher = () if name.startswith("imagenet") or "none" in words else ("--teacher-checkpoint", "teacher.pth")
    return resolved(parse_run(DistillConfig, "distill", ["--config", name, *teacher, *words], "run.py distill"))


def constants(config: DistillConfig) -> dict[str, Any]:
    given = config.distillation
    of_step = {"label": given.label_weight, "kd": given.kd_weight, "warmup": given.kd_warmup_epochs}
    return {**config.method.given(), **of_step}


def numbers(text: str) -> list[float]:
    return [float(word) for word in text.split()]


def test_every_pair_has_its_recipe() -> None:
    named = {("cifar100", f"cifar100_{pair}") for pair in CIFAR} | {("imagenet", f"imagenet_{p}") for p in IMAGENET}
    found = {
        (dataset, name): (config.distillation.teacher, config.student)
        for dataset, name in named
        for config in [recipe(name)]
        if config.data.dataset == dataset
    }
    assert found.keys() == named
    assert {dataset: {pair for (of, _), pair in found.items() if of == dataset} for dataset in PAIRS} == {
        dataset: set(pairs) for dataset, pairs in PAIRS.items()
    }


@pytest.mark.parametrize("pair", list(CIFAR))
def test_cifar_schedules_are_the_sources(pair: str) -> None:
    config = recipe(f"cifar100_{pair}")
    optim, peak = config.optim, float(CIFAR[pair].split("|")[3])
    schedule = Schedule(optim, 240 * 782, 782)  # 50,000 images in batches of 64, the last of 16
    rates = [schedule(epoch * 782) for epoch in range(240)]
    falls = [sum(epoch > stage for stage in (150, 180, 210)) for epoch in range(1, 241)]  # as there, from epoch 1 on
    assert rates == pytest.approx([peak * 0.1**fall for fall in falls], rel=1e-12)
    assert (optim.epochs, optim.batch_size, optim.weight_decay, optim.momentum) == (240, 64, 5e-4, 0.9)
    assert (optim.nesterov, optim.decay_all, optim.ema_decay, optim.incomplete_batch) == (False, True, 0, "keep")
    assert (config.data.crop_fill, config.data.pixel_mean) == ("zero", (0.5071, 0.4867, 0.4408))


@pytest.mark.parametrize("pair", list(IMAGENET))
def test_imagenet_schedules_are_the_sources(pair: str) -> None:
    config = recipe(f"imagenet_{pair}")
    schedule = Schedule(config.optim, 100 * 2502, 2502)
    rates = [schedule(epoch * 2502) for epoch in range(100)]
    falls = [sum(epoch > stage for stage in (30, 60, 90)) for epoch in range(1, 101)]
    assert rates == pytest.approx([0.2 * 0.1**fall for fall in falls], rel=1e-12)
    assert (config.optim.epochs, config.optim.batch_size, config.optim.weight_decay) == (100, 512, 1e-4)
    assert (config.optim.nesterov, config.optim.decay_all, config.run.batchnorm) == (False, True, "chunks:8")
    assert config.distillation.teacher_weights == "torchvision:IMAGENET1K_V1"


@pytest.mark.parametrize("pair", list(CIFAR))
def test_the_constants_on_cifar_are_the_sources(pair: str) -> None:
    name = f"cifar100_{pair}"
    ikl, gkl, dkd, _ = CIFAR[pair].split("|")
    risen = {"label": 1.0, "kd": 1.0, "warmup": 20.0, "temperature": 4.0}
    alpha, beta = numbers(ikl)
    assert constants(recipe(name)) == {
        **risen, "alpha": alpha, "beta": beta, "weights": "sample", "weight_temperature": 100.0,
    }  # fmt: skip
    *of_gkl, weights = gkl.split()
    alpha, beta, gamma = map(float, of_gkl)
    assert constants(recipe(name, "--method", "gkl")) == {
        **risen, "alpha": alpha, "beta": beta, "gamma": gamma, "weights": weights, "weight_temperature": 4.0,
    }  # fmt: skip
    assert constants(recipe(name, "--method", "dkd")) == {**risen, "alpha": 1.0, "beta": float(dkd)}
    kd = {"label": 0.1, "kd": 0.9, "warmup": 0.0, "temperature": 4.0}
    assert constants(recipe(name, "--method", "kd")) == kd
    standardised = constants(recipe(name, "--method", "kd", "--logit-std"))
    others = {"vgg13_vgg8": (3, 9), "vgg13_mobilenet_v2": (3, 9), "resnet50_mobilenet_v2": (3, 1)}
    temperature, weight = others.get(pair, (2, 9))
    assert standardised == {"label": 0.1, "kd": weight, "warmup": 0.0, "temperature": temperature}


@pytest.mark.parametrize("pair", list(IMAGENET))
def test_the_constants_on_imagenet_are_the_sources(pair: str) -> None:
    name = f"imagenet_{pair}"
    alpha, beta, gamma, dkd = numbers(IMAGENET[pair])
    whole = {"label": 1.0, "kd": 1.0, "temperature": 1.0}
    of_class = {**whole, "alpha": alpha, "beta": beta, "weights": "class", "weight_temperature": 1.0}
    assert constants(recipe(name)) == {**of_class, "warmup": 0.0}
    assert constants(recipe(name, "--method", "gkl")) == {**of_class, "gamma": gamma, "warmup": 5.0}
    assert constants(recipe(name, "--method", "dkd")) == {**whole, "alpha": 1.0, "beta": dkd, "warmup": 0.0}
    assert constants(recipe(name, "--method", "kd")) == {"label": 0.5, "kd": 0.5, "warmup": 0.0, "temperature": 1.0}


def test_what_is_given_counts_more() -> None:
    words = ("--method.beta", "3", "--kd-weight", "0.5", "--kd-warmup-epochs", "0")
    found = constants(recipe("cifar100_resnet56_resnet20", *words))
    assert (found["beta"], found["kd"], found["warmup"], found["alpha"]) == (3.0, 0.5, 0.0, 1.0)


@pytest.mark.parametrize("name", ["cifar100_resnet56_resnet20", "imagenet_r34_r18"])
def test_a_pairs_recipe_trains_its_teacher_too(name: str) -> None:
    config = recipe(name, "--method", "none", "--student", "resnet56")
    assert (config.student, config.distills, config.distillation.teacher) == ("resnet56", False, None)
    assert not config.distillation.is_there
