"""Any ONNX network and a card in, a self-describing model file out; nothing of it is guessed."""

from dataclasses import replace
from pathlib import Path

from onnx import ModelProto, save

from seg_perception.checkpoints import graphs
from seg_perception.checkpoints.dry_run import dry_run
from seg_perception.errors import ManifestError, ModelError
from seg_perception.files import check_output, written_whole
from seg_perception.manifest import METADATA_KEY, Manifest
from seg_perception.runtimes import CHECKPOINTS
from seg_perception.runtimes.agreement import compare
from seg_perception.runtimes.onnx import OnnxRuntime, open_session
from seg_perception.runtimes.onnx_file import OnnxFile


def import_onnx(network: Path, card: Path, out: Path) -> Manifest:
    """Check `network` against the YAML `card` and write both as one file, `out`.

    Free sizes are fixed to the card's, other outputs are dropped. The file is run on synthetic
    pictures before it is renamed to `out`. Raises ManifestError with every disagreement, ModelError
    for a network that cannot be read or run; then nothing is written.
    """
    check_output(out, kinds=(".onnx",), sources=(network, card))
    manifest = Manifest.from_card(card)
    if network.suffix in (".pt", *CHECKPOINTS):
        raise ModelError(
            f"{network} holds weights without their network: export it to ONNX where it was "
            "trained, and import that file"
        )
    model = graphs.read_graph(network)
    _simplify(model, manifest, network, card)
    with written_whole(out) as beside:
        try:
            manifest = _write(model, manifest, beside, network, card)
            runtime = OnnxRuntime(beside)
            dry_run(runtime)
            graphs.set_output_shapes(model.graph, runtime.output_shapes)
            save(model, str(beside))
            OnnxRuntime(beside)
        except (ManifestError, ModelError) as error:
            raise type(error)(str(error).replace(str(beside), str(network))) from error
    return manifest


def _simplify(model: ModelProto, manifest: Manifest, network: Path, card: Path) -> None:
    """Leave the chosen input and output, with fixed sizes; or name all that is wrong, at once."""
    inputs, outputs = graphs.input_ports(model.graph), graphs.output_ports(model.graph)
    chosen = compare(manifest, inputs, outputs)
    complaints = list(chosen.complaints)
    try:
        open_session(network)
    except ModelError as error:
        complaints.append(str(error))
    if complaints or chosen.input is None or chosen.outputs is None:
        listed = "".join(f"\n  - {text}" for text in complaints)
        raise ManifestError(f"{card} and {network} do not go together:{listed}")
    graphs.fix_weights(model)
    graphs.keep_outputs(model.graph, [port.name for port in chosen.outputs])
    graphs.pin_input(model.graph, chosen.input.name, manifest.input.shape)


def _write(
    model: ModelProto, manifest: Manifest, path: Path, network: Path, card: Path
) -> Manifest:
    """Write the model with its manifest and the hash of its weights; return that manifest."""
    save(model, str(path))
    given, sha256 = OnnxFile(network).weights_sha256(), OnnxFile(path).weights_sha256()
    if manifest.sha256 not in ("", given, sha256):
        raise ManifestError(
            f"{card} is for weights with sha256 {manifest.sha256[:12]}..., these have "
            f"{given[:12]}...: take the network that the card is for, or leave sha256 out"
        )
    manifest = replace(manifest, sha256=sha256)
    graphs.set_metadata(model, METADATA_KEY, manifest.to_json())
    save(model, str(path))
    return manifest
