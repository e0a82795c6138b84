"""The bundled model. `default` means it wherever a model is asked for."""

from pathlib import Path

DEFAULT = Path(__file__).parent / "default.onnx"


def resolve(path_or_name: str | Path) -> Path:
    """Return the path of a model file, or of the bundled one by the name `default`."""
    return DEFAULT if str(path_or_name) == "default" else Path(path_or_name)
