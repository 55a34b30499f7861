"""What a suite refuses before its first run: by real data, and naming the runs."""

from pathlib import Path

import numpy as np
import pytest

from tailmatch.cli import main

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def twelve_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve classes of ten small images."""
    path = tmp_path_factory.mktemp("data") / "twelve.npz"
    draw = np.random.default_rng(0)
    labels = np.tile(np.arange(12), 10)
    images = draw.integers(0, 256, (120, 8, 8, 1), dtype=np.uint8)
    np.savez(path, train_images=images, train_labels=labels, test_images=images[:24], test_labels=labels[:24])
    return path


def suite(tmp_path: Path, text: str) -> int:
    (tmp_path / "mine.yaml").write_text(text)
    return main(["suite", str(tmp_path / "mine.yaml"), "--out", str(tmp_path / "out"), "--jobs", "1"])


def test_labels_that_the_classes_cannot_share_are_refused_before_the_first_run(
    twelve_classes: Path, tmp_path: Path, capsys: Capture
) -> None:
    code = suite(
        tmp_path,
        f"""
        task: ssl
        seeds: [0, 1]
        options: {{dataset: npz, data_root: {twelve_classes}, model: cnn-digits, steps: 2, batch_size: 4}}
        runs:
          - labels: [24, 40, 240]
            loss: [ce, kl]
        """,
    )
    assert code == 2
    said = capsys.readouterr()
    assert "8 of 12 runs cannot be trained:" in said.err
    assert "mine.yaml:6: labels40-ce-s0 and 3 more: 40 labels cannot be shared equally by 12 classes" in said.err
    assert "mine.yaml:6: labels240-ce-s0 and 3 more: Class " in said.err
    assert "has 10 images, but the split asks for 20" in said.err
    assert not (tmp_path / "out").exists()


def test_every_reason_is_listed_with_its_run(twelve_classes: Path, tmp_path: Path, capsys: Capture) -> None:
    code = suite(
        tmp_path,
        f"""
        task: longtail
        options: {{epochs: 1}}
        runs:
          - {{name: fine, dataset: digits-lt}}
          - {{name: nowhere, dataset: folder, data_root: {tmp_path / "nowhere"}}}
          - {{name: no-root, dataset: imagenet-lt}}
          - {{name: too-long, dataset: npz, data_root: {twelve_classes}, imbalance: 1000}}
          - {{name: no-teacher, dataset: digits-lt, loss: kl, teacher_checkpoint: {tmp_path / "gone"}}}
        """,
    )
    assert code == 2
    said = capsys.readouterr().err
    assert "4 of 5 runs cannot be trained:" in said
    for name in ("nowhere", "no-root", "too-long", "no-teacher"):
        assert f": {name}-s0: " in said
    assert "fine" not in said


def test_what_the_tasks_refuse_is_listed_whole_and_reads_no_data(tmp_path: Path, capsys: Capture) -> None:
    code = suite(
        tmp_path, "{task: ssl, runs: [{loss: ikl, targets: [hard, soft]}, {algorithm: dash, targets: hard, loss: kl}]}"
    )
    assert code == 2
    said = capsys.readouterr().err
    assert "2 of 3 runs cannot be trained:" in said
    assert "ikl-hard-s0" in said
    assert "dash-hard-kl-s0" in said


def test_a_run_that_waits_for_a_teacher_is_looked_at_without_it(tmp_path: Path, capsys: Capture) -> None:
    text = """
        task: longtail
        options: {dataset: digits-lt, epochs: 1}
        runs:
          - {name: teacher}
          - {loss: kl, teacher_checkpoint: "@teacher", imbalance: [18, 100000]}
        """
    assert suite(tmp_path, text) == 2
    said = capsys.readouterr().err
    assert "kl-imbalance100000-s0: " in said
    assert "imbalance18-" not in said


def test_begun_runs_are_not_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tailmatch.engine.suite import look_ahead, run

    asked: list[list[str]] = []
    monkeypatch.setattr(run, "_analyze", lambda *_: 0)
    rehearse = look_ahead.rehearse

    def counted(runs: list, *more: object) -> list:  # type: ignore[type-arg]
        asked.append([one.name for one in runs])
        return rehearse(runs, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(look_ahead, "rehearse", counted)
    text = "{task: ssl, seeds: [0, 1], options: {steps: 2, batch_size: 4}, runs: [{loss: [ce, kl]}]}"
    assert suite(tmp_path, text) == 0
    assert suite(tmp_path, text) == 0
    # Seeds change nothing that could be refused; ce and kl have other targets, so each is built.
    assert asked == [["ce-s0", "kl-s0"], []]
