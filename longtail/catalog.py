"""Second stages by name: what each is, what it needs and what it leaves. Imports no torch, since
`--help` reads it.

A second stage of ours is added by its function in `two_stage.py` and one row here.
"""

from dataclasses import dataclass

from tailmatch.declare import Part, choice, number


@dataclass(frozen=True, kw_only=True)
class SecondStage(Part):
    """A second stage: a function that gives a trained, frozen model another classifier.

    It is called with its options and those of `model` and `images` that it names, and returns a `TrainedPart`.
    """

    head: str = "linear"
    """The kind of classifier that it leaves."""
    needs_linear_head: bool = False
    """Whether it starts from the lengths of a linear classifier's weights, which a cosine one ignores."""
    trains: bool = True
    """Whether it takes steps; else it computes its classifier."""
    epochs: int = 10
    """Its usual length."""


_TRAINED = {
    "stage2_batchnorm": choice(
        "frozen",
        ("frozen", "train"),
        "the statistics of BatchNorm, as the first stage left them or going on with the training",
        argument="batchnorm",
    )
}

SECOND_STAGES: dict[str, SecondStage] = {
    "crt": SecondStage(
        target="longtail.two_stage:crt",
        description="a classifier drawn anew, all of it trained under class-balanced sampling",
        options=_TRAINED,
    ),
    "lws": SecondStage(
        target="longtail.two_stage:lws",
        description="the old one times a factor a class, which alone is trained, under class-balanced sampling",
        head="scaled",
        needs_linear_head=True,
        options=_TRAINED,
    ),
    "tau-norm": SecondStage(
        target="longtail.two_stage:tau_norm",
        description="the old weights over their norm to the power tau, without bias and without training",
        needs_linear_head=True,
        trains=False,
        options={"tau": number(None, "power of the norms; by default the one that is best on the validation images")},
    ),
    "ncm": SecondStage(
        target="longtail.two_stage:ncm",
        description="the cosine with the mean feature of each class, without training",
        head="cosine",
        trains=False,
    ),
}
"""Of decoupled training (Kang et al. 2020, arXiv 1910.09217)."""
