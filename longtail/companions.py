"""What the companions of a long-tailed run are made of."""

from dataclasses import replace

from tailmatch.distill.companions import Kind
from tailmatch.longtail.build import build_task
from tailmatch.longtail.config import LabelLossOptions, LongtailConfig, MethodOptions
from tailmatch.longtail.identity import identity_of
from tailmatch.longtail.resolve import resolved
from tailmatch.models.options import InitOptions


def teacher_config(config: LongtailConfig) -> LongtailConfig:
    """The plain run that trains the teacher: cross-entropy, every image once an epoch."""
    method = MethodOptions(model=config.distillation.teacher)
    return replace(config.alone(), method=method, init=InitOptions(), label_loss=LabelLossOptions())


LONGTAIL = Kind(
    task="longtail",
    config_type=LongtailConfig,
    resolved=resolved,
    teacher=teacher_config,
    build=build_task,
    identity=identity_of,
)
