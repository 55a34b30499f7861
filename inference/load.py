"""A finished run as a classifier: its network, what it expects of an image, and the names of its classes.

from tailmatch import load_run

run = load_run("runs/ssl/NAME")
run.predict("bird.jpg", top=3)            # [[("wren", 0.91), ("robin", 0.05), ("tit", 0.01)]]
logits = run.model(run.preprocess(image))
"""

import os
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor, nn

from tailmatch.engine.card import Card
from tailmatch.engine.checkpoint import load_weights
from tailmatch.engine.device import pick_device
from tailmatch.engine.options import Device
from tailmatch.engine.recorded import WEIGHTS_FILES, result_of
from tailmatch.errors import UserError
from tailmatch.inference.config import Weights
from tailmatch.inference.images import Images, Preprocess
from tailmatch.models.build import build_model
from tailmatch.models.classifiers import replace_head
from tailmatch.models.head import head_of

Ranking = list[tuple[str, float]]  # the likeliest classes of an image, the most likely first
EXPORTED = "model.safetensors"  # in a folder that `export --format hf` wrote
_BACKBONES = "tailmatch.features.embed.again"  # for runs on stores alone; by its name, since it builds on this file


class ShiftedLogits(nn.Module):
    """A network whose logits are adjusted after training (arXiv 2007.07314), as the run's evaluations did."""

    shift: Tensor

    def __init__(self, network: nn.Module, shift: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("shift", torch.tensor(shift))

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images) + self.shift


class LoadedRun:
    """What `load_run` gives.

    Attributes:
        model: the network in evaluation mode, normalised images to the logits that the run's evaluations saw.
        preprocess: images of any kind to the network's input.
        card: what the weights' file says of them.
        file: where the weights come from.
    """

    def __init__(self, model: nn.Module, card: Card, file: Path, device: torch.device) -> None:
        self.card, self.file, self.device = card, file, device
        # In this order of memory convolutions take two thirds of the time on a CPU.
        self.model = model.to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.preprocess = Preprocess(card, device)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.card.class_names

    def predict(self, images: Images, top: int = 5, batch_size: int = 128) -> list[Ranking]:
        """For each image the names of its likeliest classes with their probabilities; one image is a list of one.

        Raises:
            UserError: as `preprocess`.
        """
        parts = self.preprocess.chunks(images, batch_size)
        return [ranking for pixels in parts for ranking in self.rank(pixels, top)]

    @torch.inference_mode()
    def rank(self, pixels: Tensor, top: int = 5) -> list[Ranking]:
        """The same for what `preprocess.pixels` gave."""
        logits = self.model(self.preprocess.normalized(pixels)).float()
        probabilities, classes = logits.softmax(1).topk(min(top, len(self.class_names)))
        return [
            [(self.class_names[label], probability) for label, probability in zip(*row, strict=True)]
            for row in zip(classes.tolist(), probabilities.tolist(), strict=True)
        ]


def load_run(
    run: str | os.PathLike[str],
    *,
    weights: Weights = "last",
    model: nn.Module | None = None,
    device: Device = "auto",
) -> LoadedRun:
    """A finished run's network, ready for other images; the run's data set is not needed.

    That of a run on a feature store stands behind the store's backbone, whose weights are looked for where they were.

    Args:
        run: a run folder, or a .safetensors file out of one.
        weights: of a run folder: those at its end, or those that its validation images chose.
        model: the network to put the weights into, where it was one of the user's own.

    Raises:
        UserError: if there is no such run, it has not finished, its weights do not fit, or it is one on a feature store
            whose backbone cannot be had.
    """
    file = weights_file(Path(run).expanduser(), weights)
    card, state = load_weights(file)
    refuse_own_parts(card, file)
    network = _with_head(_network(card, model, file), card)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        first = " ".join(str(error).split("\n")[1:2]).strip()
        raise UserError(f"{file} does not fit the network {card.model}: {first}") from None
    if card.logit_shift is not None:
        network = ShiftedLogits(network, card.logit_shift)
    if card.features is not None:
        network, card = import_module(_BACKBONES).in_front_of(network, card, file)
    return LoadedRun(network, card, file, pick_device(device))


def refuse_own_parts(card: Card, file: Path) -> None:
    """Raises UserError where the weights would not give what the run's evaluations gave."""
    if card.own_parts:
        raise UserError(
            f"{file} is of a run that was evaluated through {' and '.join(card.own_parts)} of the user's own, which no "
            f"file can carry; build the task again and use its logits()."
        )


def weights_file(run: Path, weights: Weights = "last") -> Path:
    """The file of a run's weights."""
    if run.is_file():
        if weights != "last":
            raise UserError(f"{run} is a file of weights; --weights {weights} chooses between those of a run folder.")
        return run
    if not run.is_dir():
        raise UserError(f"There is no run folder or file {run}; `runs` lists what there is.")
    file = run / WEIGHTS_FILES[weights]
    if weights == "last" and not file.is_file() and (run / EXPORTED).is_file():
        return run / EXPORTED
    if file.is_file():
        return file
    if not (run / "config.yaml").is_file():
        raise UserError(f"{run} is no run folder: config.yaml is missing; give the folder that a training wrote.")
    if weights == "selected" and (run / WEIGHTS_FILES["last"]).is_file():
        raise UserError(f"{run} has no {file.name}, since it held out no validation images; leave out --weights.")
    raise UserError(f"{run} has no {file.name}: {_progress(run)}; go on with it by --resume {run}.")


def _progress(run: Path) -> str:
    try:
        result = result_of(run)
        status = f"has failed ({result['error']})" if result.get("status") == "failed" else "has not finished"
        return f"the run {status}, at step {result['steps']} of {result['total_steps']}"
    except KeyError:
        return "the run was cut off before its first evaluation"


def _network(card: Card, own: nn.Module | None, file: Path) -> nn.Module:
    if own is not None:
        return own
    if card.own_model:
        raise UserError(
            f"{file} holds the weights of a network of the user's own, {card.model}: build it in Python and give it as "
            f"tailmatch.load_run({str(file)!r}, model=...)."
        )
    with torch.random.fork_rng(devices=[]):  # the weights drawn here are overwritten; the caller's draws stay theirs
        return build_model(card.model, card.num_classes, card.channels, card.image_size)


def _with_head(network: nn.Module, card: Card) -> nn.Module:
    """The network with the classifier that the weights are of."""
    if card.head == "balanced":
        from tailmatch.ssl.add_on_abc import TwoHeads

        return TwoHeads(network, head_of(network))
    if card.head != "linear":
        replace_head(network, card.head, scale=card.head_scale)
    return network
