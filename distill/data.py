"""From the options of the data to its images and to the steps that go over them."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tailmatch.analysis.groups import PRESETS
from tailmatch.datasets.files.catalog import FILE_DATASETS
from tailmatch.datasets.files.load import FileDataset, load_file_dataset
from tailmatch.datasets.load import check_channels, load_dataset
from tailmatch.distill.data_options import DataOptions
from tailmatch.distill.images import Images, ImagesInFiles, ImagesInMemory
from tailmatch.distill.options import EpochOptions
from tailmatch.distill.task import Timetable
from tailmatch.engine.distributed import World
from tailmatch.engine.evaluated import SAMPLE
from tailmatch.engine.options import RunOptions, batchnorm_chunks
from tailmatch.engine.sampling import EpochPlan, SamplingPlan, build_plan, first_draws, refuse_large_step
from tailmatch.errors import UserError


def build_images(
    data: DataOptions,
    optim: EpochOptions,
    run: RunOptions,
    device: torch.device,
    world: World,
    *,
    sampler: str = "instance",
    trains: bool = True,
    **tail: Any,
) -> tuple[Images, Timetable]:
    """The data, and the steps that go over it.

    Args:
        sampler: how often a class is drawn; see `build_plan`.
        trains: whether any step is taken.
        tail: how the training images are cut to a long tail, as `load_dataset` takes it.
    """
    if data.dataset in FILE_DATASETS:
        files = _file_dataset(data, tail)
        refuse_large_step(optim.batch_size, len(files.train.labels))
        plan, first_drawn = _drawn(optim, run, sampler, files.train.labels, world)
        timetable = _timetable(optim, plan, trains)
        return ImagesInFiles(files, plan, first_drawn, timetable.steps, run.seed, run.workers, device), timetable
    dataset = load_dataset(
        data.dataset,
        data.data_root,
        seed=run.seed,
        val_fraction=data.val_fraction,
        image_size=data.image_size,
        test_fraction=data.test_fraction,
        crop_fill=data.crop_fill or "reflect",
        mean=data.pixel_mean,
        std=data.pixel_std,
        **tail,
    )
    refuse_large_step(optim.batch_size, len(dataset.train))
    plan, first_drawn = _drawn(optim, run, sampler, dataset.train.labels.numpy(), world)
    images = ImagesInMemory(dataset, plan, first_drawn, run.seed, world, device, data.train_view)
    return images, _timetable(optim, plan, trains)


def rule_of(dataset: str) -> str:
    """How the data set's literature tells many-, medium- and few-shot classes apart."""
    return dataset if dataset in PRESETS else "auto"


def _drawn(
    optim: EpochOptions, run: RunOptions, sampler: str, labels: NDArray[np.int64], world: World
) -> tuple[SamplingPlan, torch.Tensor]:
    """What this process draws in each step, and the images that all of them draw first."""
    whole = EpochPlan(
        images=len(labels),
        batch_size=optim.batch_size,
        seed=run.seed,
        keep_incomplete=optim.incomplete_batch == "keep",
    )
    chunks = batchnorm_chunks(run.batchnorm) or 1
    if whole.last_batch % chunks and not whole.batch_size % chunks:
        raise UserError(
            f"--batchnorm {run.batchnorm} needs batches that divide by {chunks}, and --incomplete-batch keep "
            f"ends each epoch with one of {whole.last_batch} images; take --incomplete-batch drop."
        )
    plan = build_plan(sampler, labels, replace(whole, rank=world.rank, world_size=world.size))
    first = first_draws(build_plan(sampler, labels, whole), min(SAMPLE, len(labels)))
    return plan, torch.from_numpy(first)


def _file_dataset(data: DataOptions, tail: dict[str, Any]) -> FileDataset:
    if data.data_root is None:
        raise UserError(
            f"--dataset {data.dataset} needs your images: make them ready once with `data prepare {data.dataset} "
            "--root DIR`, then give --data-root DIR."
        )
    if any(given is not None for given in (tail.get("imbalance"), data.val_fraction, data.test_fraction)):
        raise UserError(
            f"{data.dataset} has its tail, its validation and its test images; leave out --imbalance, --val-fraction "
            "and --test-fraction."
        )
    files = load_file_dataset(data.dataset, data.data_root.expanduser(), image_size=data.image_size or 224)
    mean, std = data.pixel_mean or files.mean, data.pixel_std or files.std
    files = replace(files, color_jitter=data.color_jitter, mean=mean, std=std)
    check_channels(files.channels, files.mean, files.std)
    return files


def _timetable(optim: EpochOptions, plan: SamplingPlan, trains: bool) -> Timetable:
    steps = optim.steps if optim.steps is not None else (optim.epochs or 0) * plan.steps_per_epoch
    return Timetable(
        steps=steps if trains else 0, steps_per_epoch=plan.steps_per_epoch, images_per_step=plan.images_per_step
    )
