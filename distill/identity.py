"""What a run calls itself: in its folder's name, in result.json and in tables. Free of torch."""

from typing import Any

from tailmatch.datasets.own_data import name_of
from tailmatch.distill.config import DistillConfig
from tailmatch.engine.files import plain_name


def method_label(config: DistillConfig) -> str:
    """`ikl`, `kd, standardised logits`; of a network alone what it learns by, `cross-entropy`."""
    if not config.distills:
        return "cross-entropy"
    return config.method.name + (", standardised logits" if config.distillation.logit_std else "")


def identity_of(config: DistillConfig) -> dict[str, Any]:
    """The first entries of result.json."""
    return {
        "dataset": name_of(config.data.dataset, config.data.data_root),
        "method": method_label(config),
        "model": config.student,
        "seed": config.run.seed,
    }


def folder_name(config: DistillConfig) -> str:
    """The name that a run folder gets where none is asked for."""
    words = method_label(config).replace(", ", "-").replace(" ", "-")
    dataset = name_of(config.data.dataset, config.data.data_root)
    return plain_name(f"{dataset}-{config.student}-{words}-s{config.run.seed}")
