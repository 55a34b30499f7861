"""CITATION.cff is complete, and speaks of the version and the papers that are here."""

import re
from pathlib import Path

import yaml

from tailmatch import __version__

ROOT = Path(__file__).resolve().parent.parent
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def test_the_citation_has_what_its_format_demands() -> None:
    """https://github.com/citation-file-format/citation-file-format: the required keys of version 1.2.0."""
    assert CITATION["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= CITATION.keys()
    for reference in CITATION["references"]:
        assert {"type", "title", "authors"} <= reference.keys()
        assert all({"given-names", "family-names"} <= author.keys() for author in reference["authors"])


def test_the_citation_names_this_version_and_the_papers_of_the_losses() -> None:
    assert CITATION["version"] == __version__
    cited = {one["value"].removeprefix("arXiv:") for work in CITATION["references"] for one in work["identifiers"]}
    described = (ROOT / "losses" / "README.md").read_text(encoding="utf-8")
    named = re.search(r"DKL and IKL arXiv (\d+\.\d+), GKL its successor arXiv (\d+\.\d+)", described)
    assert named is not None
    assert cited == set(named.groups())
