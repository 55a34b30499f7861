"""The parts of a semi-supervised algorithm by name, with their options. Imports no torch, since `--help` lists them.

A part is its class and its row here. `build.py` gives a constructor what it asks for by name: an option of the row, or
`num_classes`, `unlabeled_count` and `steps`; an add-on's gets its `setting`.
"""

from tailmatch.declare import Option, Part, number

_THRESHOLD = {"threshold": number(0.95, "confidence from which a pseudo-label is accepted", high=1)}
# Runs of up to `resolve.SHORT_RUN` steps take less.
_MOMENTUM = {"running_momentum": number(0.999, "momentum of running means", high=1, excluded=1, argument="momentum")}

TARGETS = {
    "hard": Part("ssl.targets:Hard", "the most likely class"),
    "soft": Part("ssl.targets:Soft", "the whole prediction"),
    "sharpened": Part(
        "ssl.targets:Sharpened",
        "the whole prediction, at a temperature below 1",
        {"sharpening": number(0.5, "their temperature", high=1, excluded=0, argument="temperature")},
    ),
}
ACCEPTANCES = {
    "all": Part("ssl.acceptance:Acceptance", "every image"),
    "fixed": Part("ssl.acceptance:FixedThreshold", "FixMatch's", _THRESHOLD),
    "curriculum": Part("ssl.adaptive_acceptance:CurriculumThreshold", "FlexMatch's", _THRESHOLD),
    "self-adaptive": Part(
        "ssl.adaptive_acceptance:SelfAdaptiveThreshold",
        "FreeMatch's",
        {"fairness_weight": number(0.0, "weight of the fairness term"), **_MOMENTUM},
    ),
    "gaussian": Part("ssl.adaptive_acceptance:GaussianWeight", "SoftMatch's weights", _MOMENTUM),
    "relative": Part("ssl.acceptance:RelativeThreshold", "AdaMatch's", _THRESHOLD),
    "dash": Part("ssl.acceptance:DashThreshold", "Dash's"),
}
ALIGNMENTS = {
    "none": Part("ssl.alignment:Alignment", "pseudo-labels as they are"),
    "distribution": Part("ssl.alignment:DistributionAlignment", "like the labelled predictions", _MOMENTUM),
    "uniform": Part("ssl.alignment:UniformAlignment", "judged as if classes were even", _MOMENTUM),
}
CHOSEN = {"targets": TARGETS, "acceptance": ACCEPTANCES, "alignment": ALIGNMENTS}
"""What an algorithm has one of, by the option that chooses it."""
OPTIONS: dict[str, Option] = {
    name: option for parts in CHOSEN.values() for part in parts.values() for name, option in part.options.items()
}

ADD_ONS = {
    "logit-adjust": Part(
        "ssl.add_on_logit_adjust:AdjustedTraining",
        "logit adjustment while training (Menon et al. 2021, arXiv 2007.07314)",
    ),
    "logit-adjust-posthoc": Part(
        "ssl.add_on_logit_adjust:AdjustedEvaluation", "logit adjustment of the evaluated logits (same paper)"
    ),
    "darp": Part("ssl.add_on_darp:AlignedPseudoLabels", "DARP (Kim et al. 2020, arXiv 2007.08844)"),
    "crest": Part("ssl.add_on_crest:ClassRebalancedSelfTraining", "CReST+ (Wei et al. 2021, arXiv 2102.09559)"),
    "abc": Part("ssl.add_on_abc:BalancedClassifier", "ABC (Lee et al. 2021, arXiv 2110.10368)"),
    "daso": Part("ssl.add_on_daso:SemanticPseudoLabels", "DASO (Oh et al. 2022, arXiv 2106.05682)"),
}
"""Methods for long tails, on top of any algorithm."""


def options_chosen(algorithm: object) -> dict[str, Option]:
    """The options of the parts that a resolved algorithm names."""
    chosen = [parts[getattr(algorithm, kind)] for kind, parts in CHOSEN.items()]
    return {name: option for part in chosen for name, option in part.options.items()}
