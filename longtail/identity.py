"""What a run calls itself: in its folder's name, in result.json and in tables. Free of torch."""

from typing import Any

from tailmatch.datasets.own_data import name_of
from tailmatch.engine.files import plain_name
from tailmatch.longtail.config import LongtailConfig


def method_label(config: LongtailConfig) -> str:
    """`balanced-softmax, drw`; a second stage is named by itself."""
    method = config.method
    if method.stage2 is not None:
        return method.stage2
    words = [config.label_loss.name]
    if method.sampler not in (None, "instance"):
        words.append(f"{method.sampler} sampling")
    if method.drw is not None:
        words.append("drw")
    if config.distills and (config.distillation.prior_tau or config.distillation.prior_rho):
        words.append("prior-adjusted")
    if method.post_hoc_tau:
        words.append(f"post-hoc {method.post_hoc_tau:g}")
    return ", ".join(words)


def identity_of(config: LongtailConfig) -> dict[str, Any]:
    """The first entries of result.json."""
    return {
        "dataset": name_of(config.data.dataset, config.data.data_root),
        "method": method_label(config),
        "loss": config.loss.name,
        "model": config.method.model,
        "seed": config.run.seed,
    }


def folder_name(config: LongtailConfig) -> str:
    """The name that a run folder gets where none is asked for."""
    words = method_label(config).replace(", ", "-").replace(" ", "-")
    loss = f"-{config.loss.name}" if config.distills else ""
    dataset = name_of(config.data.dataset, config.data.data_root)
    return plain_name(f"{dataset}-{config.method.model}-{words}{loss}-s{config.run.seed}")
