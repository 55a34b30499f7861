"""The public names of `losses/`, each imported from its file when first asked for."""

from ._public import folder_path, lazy_names

__path__ = folder_path("losses")

_NAMES = {
    "LABEL_LOSSES": "catalog",
    "LOSSES": "catalog",
    "LossOption": "catalog",
    "LossRow": "catalog",
    "build_label_loss": "build",
    "build_loss": "build",
    "ClassMeans": "class_means",
    "decoupled_kl": "decoupled",
    "js": "divergence",
    "kl": "divergence",
    "mse": "divergence",
    "cross_entropy": "entropies",
    "soft_cross_entropy": "entropies",
    "balanced_softmax": "frequency",
    "class_balanced": "frequency",
    "effective_number_weights": "frequency",
    "focal": "frequency",
    "ldam": "frequency",
    "logit_adjusted": "frequency",
    "BalancedSoftmax": "label_modules",
    "ClassBalanced": "label_modules",
    "CrossEntropy": "label_modules",
    "Focal": "label_modules",
    "LabelLoss": "label_modules",
    "LDAM": "label_modules",
    "LogitAdjusted": "label_modules",
    "CE": "modules",
    "DKD": "modules",
    "DKL": "modules",
    "GKL": "modules",
    "IKL": "modules",
    "JS": "modules",
    "KL": "modules",
    "MSE": "modules",
    "SoftCE": "modules",
    "TeacherLoss": "modules",
    "PriorAdjusted": "prior",
    "dkd": "target_split",
}
__all__ = list(_NAMES)
__getattr__ = lazy_names("losses", _NAMES)
