"""Any ONNX network and a card in, a self-describing model file out; nothing of it is guessed."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from onnx import ModelProto, save

from seg_perception.checkpoints import cutting, graphs
from seg_perception.checkpoints.cutting import ROUNDS, Report
from seg_perception.checkpoints.describe import describe
from seg_perception.checkpoints.dry_run import dry_run
from seg_perception.errors import ManifestError, ModelError
from seg_perception.files import atomic_write, check_output
from seg_perception.manifest import METADATA_KEY, Manifest
from seg_perception.runtimes import CHECKPOINTS
from seg_perception.runtimes.agreement import compare
from seg_perception.runtimes.onnx import OnnxRuntime, open_session
from seg_perception.runtimes.onnx_file import OnnxFile


class Imported(NamedTuple):
    """The manifest of the file written, what became of the network's tail, and who described it."""

    manifest: Manifest
    report: Report
    dialect: str = "onnx"
    notes: tuple[str, ...] = ()


def import_onnx(
    network: Path,
    card: Path | None,
    out: Path,
    *,
    size: tuple[int, int] | None = None,
    rounds: int = ROUNDS,
) -> Imported:
    """Check `network` against its YAML `card`, or what it says of itself; write both as one file.

    Free sizes are fixed, to `size` (height, width) where it is given, other outputs are dropped,
    and a tail that the decoders do exactly is cut; `rounds` are timed. The file is run on synthetic
    images before it is renamed to `out`. Raises ManifestError with every disagreement, or where a
    card is missing; ModelError for a network that cannot be read or run; then `out` is not written.
    """
    check_output(out, kinds=(".onnx",), sources=(network, *([card] if card else [])))
    if network.suffix in (".pt", *CHECKPOINTS):
        raise ModelError(
            f"{network} holds weights without their network: export it to ONNX where it was "
            "trained, and import that file"
        )
    model = graphs.read_graph(network)
    described = describe(model, network, card, size, out)
    if described.manifest.input.multiple is not None:
        raise ManifestError(
            f"the card says input multiple {described.manifest.input.multiple}, and {network} is "
            "imported for one size: leave multiple out; exports of checkpoints have it"
        )
    names = f"{card} and {network}" if card else f"{network} and what it says of itself"
    graphs.widen(model.graph)
    _simplify(model, described.manifest, network, names)
    with atomic_write(out) as temporary:
        try:
            result = _write_shortest(model, described.manifest, temporary, network, rounds)
        except (ManifestError, ModelError) as error:
            raise type(error)(str(error).replace(str(temporary), str(network))) from error
    return result._replace(dialect=described.dialect, notes=described.notes)


def _write_shortest(
    model: ModelProto, manifest: Manifest, path: Path, network: Path, rounds: int
) -> Imported:
    """Write the network whole, then without its tail where that gives the same labels."""
    given = _write(model, manifest, path, network)
    whole = OnnxRuntime(path)
    dry_run(whole)
    nodes = (len(model.graph.node),) * 2
    found = cutting.find(model, whole)
    if isinstance(found, str):
        report = Report(found, nodes)
    else:
        cut = replace(given, output=found.output, sha256="")
        try:
            cut = _write(found.model, Manifest.from_dict(cut.to_dict()), path, network)
            shorter = OnnxRuntime(path)
            dry_run(shorter)
            report = cutting.prove(model, found, whole, shorter, rounds=rounds)
        except (ManifestError, ModelError) as error:
            report = Report(f"without its tail, {error}", nodes)
        if report.operators:
            _set_shapes(found.model, shorter, path)
            return Imported(cut, report)
        _write(model, given, path, network)
    _set_shapes(model, whole, path)
    return Imported(given, report)


def _set_shapes(model: ModelProto, runtime: OnnxRuntime, path: Path) -> None:
    """Write down the shapes of the outputs, which the runs have shown."""
    graphs.set_output_shapes(model.graph, runtime.output_shapes)
    save(model, str(path))
    OnnxRuntime(path)


def _simplify(model: ModelProto, manifest: Manifest, network: Path, names: str) -> None:
    """Leave the chosen input and output, with fixed sizes; or name all that is wrong, at once."""
    inputs, outputs = graphs.input_ports(model.graph), graphs.output_ports(model.graph)
    chosen = compare(manifest, inputs, outputs)
    problems = list(chosen.problems)
    try:
        open_session(network)
    except ModelError as error:
        problems.append(str(error))
    if problems or chosen.input is None or chosen.outputs is None:
        listed = "".join(f"\n  - {text}" for text in problems)
        raise ManifestError(f"{names} do not go together:{listed}")
    graphs.fix_weights(model)
    graphs.keep_outputs(model.graph, [port.name for port in chosen.outputs])
    graphs.pin_input(model.graph, chosen.input.name, manifest.input.shape)


def _write(model: ModelProto, manifest: Manifest, path: Path, network: Path) -> Manifest:
    """Write the model with its manifest and the hash of its weights; return that manifest."""
    save(model, str(path))
    given, sha256 = OnnxFile(network).weights_sha256(), OnnxFile(path).weights_sha256()
    if manifest.sha256 not in ("", given, sha256):
        raise ManifestError(
            f"the card is for weights with sha256 {manifest.sha256[:12]}..., these have "
            f"{given[:12]}...: take the network that the card is for, or leave sha256 out"
        )
    manifest = replace(manifest, sha256=sha256)
    graphs.set_metadata(model, METADATA_KEY, manifest.to_json())
    save(model, str(path))
    return manifest
