"""One training run from a checked configuration to a finished run folder: the frame around every task."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch

from tailmatch.engine.config import recorded, to_yaml, with_values
from tailmatch.engine.device import Autocast, keep_freed_memory, pick_device
from tailmatch.engine.distributed import World, barrier, joined
from tailmatch.engine.evaluated import in_words, settled
from tailmatch.engine.loop import Trainer
from tailmatch.engine.records import RunFolder
from tailmatch.engine.schedule import Schedule
from tailmatch.engine.seeding import seed_everything
from tailmatch.engine.stopping import Interrupted, save_signals_ignored
from tailmatch.engine.task import Task
from tailmatch.engine.trackers import refuse_missing
from tailmatch.errors import UserError

BuildTask = Callable[[Any, torch.device, World], Task]


class Session:
    """What a task's command needs around its training."""

    def __init__(self, config: Any, task_name: str, run_name: str, own_parts: Mapping[str, str] | None = None) -> None:
        self.config, self.task_name, self.run_name = config, task_name, run_name
        self.own_parts = dict(own_parts or {})  # what the user brought instead of what options name, in words
        self.world = World.from_environment()
        self.device = pick_device(config.run.device, self.world.local_rank)
        Autocast.pick(config.run.precision, self.device)  # refused here rather than in a run that has begun
        call = config.call
        refuse_missing(call.track)
        if call.out is not None and call.resume is None and not call.dry_run and self.world.is_main:
            RunFolder(call.out).refuse_other_runs()  # before a teacher is trained for it
        keep_freed_memory()
        if config.run.threads is not None:
            torch.set_num_threads(config.run.threads)

    def run(self, build: BuildTask, identity: dict[str, Any]) -> tuple[RunFolder, dict[str, Any]]:
        """Build the task, train it (or go on training it), and give back the run folder and its result."""
        if self.config.optim.batch_size % self.world.size:
            raise UserError(
                f"batch_size must be a multiple of the {self.world.size} processes, got {self.config.optim.batch_size}."
            )
        with joined(self.world, self.device), ExitStack() as held:
            folder = self._folder(held)
            if folder.is_finished:
                return folder, folder.result()
            try:
                return folder, self._train(folder, build, identity)
            except FileNotFoundError as error:
                if folder.path.exists():
                    raise
                raise UserError(
                    f"The run's folder {folder.path} is gone; put it back and go on with --resume, or start the run "
                    "again."
                ) from error
            except RuntimeError as error:
                if not isinstance(error, torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(error):
                    raise
                raise UserError("The memory is full; take a smaller --batch-size or --model.") from error
            except ValueError as error:
                if not str(error).startswith("Expected more than 1 value per channel"):  # torch's BatchNorm
                    raise
                raise UserError(
                    "BatchNorm has one value of a channel to go by, of one image of one pixel: take a larger "
                    "--batch-size, or another --model."
                ) from error

    def _train(self, folder: RunFolder, build: BuildTask, identity: dict[str, Any]) -> dict[str, Any]:
        seed_everything(self.config.run.seed)
        task = build(self.config, self.device, self.world)
        try:
            self.config = _settled(self.config, task)
            if folder.config_file.exists():
                folder.refuse_other_data(task.fingerprint, task.store)
            elif self.world.is_main:
                extra = {"split_fingerprint": task.fingerprint, **({"store": task.store} if task.store else {})}
                if task.started is not None:
                    extra["init"] = task.started.in_words()
                    print(f"init: {task.started.in_words()}", flush=True)
                folder.write_environment(self.device, self.config.run.seed, self.world.size, **extra)
                # Last, since the folder counts as a run from here on.
                folder.write_config(to_yaml(self.config, self.task_name, self.own_parts))
            barrier()
            folder.show_in(self.config.call.track, {"task": self.task_name, **recorded(self.config)})
            identity = {"task": self.task_name, "name": folder.path.resolve().name, **identity}
            if self.own_parts:
                identity["own_parts"] = self.own_parts
            trainer = Trainer(task, self.config.optim, self.config.run, folder, identity, self.device, self.world)
            result = trainer.fit()
        finally:
            folder.close("failed")  # unless it has ended in some other way already
            task.close()
        if self.config.run.profile and self.world.is_main:
            print(trainer.profile.table(trainer.steps_here))
        return result

    def dry_run(self, build: BuildTask) -> str:
        """What would be trained: data, parameters, steps and learning rates."""
        seed_everything(self.config.run.seed)
        task = build(self.config, self.device, World())
        optim = _settled(self.config, task).optim
        schedule = Schedule(optim, task.network_steps, task.steps_per_epoch or 1)
        rates = ", ".join(f"{rate:.3g} at {step}" for step, rate in schedule.landmarks())
        trained = sum(p.numel() for p in task.parameters())
        lines = [
            *(f"{name:<18}{value}" for name, value in task.describe().items()),
            f"{'parameters':<18}{trained:,}",
            f"{'steps':<18}{task.steps:,} of {task.images_per_step:.6g} images",
            f"{'learning rate':<18}{rates}",
            f"{'evaluated':<18}{in_words(optim)}",
            f"{'device':<18}{self.device}, {torch.get_num_threads()} threads",
            f"{'split':<18}{task.fingerprint}",
        ]
        task.close()
        return "\n".join(lines)

    def _folder(self, held: ExitStack) -> RunFolder:
        """The run folder: the main process makes it and tells the others where it is, or why there is none."""
        answer: list[Any] = [None]
        if self.world.is_main:
            try:
                answer = [self._claimed(held).path]
            except (UserError, OSError) as error:
                answer = [error]
        if self.world.size > 1:
            torch.distributed.broadcast_object_list(answer, src=0)
        if isinstance(answer[0], Exception):
            raise answer[0]
        return RunFolder(answer[0])

    def _claimed(self, held: ExitStack) -> RunFolder:
        out, resumed = self.config.call.out, self.config.call.resume is not None
        if resumed and (out / "config.yaml").is_file():
            folder = RunFolder(out)
            if not folder.is_finished:
                held.enter_context(folder.held())
                folder.checkpoints.mkdir(exist_ok=True)
            return folder
        folder = RunFolder.new(out, self.task_name, self.run_name)
        held.enter_context(folder.held())
        folder.refuse_other_runs()  # a run may have begun and ended there between the look and the lock
        return folder


def run_training(
    config: Any,
    task_name: str,
    run_name: str,
    build: BuildTask,
    train: Callable[[Session], tuple[Any, ...]],
    summary: Callable[..., str],
) -> int:
    """What the commands of all tasks do with a resolved configuration: show it, try it, or train.

    Args:
        train: the training itself.
        summary: the closing table, of what the training gave back.

    Returns:
        The exit code.
    """
    if config.call.print_config:
        print(to_yaml(config, task_name), end="")
        return 0
    with save_signals_ignored():
        session = Session(config, task_name, run_name)
        if config.call.dry_run:
            print(session.dry_run(build))
            return 0
        try:
            outcome = train(session)
        except Interrupted as stopped:
            print(stopped)
            return 130
        if session.world.is_main:
            print(summary(*outcome))
        return 0


def _settled(config: Any, task: Task) -> Any:
    """The configuration with what only the built task knows."""
    config = replace(config, optim=settled(config.optim, task.moving_norms(), task.network_steps))
    return config if task.started is None else with_values(config, task.started.options())
