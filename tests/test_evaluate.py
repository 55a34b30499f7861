"""`run.py evaluate`: what it says of a folder that it cannot test."""

from pathlib import Path

import pytest

from tailmatch.cli import main


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (b"task: [ssl", "config.yaml:2 is not YAML: "),
        (b"\xff\xfe\x00", "config.yaml is not a text file"),
        (b"- ssl", "config.yaml must hold `name: value` lines, got a list."),
        (b"", "config.yaml names the task None; evaluate knows: ssl, longtail, distill."),
        (b"task: [ssl]", "config.yaml names the task None; evaluate knows: ssl, longtail, distill."),
        (b"task: sll", "config.yaml names the task 'sll'; evaluate knows: ssl, longtail, distill."),
        (b"task: ssl\nlr: fast", "config.yaml:2: lr must be a number, got 'fast'."),
    ],
)
def test_a_configuration_that_cannot_be_read_is_refused_in_one_sentence(
    config: bytes, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.yaml").write_bytes(config)
    assert main(["evaluate", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert sentence in printed.err
    assert len(printed.err.splitlines()) == 1


def test_more_threads_than_a_machine_can_use_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(tmp_path), "--threads", "100000"]) == 2
    assert "for each core of this machine, got 100000." in capsys.readouterr().err


def test_a_folder_without_a_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(tmp_path)]) == 2
    assert "is no run folder: config.yaml is missing" in capsys.readouterr().err
