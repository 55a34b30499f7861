"""One training run from a checked configuration to a finished run folder: the frame around every task."""

from collections.abc import Callable
from typing import Any

import torch

from .config import to_yaml
from .device import pick_device
from .distributed import World, barrier, joined
from .loop import Trainer
from .records import RunFolder
from .schedule import build_schedule
from .seeding import seed_everything
from .task import Task

BuildTask = Callable[[Any, torch.device, World], Task]


class Session:
    """What a task's command needs around its training."""

    def __init__(self, config: Any, task_name: str, run_name: str) -> None:
        self.config, self.task_name, self.run_name = config, task_name, run_name
        self.world = World.from_environment()
        self.device = pick_device(config.run.device, self.world.local_rank)
        if config.run.threads is not None:
            torch.set_num_threads(config.run.threads)

    def run(self, build: BuildTask, identity: dict[str, Any]) -> tuple[RunFolder, dict[str, Any]]:
        """Build the task, train it (or go on training it), and give back the run folder and its result."""
        with joined(self.world, self.device):
            folder = self._folder()
            if folder.is_finished:
                return folder, folder.result()
            seed_everything(self.config.run.seed)
            task = build(self.config, self.device, self.world)
            if self.world.is_main and not folder.config_file.exists():
                folder.write_config(to_yaml(self.config, self.task_name))
                extra = {"split_fingerprint": task.fingerprint}
                folder.write_environment(self.device, self.config.run.seed, self.world.size, **extra)
            barrier()
            identity = {"task": self.task_name, "name": folder.path.name, **identity}
            trainer = Trainer(task, self.config.optim, self.config.run, folder, identity, self.device, self.world)
            try:
                result = trainer.fit()
            finally:
                task.close()
            if self.config.run.profile and self.world.is_main:
                print(trainer.profile.table(trainer.steps_here))
            return folder, result

    def dry_run(self, build: BuildTask) -> str:
        """What would be trained: data, parameters, steps and learning rates."""
        seed_everything(self.config.run.seed)
        task = build(self.config, self.device, World())
        schedule = build_schedule(self.config.optim, task.steps, task.steps_per_epoch or 1)
        rates = ", ".join(f"{rate:.3g} at {step}" for step, rate in schedule.landmarks())
        trained = sum(p.numel() for p in task.parameters())
        lines = [
            *(f"{name:<18}{value}" for name, value in task.describe().items()),
            f"{'parameters':<18}{trained:,}",
            f"{'steps':<18}{task.steps:,} of {task.images_per_step} images",
            f"{'learning rate':<18}{rates}",
            f"{'device':<18}{self.device}, {torch.get_num_threads()} threads",
            f"{'split':<18}{task.fingerprint}",
        ]
        return "\n".join(lines)

    def _folder(self) -> RunFolder:
        """The run folder: the main process makes it and tells the others where it is."""
        places: list[Any] = [None]
        if self.world.is_main:
            out, resumed = self.config.call.out, self.config.call.resume is not None
            if resumed and (out / "config.yaml").is_file():
                folder = RunFolder(out)
                folder.checkpoints.mkdir(exist_ok=True)
            else:
                folder = RunFolder.new(out, self.task_name, self.run_name)
            places = [folder.path]
        if self.world.size > 1:
            torch.distributed.broadcast_object_list(places, src=0)
        return RunFolder(places[0])
