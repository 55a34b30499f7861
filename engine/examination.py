"""What the network makes of the test and validation images, under way and at the end, and what is kept of it."""

from functools import partial

import torch
from torch import Tensor, nn

from tailmatch.analysis.groups import ALL_AND_GROUPS
from tailmatch.engine.checkpoint import save_weights
from tailmatch.engine.confusions import write_confusions
from tailmatch.engine.device import Autocast
from tailmatch.engine.evaluated import EvaluatedWeights
from tailmatch.engine.evaluation import Evaluations, accuracy_of, balanced_accuracy
from tailmatch.engine.records import RunFolder, write_predictions
from tailmatch.engine.task import Task


class Examination:
    """Tests the weights that count; the main process keeps predictions and weights in the run's folder."""

    def __init__(
        self, task: Task, weights: EvaluatedWeights, autocast: Autocast, folder: RunFolder, is_main: bool
    ) -> None:
        self.task, self.weights, self.autocast, self.folder, self.is_main = task, weights, autocast, folder, is_main
        self.evaluations = Evaluations()

    def hold(self, step: int) -> dict[str, float | None]:
        """Test after so many steps; returns the row of metrics.

        Raises:
            FloatingPointError: where the last update broke the weights, and no loss has seen them yet.
        """
        online = None
        if self.weights.average is not None:
            with self.autocast(), self.weights.ready(online=True) as model:
                online = self._accuracy(self._logits(model, "test"), "test")
        with self.autocast(), self.weights.ready() as model:
            logits = {split: self._logits(model, split) for split in self.task.labels}
            found = {split: self._accuracy(logits[split], split) for split in logits}
            if "val" in found:  # held out of a long tail, these images have one themselves
                found["val"]["balanced"] = balanced_accuracy(logits["val"], self.task.labels["val"])
            self.evaluations.add(step, **found, **({"online": online} if online else {}))
            self._keep_selected(model, logits["test"])
        row = {f"eval/accuracy/{group}": found["test"][group] for group in ALL_AND_GROUPS}
        if "val" in found:
            row |= {f"eval/val_accuracy/{group}": found["val"][group] for group in ALL_AND_GROUPS}
        if online is not None:
            row["eval/online_accuracy/all"] = online["all"]
        return row

    def conclude(self) -> None:
        """Keep the trained weights, what they say of every test image, and what they confuse."""
        with self.autocast(), self.weights.ready() as model:
            if self.is_main:
                test = self._logits(model, "test")
                self._write_predictions("predictions.npz", test, **self.task.predictions())
                pictures = partial(self.task.pictures, "test")
                write_confusions(self.folder.path / "confusions.npz", test, self.task.labels["test"], pictures)
                save_weights(self.folder.path / "weights.safetensors", model.state_dict(), self.task.card())

    def _keep_selected(self, model: nn.Module, test: Tensor) -> None:
        """Where a validation set chooses, keep the weights it would choose and what they say of the test images."""
        chosen = self.evaluations.selected_row()
        if chosen is self.evaluations.rows[-1] and self.is_main:
            save_weights(self.folder.path / "selected.safetensors", model.state_dict(), self.task.card())
            self._write_predictions("predictions_selected.npz", test)

    def _accuracy(self, logits: Tensor, split: str) -> dict[str, float | None]:
        if bool(logits.isnan().any()):
            raise FloatingPointError
        return accuracy_of(logits, self.task.labels[split], self.task.groups)

    def _logits(self, model: nn.Module, split: str) -> Tensor:
        with torch.inference_mode():
            return self.task.logits(model, split)

    def _write_predictions(self, name: str, logits: Tensor, **more: Tensor) -> None:
        task = self.task
        counts, names = task.train_class_counts, task.class_names
        write_predictions(self.folder.path / name, logits, task.labels["test"], counts, names, **more)
