"""FIDELITY.md points to tests that are there, and has a row for every part."""

import re
from pathlib import Path

from tailmatch.distill import FEATURE_METHODS
from tailmatch.losses import LABEL_LOSSES, LOSSES
from tailmatch.ssl.presets import PRESETS

ROOT = Path(__file__).resolve().parents[2]
TABLE = (ROOT / "FIDELITY.md").read_text(encoding="utf-8")
WORDS = re.sub(r"[^a-z0-9]+", "", TABLE.lower())
BASELINES = {"supervised", "fully-supervised", "ce", "soft-ce"}


def test_every_test_it_names_is_there() -> None:
    named = re.findall(r"`((?:tests|ssl|configs)/[\w/.]*)`", TABLE)
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_algorithm_and_loss_has_a_row() -> None:
    parts = {*PRESETS, *LOSSES, *LABEL_LOSSES, *FEATURE_METHODS} - BASELINES
    assert [part for part in sorted(parts) if part.replace("-", "").replace("_", "") not in WORDS] == []
