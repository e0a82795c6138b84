"""Draw README's image from the bundled clip: python tools/make_readme_image.py INDEX OUT.jpg"""

import sys
from importlib import resources
from pathlib import Path

import cv2

from seg_perception import messages
from seg_perception.bags.bag import BagReader
from seg_perception.drawing import draw_overlay, paint
from seg_perception.segmenter import Segmenter


def main(index: int, out: str) -> None:
    clip = Path(str(resources.files("seg_perception") / "clip"))
    with BagReader(clip / "bag") as bag:
        message = list(bag.messages(["/camera/image/compressed"]))[index]
    truth = clip / "truth" / f"{messages.stamp_ns(message.header)}.png"
    segmenter = Segmenter.load("default")
    image = messages.decode(message).image
    labels = segmenter(image, "bgr8").labels
    row = [
        image,
        draw_overlay(image, labels, segmenter.space),
        paint(cv2.imread(str(truth), cv2.IMREAD_UNCHANGED), segmenter.space),
    ]
    cv2.imwrite(out, cv2.hconcat(row), [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
