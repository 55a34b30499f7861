"""The network of a run on a store, with the store's backbone in front of it: images to logits.

Shape suffixes: B images, F features, C classes.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tailmatch.datasets.feature_bank import Standard
from tailmatch.engine.card import Card
from tailmatch.engine.device import Autocast
from tailmatch.errors import UserError
from tailmatch.features.embed.backbone import Backbone, Data
from tailmatch.features.embed.build import build_backbone
from tailmatch.features.embed.config import EmbedConfig
from tailmatch.features.embed.views import Prepare
from tailmatch.features.layout import WEIGHTS
from tailmatch.guarded_text import Unreadable, read_json, read_yaml


class OnImages(nn.Module):
    """Backbone and head: pixels in 0..1, float [B, channels, H, W], to logits [B, C].

    The features are made as `embed` made them, rounded to half precision too, and standardised as the head knows them.
    """

    def __init__(self, backbone: Backbone, low_precision: bool, standard: Standard, head: nn.Module) -> None:
        super().__init__()
        self.embedder, self.head = backbone.embedder, head
        self._dtype = torch.bfloat16 if low_precision else None
        self._prepare = Prepare(backbone.preprocessing, self._dtype or torch.float32)
        self._standard = standard

    def forward(self, images: Tensor) -> Tensor:
        prepared = self._prepare((255 * images).round().to(torch.uint8))
        with Autocast(images.device, self._dtype)():
            features_BF, _ = self.embedder(prepared)
        logits: Tensor = self.head(self._standard(features_BF.to(torch.float16)))
        return logits


def in_front_of(head: nn.Module, card: Card, file: Path) -> tuple[nn.Module, Card]:
    """The head with its backbone, and the card of the two, which takes images.

    Args:
        card: of the head, whose `features` say how the backbone made them.
        file: the head's weights; the run beside it knows where the store lies, which knows where the backbone's are.

    Raises:
        UserError: if the backbone cannot be had, or is another one by its weights.
    """
    assert card.features is not None
    about: dict[str, Any] = card.features["about"]
    if not {"backbone", "preprocessing", "data", "augmentation"} <= about.keys():
        raise UserError(
            f"{file} is of a run on features that `run.py embed` did not make, so nobody knows how to make them of "
            f"images; `evaluate` tests it on its store again."
        )
    seen, name = about["preprocessing"], about["backbone"]["name"]
    try:
        backbone = build_backbone(*_asked(card, about, file))
    except UserError as error:
        raise UserError(
            f"{file} takes the features of {name}, which is not to be had: {error} `evaluate` tests the run without it."
        ) from None
    checksum = backbone.checksum()
    if checksum != about["backbone"]["sha256"]:
        raise UserError(
            f"{file} takes the features of {name} with weights {about['backbone']['sha256'][:12]}, and those that are "
            f"here are others ({checksum[:12]}); bring the weights that the store was made with."
        )
    network = OnImages(backbone, seen["precision"] == "bf16", Standard(card.mean, card.std), head)
    channels, size = backbone.preprocessing.channels, about["augmentation"]["image_size"]
    in_files = about["data"]["digests_of"] == "files"
    return network, replace(
        card,
        channels=channels,
        image_size=size,
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
        short_side=max(size, round(size / seen["crop"])) if in_files else None,
    )


def _asked(card: Card, about: dict[str, Any], file: Path) -> tuple[EmbedConfig, Data]:
    """The call that made the backbone, as far as it matters to it."""
    place = _place(file)
    mean, std = (tuple(about["preprocessing"][name]) for name in ("mean", "std"))
    size = about["preprocessing"]["size"]
    config = EmbedConfig(
        dataset="folder",
        out=Path(),
        backbone=place.get("backbone") or about["backbone"]["name"],
        weights=None if place.get("weights") is None else Path(place["weights"]),
        size=size,
        pixel_mean=mean,
        pixel_std=std,
    )
    return config, Data(class_names=card.class_names, channels=len(mean), size=size, mean=mean, std=std)


def _place(file: Path) -> dict[str, Any]:
    """Where the backbone was found when the store was made; empty where the store cannot be asked."""
    asked = file.with_name("config.yaml")
    try:
        root = read_yaml(asked)["data_root"]
        asked = Path(root).expanduser() / WEIGHTS
        found = read_json(asked)
    except Unreadable as error:
        raise UserError(f"{error.place(asked)} {error}.") from None
    except (OSError, TypeError, KeyError):
        return {}
    return found if isinstance(found, dict) else {}
