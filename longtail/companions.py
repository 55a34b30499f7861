"""The runs that a long-tailed run needs beside it: its teacher, and the student without its teacher."""

from dataclasses import replace

from tailmatch.distill.companions import Kind
from tailmatch.longtail.build import build_task
from tailmatch.longtail.config import (
    DistillationOptions,
    LabelLossOptions,
    LongtailConfig,
    MethodOptions,
    TeacherLossOptions,
)
from tailmatch.longtail.identity import identity_of
from tailmatch.longtail.resolve import resolved
from tailmatch.models.options import InitOptions

LONGTAIL = Kind(task="longtail", config_type=LongtailConfig, build=build_task, identity=identity_of)


def teacher_config(config: LongtailConfig) -> LongtailConfig:
    """The plain run that trains the teacher: cross-entropy, every image once an epoch."""
    return resolved(
        replace(
            config,
            method=MethodOptions(model=config.distillation.teacher),
            init=InitOptions(),
            label_loss=LabelLossOptions(),
            distillation=DistillationOptions(),
            loss=TeacherLossOptions(),
        )
    )


def baseline_config(config: LongtailConfig) -> LongtailConfig:
    """The same student, learning from the labels alone."""
    return resolved(replace(config, distillation=DistillationOptions(), loss=TeacherLossOptions()))
