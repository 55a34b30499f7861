"""A folder for the Hugging Face hub: model card, config and weights. It leaves this machine only when asked to.

README.md           the model card: what was trained, how good it is, how an image is prepared, how to load it
config.json         the weights' card
model.safetensors   the weights, byte for byte, which `tailmatch.load_run` reads as they are
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from tailmatch.analysis.groups import ALL_AND_GROUPS
from tailmatch.engine.card import Card
from tailmatch.engine.checkpoint import load_weights
from tailmatch.engine.files import write_atomically, write_json, write_text
from tailmatch.engine.recorded import WEIGHTS_FILES, read_mapping, result_of
from tailmatch.errors import UserError
from tailmatch.inference.load import EXPORTED, refuse_own_parts
from tailmatch.inference.optional import needed

README, CONFIG = "README.md", "config.json"
WRITTEN = (README, CONFIG, EXPORTED)
_LIBRARY = "tailmatch"
_TAG_OF_TASK = {
    "ssl": "semi-supervised-learning",
    "longtail": "long-tailed-recognition",
    "distill": "knowledge-distillation",
}
# What the columns of result.json's accuracy are, and of which weights.
_KINDS = {
    "last": "at the end of the run",
    "selected_on_val": "of the weights that validation images chose",
    "median_of_last_20": "median of the last 20 evaluations",
    "best": "best evaluation (optimistic: chosen on the test images)",
}
_KIND_OF_FILE = {WEIGHTS_FILES["last"]: "last", WEIGHTS_FILES["selected"]: "selected_on_val"}


def write_hub_folder(file: Path, out: Path) -> str:
    """Write the folder of a weights' file; returns what to print."""
    card, _ = load_weights(file)
    refuse_own_parts(card, file)
    refuse_other_folder(out)
    data = file.read_bytes()
    result = result_of(file.parent) if file.name in _KIND_OF_FILE else {}
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / CONFIG, {"library_name": _LIBRARY, **asdict(card)})
    write_text(out / README, model_card(card, result, _KIND_OF_FILE.get(file.name)))
    write_atomically(out / EXPORTED, lambda opened: opened.write(data))
    return f"{out}: {', '.join(WRITTEN)}\n  read {README} before you share it; --push-to NAME/MODEL uploads the folder"


def refuse_other_folder(out: Path) -> None:
    """Write over an earlier export, and over nothing else."""
    if not out.exists() or not any(out.iterdir()):
        return
    if read_mapping(out / CONFIG).get("library_name") != _LIBRARY:
        raise UserError(f"{out} holds files that are no export of tailmatch; choose another --out, or empty it.")


def push(folder: Path, repository: str) -> str:
    """Upload the folder's three files; returns the address."""
    (hub,) = needed("export --push-to", "huggingface_hub")
    api = hub.HfApi()
    try:
        made = api.create_repo(repository, exist_ok=True)
        api.upload_folder(repo_id=made.repo_id, folder_path=folder, allow_patterns=list(WRITTEN))
    except Exception as error:  # of the hub's client, of its HTTP client, of the network
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{repository} could not be pushed to ({reason}); the folder {folder} is whole: log in with `hf auth "
            f"login`, then call this again."
        ) from error
    return str(made)


def model_card(card: Card, result: dict[str, Any], kind: str | None) -> str:
    """README.md: what is known, and no more.

    Args:
        result: the run's result.json; empty where the file was taken out of its run folder.
        kind: of which entry of the result's accuracies the weights are.
    """
    method = _method(result)
    title = f"{method + ': ' if method else ''}{card.model} on {card.dataset}"
    accuracies = result.get("accuracy") or {}
    front = {
        "library_name": _LIBRARY,
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", _LIBRARY, _TAG_OF_TASK.get(card.task, card.task)],
        **_model_index(title, card, accuracies.get(kind or "")),
    }
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---",
        f"# {title}",
        f"{_origin(card, result)}",
        "## Accuracy",
        _accuracy_table(accuracies, kind) if accuracies else "Not recorded beside these weights.",
        "## Images",
        _images(card),
        "## Use",
        _use(card),
        "## Classes",
        "\n".join(f"{number}. {_escaped(name)}" for number, name in enumerate(card.class_names)),
    ]
    return "\n\n".join(parts) + "\n"


def _method(result: dict[str, Any]) -> str:
    words = [result.get("algorithm") or result.get("method"), *(result.get("add_ons") or []), result.get("loss")]
    return " + ".join(str(word) for word in words if word and word != "none")


def _model_index(title: str, card: Card, accuracy: dict[str, float | None] | None) -> dict[str, Any]:
    """The accuracy as the hub's own pages show it, where it is that of these very weights."""
    if not accuracy or accuracy.get("all") is None:
        return {}
    metrics = [{"type": "accuracy", "value": accuracy["all"], "name": "accuracy on the test images"}]
    dataset = {"name": card.dataset, "type": card.dataset}
    results = [{"task": {"type": "image-classification"}, "dataset": dataset, "metrics": metrics}]
    return {"model-index": [{"name": title, "results": results}]}


def _origin(card: Card, result: dict[str, Any]) -> str:
    facts = [f"Trained by tailmatch {card.tailmatch} (`{card.task}`) on {card.dataset}"]
    labels, teacher = result.get("labels"), result.get("teacher")
    if labels is not None:
        facts.append(f"{labels} labelled images")
    if isinstance(teacher, dict):
        facts.append(f"from the teacher {teacher.get('name')}")
    if result:
        facts.append(f"{result.get('steps'):,} steps, seed {result.get('seed')}")
    origin = ", ".join(facts) + f". {card.num_classes} classes."
    if not card.logit_shift:
        return origin
    return (
        f"{origin}\n\nThe logits are adjusted after training: a shift for each class is in the weights' card, and is "
        "applied when they are loaded."
    )


def _accuracy_table(accuracies: dict[str, Any], kind: str | None) -> str:
    """On the test images, in per cent; the row of these weights is named."""
    rows = {name: accuracies[name] for name in _KINDS if name in accuracies}
    columns = [column for column in ALL_AND_GROUPS if any(row.get(column) is not None for row in rows.values())]
    lines = [f"| on the test images, % | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, row in rows.items():
        cells = ("n/a" if row.get(column) is None else f"{100 * row[column]:.1f}" for column in columns)
        these = " (**these weights**)" if name == kind else ""
        lines.append(f"| {_KINDS[name]}{these} | {' | '.join(cells)} |")
    if len(columns) > 1:
        lines += ["", "Many, medium and few are the means over the classes with many, some and few training images."]
    return "\n".join(lines)


def _images(card: Card) -> str:
    if card.short_side is None:
        fitted = "Other sizes are scaled (bicubic) until the shorter side fits, and cropped at the centre."
    else:
        fitted = f"The shorter side is scaled (bilinear, antialiased) to {card.short_side}, then the centre is cropped."
    numbers = [", ".join(f"{value:.4g}" for value in values) for values in (card.mean, card.std)]
    return (
        f"{card.image_size} x {card.image_size} pixels, {card.colours}, values in 0..1, less the mean ({numbers[0]}), "
        f"over the standard deviation ({numbers[1]}). {fitted}"
    )


def _use(card: Card) -> str:
    model, note = "", ""
    if card.own_model:
        model, note = ", model=network", f"# network: a fresh {card.model}, whose code is not in this repository\n"
    return (
        f"```python\nfrom tailmatch import load_run\n\n{note}"
        f'run = load_run("{EXPORTED}"{model})  # the file of this repository, downloaded\n'
        f'run.predict("image.png", top={min(3, card.num_classes)})\n'
        "```\n\n`run.model` is the network in evaluation mode, `run.preprocess` turns images into its input."
    )


def _escaped(name: str) -> str:
    """A class's name as text, whatever signs of Markdown it holds."""
    return "".join(f"\\{sign}" if sign in "\\`*_{}[]<>()#+-.!|&" else sign for sign in " ".join(name.split()))
