"""The training loop that every task runs through.

A step reads: learning rate, loss, backward, clip, update, average. Everything that such a step changes is in the
checkpoint or a function of the step, so a run that was cut off anywhere and resumed ends exactly like one that was not.
"""

import time
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from tailmatch.analysis.groups import GROUP_NAMES
from tailmatch.engine.batchnorm import with_batchnorm
from tailmatch.engine.checkpoint import checkpoints, load_newest, save_checkpoint
from tailmatch.engine.device import Autocast
from tailmatch.engine.distributed import World, any_of_processes, barrier, data_parallel
from tailmatch.engine.evaluated import EvaluatedWeights, described
from tailmatch.engine.evaluation import Evaluations, show
from tailmatch.engine.examination import Examination
from tailmatch.engine.optim import build_optimizer, set_learning_rate
from tailmatch.engine.options import OptimOptions, RunOptions
from tailmatch.engine.profile import Profile
from tailmatch.engine.progress import Progress
from tailmatch.engine.recent import RecentSteps
from tailmatch.engine.records import RunFolder
from tailmatch.engine.schedule import Schedule
from tailmatch.engine.seeding import random_state, set_random_state
from tailmatch.engine.stopping import Asked, Interrupted
from tailmatch.engine.task import Task
from tailmatch.errors import UserError


class Trainer:
    """Trains one task, keeps its run folder, and can go on where an earlier process stopped."""

    def __init__(
        self,
        task: Task,
        optim: OptimOptions,
        run: RunOptions,
        folder: RunFolder,
        identity: Mapping[str, Any],
        device: torch.device,
        world: World,
    ) -> None:
        self.task, self.optim, self.run, self.folder = task, optim, run, folder
        self.identity, self.device, self.world = dict(identity), device, world
        task.model, task.state = (
            with_batchnorm(module, run.batchnorm, world.size) for module in (task.model, task.state)
        )
        self.model = data_parallel(task.model, world, device)
        if run.compile:
            self.model = torch.compile(self.model)  # type: ignore[assignment]
        self.optimizer = build_optimizer(task.parameters(), optim, task.rate_factors())
        self.weights = task.weights = EvaluatedWeights.of(task.model, optim, task.statistics_sample)
        self.average = self.weights.average
        self.initial = deepcopy(task.model.state_dict()) if task.networks > 1 else {}
        self.schedule = Schedule(optim, task.network_steps, task.steps_per_epoch or 1)
        self.autocast = Autocast.pick(run.precision, device)
        self.scaler = self.autocast.scaler()
        parts: dict[str, Any] = {"model": task.model, "task": task.state, "optimizer": self.optimizer}
        self.stateful = parts | {"scaler": self.scaler} | ({} if self.average is None else {"ema": self.average})
        self.profile = Profile(run.profile, device)
        self.eval_every = run.steps_between_evaluations(task.steps, task.steps_per_epoch)
        self.checkpoint_every = run.checkpoint_every or self.eval_every
        self.examination = Examination(task, self.weights, self.autocast, folder, world.is_main)
        self.step, self.seconds, self.training_seconds, self.steps_here = 0, 0.0, 0.0, 0
        self._training_seconds_before = 0.0
        self.recent = RecentSteps()

    # -- the run ------------------------------------------------------------------------------------------------------

    def fit(self) -> dict[str, Any]:
        """Train to the last step and write the result; returns what result.json says."""
        metrics_checksum = self._restore()
        if self.world.is_main:
            self.folder.open_metrics(self.step, metrics_checksum)
            self._write_result("running")
            if self.step == 0:
                self.task.begin(self.folder.path)
        started = time.perf_counter() - self.seconds
        with Asked() as asked, Progress(self.task.steps, self.step, not self.world.is_main) as progress:
            while self.step < self.task.steps:
                begun = time.perf_counter()
                self._train_step()
                self.training_seconds += time.perf_counter() - begun
                self.seconds = time.perf_counter() - started
                progress.advance()
                self._keep_records(progress)
                self._answer(asked)
        return self._finish()

    def _train_step(self) -> None:
        profile, began = self.profile, self.task.began(self.step)
        with self.autocast():
            self.task.prepare(self.step, profile)
        if 0 < began == self.step:
            self._start_anew()
        set_learning_rate(self.optimizer, self._rate(self.step))
        self.model.train()
        with self.autocast():
            result = self.task.step(self.model, self.step, profile)
        with profile("backward"):
            self.optimizer.zero_grad(set_to_none=True)
            self.scaler.scale(result.loss).backward()
        with profile("optimizer"):
            if self.optim.clip_grad is not None:
                self.scaler.unscale_(self.optimizer)
                nn.utils.clip_grad_norm_(self.task.parameters(), self.optim.clip_grad)
            self.scaler.step(self.optimizer)
            self.scaler.update()
        with profile("EMA"):
            if self.average is not None:
                self.average.update(self.step - began)
        with profile("logging"):
            self.recent.add(result)
        self.step += 1
        self.steps_here += 1
        if self.task.steps_per_epoch and self.step % self.task.steps_per_epoch == 0:
            self.task.end_epoch(self.step // self.task.steps_per_epoch - 1)

    def _start_anew(self) -> None:
        """The next network: the initial weights, and nothing that the optimizer and the average know of the last."""
        self.task.model.load_state_dict(self.initial)
        self.optimizer.state.clear()
        if self.average is not None:
            self.average.load_state_dict(self.task.model.state_dict())
        self.task.start_anew()

    def _rate(self, step: int) -> float:
        return self.schedule(step - self.task.began(step))

    def _keep_records(self, progress: Progress) -> None:
        last = self.step == self.task.steps
        evaluate = last or self.step % self.eval_every == 0
        checkpoint = last or self.step % self.checkpoint_every == 0
        if evaluate or self.step % self.run.log_every == 0:
            with self.profile("logging"):
                row = self._drain()
            progress.show(loss=f"{row['train/loss']:.3f}")
            if evaluate:
                row |= self._evaluate()
                progress.show(accuracy=show(self.examination.evaluations.last, groups=True))
            if self.world.is_main:
                with self.profile("logging"):
                    self.folder.log(self.step, self.seconds, row)
            if evaluate:
                progress.evaluated()
        if checkpoint:
            self._save()

    def _evaluate(self) -> dict[str, float | None]:
        try:
            row = self.examination.hold(self.step)
        except FloatingPointError:
            self._fail("The network's outputs", "nan", self.step)
        if self.world.is_main:
            self._write_result("running")
        return row | self.task.metrics()

    def _finish(self) -> dict[str, Any]:
        if not self.examination.evaluations.rows:  # a resumed run that had no step left
            self._evaluate()
        self.examination.conclude()
        if self.world.is_main:
            self._write_result("finished")
            self.folder.close("finished")
        barrier()
        return self.folder.result() if self.world.is_main else {}

    # -- numbers ------------------------------------------------------------------------------------------------------

    def _drain(self) -> dict[str, float | None]:
        """The means since the last row; stops the run where a loss was not finite."""
        losses, means = self._finite_losses(), self.recent.means()
        self.recent.clear()
        seconds_here = self.training_seconds - self._training_seconds_before
        speed = self.task.images_per_step * self.steps_here / max(seconds_here, 1e-9)
        row = {"train/loss": float(losses.mean()), **means}
        return {**row, "train/lr": self._rate(self.step - 1), "train/images_per_second": round(speed, 1)}

    def _finite_losses(self) -> Tensor:
        """The losses since the last row, means over the processes; stops all of them where one is not finite."""
        losses = self.recent.losses()
        if not bool(losses.isfinite().all()):
            first = int((~losses.isfinite()).nonzero()[0])
            self._fail("The loss", str(float(losses[first])), self.step - len(losses) + first + 1)
        return losses

    def _fail(self, what: str, value: str, step: int) -> NoReturn:
        saved = checkpoints(self.folder.checkpoints)
        good = f"the last good checkpoint is {saved[-1]}" if saved else "no checkpoint had been written yet"
        if self.world.is_main:
            self._write_result("failed", error=f"{what} became {value} at step {step}")
        raise UserError(f"{what} became {value} at step {step}; {good}. Try a lower --lr, or --clip-grad 1.")

    def _write_result(self, status: str, **more: Any) -> None:
        speed = self.task.images_per_step * self.step / self.training_seconds if self.training_seconds else None
        groups = self.task.groups
        self.folder.write_result(
            {
                **self.identity,
                "status": status,
                **self.examination.evaluations.report(),
                "class_names": list(self.task.class_names),
                "evaluated_weights": described(self.optim),
                "groups": {"rule": groups.rule, **{name: list(getattr(groups, name)) for name in GROUP_NAMES}},
                "steps": self.step,
                "total_steps": self.task.steps,
                "seconds": round(self.seconds, 3),
                "images_per_second": round(speed, 1) if speed else None,
                **({} if self.task.store is None else {"store": self.task.store}),
                **self.task.facts(),
                **more,
            }
        )

    # -- stopping and going on ----------------------------------------------------------------------------------------

    def _save(self) -> None:
        """Save everything; never behind a loss that was not finite."""
        recent = self.recent.shared(self._finite_losses()) if len(self.recent) else []
        self.task.synchronize()
        if not self.world.is_main:
            return
        state = {
            **{name: part.state_dict() for name, part in self.stateful.items()},
            "random": random_state(self.device),
            "initial": self.initial,
            "evaluations": self.examination.evaluations.rows,
            "recent": recent,
            "metrics": self.folder.metrics_checksum(),
            "seconds": self.seconds,
            "training_seconds": self.training_seconds,
        }
        save_checkpoint(self.folder.checkpoints, self.step, state)

    def _restore(self) -> str | None:
        """Go on from the newest checkpoint, if there is one; returns the checksum of the metrics up to there."""
        found = load_newest(self.folder.checkpoints)
        if found is None:
            return None
        step, state, remarks = found
        for remark in remarks:
            print(remark)
        try:
            return self._take_up(step, state)
        except (LookupError, RuntimeError, ValueError, TypeError, AttributeError, AssertionError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"The checkpoints in {self.folder.checkpoints} do not fit this configuration ({reason}); they come "
                "from another run or another version: start a new run with another --out."
            ) from error

    def _take_up(self, step: int, state: Mapping[str, Any]) -> str | None:
        if not 0 <= step <= self.task.steps:
            raise ValueError(f"they are of step {step}, and the run has {self.task.steps}")
        self.step = step
        for name, part in self.stateful.items():
            part.load_state_dict(state[name])
        if self.initial:
            self.initial = state["initial"]
        self.examination.evaluations = Evaluations(state["evaluations"])
        self.examination.evaluations.report()  # rows of another form fail here, and not in the middle of the training
        self.recent.restore(state["recent"], self.device)
        self.seconds, self.training_seconds = float(state["seconds"]), float(state["training_seconds"])
        self._training_seconds_before = self.training_seconds
        set_random_state(state["random"], self.device)  # all processes began with the same, too
        return state.get("metrics")

    def _answer(self, asked: Asked) -> None:
        """Several processes can only stop or save together, and meet for it as often as for a row of metrics."""
        if self.world.size > 1 and self.step % self.run.log_every:
            return
        stop, save = any_of_processes([asked.stop, asked.save], self.device)
        if stop and self.step < self.task.steps:
            self._interrupt()
        elif save:
            asked.save = False
            self._save()
            if self.world.is_main:
                print(f"Saved after step {self.step}; the run goes on.", flush=True)

    def _interrupt(self) -> None:
        self._save()
        if self.world.is_main:
            self.folder.close("interrupted")
        raise Interrupted(f"Stopped after step {self.step}; go on with --resume {self.folder.path}")
