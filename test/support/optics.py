"""Cameras that tests look through."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from seg_perception.occupancy.camera import OPTICAL, Camera, Pose

K = [400.0, 0, 321, 0, 402, 238, 0, 0, 1]
MATRIX = np.reshape(K, (3, 3))
PLUMB_BOB = (-0.28, 0.07, 0.001, -0.002, 0.003)
RATIONAL = (0.5, -0.1, 5e-4, -3e-4, 0.02, 0.8, 0.05, 0.01)
FISHEYE = (-0.02, 0.003, -0.001, 2e-4)


def info(**changes: Any) -> SimpleNamespace:
    """Return a CameraInfo of 640x480 pixels without distortion, with changes."""
    roi = {"x_offset": 0, "y_offset": 0, "width": 0, "height": 0, "do_rectify": False}
    fields: dict[str, Any] = {
        "width": 640, "height": 480, "distortion_model": "plumb_bob", "d": [0.0] * 5,
        "k": np.array(K), "r": np.eye(3).ravel(),
        "p": np.array([[420.0, 0, 318, -21], [0, 420, 241, 0], [0, 0, 1, 0]]).ravel(),
        "binning_x": 0, "binning_y": 0,
    }  # fmt: skip
    roi.update(changes.pop("roi", {}))
    return SimpleNamespace(**{**fields, **changes}, roi=SimpleNamespace(**roi))


def read(**changes: Any) -> Camera:
    return Camera.from_info(info(**changes), (480, 640))


def pixels(camera: Camera) -> np.ndarray:
    v, u = np.mgrid[: camera.height, : camera.width]
    return np.stack([u, v], axis=-1).astype(float)


def body(height: float = 1.2, pitch: float = 0.0, x: float = 0.0, yaw: float = 0.0) -> Pose:
    return Pose.from_rpy(x, 0.0, height, 0.0, pitch, yaw).compose(OPTICAL)
