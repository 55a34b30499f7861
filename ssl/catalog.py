"""The parts of a semi-supervised algorithm by name, with their options. Imports no torch, since `--help` lists them.

A part is its class and its row here. `build.py` gives a constructor what it asks for by name: an option of the row, or
`num_classes`, `unlabeled_count` and `steps`; an add-on's gets its `setting`.
"""

from tailmatch.declare import Option, Part, number

_THRESHOLD = {"threshold": number(0.95, "confidence from which a pseudo-label is accepted", high=1)}
# Runs of up to `resolve.SHORT_RUN` steps take less.
_MOMENTUM = {"running_momentum": number(0.999, "momentum of running means", high=1, excluded=1, argument="momentum")}

TARGETS = {
    "hard": Part(target="ssl.targets:Hard", description="the most likely class"),
    "soft": Part(target="ssl.targets:Soft", description="the whole prediction"),
    "sharpened": Part(
        target="ssl.targets:Sharpened",
        description="the whole prediction, at a temperature below 1",
        options={"sharpening": number(0.5, "their temperature", high=1, excluded=0, argument="temperature")},
    ),
}
ACCEPTANCES = {
    "all": Part(target="ssl.acceptance:Acceptance", description="every image"),
    "fixed": Part(target="ssl.acceptance:FixedThreshold", description="FixMatch's", options=_THRESHOLD),
    "curriculum": Part(
        target="ssl.adaptive_acceptance:CurriculumThreshold", description="FlexMatch's", options=_THRESHOLD
    ),
    "self-adaptive": Part(
        target="ssl.adaptive_acceptance:SelfAdaptiveThreshold",
        description="FreeMatch's",
        options={"fairness_weight": number(0.0, "weight of the fairness term"), **_MOMENTUM},
    ),
    "gaussian": Part(
        target="ssl.adaptive_acceptance:GaussianWeight", description="SoftMatch's weights", options=_MOMENTUM
    ),
    "relative": Part(target="ssl.acceptance:RelativeThreshold", description="AdaMatch's", options=_THRESHOLD),
    "dash": Part(target="ssl.acceptance:DashThreshold", description="Dash's"),
}
ALIGNMENTS = {
    "none": Part(target="ssl.alignment:Alignment", description="pseudo-labels as they are"),
    "distribution": Part(
        target="ssl.alignment:DistributionAlignment", description="like the labelled predictions", options=_MOMENTUM
    ),
    "uniform": Part(
        target="ssl.alignment:UniformAlignment", description="judged as if classes were even", options=_MOMENTUM
    ),
}
CHOSEN = {"targets": TARGETS, "acceptance": ACCEPTANCES, "alignment": ALIGNMENTS}
"""What an algorithm has one of, by the option that chooses it."""
OPTIONS: dict[str, Option] = {
    name: option for parts in CHOSEN.values() for part in parts.values() for name, option in part.options.items()
}

ADD_ONS = {
    "logit-adjust": Part(
        target="ssl.add_on_logit_adjust:AdjustedTraining",
        description="logit adjustment while training (Menon et al. 2021, arXiv 2007.07314)",
    ),
    "logit-adjust-posthoc": Part(
        target="ssl.add_on_logit_adjust:AdjustedEvaluation",
        description="logit adjustment of the evaluated logits (same paper)",
    ),
    "darp": Part(target="ssl.add_on_darp:AlignedPseudoLabels", description="DARP (Kim et al. 2020, arXiv 2007.08844)"),
    "crest": Part(
        target="ssl.add_on_crest:ClassRebalancedSelfTraining", description="CReST+ (Wei et al. 2021, arXiv 2102.09559)"
    ),
    "abc": Part(target="ssl.add_on_abc:BalancedClassifier", description="ABC (Lee et al. 2021, arXiv 2110.10368)"),
    "daso": Part(target="ssl.add_on_daso:SemanticPseudoLabels", description="DASO (Oh et al. 2022, arXiv 2106.05682)"),
}
"""Methods for long tails, on top of any algorithm."""


def options_chosen(algorithm: object) -> dict[str, Option]:
    """The options of the parts that a resolved algorithm names."""
    chosen = [parts[getattr(algorithm, kind)] for kind, parts in CHOSEN.items()]
    return {name: option for part in chosen for name, option in part.options.items()}
