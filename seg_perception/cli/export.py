"""seg-perception export: a .pt model file in, an ONNX file out."""

import argparse
from pathlib import Path

from seg_perception.cli.arguments import Commands, size


def add(commands: Commands) -> None:
    """Add the command and its options."""
    parser = commands.add_parser("export", help="write a .pt model file as ONNX")
    parser.add_argument("model", type=Path, help="MODEL.pt")
    parser.add_argument("--size", type=size, metavar="HxW", help="input size (default: its own)")
    parser.add_argument("-o", "--out", type=Path, required=True, help="OUT.onnx")
    parser.set_defaults(command=run, extra="export,train")


def run(options: argparse.Namespace) -> int:
    """Export, and print what was written."""
    from seg_perception import input_sizes
    from seg_perception.checkpoints.zoo import export_model

    manifest, parity = export_model(options.model, options.out, size=options.size)
    spec = manifest.input
    print(
        f"{options.out}: input {spec.shape}, {input_sizes.freedom(spec)}; differs by "
        f"{parity.text()}"
    )
    return 0
