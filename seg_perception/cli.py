"""seg-perception: the command line. Each command imports what it needs, so that help is instant.

Exit status: 0 good, 1 a verdict or an input that failed, 2 wrong usage.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from seg_perception.doctor.arguments import add_doctor
from seg_perception.errors import SegPerceptionError, UsageError
from seg_perception.evaluation.arguments import add_evaluate, add_mount, mount, whole_number
from seg_perception.evaluation.quantize_arguments import add_quantize


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    options = build_parser().parse_args(arguments)
    try:
        status: int = options.command(options)
    except UsageError as error:
        return _wrong_usage(str(error))
    except SegPerceptionError as error:
        print(f"seg-perception: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        extra = options.extra
        if not extra:
            raise
        print(
            f"seg-perception: {error.name} is not installed; this command needs "
            f"pip install '.[{extra}]' in the folder of its source",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        return 130  # as shells say of a command that was interrupted
    return status


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of every command; docs/reference/cli.md is written from it."""
    parser = argparse.ArgumentParser(prog="seg-perception", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="play the bundled clip through real ROS nodes")
    demo.add_argument("--out", type=Path, default=Path("out/demo"), help="folder to write")
    demo.set_defaults(command=_demo, extra="ros,evaluate")

    models = commands.add_parser("models", help="list architectures; show or find a model file")
    form = models.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="machine-readable list")
    form.add_argument("--markdown", action="store_true", help="the list as docs/models.md has it")
    models.set_defaults(command=_models, extra="")
    actions = models.add_subparsers(metavar="ACTION")
    show = actions.add_parser("show", help="print what a model file says of itself")
    show.add_argument("file", help="a model file or name")
    show.set_defaults(command=_models_show)
    path = actions.add_parser("path", help="print the path of a bundled model")
    path.add_argument("name", help="default or tiny")
    path.set_defaults(command=_models_path)

    take = commands.add_parser("import", help="make a checkpoint or ONNX network a model file")
    take.add_argument("file", type=Path, help="official checkpoint, or any ONNX file")
    kind = take.add_mutually_exclusive_group(required=True)
    kind.add_argument("--manifest", type=Path, help="YAML card of an ONNX network")
    kind.add_argument("--arch", help="architecture of a checkpoint (seg-perception models)")
    take.add_argument("--dataset", help="data set of a checkpoint")
    take.add_argument("--size", type=_size, metavar="HxW", help="input size (default: official)")
    take.add_argument("-o", "--out", type=Path, required=True, help="OUT.onnx or OUT.pt")
    take.set_defaults(command=_import, extra="export,train")

    verify = commands.add_parser("verify", help="check a model file, and against its checkpoint")
    verify.add_argument("model", help="a model file or name")
    verify.add_argument("--against", type=Path, metavar="CKPT", help="official checkpoint")
    verify.set_defaults(command=_verify, extra="evaluate,export,train")

    export = commands.add_parser("export", help="write a .pt model file as ONNX")
    export.add_argument("model", type=Path, help="MODEL.pt")
    export.add_argument("--size", type=_size, metavar="HxW", help="input size (default: its own)")
    export.add_argument("-o", "--out", type=Path, required=True, help="OUT.onnx")
    export.set_defaults(command=_export, extra="export,train")

    quantize = commands.add_parser("quantize", help="write an ONNX model in 8 bit, and its cost")
    add_quantize(quantize)
    quantize.set_defaults(command=_quantize, extra="export,evaluate")

    mapping = commands.add_parser("map", help="draw the map from above that a bag's pictures give")
    mapping.add_argument("bag", type=Path, help="rosbag2: a folder, or an mcap or db3 file")
    mapping.add_argument("--model", default="default", help="a model file or name")
    mapping.add_argument("--image-topic", help="pictures, where the bag has several topics")
    add_mount(mapping, required=True)
    mapping.add_argument("--resolution", type=float, default=0.1, help="metres a cell")
    mapping.add_argument("--width", type=float, default=20.0, help="metres along the map")
    mapping.add_argument("--height", type=float, default=20.0, help="metres across the map")
    mapping.add_argument("--half-life", type=float, default=2.0, help="seconds")
    mapping.add_argument("--out", type=Path, required=True, help="folder for map.mp4, map.png")
    mapping.set_defaults(command=_map, extra="evaluate")

    label = commands.add_parser("label", help="copy a bag, with masks beside its pictures")
    label.add_argument("bag", type=Path, help="rosbag2: a folder, or an mcap or db3 file")
    label.add_argument("--model", default="default", help="a model file or name")
    label.add_argument("--image-topic", help="pictures, where the bag has several topics")
    label.add_argument("-o", "--out", type=Path, required=True, help="OUT.mcap")
    label.set_defaults(command=_label, extra="evaluate")

    evaluate = commands.add_parser("evaluate", help="score a model on recorded pictures")
    add_evaluate(evaluate)
    evaluate.set_defaults(command=_evaluate, extra="evaluate,cluster")

    doctor = commands.add_parser("doctor", help="find what keeps the nodes from their work")
    add_doctor(doctor)
    doctor.set_defaults(command=_doctor, extra="")

    bench = commands.add_parser("bench", help="measure speed as ratios, interleaved")
    bench.add_argument("--model", help="a model file or name (default: the benchmark's own)")
    bench.add_argument("--json", type=Path, required=True, help="file to write")
    bench.add_argument("--rounds", type=whole_number, default=120, help="of every contender")
    bench.set_defaults(command=_bench, extra="ros,evaluate,export,train")

    train = commands.add_parser("train", help="train a network from scratch")
    train.add_argument("--data", required=True, help="folder with train/ and val/")
    train.add_argument("--config", type=Path, help="YAML that overrides training.train.Config")
    train.set_defaults(command=_train, extra="train,export")
    return parser


def _size(text: str) -> tuple[int, int]:
    """Return (height, width), or the error that argparse shows."""
    height, separator, width = text.partition("x")
    if not separator or not (height.isdecimal() and width.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write HEIGHTxWIDTH, as in 480x640")
    return int(height), int(width)


def _demo(options: argparse.Namespace) -> int:
    from seg_perception.demo import run_demo

    run_demo(options.out)
    return 0


def _models(options: argparse.Namespace) -> int:
    from seg_perception.catalogue import ENTRIES, markdown

    if options.json:
        print(json.dumps([asdict(entry) for entry in ENTRIES], indent=2))
        return 0
    if options.markdown:
        print(markdown(), end="")
        return 0
    print(f"{'arch':<28}{'dataset':<14}{'parameters':>12}{'GMACs':>10}  {'at size':<10}{'mIoU':>6}")
    for e in ENTRIES:
        size, miou = "x".join(map(str, e.size)), f"{e.miou:.1f}" if e.miou else "-"
        print(
            f"{e.arch:<28}{e.dataset:<14}{e.parameters:>12,}{e.gmacs:>10.2f}  {size:<10}{miou:>6}"
        )
    print("mIoU: percent, as published. bundled: default, tiny (seg-perception models show tiny)")
    return 0


def _models_show(options: argparse.Namespace) -> int:
    import yaml

    from seg_perception import runtimes

    path = _resolve(options.file)
    manifest = runtimes.read_manifest(path)
    stated = "matches" if manifest.sha256 else "is not stated, so it was not checked"
    print(f"# {path.resolve()}\n# sha256 of the weights {stated}")
    print(
        yaml.safe_dump(
            manifest.to_dict(), sort_keys=False, allow_unicode=True, default_flow_style=None
        ),
        end="",
    )
    return 0


def _models_path(options: argparse.Namespace) -> int:
    from seg_perception.weights import BUNDLED

    if options.name not in BUNDLED:
        known = ", ".join(BUNDLED)
        raise SegPerceptionError(f"no bundled model {options.name!r}; there are: {known}")
    print(BUNDLED[options.name])
    return 0


def _import(options: argparse.Namespace) -> int:
    if options.manifest:
        if options.dataset or options.size:
            return _wrong_usage("--dataset and --size go with --arch; the card says them itself")
        from seg_perception.checkpoints.foreign import import_onnx

        manifest = import_onnx(options.file, options.manifest, options.out)
    else:
        if not options.dataset:
            return _wrong_usage(f"--arch {options.arch} needs the --dataset it was trained on")
        from seg_perception.checkpoints.zoo import import_official

        manifest, parity = import_official(
            options.file, options.out, arch=options.arch, dataset=options.dataset, size=options.size
        )
        print(f"differs from the checkpoint by {parity.text()}")
    spec, kind = manifest.input, manifest.output.kind
    print(
        f"{options.out}: {len(manifest.classes)} classes, {kind}, input {spec.dtype} {spec.shape}; "
        f"show it with: seg-perception models show {options.out}"
    )
    return 0


def _wrong_usage(text: str) -> int:
    print(f"seg-perception: {text}", file=sys.stderr)
    return 2


def _verify(options: argparse.Namespace) -> int:
    from seg_perception.checkpoints.verify import verify

    verdict = verify(_resolve(options.model), against=options.against)
    print("\n".join(verdict.lines))
    return 0 if verdict.is_good else 1


def _export(options: argparse.Namespace) -> int:
    from seg_perception.checkpoints.zoo import export_model

    manifest, parity = export_model(options.model, options.out, size=options.size)
    print(f"{options.out}: input {manifest.input.shape}, differs by {parity.text()}")
    return 0


def _quantize(options: argparse.Namespace) -> int:
    from seg_perception.evaluation.quantizing import run

    return run(options)


def _map(options: argparse.Namespace) -> int:
    from seg_perception.evaluation.mapping import map_bag
    from seg_perception.occupancy.camera import Pose
    from seg_perception.occupancy.mapper import Settings
    from seg_perception.segmenter import Segmenter

    *place, rectified = mount(options)
    mapped = map_bag(
        options.bag,
        Segmenter.load(options.model),
        Pose.from_rpy(*place),
        options.out,
        settings=Settings(
            resolution=options.resolution,
            width=options.width,
            height=options.height,
            half_life=options.half_life,
        ),
        image_topic=options.image_topic,
        rectified=rectified,
    )
    print(f"{options.out / 'map.mp4'}: {mapped.pictures} pictures")
    for reason, count in mapped.skipped.items():
        print(f"{count} pictures are not in the map: {reason}", file=sys.stderr)
    return 0


def _label(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import Progress

    from seg_perception.evaluation.labelling import label_bag
    from seg_perception.segmenter import Segmenter

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("labelling", total=None)
        labelled = label_bag(
            options.bag,
            Segmenter.load(options.model),
            options.out,
            image_topic=options.image_topic,
            on_picture=lambda done, of: progress.update(task, completed=done, total=of),
        )
    print(f"{options.out}: {labelled.pictures} pictures have labels")
    for reason in labelled.reasons:
        print(f"not labelled: {reason}", file=sys.stderr)
    further = labelled.unreadable - len(labelled.reasons)
    if further:
        print(f"not labelled: {further} further pictures", file=sys.stderr)
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from seg_perception.evaluation.command import run

    options.extra = "ros,evaluate" if options.live else options.extra
    return run(options)


def _doctor(options: argparse.Namespace) -> int:
    from seg_perception.doctor.command import run

    return run(options)


def _bench(options: argparse.Namespace) -> int:
    from seg_perception.evaluation.bench import run_bench, write_json

    result = run_bench(_resolve(options.model) if options.model else None, rounds=options.rounds)
    write_json(result, options.json)
    print(options.json.read_text("utf-8"), end="")
    return 0


def _resolve(path_or_name: str) -> Path:
    from seg_perception import weights

    return weights.resolve(path_or_name)


def _train(options: argparse.Namespace) -> int:
    import yaml

    from seg_perception.training.train import Config, main

    changes: dict[str, Any] = {}
    if options.config:
        changes = yaml.safe_load(options.config.read_text("utf-8")) or {}
    known = Config.__dataclass_fields__
    unknown = sorted(set(changes) - set(known))
    if unknown:
        raise SegPerceptionError(
            f"{options.config} has unknown keys {unknown}; known are {', '.join(known)}"
        )
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in changes.items()}
    for name, score in main(Config(**{**values, "data": options.data})).items():
        print(f"{name} {score:.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
