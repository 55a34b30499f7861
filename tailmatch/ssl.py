"""The public names of `ssl/`: `from tailmatch.ssl import SSLConfig, Parts, train`.

This is not Python's own `ssl`, which `import ssl` still gives.
"""

from ._public import folder_path, lazy_names

__path__ = folder_path("ssl")

_names = {
    "ADD_ONS": "presets",
    "Acceptance": "acceptance",
    "AddOn": "add_on",
    "AlgorithmOptions": "config",
    "Alignment": "alignment",
    "Batch": "batches",
    "Consistency": "algorithm",
    "ConsistencyOptions": "config",
    "DataOptions": "config",
    "DistributionAlignment": "alignment",
    "FixedThreshold": "acceptance",
    "Forward": "predictions",
    "PRESETS": "presets",
    "Parts": "build",
    "Predictions": "predictions",
    "Preset": "presets",
    "PseudoLabels": "predictions",
    "SSLConfig": "config",
    "SSLTask": "task",
    "Setting": "add_on",
    "Supervised": "algorithm",
    "Views": "batches",
    "build_task": "build",
    "configure": "api",
    "resolved": "defaults",
    "train": "api",
}
__all__ = sorted(_names)
__getattr__ = lazy_names("ssl", _names)
