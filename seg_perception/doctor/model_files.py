"""What runs a network, and whether model files are whole."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from seg_perception import runtimes, weights
from seg_perception.doctor.finding import Finding, error, note, ok, warning
from seg_perception.errors import ProviderError, SegPerceptionError

USE = "segmentation_node refuses it"


def check(
    models: Sequence[str], provider: str, version_of: Callable[[str], str]
) -> Iterator[Finding]:
    """Look at the runtimes, and load `models` with `provider`, or else the bundled ones.

    Where models are named, the bundled ones are only to be whole: the CPU tells that.
    """
    wanted = {name: weights.resolve(name) for name in models or weights.BUNDLED}
    needs_onnx = any(path.suffix != ".pt" for path in wanted.values())
    yield check_onnx_runtime(provider if needs_onnx else "cpu")
    yield check_torch(provider, version_of("torch"))
    for name in dict.fromkeys((*weights.BUNDLED, *models)):
        yield check_model(weights.resolve(name), name, provider if name in wanted else "cpu")


def check_onnx_runtime(provider: str) -> Finding:
    """Compare the providers of ONNX Runtime with the one that is asked for."""
    try:
        from seg_perception.runtimes import onnx
    except ImportError as problem:
        return error(
            "onnx runtime", f"cannot be imported: {problem}", "no .onnx model runs",
            "pip install 'onnxruntime>=1.17'",
        )  # fmt: skip
    has = onnx.available()
    found = f"{onnx.VERSION} with {', '.join(has)}"
    if provider in has:
        return ok("onnx runtime", found)
    return error(
        "onnx runtime",
        f"{found}; {provider} was asked for",
        "a node with this provider does not configure; it never falls back silently",
        "install a build of ONNX Runtime that has it, or take --provider cpu",
    )


def check_torch(provider: str, version: str) -> Finding:
    """Ask whether torch, where it is installed, has a GPU."""
    if not version:
        return note("torch", "not installed", "only .pt models and training need it")
    from seg_perception.runtimes.torch import device_of

    try:
        device_of("cuda")
    except ProviderError:
        return (note if provider == "cpu" else warning)(
            "torch",
            f"{version} finds no CUDA device",
            ".pt models run on the CPU alone",
            "install a CUDA build of torch and the driver, or stay with provider cpu",
        )
    return ok("torch", f"{version} with CUDA")


def check_model(path: Path, name: str, provider: str) -> Finding:
    """Load a model file as a node does: manifest, network and the hash of its weights."""
    if not path.is_file():
        return error("model", f"{path} does not exist", USE, "correct the path, or copy it again")
    try:
        manifest = runtimes.load(path, provider=provider).manifest
    except ProviderError as problem:
        return error("model", f"{name}: {problem}", USE, "repair onnx runtime or torch, see above")
    except SegPerceptionError as problem:
        do = "copy or import the file again, and show it with: seg-perception models show"
        if name in weights.BUNDLED:
            do = "install seg_perception again: its own file is not what was released"
        return error("model", f"{name}: {problem}", USE, do)
    classes = f"{len(manifest.classes)} classes"
    if manifest.sha256:
        return ok("model", f"{name}: {classes}, hash holds")
    return note(
        "model", f"{name}: {classes}, no hash", "damage of its weights would not be seen",
        "import it again with seg-perception import",
    )  # fmt: skip
