"""The one place torchvision is imported from: it must also come in beside a torch its operators do not fit.

PyPI's torchvision is built for the CUDA torch. Beside a CPU-only torch its compiled operators cannot load, and then
`import torchvision` fails while it registers the shapes of `torchvision::nms` and `torchvision::qnms`, operators for
object detection that nothing here uses. Declaring their signatures (no implementation) lets the import pass.

The plain import is tried first: where the operators do load, declaring them a second time would be the error.
"""

import warnings
from functools import cache
from importlib import import_module
from types import ModuleType

import torch

_DETECTION_OPERATORS = ("nms", "qnms")
_declarations: list[torch.library.Library] = []  # a declaration lives as long as its Library object


@cache
def torchvision(submodule: str = "") -> ModuleType:
    """The package `torchvision`, or one of its modules: `torchvision("transforms.v2")`."""
    with warnings.catch_warnings():
        # Its JPEG reader is compiled too, and warns when it cannot load. Images are read with Pillow here.
        warnings.filterwarnings("ignore", message="Failed to load image Python extension")
        try:
            import_module("torchvision")
        except RuntimeError as error:
            if "operator torchvision::" not in str(error):
                raise
            _declare_detection_operators()
            import_module("torchvision")
    return import_module(f"torchvision.{submodule}" if submodule else "torchvision")


def _declare_detection_operators() -> None:
    library = torch.library.Library("torchvision", "DEF")
    for name in _DETECTION_OPERATORS:
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declarations.append(library)
