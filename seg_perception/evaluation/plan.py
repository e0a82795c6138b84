"""What is to be evaluated, in plain values that every process of a cluster can be told."""

from dataclasses import dataclass, field
from pathlib import Path

from seg_perception.bags.sources import BagSource, FolderSource, Source, VideoSource
from seg_perception.evaluation.model_setting import ModelSetting
from seg_perception.offline.placement import Placement


@dataclass(frozen=True)
class Images:
    """A recording: a bag with its image and label topics, a folder of images, or a video."""

    kind: str  # bag, images or video
    path: str
    topic: str | None = None
    labels: str | None = None

    def open(self) -> Source:
        """Return the source; DataError for what cannot be read."""
        path = Path(self.path)
        if self.kind == "bag":
            return BagSource(path, self.topic, labels=self.labels)
        return FolderSource(path) if self.kind == "images" else VideoSource(path)


@dataclass(frozen=True)
class Plan:
    """Networks, recordings, and what their labels are compared with.

    `labels` is a folder, or a topic of the bags. `void` None: what the model's manifest says.
    `stamps` is a recording whose masks say which images count. `measures` are counted besides the
    scores; `placement` is for those that need the camera's place.
    """

    models: tuple[ModelSetting, ...]
    images: tuple[Images, ...]
    labels: str | None = None
    teacher: ModelSetting | None = None
    void: tuple[int, ...] | None = None
    stamps: str | None = None
    measures: tuple[str, ...] = ()
    placement: Placement = field(default_factory=Placement)
