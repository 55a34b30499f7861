"""From a checked configuration to the task: split, views, model and algorithm."""

from dataclasses import replace

import torch

from ..datasets.augment_pools import GENTLE_POOL, STRONG_POOL
from ..datasets.base import Dataset, ImageSet
from ..datasets.load import load_dataset
from ..datasets.splits import split_fingerprint, ssl_split
from ..datasets.strong_augment import StrongAugment
from ..datasets.weak_augment import WeakAugment
from ..engine.distributed import World
from ..losses.build import build_loss
from ..losses.options import LossOptions
from ..models.build import build_model
from .acceptance import FixedThreshold
from .algorithm import Consistency, Supervised
from .batches import Batches, Views
from .config import SSLConfig
from .presets import LOSS_DEFAULTS, PRESETS
from .task import SSLTask

# Images this small are a few strokes: cutting out half of one, or inverting it, leaves another digit.
TINY_IMAGE = 16
TINY_CUTOUT_SHARE = 4


def build_task(config: SSLConfig, device: torch.device, world: World) -> SSLTask:
    """The task that the configuration describes, its tensors on the device."""
    dataset = load_dataset(config.data.dataset, config.data.data_root, seed=config.run.seed)
    labeled, unlabeled, fingerprint = _split(dataset, config)
    dataset = dataset.to(device)
    batches = Batches(
        labeled=labeled.to(device),
        unlabeled=unlabeled.to(device),
        views=build_views(dataset),
        batch_size=config.optim.batch_size,
        ratio=config.data.unlabeled_ratio if PRESETS[config.algorithm.algorithm].unlabeled else 0,
        seed=config.run.seed,
        world=world,
    )
    layout = torch.channels_last if config.run.channels_last else torch.contiguous_format
    name = config.algorithm.model or "wrn-digits"
    model = build_model(name, dataset.num_classes, dataset.channels, dataset.image_size)
    return SSLTask(
        dataset=dataset,
        batches=batches,
        model=model.to(device, memory_format=layout),  # type: ignore[call-overload]
        algorithm=build_algorithm(config, dataset.num_classes).to(device),
        steps=config.optim.steps,
        fingerprint=fingerprint,
    )


def build_views(dataset: Dataset) -> Views:
    """The weak and the strong view as published, and gentler ones for images of a few strokes."""
    geometry = {"padding": dataset.crop_padding, "flip": dataset.flip}
    if dataset.image_size <= TINY_IMAGE:
        cutout = dataset.image_size // TINY_CUTOUT_SHARE
        strong = StrongAugment(**geometry, pool=GENTLE_POOL, cutout=cutout)
    else:
        strong = StrongAugment(**geometry, pool=STRONG_POOL)
    return Views(dataset, WeakAugment(**geometry), strong)


def build_algorithm(config: SSLConfig, num_classes: int) -> torch.nn.Module:
    """The preset's parts, put together."""
    preset = PRESETS[config.algorithm.algorithm]
    if not preset.unlabeled:
        return Supervised()
    loss = build_loss(config.loss.name, num_classes, **config.loss.given())
    return Consistency(FixedThreshold(config.algorithm.threshold), loss, config.algorithm.unlabeled_weight)


def _split(dataset: Dataset, config: SSLConfig) -> tuple[ImageSet, ImageSet, str]:
    """Labelled and unlabelled images, and the fingerprint of who is which."""
    labeled, unlabeled = ssl_split(
        dataset.train.labels, dataset.num_classes, labels_total=config.data.labels, seed=config.run.seed
    )
    return dataset.train.subset(labeled), dataset.train.subset(unlabeled), split_fingerprint(labeled, unlabeled)


def resolved(config: SSLConfig) -> SSLConfig:
    """The configuration with every default that depends on another option filled in."""
    loss = LossOptions(**{"name": config.loss.name, **LOSS_DEFAULTS.get(config.loss.name, {}), **config.loss.given()})
    return replace(config, loss=loss, algorithm=replace(config.algorithm, model=config.algorithm.model or "wrn-digits"))
