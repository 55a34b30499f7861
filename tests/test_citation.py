"""CITATION.cff and CHANGELOG.md are in their formats, and speak of the version and the papers that are here."""

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


def test_the_changelog_begins_with_what_is_unreleased_and_knows_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", text, re.M)
    assert headings[0] == "[Unreleased]"
    versions = [re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - \d{4}-\d{2}-\d{2}", heading) for heading in headings[1:]]
    assert [version[1] for version in versions if version][:1] == [__version__]
    assert set(re.findall(r"^### (.*)$", text, re.M)) <= {
        "Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"
    }  # fmt: skip
