"""From a checked, resolved configuration to the task: images, sampler, network, teacher and loss."""

import math
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tailmatch.analysis.groups import PRESETS, split_classes
from tailmatch.datasets.files.catalog import FILE_DATASETS
from tailmatch.datasets.files.load import FileDataset, load_file_dataset
from tailmatch.datasets.load import check_channels, load_dataset
from tailmatch.declare import build
from tailmatch.distill.images import Images, ImagesInFiles, ImagesInMemory
from tailmatch.distill.step import Distillation, FrozenTeacher, LabelsOnly
from tailmatch.distill.stored_teacher import StoredTeacher, stored_teacher
from tailmatch.distill.teacher import (
    LoadedNetwork,
    load_network,
    read_network,
    refuse_other_store,
    warn_if_near_chance,
)
from tailmatch.engine.checkpoint import has_begun
from tailmatch.engine.device import Autocast
from tailmatch.engine.distributed import World
from tailmatch.engine.evaluated import SAMPLE
from tailmatch.engine.evaluation import accuracy_of, over_parts
from tailmatch.engine.options import batchnorm_chunks
from tailmatch.engine.sampling import EpochPlan, SamplingPlan, build_plan, first_draws, refuse_large_step
from tailmatch.engine.task import Started
from tailmatch.errors import UserError, nearest
from tailmatch.longtail.catalog import SECOND_STAGES
from tailmatch.longtail.config import DistillationOptions, LongtailConfig, TeacherLossOptions
from tailmatch.longtail.resolve import first_reweighed_epoch
from tailmatch.longtail.task import LogitShift, LongtailTask, Teacher, Timetable, TrainedPart
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
    images, timetable = build_images(config, device, world)
    groups = split_classes(images.class_counts.numpy(), _rule(config.data.dataset))
    model, trained, started = build_student(config, images, device)
    label_loss = hard_label_loss(config, images).to(device)
    task = LongtailTask(
        images=images,
        model=model,
        model_name=str(config.method.model),
        method=LabelsOnly(label_loss),
        timetable=timetable,
        groups=groups,
        trained=trained,
        started=started,
        features_rate=1.0 if config.optim.lr_features is None else config.optim.lr_features / config.optim.lr,
        shift=LogitShift(tau=config.method.post_hoc_tau),
    )
    return with_teacher(task, config, device) if config.distills else task


def rehearsed(config: LongtailConfig, device: torch.device, alone: bool = False) -> LongtailTask:
    """The same for a suite's look ahead: a teacher must load, and what it says of the test images is left for later.

    Args:
        alone: leave out the teacher, which is yet to be trained.
    """
    given = config.distillation
    without = replace(config, loss=TeacherLossOptions(), distillation=DistillationOptions())
    task = build_task(without, device, World())
    if alone or not config.distills:
        return task
    if given.teacher_store is not None:
        return with_teacher(task, config, device)
    name = given.teacher
    if given.teacher_checkpoint is not None:
        name = _teacher_network(given, task.images).name
    untrained = replace(given, teacher=name, teacher_checkpoint=None, teacher_weights="last")
    return with_teacher(task, replace(config, distillation=untrained), device)


def build_images(config: LongtailConfig, device: torch.device, world: World) -> tuple[Images, Timetable]:
    """The data, and the steps that go over it."""
    data, seed = config.data, config.run.seed
    if data.dataset in FILE_DATASETS:
        files = _file_dataset(config)
        refuse_large_step(config.optim.batch_size, len(files.train.labels))
        plan, first_drawn = _drawn(config, files.train.labels, world)
        timetable = _timetable(config, plan)
        images = ImagesInFiles(files, plan, first_drawn, timetable.steps, seed, config.run.workers, device)
        return images, timetable
    dataset = load_dataset(
        data.dataset,
        data.data_root,
        seed=seed,
        val_fraction=data.val_fraction,
        imbalance=data.imbalance,
        lt_shape=data.lt_shape,
        image_size=data.image_size,
        test_fraction=data.test_fraction,
        crop_fill=data.crop_fill or "reflect",
        mean=data.pixel_mean,
        std=data.pixel_std,
    )
    refuse_large_step(config.optim.batch_size, len(dataset.train))
    plan, first_drawn = _drawn(config, dataset.train.labels.numpy(), world)
    images_in_memory = ImagesInMemory(dataset, plan, first_drawn, seed, world, device, data.train_view)
    return images_in_memory, _timetable(config, plan)


def _drawn(config: LongtailConfig, labels: NDArray[np.int64], world: World) -> tuple[SamplingPlan, torch.Tensor]:
    """What this process draws in each step, and the images that all of them draw first."""
    whole = EpochPlan(
        images=len(labels),
        batch_size=config.optim.batch_size,
        seed=config.run.seed,
        keep_incomplete=config.optim.incomplete_batch == "keep",
    )
    chunks = batchnorm_chunks(config.run.batchnorm) or 1
    if whole.last_batch % chunks and not whole.batch_size % chunks:
        raise UserError(
            f"--batchnorm {config.run.batchnorm} needs batches that divide by {chunks}, and --incomplete-batch keep "
            f"ends each epoch with one of {whole.last_batch} images; take --incomplete-batch drop."
        )
    name = str(config.method.sampler)
    plan = build_plan(name, labels, replace(whole, rank=world.rank, world_size=world.size))
    first = first_draws(build_plan(name, labels, whole), min(SAMPLE, len(labels)))
    return plan, torch.from_numpy(first)


def _file_dataset(config: LongtailConfig) -> FileDataset:
    data = config.data
    if data.data_root is None:
        raise UserError(
            f"--dataset {data.dataset} needs your images: make them ready once with `data prepare {data.dataset} "
            "--root DIR`, then give --data-root DIR."
        )
    given = ("imbalance", "val_fraction", "test_fraction")
    if any(getattr(data, option) is not None for option in given):
        raise UserError(
            f"{data.dataset} has its tail, its validation and its test images; leave out --imbalance, --val-fraction "
            "and --test-fraction."
        )
    files = load_file_dataset(data.dataset, data.data_root.expanduser(), image_size=data.image_size or 224)
    mean, std = data.pixel_mean or files.mean, data.pixel_std or files.std
    files = replace(files, color_jitter=data.color_jitter, mean=mean, std=std)
    check_channels(files.channels, files.mean, files.std)
    return files


def _timetable(config: LongtailConfig, plan: SamplingPlan) -> Timetable:
    optim, method, steps_per_epoch = config.optim, config.method, plan.steps_per_epoch
    steps = optim.steps if optim.steps is not None else (optim.epochs or 0) * steps_per_epoch
    if method.stage2 is not None and not SECOND_STAGES[method.stage2].trains:
        steps = 0
    reweigh_at = None if method.drw is None else first_reweighed_epoch(method.drw, math.ceil(steps / steps_per_epoch))
    return Timetable(
        steps=steps, steps_per_epoch=steps_per_epoch, images_per_step=plan.images_per_step, reweigh_at=reweigh_at
    )


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
    images, options = task.images, config.distillation
    divergence = teacher_loss(config, images).to(device)
    assert isinstance(task.method, LabelsOnly)
    teacher, described = _teacher(task, config, device)
    method = Distillation(
        teacher,
        task.method.label_loss,
        divergence,
        label_weight=options.label_weight,
        kd_weight=1.0 if options.kd_weight is None else options.kd_weight,
    )
    return replace(task, method=method, teacher=described)


def teacher_precision(config: LongtailConfig, device: torch.device) -> Autocast:
    """Low where that is faster, since no gradient passes the teacher; full precision asked for holds for both."""
    return Autocast.pick("fp32" if config.run.precision == "fp32" else "auto", device)


def _teacher_network(options: DistillationOptions, images: Images) -> LoadedNetwork:
    sizes = (images.num_classes, images.channels, images.image_size)
    if options.teacher_checkpoint is None:  # a dry run on the embedded digits, before their teacher is trained
        return LoadedNetwork(str(options.teacher), build_model(str(options.teacher), *sizes))
    return read_network(options.teacher, options.teacher_checkpoint, *sizes, options.teacher_weights)


def _teacher(
    task: LongtailTask, config: LongtailConfig, device: torch.device
) -> tuple[StoredTeacher | FrozenTeacher, Teacher | None]:
    """The teacher and what the records say of it; nothing of one that is yet to be trained."""
    options, images = config.distillation, task.images
    if options.teacher_store is not None:
        stored = stored_teacher(options, images, device)
        return stored, _described(stored.name, options, stored.test_logits, task)
    if images.features is not None and options.teacher_checkpoint is not None:
        its_own = "give its own store as --teacher-store"
        refuse_other_store(options.teacher_checkpoint, images.features["store"], its_own)
    loaded = _teacher_network(options, images)
    layout = torch.channels_last if config.run.channels_last else torch.contiguous_format
    network = loaded.network.to(device, memory_format=layout)  # type: ignore[call-overload]
    teacher = FrozenTeacher(network, teacher_precision(config, device))
    if options.teacher_checkpoint is None:
        return teacher, None
    if loaded.changes and World.from_environment().is_main:
        print(f"teacher: the layers' names in {options.teacher_checkpoint}: {'; '.join(loaded.changes)}", flush=True)
    logits = over_parts(teacher, images.split("test"))
    return teacher, _described(loaded.name, options, logits, task, loaded.changes)


def _described(
    name: str, options: DistillationOptions, logits: Tensor, task: LongtailTask, changes: tuple[str, ...] = ()
) -> Teacher:
    accuracy = accuracy_of(logits, task.images.labels["test"], task.groups)
    warn_if_near_chance(name, accuracy, task.images.num_classes)
    checkpoint, store = options.teacher_checkpoint, options.teacher_store
    return Teacher(
        name=name,
        checkpoint=str(checkpoint or store),
        weights=options.teacher_weights if checkpoint is not None and checkpoint.is_dir() else None,
        store=None if store is None else str(store),
        changes=changes,
        accuracy=accuracy,
        test_logits=logits,
    )


def _rule(dataset: str) -> str:
    """How the data set's literature tells many-, medium- and few-shot classes apart."""
    return dataset if dataset in PRESETS else "auto"
