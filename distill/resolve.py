"""Filling in what depends on other options: by data set, and by pair of networks. Free of torch.

The resolved configuration is what a run records, so that a run never depends on a later default.
"""

from dataclasses import replace
from typing import Any, TypeVar

from tailmatch.datasets.catalog import STORE, Options, defaults_of
from tailmatch.datasets.files.catalog import FILE_DATASETS
from tailmatch.datasets.own_data import test_fraction_of
from tailmatch.distill.catalog import usual_weight
from tailmatch.distill.config import DistillationOptions, DistillConfig, MethodOptions
from tailmatch.distill.data_options import DataOptions
from tailmatch.distill.options import EpochOptions
from tailmatch.distill.presets import published
from tailmatch.engine.config import recipe_names, recipe_path, word_of
from tailmatch.errors import UserError
from tailmatch.models.catalog import check_input

Data = TypeVar("Data", bound=DataOptions)
Epochs = TypeVar("Epochs", bound=EpochOptions)


def resolved(config: DistillConfig) -> DistillConfig:
    """The configuration with every default filled in that depends on another option."""
    usual = defaults_of(config.data.dataset, "distill")
    config = replace(config, data=resolved_data(config.data, usual), init=config.init.from_anywhere())
    is_store = config.data.dataset == STORE
    refuse_unsaid(config.data.dataset, usual, config.student, config.optim)
    model = config.student or usual["model"]
    check_input(model, features=is_store)
    optim = config.optim
    if optim.steps is None and optim.epochs is None:
        optim = replace(optim, epochs=usual["epochs"])
    config = replace(config, network=replace(config.network, model=model), optim=with_warmup(optim, usual["warmup"]))
    if not config.distills:
        return config.alone()
    return _with_teacher(config, usual)


def _with_teacher(config: DistillConfig, usual: Options) -> DistillConfig:
    given, dataset, method = config.distillation, config.data.dataset, config.method
    teacher = given.teacher
    if not given.is_there:
        if "teacher" not in usual:
            raise UserError(
                f"--method {method.name} needs a teacher: give --teacher-checkpoint (and --teacher, unless it is a run "
                f"folder), or --teacher NETWORK --teacher-weights torchvision; one is trained by `distill --dataset "
                f"{dataset} --student {teacher or 'NETWORK'} --method none`."
            )
        teacher = teacher or usual["teacher"]
    if teacher is not None:
        check_input(teacher, features=dataset == STORE or given.teacher_store is not None)
    table = published(dataset, teacher, str(config.student), method.name, given.logit_std)
    defaults: dict[str, Any] = {"label_weight": 1.0, "kd_weight": usual_weight(method.name), "kd_warmup_epochs": 0.0}
    weights = {
        name: table.pop(name, default) if getattr(given, name) is None else getattr(given, name)
        for name, default in defaults.items()
    }
    distillation: DistillationOptions = replace(
        given.absolute(),
        teacher=teacher,
        baseline=not given.is_there if given.baseline is None else given.baseline,
        **weights,
    )
    options = {name: value for name, value in table.items() if name not in defaults}
    return replace(
        config, distillation=distillation, method=MethodOptions(**{"name": method.name, **options, **method.given()})
    )


# -- what learning from a long tail fills in as well ----------------------------------------------------------------


def resolved_data(data: Data, usual: Options) -> Data:
    """With what is usual of the data set's images."""
    data = replace(data, test_fraction=test_fraction_of(data.dataset, data.data_root, data.test_fraction))
    if data.dataset in FILE_DATASETS or data.dataset == STORE:
        return data
    return replace(
        data,
        crop_fill=data.crop_fill or usual.get("crop_fill", "reflect"),
        pixel_mean=data.pixel_mean or usual.get("pixel_mean"),
        pixel_std=data.pixel_std or usual.get("pixel_std"),
    )


def refuse_unsaid(dataset: str, usual: Options, model: str | None, optim: EpochOptions, length: bool = False) -> None:
    """Where nothing is published of a data set's training, network and length are not made up.

    Args:
        length: whether the length is known anyway.
    """
    said = {"model": model is not None, "epochs": length or optim.steps is not None or optim.epochs is not None}
    missing = [f"--{name}" for name in said if not said[name] and name not in usual]
    if missing:
        recipes = [name for name in recipe_names() if word_of(recipe_path(name), "dataset") == dataset]
        raise UserError(
            f"Nothing is published of training on {dataset} from scratch, so nothing is filled in: give "
            f"{' and '.join(missing)} (its rate is {optim.lr:g}, its batch {optim.batch_size}), or a "
            f"recipe by --config ({', '.join(recipes) or 'a file of your own'})."
        )


def with_warmup(optim: Epochs, usual: float) -> Epochs:
    """The warm-up in epochs. What starts from a trained network needs none, and has none as published."""
    if optim.epochs is None:
        return optim if optim.warmup is not None else replace(optim, warmup=usual)
    if optim.warmup is None:
        return replace(optim, warmup=usual if usual < optim.epochs else 0.0)
    if optim.warmup >= optim.epochs:
        raise UserError(
            f"A warm-up of {optim.warmup:g} epochs leaves none of the run's {optim.epochs} to train at the full rate; "
            "give a shorter --warmup (0 for none), or train longer."
        )
    return optim
