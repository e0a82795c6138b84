"""Models of official checkpoints run in segmentation_node over DDS, with either runtime."""

from pathlib import Path

import numpy as np
import torch
from lifecycle_msgs.msg import Transition
from sensor_msgs.msg import Image
from support import reference, rounding
from support.graph import Graph
from support.paths import DATA

from seg_perception import runtimes
from seg_perception.cli import main
from seg_perception.messages import to_array
from seg_perception.segmenter import Segmenter

DATA = DATA / "segformer"


def models(folder: Path) -> dict[str, Path]:
    """Import a checkpoint as both kinds of model file."""
    checkpoint = folder / "b0.pth"
    torch.save({"state_dict": reference.state_dict(DATA, "b0_cityscapes")}, checkpoint)
    files = {kind: folder / f"m.{kind}" for kind in ("onnx", "pt")}
    chosen = ["--arch", "segformer_b0", "--dataset", "cityscapes", "--size", "64x96"]
    for path in files.values():
        assert main(["import", str(checkpoint), *chosen, "-o", str(path)]) == 0
    return files


def test_both_kinds_of_model_answer_images(tmp_path: Path) -> None:
    files = models(tmp_path)
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3)).astype(np.uint8)
    with Graph(tmp_path) as ros:
        masks = {kind: ros.collect(Image, f"/{kind}/label_mask") for kind in files}
        masks["slow"] = ros.collect(Image, "/slow/label_mask")
        camera = ros.camera()
        for kind, path in files.items():
            ros.start_node({"__node": kind}, model=path)
        # Official mode meets a small image with windows of its own size: the same labels.
        ros.start_node({"__node": "slow"}, model=files["pt"], mode="official", precision="fp32")
        ros.wait(lambda: camera.get_subscription_count() == len(masks))
        answers = {}
        for name, heard in masks.items():
            answers[name] = to_array(ros.ask(camera, ros.image_message(image), heard))
        assert (answers["pt"] == Segmenter.load(files["pt"])(image).labels).all()
        y = [np.asarray(runtimes.load(path).run(image[None])) for path in files.values()]
        scores = [rounding.full_scores(part, (64, 96), (64, 96), (64, 96)) for part in y]
        near = np.abs(scores[0] - scores[1]).max()  # import has proven how near
        assert rounding.only_ties_differ(answers["onnx"], answers["pt"], scores[0], near)
        official = Segmenter.load(files["pt"], mode="official")(image).labels
        assert (answers["slow"] == official).all()


def test_a_precision_that_a_model_lacks_is_told(tmp_path: Path) -> None:
    path = models(tmp_path)["onnx"]
    with Graph(tmp_path) as ros:
        ros.start_node(model=path, precision="bf16")
        ros.wait(lambda: "precision 'bf16' is for .pt models" in str(ros.values()))
        ros.wait(lambda: ros.state() == "unconfigured")
        assert not ros.change_state(Transition.TRANSITION_CONFIGURE)
