"""`run.py export RUN --format onnx|hf`: a finished run's network for other programs and other people."""

import shlex

from tailmatch.engine.checkpoint import load_weights
from tailmatch.errors import UserError
from tailmatch.inference.config import ExportConfig
from tailmatch.inference.load import weights_file


def run(config: ExportConfig) -> int:
    """Returns the exit code."""
    file = weights_file(config.run.expanduser(), config.weights)
    card, _ = load_weights(file)
    if card.features is not None:
        backbone = card.features["about"].get("backbone", {}).get("name", "unknown")
        raise UserError(
            f"{file} is a head on the features of {backbone}: export that with its own library, or use both by "
            f"`predict {shlex.quote(str(config.run))} IMAGES`."
        )
    out = config.out or file.parent / config.format
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; --out names the folder to write.")
    if config.format == "onnx":
        from tailmatch.inference.onnx_file import export_onnx

        print(export_onnx(file, out))
        return 0
    from tailmatch.inference.hub_folder import push, write_hub_folder

    print(write_hub_folder(file, out))
    if config.push_to is not None:
        print(f"pushed to {push(out, config.push_to)}")
    return 0
