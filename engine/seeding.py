"""Every source of randomness, as a pure function of the run's seed.

Data order and augmentation draw from generators seeded with (seed, purpose, step, process). Nothing about them has to
be stored: a resumed run asks for step 700 and gets what the uninterrupted run got at step 700.
"""

import hashlib
import random

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed the global generators: weight initialisation and dropout draw from them."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  (user models may draw from numpy's global state)
    torch.manual_seed(seed)


def derived_seed(seed: int, *purpose: object) -> int:
    """A 63-bit seed for one purpose; different purposes give unrelated streams."""
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, *purpose: object) -> torch.Generator:
    """A CPU generator for one purpose of one run."""
    return torch.Generator().manual_seed(derived_seed(seed, *purpose))


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """The state of the global generators that a model may draw from while it trains."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: dict[str, torch.Tensor], device: torch.device) -> None:
    """Put back what `random_state` gave."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
