"""Official checkpoints in, verified ONNX files out. Importing this package imports torch."""

from seg_perception.checkpoints.official import load_official

__all__ = ["load_official"]
