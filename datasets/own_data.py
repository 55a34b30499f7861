"""What is known of someone's own data before it is read: its name, and what is held out of it. Free of torch."""

from pathlib import Path

from tailmatch.datasets.catalog import CATALOG

TEST_FRACTION = 0.2


def name_of(dataset: str, root: Path | str | None) -> str:
    """What runs and tables call a data set: own data by its folder or file, every other by its name."""
    if dataset not in ("folder", "npz") or root is None:
        return dataset
    place = Path(root).expanduser().resolve()
    own = place.stem if dataset == "npz" else place.name
    return f"own-{own}" if own in CATALOG else own or dataset


def is_flat(root: Path) -> bool:
    """Whether a folder holds its classes without a train/ and a test/ above them."""
    return root.is_dir() and not (root / "train").is_dir() and not (root / "test").is_dir()


def test_fraction_of(dataset: str, root: Path | None, given: float | None) -> float | None:
    """The share of each class that is held out for testing; None where test images lie apart."""
    if given is None and dataset == "folder" and root is not None and is_flat(root.expanduser()):
        return TEST_FRACTION
    return given
