"""From a checked, resolved configuration to the task: images, sampler, network, teacher and loss."""

import math
from dataclasses import replace

import torch
from torch import nn

from tailmatch.analysis.groups import split_classes
from tailmatch.declare import build
from tailmatch.distill.build_teacher import build_teacher, untrained
from tailmatch.distill.data import build_images, rule_of
from tailmatch.distill.images import Images
from tailmatch.distill.step import Distillation, LabelsOnly
from tailmatch.distill.task import Timetable
from tailmatch.distill.teacher import load_network, refuse_other_store
from tailmatch.engine.checkpoint import has_begun
from tailmatch.engine.distributed import World
from tailmatch.engine.task import Started
from tailmatch.errors import UserError, nearest
from tailmatch.longtail.catalog import SECOND_STAGES
from tailmatch.longtail.config import LongtailConfig
from tailmatch.longtail.resolve import first_reweighed_epoch
from tailmatch.longtail.task import LogitShift, LongtailTask, TrainedPart
from tailmatch.losses.build import build_label_loss, build_loss
from tailmatch.losses.catalog import LABEL_LOSSES
from tailmatch.losses.label_modules import LabelLoss
from tailmatch.losses.modules import TeacherLoss
from tailmatch.losses.prior import PriorAdjusted
from tailmatch.models.build import build_model
from tailmatch.models.classifiers import replace_head
from tailmatch.models.initial_weights import start_from


def build_task(config: LongtailConfig, device: torch.device, world: World) -> LongtailTask:
    """The task that the configuration describes, its tensors on the device."""
    images, timetable = build_data(config, device, world)
    method = config.method
    model, trained, started = build_student(config, images, device)
    epochs = math.ceil(timetable.steps / timetable.steps_per_epoch)
    task = LongtailTask(
        images=images,
        model=model,
        model_name=str(method.model),
        method=LabelsOnly(hard_label_loss(config, images).to(device)),
        timetable=timetable,
        reweigh_at=None if method.drw is None else first_reweighed_epoch(method.drw, epochs),
        groups=split_classes(images.class_counts.numpy(), rule_of(config.data.dataset)),
        trained=trained,
        started=started,
        features_rate=1.0 if config.optim.lr_features is None else config.optim.lr_features / config.optim.lr,
        shift=LogitShift(tau=method.post_hoc_tau),
    )
    return with_teacher(task, config, device) if config.distills else task


def build_data(config: LongtailConfig, device: torch.device, world: World) -> tuple[Images, Timetable]:
    """The data, and the steps that go over it."""
    data, method = config.data, config.method
    return build_images(
        data,
        config.optim,
        config.run,
        device,
        world,
        sampler=str(method.sampler),
        trains=method.stage2 is None or SECOND_STAGES[method.stage2].trains,
        imbalance=data.imbalance,
        lt_shape=data.lt_shape,
    )


def rehearsed(config: LongtailConfig, device: torch.device, alone: bool = False) -> LongtailTask:
    """The same for a suite's look ahead: a teacher must load, and what it says of the test images is left for later.

    Args:
        alone: leave out the teacher, which is yet to be trained.
    """
    task = build_task(config.alone(), device, World())
    if alone or not config.distills:
        return task
    teacher = untrained(config.distillation, task.images)
    return with_teacher(task, replace(config, distillation=teacher), device)


def build_student(
    config: LongtailConfig, images: Images, device: torch.device
) -> tuple[nn.Module, TrainedPart, Started | None]:
    """The network to train, what of it, and what it starts from."""
    method, layout = config.method, torch.channels_last if config.run.channels_last else torch.contiguous_format
    if method.stage2 is not None:
        assert method.stage1 is not None
        if images.features is not None:
            refuse_other_store(method.stage1, images.features["store"], "point --data-root to its own store")
        sizes = (images.num_classes, images.channels, images.image_size)
        _, model = load_network(None, method.stage1, *sizes, method.stage1_weights)
        model = model.to(device, memory_format=layout).requires_grad_(False)  # type: ignore[call-overload]
        facts = {"model": model, "images": images}
        return model, build("second stage", method.stage2, SECOND_STAGES, facts, method.of_stage2()), None
    name, linear = str(method.model), method.head in (None, "linear")
    model = build_model(name, images.num_classes, images.channels, images.image_size)
    started = None if has_begun(config.call) else start_from(model, name, config.init, keeps_classifier=linear)
    if not linear:
        replace_head(model, str(method.head), scale=config.label_loss.scale)
    trained = only(model, name, method.train_only) if method.train_only else TrainedPart()
    return model.to(device, memory_format=layout), trained, started  # type: ignore[call-overload]


def only(model: nn.Module, name: str, parts: tuple[str, ...]) -> TrainedPart:
    """The named parts of a network, in which alone weights learn; BatchNorm's statistics go on everywhere."""
    known = dict(model.named_modules())
    for part in parts:
        if part not in known or not any(True for _ in known[part].parameters()):
            tops = [top for top, module in model.named_children() if any(True for _ in module.parameters())]
            raise UserError(
                f"{name} has no part {part!r} that learns.{nearest(part, known)} Its parts are {', '.join(tops)}; "
                f"what is in them has dotted names."
            )
    model.requires_grad_(False)
    for part in parts:
        known[part].requires_grad_(True)
    return TrainedPart(modules=tuple(known[part] for part in parts), batchnorm=True)


def hard_label_loss(config: LongtailConfig, images: Images) -> LabelLoss:
    """The loss against the labels."""
    options = config.label_loss.given()
    if config.label_loss.name == "ldam" and config.method.head == "cosine":
        # The cosine classifier has the scale in its logits already, so margins come in units of them.
        margin = options.get("max_margin", LABEL_LOSSES["ldam"].options["max_margin"].default)
        options = {"scale": 1.0, "max_margin": options["scale"] * margin}
    return build_label_loss(config.label_loss.name, images.class_counts, **options)


def teacher_loss(config: LongtailConfig, images: Images) -> TeacherLoss:
    """The loss against the teacher, in the space that is asked for."""
    options = config.distillation
    loss = build_loss(config.loss.name, images.num_classes, images.class_counts, **config.loss.given())
    if options.prior_tau == options.prior_rho == 0:
        return loss
    return PriorAdjusted(
        loss,
        images.class_counts,
        tau=options.prior_tau,
        rho=options.prior_rho,
        weight_rho=options.prior_weight_rho,
    )


def with_teacher(task: LongtailTask, config: LongtailConfig, device: torch.device) -> LongtailTask:
    """The same task, learning from a teacher too."""
    options = config.distillation
    assert isinstance(task.method, LabelsOnly)
    divergence = teacher_loss(config, task.images).to(device)
    teacher, described = build_teacher(options, task.images, task.groups, config.run, device)
    method = Distillation(
        teacher,
        task.method.label_loss,
        divergence,
        label_weight=options.label_weight,
        kd_weight=1.0 if options.kd_weight is None else options.kd_weight,
    )
    return replace(task, method=method, teacher=described)
