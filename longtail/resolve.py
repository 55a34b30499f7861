"""Filling in what depends on other options: by data set, pair of networks, first stage. Free of torch.

The resolved configuration is what a run records, so that a run never depends on a later default.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from tailmatch.datasets.catalog import STORE, defaults_of
from tailmatch.declare import find
from tailmatch.distill.resolve import refuse_unsaid, resolved_data, with_warmup
from tailmatch.engine.config import read_recipe, word_of
from tailmatch.engine.recorded import is_finished
from tailmatch.errors import UserError
from tailmatch.longtail.catalog import SECOND_STAGES, SecondStage
from tailmatch.longtail.config import LabelLossOptions, LongtailConfig, TeacherLossOptions
from tailmatch.longtail.data_options import DataOptions
from tailmatch.longtail.presets import published
from tailmatch.models.catalog import COSINE, COSINE_SCALE, check_input


def resolved(config: LongtailConfig) -> LongtailConfig:
    """The configuration with every default filled in that depends on another option."""
    stage = None
    if config.method.stage2 is not None:
        stage = find("second stage", config.method.stage2, SECOND_STAGES)
        config = _with_first_stage(config, stage)
    method, optim = config.method, config.optim
    usual = defaults_of(config.data.dataset, "longtail")
    config = replace(config, init=config.init.from_anywhere(), data=resolved_data(config.data, usual))
    data = config.data
    refuse_unsaid(data.dataset, usual, method.model, optim, length=stage is not None)
    model = method.model or usual["model"]
    check_input(model, features=data.dataset == STORE)
    method = replace(
        method,
        model=model,
        head=None if stage else _head(method.head, model, config.label_loss.name),
        sampler=method.sampler or ("class-balanced" if stage and stage.trains else "instance"),
    )
    if optim.steps is None and optim.epochs is None:
        optim = replace(optim, epochs=stage.epochs if stage else usual["epochs"])
    optim = with_warmup(optim, 0.0 if stage else usual["warmup"])
    config = replace(config, method=method, optim=optim, label_loss=_with_scale(config.label_loss, method.head))
    if method.drw is not None and optim.epochs is not None:
        first_reweighed_epoch(method.drw, optim.epochs)  # refused before a teacher is trained for the run
    return _with_teacher(config) if config.distills else config


def _head(given: str | None, model: str, label_loss: str) -> str:
    """The kind of classifier: of the model where its name says it, else as asked for, else what the loss is for."""
    if model != COSINE:
        return given or (COSINE if label_loss == "ldam" else "linear")
    if given not in (None, COSINE):
        raise UserError(f"--model {COSINE} is a cosine classifier; leave out --head {given}, or take --model {given}.")
    return COSINE


def first_reweighed_epoch(drw: float, epochs: int) -> int:
    """Where deferred re-weighting begins, counted from 0."""
    # A share of 0.8 of 200 epochs is epoch 160, whatever the rounding of 0.8 * 200.
    first = math.ceil(drw * epochs - 1e-9)
    if first >= epochs:
        raise UserError(
            f"--drw {drw:g} begins with epoch {first + 1}, and the run has {epochs}; train longer, or give "
            "a smaller share."
        )
    return first


def _with_scale(label_loss: LabelLossOptions, head: str | None) -> LabelLossOptions:
    """LDAM's scale is for cosines; the logits of a linear classifier find theirs by themselves."""
    if label_loss.name != "ldam" or label_loss.scale is not None:
        return label_loss
    scale: dict[str, Any] = {"scale": COSINE_SCALE if head == "cosine" else 1.0}
    return replace(label_loss, **scale)


def _with_teacher(config: LongtailConfig) -> LongtailConfig:
    given, dataset = config.distillation, config.data.dataset
    teacher = given.teacher
    if not given.is_there:
        usual = defaults_of(dataset, "longtail")
        if "teacher" not in usual:
            raise UserError(
                f"--loss {config.loss.name} compares with a teacher: give --teacher-checkpoint (and --teacher, unless "
                f"it is a run folder); one is trained by `longtail --dataset {dataset} --model NETWORK --loss none`."
            )
        teacher = teacher or usual["teacher"]
    if teacher is not None:
        check_input(teacher, features=dataset == STORE or given.teacher_store is not None)
    table = published(dataset, teacher, str(config.method.model), config.loss.name)
    kd_weight = table.pop("kd_weight", 1.0)
    return replace(
        config,
        distillation=replace(
            given.absolute(),
            teacher=teacher,
            kd_weight=kd_weight if given.kd_weight is None else given.kd_weight,
        ),
        loss=TeacherLossOptions(**{"name": config.loss.name, **table, **config.loss.given()}),
    )


def _with_first_stage(config: LongtailConfig, stage: SecondStage) -> LongtailConfig:
    """A second stage sees the images that the first was trained on, and starts from its network."""
    stage1, stage2 = config.method.stage1, config.method.stage2
    assert stage1 is not None
    stage1 = stage1.expanduser().absolute()
    earlier = first_stage_config(stage1)
    data, own = earlier.data, replace(config.data, data_root=None)
    root = config.data.data_root or data.data_root
    if own not in (DataOptions(), replace(data, data_root=None)):
        raise UserError(
            f"A second stage uses the images of its first, {data.dataset}; leave out the options of the data."
        )
    if config.method.model not in (None, earlier.method.model):
        raise UserError(f"{stage1} holds a {earlier.method.model}; leave out --model {config.method.model}.")
    if stage.needs_linear_head and earlier.method.head == "cosine":
        others = " or ".join(name for name, other in SECOND_STAGES.items() if not other.needs_linear_head)
        raise UserError(
            f"--stage2 {stage2} changes the lengths of a linear classifier's weights, which the cosine classifier of "
            f"{stage1} ignores; take --stage2 {others}, or train the first stage with --head linear."
        )
    options: dict[str, Any] = {name: option.default for name, option in stage.options.items()}
    options |= config.method.of_stage2()
    return replace(
        config,
        data=replace(data, data_root=root),
        method=replace(config.method, model=earlier.method.model, stage1=stage1, **options),
        run=replace(config.run, seed=earlier.run.seed),
    )


def first_stage_config(stage1: Path) -> LongtailConfig:
    """The configuration of a finished first stage."""
    if not is_finished(stage1):
        raise UserError(
            f"{stage1} is not a finished run of `longtail`; train one, or finish it with --resume {stage1}."
        )
    task = word_of(stage1 / "config.yaml", "task")
    if task not in (None, "longtail"):  # said alone: its options are unknown here, every one
        raise UserError(f"{stage1} is a run of `{task}`; a second stage starts from a run of `longtail`.")
    earlier = read_recipe(LongtailConfig(), stage1 / "config.yaml", "longtail")
    if earlier.method.stage2 is not None:
        raise UserError(
            f"{stage1} is a second stage ({earlier.method.stage2}); start from the run that it started from."
        )
    return earlier
