"""The hard-label losses' own options as the command line and the recipes know them: `--label-loss ldam`."""

from dataclasses import dataclass
from typing import Annotated

from tailmatch.engine.part_options import PartOptions, one_of, with_options
from tailmatch.losses.catalog import LABEL_LOSSES


@dataclass(frozen=True, kw_only=True)
@with_options(name=LABEL_LOSSES)
class LabelLossOptions(PartOptions):
    """The loss against the labels, and its own options; losses/README.md says which loss has which."""

    kind, catalog = "label loss", LABEL_LOSSES

    name: Annotated[str, one_of(LABEL_LOSSES, name="label-loss", prefix_name=False)] = "cross-entropy"
    """Which hard-label loss of the shared module."""
