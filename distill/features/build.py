"""Methods that compare features by name, made for two networks."""

from typing import Any

from torch import Tensor, nn

from tailmatch.declare import build, class_of, find
from tailmatch.distill.features.base import FeatureMethod
from tailmatch.distill.features.catalog import FEATURE_METHODS
from tailmatch.distill.features.taps import shapes_of
from tailmatch.engine.distributed import from_main_process
from tailmatch.losses.collective import global_sum, process_count


def build_feature_method(
    name: str,
    student: nn.Module,
    teacher: nn.Module,
    images: Tensor,
    train_labels: Tensor,
    **options: Any,
) -> FeatureMethod:
    """The method `name`; see `FEATURE_METHODS` for names and options.

    Under several processes all begin with the first one's weights, and gradients are averaged over them as they come,
    as the student's are.

    Args:
        images: an image or two such as both networks will see, on their device.
        train_labels: classes of all training images, [N].

    Raises UserError, with the nearest allowed name, for an unknown name or option, for a value out of range, and for
    networks that the method cannot compare.
    """
    looks_at = class_of(find("feature method", name, FEATURE_METHODS)).looks_at
    facts: dict[str, Any] = {"train_labels": train_labels}
    for role, network in (("student", student), ("teacher", teacher)):
        facts[role] = shapes_of(network, images, of_stages=bool(looks_at))
    method: FeatureMethod = build("feature method", name, FEATURE_METHODS, facts, options).to(images.device)
    if process_count() > 1:
        for parameter in method.parameters():
            parameter.register_post_accumulate_grad_hook(_average)
        for values in method.state_dict().values():
            from_main_process(values)
    return method


def _average(parameter: Tensor) -> None:
    if parameter.grad is not None:
        parameter.grad.copy_(global_sum(parameter.grad) / process_count())
