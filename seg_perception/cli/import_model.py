"""seg-perception import: a checkpoint or an ONNX network in, a model file out."""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg_perception.cli.arguments import Commands, size
from seg_perception.errors import UsageError

if TYPE_CHECKING:
    from seg_perception.manifest import Manifest

    Result = tuple[Manifest, list[str], dict[str, Any]]  # lines for people, facts for programs


def add(commands: Commands) -> None:
    """Add the command and its options."""
    parser = commands.add_parser("import", help="make a checkpoint or ONNX network a model file")
    parser.add_argument(
        "source", type=Path, metavar="SOURCE",
        help="a checkpoint, a Hugging Face folder, hf:ORG/NAME[@REVISION], or an ONNX file",
    )  # fmt: skip
    parser.add_argument(
        "--manifest", type=Path, metavar="CARD",
        help="YAML card of an ONNX file that does not say enough itself",
    )  # fmt: skip
    parser.add_argument(
        "--arch", default="", help="architecture (seg-perception models), where several fit"
    )
    parser.add_argument("--dataset", default="", help="data set whose classes it has")
    parser.add_argument(
        "--groups", type=Path, metavar="YAML", help="planner group by class, as in road: drivable"
    )
    parser.add_argument(
        "--ema", action="store_true", help="take the moving averages: ema_state_dict, or ema_ keys"
    )
    parser.add_argument("--size", type=size, metavar="HxW", help="input size (default: its own)")
    parser.add_argument("--json", action="store_true", help="print one line for programs")
    parser.add_argument(
        "--rounds", type=rounds, default=30, metavar="N",
        help="of an ONNX network's timing before and after (default: 30; 0: none)",
    )  # fmt: skip
    parser.add_argument("-o", "--out", type=Path, required=True, help="OUT.onnx or OUT.pt")
    parser.set_defaults(command=run, extra="export,train,safetensors")


def run(options: argparse.Namespace) -> int:
    """Import, and print what was written."""
    is_network = options.manifest or options.source.suffix == ".onnx"
    importer = _import_network if is_network else _import_checkpoint
    manifest, texts, facts = importer(options)
    if options.json:
        for text in texts:
            print(text, file=sys.stderr)
        facts = {"architecture": manifest.architecture, "classes": len(manifest.classes), **facts}
        print(json.dumps(facts))
        return 0
    from seg_perception import input_sizes

    spec, kind = manifest.input, manifest.output.kind
    print(
        *texts,
        f"{options.out}: {len(manifest.classes)} classes, {kind}, input {spec.dtype} {spec.shape}; "
        f"{input_sizes.freedom(spec)}; "
        f"show it with: seg-perception models show {options.out}",
        sep="\n",
    )
    return 0


def _import_network(options: argparse.Namespace) -> "Result":
    if options.arch or options.dataset or options.groups or options.ema:
        raise UsageError(
            "--arch, --dataset, --groups and --ema go with a checkpoint; the card of an ONNX file "
            "says them itself"
        )
    if options.size and options.manifest:
        raise UsageError("--size is in the card, as input.size; leave the option out")
    options.extra = "export,evaluate"
    from seg_perception.checkpoints.foreign import import_onnx

    imported = import_onnx(
        options.source, options.manifest, options.out, size=options.size, rounds=options.rounds
    )
    report = imported.report
    facts = {
        "dialect": imported.dialect,
        "cut": report.operators,
        "left_whole": report.reason,
        "nodes": report.nodes,
        "milliseconds": report.milliseconds,
        "time_ratio": report.time_ratio,
        "equal_labels": report.equal_labels,
    }
    return imported.manifest, [*imported.notes, report.text()], facts


def _import_checkpoint(options: argparse.Namespace) -> "Result":
    from seg_perception.checkpoints import MODEL_KINDS, hub
    from seg_perception.files import check_output

    check_output(options.out, kinds=MODEL_KINDS, sources=(options.source,))
    taken = None
    if hub.is_name(options.source):
        options.extra += ",hub"
        taken = hub.download(options.source)
    from seg_perception.checkpoints.zoo import prepare, write  # imports torch

    prepared = prepare(
        taken.folder if taken else options.source,
        arch=options.arch,
        dataset=options.dataset,
        groups=options.groups,
        size=options.size,
        ema=options.ema,
    )
    if taken:
        manifest = replace(prepared.manifest, license=taken.license, source=taken.origin)
        prepared = prepared._replace(manifest=manifest)
    fit = prepared.loaded.fit
    manifest, parity = write(prepared, options.out)
    texts = [
        f"{fit.arch}, {fit.classes} classes, dialect {fit.dialect.name}",
        *([taken.note] if taken and taken.note else []),
        *prepared.notes,
        f"differs from the checkpoint by {parity.text()}",
    ]
    return manifest, texts, {"dialect": fit.dialect.name}


def rounds(text: str) -> int:
    """Return a number of at least 0, or the error that argparse shows."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of rounds; write 30, or 0")
    return int(text)
