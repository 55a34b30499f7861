"""What must hold of the classes of someone's own data before anything is trained on it."""

from pathlib import Path

from tailmatch.datasets.base import ReadSets
from tailmatch.errors import UserError


def check_classes(sets: ReadSets, where: Path) -> ReadSets:
    """The sets, when every class can be learned.

    Raises:
        UserError: if there are fewer than two classes, or a class has no training image.
    """
    if len(sets.class_names) < 2:
        raise UserError(f"{where} has one class only, {sets.class_names[0]!r}: there is nothing to tell it from.")
    train = sets.train.class_counts(len(sets.class_names)).tolist()
    missing = [label for label, count in enumerate(train) if not count]
    if not missing:
        return sets
    name = sets.class_names[missing[0]]
    more = f" ({len(missing)} such classes)" if len(missing) > 1 else ""
    for part, images in (("test", sets.test), ("validation", sets.val)):
        if images is not None and (images.labels == missing[0]).any():
            raise UserError(
                f"Class {name!r} has {part} images but no training image in {where}{more}: a class that is never "
                f"trained cannot be recognised; add training images or take it out."
            )
    raise UserError(f"Class {name!r} has no training image in {where}{more}: add some, or take the class out.")
