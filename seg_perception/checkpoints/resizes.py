"""Which Resize operators place samples as our decoders do, and the reason where one does not.

Source: ONNX operator definition of Resize, opsets 10 to 19.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from seg_perception.checkpoints.graphs import attributes_of
from seg_perception.decoding.axes import STEEPNESS
from seg_perception.manifest import OutputSpec

WAYS = {"linear": "bilinear", "cubic": "cubic"}  # of ONNX -> of the manifest
# Coordinate modes that are one of ours where the output is whole and of more than one sample.
CORNERS = {
    "half_pixel": False,
    "pytorch_half_pixel": False,
    "half_pixel_symmetric": False,
    "align_corners": True,
}
SCALE_ERROR = 2 * float(np.finfo(np.float32).eps)  # of a quotient that was rounded once or twice


class LeftWholeError(Exception):
    """Why a graph is not cut."""


def way(
    node: NodeProto, values: Mapping[str, NDArray[Any]], opset: int, spec: OutputSpec
) -> OutputSpec:
    """Return `spec` with the interpolation of a Resize; LeftWholeError says why it is not ours.

    `values` holds what the operator reads and writes.
    """
    attributes = {k: _text(v) for k, v in attributes_of(node).items()}
    if opset < 11:
        raise LeftWholeError(
            f"Resize of opset {opset} starts at the corner of a pixel (asymmetric)"
        )
    mode = attributes.get("mode", "nearest")
    if mode not in WAYS:
        raise LeftWholeError(f"its Resize is {mode}, and scores are decoded linear or cubic")
    place = attributes.get("coordinate_transformation_mode", "half_pixel")
    if place not in CORNERS:
        raise LeftWholeError(f"its Resize places samples as {place}, which no decoder does")
    if attributes.get("antialias", 0):
        raise LeftWholeError("its Resize has antialias")
    if attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        policy = attributes["keep_aspect_ratio_policy"]
        raise LeftWholeError(f"its Resize keeps the aspect ratio ({policy})")
    if mode == "cubic":
        _check_cubic(attributes, spec)
    _check_scales(node, attributes, values)
    return replace(spec, interpolation=WAYS[mode], align_corners=CORNERS[place])


def _check_cubic(attributes: Mapping[str, Any], spec: OutputSpec) -> None:
    steepness = attributes.get("cubic_coeff_a", STEEPNESS)
    if np.float32(steepness) != STEEPNESS:
        raise LeftWholeError(f"its cubic Resize has a = {steepness:g}, the decoders {STEEPNESS:g}")
    if attributes.get("exclude_outside", 0):
        raise LeftWholeError("its cubic Resize leaves out what is outside (exclude_outside)")
    if spec.is_of_queries:
        raise LeftWholeError("masks of queries are decoded bilinearly, and its Resize is cubic")


def _check_scales(
    node: NodeProto, attributes: Mapping[str, Any], values: Mapping[str, NDArray[Any]]
) -> None:
    """Raise LeftWholeError where a scale is not output / input, which the decoders go by."""
    given, full = values[node.input[0]].shape, values[node.output[0]].shape
    if 1 in full[1:]:
        raise LeftWholeError(f"its Resize gives {full}, with a side or channel of one")
    scales = values[node.input[2]] if len(node.input) > 2 and node.input[2] else np.empty(0)
    axes = attributes.get("axes", range(len(given)))
    for axis, scale in zip(axes, scales, strict=False):
        ratio = full[axis] / given[axis]
        if abs(scale - ratio) > SCALE_ERROR * ratio:
            raise LeftWholeError(f"its Resize scales {given[axis]} by {scale:g} to {full[axis]}")


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
