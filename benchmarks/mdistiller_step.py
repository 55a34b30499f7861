"""A step of megvii-research/mdistiller's own classes, out of a checkout of it, for `distillation_step.py`."""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

NETWORKS = {"resnet32x4": "resnet32x4", "resnet8x4": "resnet8x4", "resnet34": "ResNet34", "resnet18": "ResNet18"}
NEGATIVES = 16_384


def mdistiller_step(checkout: Path, name: str, pair: Any, batch: Any) -> Callable[[], None]:
    """One step of the method as a call.

    Raises KeyError or RuntimeError where it has no such method, or cannot do it for these networks.
    """
    if str(checkout) not in sys.path:
        sys.path.insert(0, str(checkout))
    device = batch.images.device
    student, teacher = (_network(each, pair, device) for each in (pair.student, pair.teacher))
    distiller = _distiller(name, student, teacher, pair, device).to(device).train()
    optimizer = torch.optim.SGD(distiller.get_learnable_parameters(), lr=1e-4, momentum=0.9, weight_decay=5e-4)
    chosen = torch.randint(pair.images, (pair.batch, NEGATIVES + 1), device=device)
    chosen[:, 0] = batch.index
    inputs = {"image": batch.images, "target": batch.labels, "index": batch.index, "contrastive_index": chosen}

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        _, losses = distiller(**inputs, epoch=30)
        sum(loss.mean() for loss in losses.values()).backward()
        optimizer.step()

    return step


def _network(name: str, pair: Any, device: torch.device) -> nn.Module:
    if pair.dataset == "cifar100":
        made, _ = import_module("mdistiller.models.cifar").cifar_model_dict[NETWORKS[name]]
        return made(num_classes=pair.classes).to(device)
    network = import_module("mdistiller.models.imagenet").imagenet_model_dict[NETWORKS[name]]()
    network.avgpool = nn.AdaptiveAvgPool2d(1)  # its own is for 224 pixels alone
    return network.to(device)


def _distiller(name: str, student: nn.Module, teacher: nn.Module, pair: Any, device: torch.device) -> nn.Module:
    """With the published constants, which its time does not depend on."""
    settings = _settings(pair)
    file, kind = {
        "fitnet": ("FitNet", "FitNet"),
        "reviewkd": ("ReviewKD", "ReviewKD"),
        **{method: (method.upper(), method.upper()) for method in settings if method not in ("fitnet", "reviewkd")},
    }[name]
    made = getattr(import_module(f"mdistiller.distillers.{file}"), kind)
    config = SimpleNamespace(**{name.upper(): settings[name]})
    if name != "crd":
        return made(student.cpu(), teacher.cpu(), config)  # it finds sizes with images on the CPU
    if device.type == "cpu":  # it moves to CUDA by name
        torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign]
    return made(student, teacher, config, pair.images)


def _settings(pair: Any) -> dict[str, SimpleNamespace]:
    def losses(label: float, weight: float) -> SimpleNamespace:
        return SimpleNamespace(CE_WEIGHT=label, FEAT_WEIGHT=weight, KD_WEIGHT=weight)

    of_cifar = pair.dataset == "cifar100"
    size = (pair.pixels, pair.pixels)
    first = pair.pixels if of_cifar else pair.pixels // 4
    sizes = [1, *(first // 2**stage for stage in reversed(range(3 if of_cifar else 4)))]
    channels = [64, 128, 256, 256] if of_cifar else [64, 128, 256, 512, 512]
    width = channels[-1]
    review = {"SHAPES": sizes, "OUT_SHAPES": sizes, "IN_CHANNELS": channels, "OUT_CHANNELS": channels}
    return {
        "kd": SimpleNamespace(TEMPERATURE=4, LOSS=losses(0.1, 0.9)),
        "dkd": SimpleNamespace(CE_WEIGHT=1.0, ALPHA=1.0, BETA=8.0, T=4.0, WARMUP=20),
        "at": SimpleNamespace(P=2, LOSS=losses(1.0, 1000.0)),
        "fitnet": SimpleNamespace(HINT_LAYER=2, INPUT_SIZE=size, LOSS=losses(1.0, 100.0)),
        "sp": SimpleNamespace(LOSS=losses(1.0, 3000.0)),
        "rkd": SimpleNamespace(
            DISTANCE_WEIGHT=25,
            ANGLE_WEIGHT=50,
            LOSS=losses(1.0, 1.0),
            PDIST=SimpleNamespace(EPSILON=1e-12, SQUARED=False),
        ),
        "pkt": SimpleNamespace(LOSS=losses(1.0, 30000.0)),
        "vid": SimpleNamespace(EPS=1e-5, INIT_PRED_VAR=5.0, INPUT_SIZE=size, LOSS=losses(1.0, 1.0)),
        "nst": SimpleNamespace(LOSS=losses(1.0, 50.0)),
        "ofd": SimpleNamespace(LOSS=losses(1.0, 0.001), CONNECTOR=SimpleNamespace(KERNEL_SIZE=1)),
        "crd": SimpleNamespace(
            MODE="exact",
            FEAT=SimpleNamespace(DIM=128, STUDENT_DIM=width, TEACHER_DIM=width),
            LOSS=losses(1.0, 0.8),
            NCE=SimpleNamespace(K=NEGATIVES, MOMENTUM=0.5, TEMPERATURE=0.07),
        ),
        "reviewkd": SimpleNamespace(
            CE_WEIGHT=1.0,
            REVIEWKD_WEIGHT=5.0,
            WARMUP_EPOCHS=20,
            MAX_MID_CHANNEL=512,
            STU_PREACT=not of_cifar,
            **review,
        ),
    }
