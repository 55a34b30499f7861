"""The add-ons by name."""

from collections.abc import Callable, Sequence

from tailmatch.errors import unknown_name
from tailmatch.ssl.add_on import AddOn, Setting
from tailmatch.ssl.add_on_abc import BalancedClassifier
from tailmatch.ssl.add_on_crest import ClassRebalancedSelfTraining
from tailmatch.ssl.add_on_darp import AlignedPseudoLabels
from tailmatch.ssl.add_on_daso import SemanticPseudoLabels
from tailmatch.ssl.add_on_logit_adjust import AdjustedEvaluation, AdjustedTraining

BUILDERS: dict[str, Callable[[Setting], AddOn]] = {
    "logit-adjust": AdjustedTraining,
    "logit-adjust-posthoc": AdjustedEvaluation,
    "darp": AlignedPseudoLabels,
    "crest": ClassRebalancedSelfTraining,
    "abc": BalancedClassifier,
    "daso": SemanticPseudoLabels,
}


def build_add_ons(names: Sequence[str], setting: Setting) -> list[AddOn]:
    """The add-ons of these names, in this order."""
    for name in names:
        if name not in BUILDERS:
            raise unknown_name("add-on", name, BUILDERS)
    return [BUILDERS[name](setting) for name in names]
