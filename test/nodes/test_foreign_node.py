"""Foreign networks, imported by the command, run in segmentation_node over DDS."""

from pathlib import Path
from typing import Any

import numpy as np
from sensor_msgs.msg import Image
from support.foreign import query_network, write_card, write_network
from support.graph import Graph

from seg_perception.cli import main
from seg_perception.messages import to_array

NORMALISED = {"scale": 1 / 255, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
# Name of the node: the network, the input and output of its card, the label space.
NODES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], str]] = {
    "float_nchw": ({}, {"size": [32, 48], **NORMALISED}, {"kind": "logits"}, "model"),
    "bytes_nhwc_argmax": (
        {"dtype": "uint8", "layout": "NHWC", "kind": "labels", "label_rank": 3},
        {"size": [32, 48], "dtype": "uint8", "layout": "NHWC"},
        {"kind": "labels"},
        "groups",
    ),
    "free_size_padded": (
        {"dynamic": True, "kind": "probabilities", "out_layout": "NHWC"},
        {"size": [48, 48], "scale": 1 / 255, "resize": "keep_ratio_pad"},
        {"kind": "probabilities", "layout": "NHWC"},
        "model",
    ),
    "cubic": (
        {},
        {"size": [32, 48], **NORMALISED},
        {"kind": "logits", "interpolation": "cubic"},
        "model",
    ),
    "queries": (
        {"entries": 4},
        {"size": [32, 48], "scale": 1 / 255},
        {"kind": "masks", "name": "logits", "class_logits": "queries"},
        "groups",
    ),
}


def test_imported_networks_answer_images_exactly(tmp_path: Path) -> None:
    bands = np.repeat(np.arange(3), 32)[None].repeat(64, 0)  # red, green and blue side by side
    image = (np.eye(3)[bands] * 250).astype(np.uint8)
    expected = {"model": bands, "groups": np.array([4, 6, 0])[bands]}
    with Graph(tmp_path) as ros:
        masks = {name: ros.collect(Image, f"/{name}/label_mask") for name in NODES}
        camera = ros.camera()
        for name, (network, source, output, space) in NODES.items():
            write = query_network if name == "queries" else write_network
            foreign = write(tmp_path / f"{name}.foreign.onnx", **network)
            card = write_card(tmp_path / f"{name}.yaml", input=source, output=output)
            model = tmp_path / f"{name}.onnx"
            assert main(["import", str(foreign), "--manifest", str(card), "-o", str(model)]) == 0
            ros.start_node({"__node": name}, model=model, label_space=space)
        ros.wait(lambda: camera.get_subscription_count() == len(NODES))
        for name, (*_, space) in NODES.items():
            mask = to_array(ros.ask(camera, ros.image_message(image), masks[name]))
            assert (mask == expected[space]).all(), name
