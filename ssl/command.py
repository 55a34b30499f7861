"""`run.py ssl`: train, then say what it gained."""

from typing import Any

from tailmatch.engine.evaluation import show
from tailmatch.engine.records import RunFolder, where_to_look
from tailmatch.engine.session import run_training
from tailmatch.ssl.build import build_task
from tailmatch.ssl.config import SSLConfig
from tailmatch.ssl.identity import folder_name, identity_of
from tailmatch.ssl.resolve import resolved


def run(config: SSLConfig) -> int:
    """Returns the exit code."""
    config = resolved(config)
    identity = identity_of(config)
    return run_training(
        config, "ssl", folder_name(config), build_task, lambda session: session.run(build_task, identity), summary
    )


def summary(folder: RunFolder, result: dict[str, Any]) -> str:
    """The closing table: accuracy, pseudo-labels, speed, where everything is and what to do next."""
    accuracy = result["accuracy"]
    rows = [("accuracy, last", show(accuracy["last"], groups=True))]
    if "median_of_last_20" in accuracy:
        rows.append(("median of last 20", show(accuracy["median_of_last_20"])))
    if "selected_on_val" in accuracy:
        step = result["val_accuracy"]["selected_step"]
        rows.append(("selected on val", f"{show(accuracy['selected_on_val'], groups=True)}  (step {step:,})"))
    rows.append(("best on test", f"{show(accuracy['best'])}  (optimistic: chosen on the test set)"))
    quality = result.get("pseudo_labels")
    if quality and quality["utilisation"] is not None:
        right = "n/a" if quality["accuracy"] is None else f"{100 * quality['accuracy']:.1f} %"
        rows.append(("pseudo-labels", f"{100 * quality['utilisation']:.1f} % accepted, {right} of them right"))
    rows += [
        ("speed", f"{result['images_per_second']:,.0f} images/s, {result['seconds']:.1f} s in all"),
        *where_to_look(folder.path),
    ]
    method = " + ".join([result["algorithm"], *result["add_ons"], result["loss"]])
    title = f"{method} on {result['dataset']}, seed {result['seed']}"
    return "\n".join([title, *(f"  {name:<18}{value}" for name, value in rows)])
