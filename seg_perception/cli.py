"""seg-perception: the command line. Each command imports what it needs, so that help is instant.

Exit status: 0 good, 1 a verdict or an input that failed, 2 wrong usage.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seg_perception.errors import SegPerceptionError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.command(options)
    except SegPerceptionError as error:
        print(f"seg-perception: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        extra = options.extra
        if not extra:
            raise
        print(
            f"seg-perception: {error.name} is not installed; this command needs "
            f"pip install 'seg_perception[{extra}]'",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        return 130  # as shells say of a command that was interrupted
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="seg-perception", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="play the bundled clip through real ROS nodes")
    demo.add_argument("--out", type=Path, default=Path("out/demo"))
    demo.set_defaults(command=_demo, extra="ros,evaluate")

    models = commands.add_parser("models", help="list architectures; show or find a model file")
    models.add_argument("--json", action="store_true", help="machine-readable list")
    models.set_defaults(command=_models, extra="")
    actions = models.add_subparsers(metavar="ACTION")
    show = actions.add_parser("show", help="print what a model file says of itself")
    show.add_argument("file")
    show.set_defaults(command=_models_show)
    path = actions.add_parser("path", help="print the path of a bundled model")
    path.add_argument("name")
    path.set_defaults(command=_models_path)

    take = commands.add_parser("import", help="make any ONNX network a self-describing model")
    take.add_argument("file", type=Path, help="ONNX file")
    take.add_argument("--manifest", type=Path, required=True, help="YAML card of the network")
    take.add_argument("-o", "--out", type=Path, required=True, help="model file to write")
    take.set_defaults(command=_import, extra="export")

    bench = commands.add_parser("bench", help="measure speed as ratios, interleaved")
    bench.add_argument("--model", help="a model file or name (default: the benchmark's own)")
    bench.add_argument("--json", type=Path, required=True, help="file to write")
    bench.add_argument("--rounds", type=_count, default=120, help="of every contender")
    bench.set_defaults(command=_bench, extra="ros,evaluate,export,train")

    train = commands.add_parser("train", help="train a network from scratch")
    train.add_argument("--data", required=True, help="folder with train/ and val/")
    train.add_argument("--config", type=Path, help="YAML that overrides training.train.Config")
    train.set_defaults(command=_train, extra="train,export")
    return parser


def _count(text: str) -> int:
    """Return a number of at least 1, or the error that argparse shows."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def _demo(options: argparse.Namespace) -> int:
    from seg_perception.demo import run_demo

    run_demo(options.out)
    return 0


def _models(options: argparse.Namespace) -> int:
    from seg_perception.catalogue import ENTRIES

    rows = [entry._asdict() for entry in ENTRIES]
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    print(f"{'arch':<18}{'dataset':<12}{'parameters':>12}{'GMACs':>8}  at size")
    for e in ENTRIES:
        size = "x".join(map(str, e.size))
        print(f"{e.arch:<18}{e.dataset:<12}{e.parameters:>12,}{e.gmacs:>8.3f}  {size}")
    print("bundled: default (seg-perception models show default)")
    return 0


def _models_show(options: argparse.Namespace) -> int:
    import yaml

    from seg_perception.runtimes.onnx import OnnxRuntime

    path = _resolve(options.file)
    runtime = OnnxRuntime(path)
    stated = "matches" if runtime.manifest.sha256 else "is not stated, so it was not checked"
    print(f"# {path.resolve()}\n# sha256 of the weights {stated}")
    print(
        yaml.safe_dump(
            runtime.manifest.to_dict(), sort_keys=False, allow_unicode=True, default_flow_style=None
        ),
        end="",
    )
    return 0


def _models_path(options: argparse.Namespace) -> int:
    if options.name != "default":
        raise SegPerceptionError(f"no bundled model {options.name!r}; there is: default")
    print(_resolve("default"))
    return 0


def _import(options: argparse.Namespace) -> int:
    from seg_perception.checkpoints.foreign import import_onnx

    manifest = import_onnx(options.file, options.manifest, options.out)
    spec, kind = manifest.input, manifest.output.kind
    print(
        f"{options.out}: {len(manifest.classes)} classes, {kind}, input {spec.dtype} {spec.shape}; "
        f"show it with: seg-perception models show {options.out}"
    )
    return 0


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
