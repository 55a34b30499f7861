"""`run.py distill`: train (the teacher first, where there is none), then say what it gained."""

from dataclasses import replace
from functools import partial

from tailmatch.distill.build import build_task
from tailmatch.distill.companions import Kind, run_beside
from tailmatch.distill.config import DistillConfig, NetworkOptions
from tailmatch.distill.identity import folder_name, identity_of
from tailmatch.distill.resolve import resolved
from tailmatch.distill.summary import summary
from tailmatch.engine.session import run_training
from tailmatch.models.options import InitOptions


def run(config: DistillConfig) -> int:
    """Returns the exit code."""
    config = resolved(config)
    return run_training(config, "distill", folder_name(config), build_task, partial(run_beside, kind=DISTILL), summary)


def teacher_config(config: DistillConfig) -> DistillConfig:
    """The teacher, trained by the same command, alone."""
    return replace(config.alone(), network=NetworkOptions(model=config.distillation.teacher), init=InitOptions())


DISTILL = Kind(
    task="distill",
    config_type=DistillConfig,
    resolved=resolved,
    teacher=teacher_config,
    build=build_task,
    identity=identity_of,
)
