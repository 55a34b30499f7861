"""From the options of a teacher to its logits, and to what the records say of it."""

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from tailmatch.analysis.groups import Groups
from tailmatch.distill.images import Images
from tailmatch.distill.options import TeacherOptions
from tailmatch.distill.step import FrozenTeacher
from tailmatch.distill.stored_teacher import StoredTeacher, stored_teacher
from tailmatch.distill.task import Teacher
from tailmatch.distill.teacher import LoadedNetwork, read_network, refuse_other_store, warn_if_near_chance
from tailmatch.engine.device import Autocast
from tailmatch.engine.distributed import World
from tailmatch.engine.evaluation import accuracy_of, over_parts
from tailmatch.engine.options import RunOptions
from tailmatch.models.build import build_model
from tailmatch.models.initial_weights import published_weights

Options = TypeVar("Options", bound=TeacherOptions)


def build_teacher(
    options: TeacherOptions, images: Images, groups: Groups, run: RunOptions, device: torch.device
) -> tuple[StoredTeacher | FrozenTeacher, Teacher | None]:
    """The teacher and what the records say of it; nothing of one that is yet to be trained."""
    if options.teacher_store is not None:
        stored = stored_teacher(options, images, device)
        return stored, _described(stored.name, options, images, groups, stored.test_logits)
    if images.features is not None and options.teacher_checkpoint is not None:
        its_own = "give its own store as --teacher-store"
        refuse_other_store(options.teacher_checkpoint, images.features["store"], its_own)
    loaded = _network(options, images)
    layout = torch.channels_last if run.channels_last else torch.contiguous_format
    network = loaded.network.to(device, memory_format=layout)  # type: ignore[call-overload]
    teacher = FrozenTeacher(network, teacher_precision(run, device))
    if not options.is_there:
        return teacher, None
    if loaded.changes and World.from_environment().is_main:
        source = options.teacher_checkpoint or options.teacher_weights
        print(f"teacher: the layers' names in {source}: {'; '.join(loaded.changes)}", flush=True)
    logits = over_parts(teacher, images.split("test"))
    return teacher, _described(loaded.name, options, images, groups, logits, loaded.changes)


def teacher_precision(run: RunOptions, device: torch.device) -> Autocast:
    """Low where that is faster, since no gradient passes the teacher; full precision asked for holds for both."""
    return Autocast.pick("fp32" if run.precision == "fp32" else "auto", device)


def untrained(options: Options, images: Images) -> Options:
    """The same with an untrained teacher of its network; what is given must load."""
    if options.teacher_store is not None:
        return options
    name = _network(options, images).name if options.is_there else options.teacher
    return replace(options, teacher=name, teacher_checkpoint=None, teacher_weights="last")


def _network(options: TeacherOptions, images: Images) -> LoadedNetwork:
    sizes = (images.num_classes, images.channels, images.image_size)
    if not options.is_there:  # a dry run, before the teacher is trained
        return LoadedNetwork(str(options.teacher), build_model(str(options.teacher), *sizes))
    checkpoint, weights = options.teacher_checkpoint, options.teacher_weights
    if options.is_published:
        checkpoint, weights = published_weights(str(options.teacher), weights, "--teacher-checkpoint")[1], "last"
    assert isinstance(checkpoint, Path)
    return read_network(options.teacher, checkpoint, *sizes, weights)


def _described(
    name: str,
    options: TeacherOptions,
    images: Images,
    groups: Groups,
    logits: Tensor,
    changes: tuple[str, ...] = (),
) -> Teacher:
    accuracy = accuracy_of(logits, images.labels["test"], groups)
    warn_if_near_chance(name, accuracy, images.num_classes)
    checkpoint, store = options.teacher_checkpoint, options.teacher_store
    return Teacher(
        name=name,
        checkpoint=str(checkpoint or store or options.teacher_weights),
        weights=options.teacher_weights if checkpoint is not None and checkpoint.is_dir() else None,
        store=None if store is None else str(store),
        changes=changes,
        accuracy=accuracy,
        test_logits=logits,
    )
