"""seg-perception models: what there is, and what a model file says of itself."""

import argparse
import json
from dataclasses import asdict

from seg_perception.cli.arguments import Commands, resolved
from seg_perception.errors import SegPerceptionError


def add(commands: Commands) -> None:
    """Add the command and its actions."""
    parser = commands.add_parser("models", help="list architectures; show or find a model file")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="machine-readable list")
    form.add_argument(
        "--hub", action="store_true", help="names to import from the Hugging Face hub"
    )
    form.add_argument("--markdown", action="store_true", help="the list as docs/models.md has it")
    parser.set_defaults(command=run, extra="")
    actions = parser.add_subparsers(metavar="ACTION")
    show = actions.add_parser("show", help="print what a model file says of itself")
    show.add_argument("file", help="a model file or name")
    show.set_defaults(command=_show)
    path = actions.add_parser("path", help="print the path of a bundled model")
    path.add_argument("name", help="default or tiny")
    path.set_defaults(command=_path)


def run(options: argparse.Namespace) -> int:
    """List the architectures."""
    from seg_perception.catalogue import ENTRIES, markdown

    if options.hub:
        from seg_perception.checkpoints.hub import known_names

        for name, license_, published in known_names():
            miou = f"{published:.1f}" if published else "-"
            print(f"{name:<58}{miou:>6}  {license_}")
        print("import one: seg-perception import NAME -o OUT.onnx; nothing was downloaded")
        return 0
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


def _show(options: argparse.Namespace) -> int:
    import yaml

    from seg_perception import runtimes

    path = resolved(options.file)
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


def _path(options: argparse.Namespace) -> int:
    from seg_perception.weights import BUNDLED

    if options.name not in BUNDLED:
        known = ", ".join(BUNDLED)
        raise SegPerceptionError(f"no bundled model {options.name!r}; there are: {known}")
    print(BUNDLED[options.name])
    return 0
