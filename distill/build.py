"""From a checked, resolved configuration of `run.py distill` to the task: images, student, teacher and method."""

from dataclasses import replace

import torch
from torch import nn

from tailmatch.analysis.groups import split_classes
from tailmatch.distill.build_teacher import build_teacher, untrained
from tailmatch.distill.catalog import loss_of
from tailmatch.distill.config import DistillConfig
from tailmatch.distill.data import build_images, rule_of
from tailmatch.distill.features.build import build_feature_method
from tailmatch.distill.features.catalog import FEATURE_METHODS
from tailmatch.distill.features.step import FeatureDistillation
from tailmatch.distill.images import Images
from tailmatch.distill.step import Distillation, FrozenTeacher, LabelsOnly
from tailmatch.distill.task import DistillTask
from tailmatch.engine.checkpoint import has_begun
from tailmatch.engine.distributed import World
from tailmatch.engine.task import Started
from tailmatch.losses.build import build_label_loss, build_loss
from tailmatch.losses.modules import TeacherLoss
from tailmatch.losses.standardized import Standardized
from tailmatch.models.build import build_model
from tailmatch.models.initial_weights import start_from


def build_task(config: DistillConfig, device: torch.device, world: World) -> DistillTask:
    """The task that the configuration describes, its tensors on the device."""
    images, timetable = build_images(config.data, config.optim, config.run, device, world)
    model, started = _student(config, images, device)
    task = DistillTask(
        images=images,
        model=model,
        model_name=str(config.student),
        method=LabelsOnly(build_label_loss("cross-entropy", images.class_counts).to(device)),
        timetable=timetable,
        groups=split_classes(images.class_counts.numpy(), rule_of(config.data.dataset)),
        started=started,
    )
    return _with_teacher(task, config, device) if config.distills else task


def rehearsed(config: DistillConfig, device: torch.device, alone: bool = False) -> DistillTask:
    """The same for a suite's look ahead: a teacher must load, and what it says of the test images is left for later.

    Args:
        alone: leave out the teacher, which is yet to be trained.
    """
    task = build_task(config.alone(), device, World())
    if alone or not config.distills:
        return task
    return _with_teacher(task, replace(config, distillation=untrained(config.distillation, task.images)), device)


def _student(config: DistillConfig, images: Images, device: torch.device) -> tuple[nn.Module, Started | None]:
    """The network to train, and what it starts from."""
    name, layout = str(config.student), torch.channels_last if config.run.channels_last else torch.contiguous_format
    model = build_model(name, images.num_classes, images.channels, images.image_size)
    started = None if has_begun(config.call) else start_from(model, name, config.init)
    return model.to(device, memory_format=layout), started  # type: ignore[call-overload]


def _with_teacher(task: DistillTask, config: DistillConfig, device: torch.device) -> DistillTask:
    """The same task, learning from a teacher too."""
    options = config.distillation
    teacher, described = build_teacher(options, task.images, task.groups, config.run, device)
    weights = {
        "label_weight": options.label_weight or 0.0,
        "kd_weight": options.kd_weight or 0.0,
        "warmup_epochs": options.kd_warmup_epochs or 0.0,
    }
    label_loss = task.method.label_loss
    if config.method.name not in FEATURE_METHODS:
        divergence = _divergence(config, task.images).to(device)
        return replace(task, method=Distillation(teacher, label_loss, divergence, **weights), teacher=described)
    assert isinstance(teacher, FrozenTeacher), "a teacher in a store has been refused"
    labels = task.images.labels["train"]
    sample = next(task.images.sample())[:1].to(device)
    method = build_feature_method(
        config.method.name, task.model, teacher.model, sample, labels, **config.method.given()
    )
    step = FeatureDistillation(teacher, task.model, label_loss, method, **weights)
    return replace(task, method=step, teacher=described)


def _divergence(config: DistillConfig, images: Images) -> TeacherLoss:
    method = config.method
    loss = build_loss(loss_of(method.name), images.num_classes, images.class_counts, **method.given())
    return Standardized(loss) if config.distillation.logit_std else loss
