"""The bundled models. Their names mean them wherever a model is asked for."""

from pathlib import Path

_FOLDER = Path(__file__).parent
DEFAULT = _FOLDER / "default.onnx"
BUNDLED = {"default": DEFAULT, "tiny": _FOLDER / "tiny.onnx"}


def resolve(path_or_name: str | Path) -> Path:
    """Return the path of a model file, or of a bundled one by its name."""
    return BUNDLED.get(str(path_or_name), Path(path_or_name))
