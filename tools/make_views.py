"""Draw the images of docs/what_to_expect.md from the bundled clip.

python tools/make_views.py INDEX FOLDER
"""

import sys
from importlib import resources
from pathlib import Path

import cv2
import numpy as np

from seg_perception import messages
from seg_perception.bags.bag import BagReader
from seg_perception.demo import CAMERA_INFO, IMAGES, MAP, MOUNT
from seg_perception.drawing import draw_overlay
from seg_perception.offline.map_bag import beside_map, draw_maps
from seg_perception.segmenter import Segmenter

BEFORE = 5  # images whose evidence is on the map too
QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 85]


def main(index: int, folder: Path) -> None:
    """Write views_camera.jpg (overlay, mask, confidence) and views_map.jpg (overlay, map)."""
    with BagReader(Path(str(resources.files("seg_perception") / "clip" / "bag"))) as bag:
        recorded = list(bag.messages([IMAGES]))[index - BEFORE : index + 1]
        info = next(iter(bag.messages([CAMERA_INFO])))
    segmenter = Segmenter.load("default")
    results = [segmenter(messages.decode(m).image, "bgr8") for m in recorded]
    image, result = messages.decode(recorded[-1]).image, results[-1]
    overlay = draw_overlay(image, result.labels, segmenter.space)
    highest = len(segmenter.manifest.classes) - 1
    mask = cv2.applyColorMap((result.labels.astype(np.float32) * (255 / highest)).astype(np.uint8),
                             cv2.COLORMAP_TURBO)  # fmt: skip
    confidence = cv2.cvtColor(result.confidence, cv2.COLOR_GRAY2BGR)
    row = cv2.hconcat([overlay, mask, confidence])
    _write(
        folder / "views_camera.jpg",
        cv2.resize(row, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA),
    )
    seen = {messages.stamp_ns(m.header): r.labels for m, r in zip(recorded, results, strict=True)}
    maps = draw_maps(seen, info, segmenter.manifest, MOUNT, MAP)
    _write(folder / "views_map.jpg", beside_map(overlay, list(maps.values())[-1]))


def _write(path: Path, image: np.ndarray) -> None:
    if not cv2.imwrite(str(path), image, QUALITY):
        sys.exit(f"{path} cannot be written: does the folder exist?")


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
