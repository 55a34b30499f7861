"""Fixtures of the datasets' tests."""

from pathlib import Path

import pytest

from tests.datasets.miniature_imagenet import Miniature, build_miniature


@pytest.fixture
def miniature(tmp_path: Path) -> Miniature:
    """A miniature ImageNet-LT, its images in folders by class; the test may change it."""
    return build_miniature(tmp_path / "imagenet")
