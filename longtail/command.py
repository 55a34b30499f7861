"""`run.py longtail`: train (the teacher first, where there is none), then say what it gained."""

from functools import partial

from tailmatch.distill.companions import run_beside
from tailmatch.distill.summary import summary
from tailmatch.engine.session import run_training
from tailmatch.longtail.build import build_task
from tailmatch.longtail.companions import LONGTAIL
from tailmatch.longtail.config import LongtailConfig
from tailmatch.longtail.identity import folder_name
from tailmatch.longtail.resolve import resolved


def run(config: LongtailConfig) -> int:
    """Returns the exit code."""
    config = resolved(config)
    return run_training(
        config, "longtail", folder_name(config), build_task, partial(run_beside, kind=LONGTAIL), summary
    )
