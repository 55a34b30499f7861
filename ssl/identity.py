"""What a run is called, and what its result says of it."""

from typing import Any

from tailmatch.ssl.config import AUTO, SSLConfig


def folder_name(config: SSLConfig) -> str:
    """Such as `digits_40-fixmatch-ikl-s0`; goes into the folder's name."""
    data = config.data
    labels = f"head{data.labeled_head}" if data.labeled_head is not None else str(data.labels or "all")
    method = "+".join([config.algorithm.algorithm, *config.algorithm.add_on])
    return f"{data.dataset}_{labels}-{method}-{loss_name(config)}-s{config.run.seed}"


def identity_of(config: SSLConfig) -> dict[str, Any]:
    """The entries of result.json that name the method, for grouping runs over seeds."""
    return {
        "dataset": config.data.dataset,
        "labels": config.data.labels,
        "algorithm": config.algorithm.algorithm,
        "add_ons": list(config.algorithm.add_on),
        "loss": loss_name(config),
        "model": config.algorithm.model,
        "seed": config.run.seed,
    }


def loss_name(config: SSLConfig) -> str:
    """The consistency loss; the labelled images' own where there is none."""
    return "ce" if config.loss.name == AUTO else config.loss.name
