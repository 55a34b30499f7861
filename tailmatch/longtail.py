"""The public names of `longtail/`, each imported from its file when first asked for."""

from ._public import folder_path, lazy_names

__path__ = folder_path("longtail")

_NAMES = {
    "CosineLinear": "heads",
    "Distillation": "distillation",
    "FrozenTeacher": "distillation",
    "LongtailConfig": "config",
    "LongtailTask": "task",
    "load_network": "teacher",
    "replace_head": "heads",
}
__all__ = list(_NAMES)
__getattr__ = lazy_names("longtail", _NAMES)
