"""Where labels come from: a network that is run on every image, or the masks of live nodes."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from seg_perception import runtimes, weights
from seg_perception.bags.frames import Key
from seg_perception.errors import ImageError
from seg_perception.evaluation.model_setting import ModelSetting
from seg_perception.evaluation.plan import Images
from seg_perception.live.recording import Recorded, timeline, timing
from seg_perception.live.session import play
from seg_perception.manifest import Manifest
from seg_perception.reporting.report import Timeline
from seg_perception.segmenter import Segmentation

NO_MASK = "no mask came of it"


class Predictor(Protocol):
    """Gives labels of the model's classes for an image.

    `measured` are keys of the report that are not counted from its answers, `timeline` is that of
    live nodes.
    """

    manifest: Manifest
    provider: str
    threads: int
    measured: Mapping[str, Any]
    timeline: Timeline | None

    def answer(self, key: Key, image: NDArray[np.uint8], *, confidence: bool) -> Segmentation:
        """Return labels of uint8 BGR (H,W,3); ImageError says why there are none."""
        ...


class OfflinePredictor:
    """A network that is run on every image."""

    timeline: Timeline | None = None

    def __init__(self, setting: ModelSetting) -> None:
        """Load it; raises what Segmenter.load raises."""
        self._least, self._segmenter = setting.min_confidence, setting.load()
        self.manifest, self.provider = self._segmenter.manifest, self._segmenter.provider
        self.threads = setting.threads
        self.measured: Mapping[str, Any] = {}

    def answer(self, key: Key, image: NDArray[np.uint8], *, confidence: bool) -> Segmentation:
        """Segment an image."""
        least = self._least
        return self._segmenter(image, "bgr8", confidence=confidence, min_confidence=least)


class LivePredictor(AbstractContextManager["LivePredictor"]):
    """What a planner saw: a bag was played through real nodes, and their masks were recorded."""

    def __init__(
        self, setting: ModelSetting, images: Images, out: Path, *, rate: float = 1.0
    ) -> None:
        """Play the bag; recording and logs go to `out`. Raises what `play` raises."""
        self.manifest = runtimes.read_manifest(weights.resolve(setting.model))
        recording = play(
            Path(images.path),
            out,
            image_topic=images.topic,
            model=str(weights.resolve(setting.model).resolve()),
            provider=setting.provider,
            threads=setting.threads,
            parameters={
                "precision": setting.precision,
                "mode": setting.mode,
                "input_size": setting.input_size,
                "min_confidence": str(setting.min_confidence),
            },
            rate=rate,
            console=Console(stderr=True),
        )
        said = timing(recording)
        self.provider, self.threads = said.pop("provider"), said.pop("threads")
        del said["model"]
        self.measured: Mapping[str, Any] = said
        self.timeline: Timeline | None = timeline(recording)
        self._open = ExitStack()
        self._masks = self._open.enter_context(Recorded(recording))

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def answer(self, key: Key, image: NDArray[np.uint8], *, confidence: bool) -> Segmentation:
        """Return the mask that came of an image."""
        labels = self._masks.labels(key) if isinstance(key, int) else None
        if labels is None:
            raise ImageError(NO_MASK)
        sure = self._masks.confidence(int(key)) if confidence else None
        return Segmentation(labels, sure, {})
