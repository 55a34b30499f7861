"""The public names of `models/`: one factory, and the way to a model's classifier and features."""

from ._public import folder_path, lazy_names

__path__ = folder_path("models")

_NAMES = {
    "MODELS": "catalog",
    "PATTERNS": "catalog",
    "check_model_name": "catalog",
    "build_model": "build",
    "count_parameters": "build",
    "forward_with_features": "head",
    "head_of": "head",
}
__all__ = list(_NAMES)
__getattr__ = lazy_names("models", _NAMES)
