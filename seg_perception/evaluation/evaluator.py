"""Count one recording, or a span of it, through all networks of a plan, in this process."""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seg_perception.bags.bag import open_bag
from seg_perception.bags.frames import Frame, Key, ahead
from seg_perception.bags.sources import BEFORE, Source, Span, answered_stamps
from seg_perception.errors import DataError, ImageError, first_line
from seg_perception.evaluation.accumulator import Accumulator
from seg_perception.evaluation.ground_truth import (
    FolderTruth,
    Labels,
    TeacherTruth,
    TopicTruth,
    Truth,
    default_void,
)
from seg_perception.evaluation.plan import Plan
from seg_perception.evaluation.predictors import OfflinePredictor, Predictor
from seg_perception.evaluation.progress import Progress
from seg_perception.labels import UNKNOWN
from seg_perception.manifest import Manifest
from seg_perception.messages import stamp_ns
from seg_perception.metrics.metric import Context, LabelledFrame, MountedCamera
from seg_perception.metrics.registry import create, metric_class
from seg_perception.offline.bag_poses import BagPoses
from seg_perception.offline.map_bag import find_topics, first_camera_info

NO_TRUTH = "no truth of its key"


class Prepared(NamedTuple):
    """What the decoding thread hands over: an image and its truth, or why there is none.

    One that is not `counted` is shown to the metrics that compare it with the next.
    """

    key: Key
    image: NDArray[np.uint8] | None
    truth: Labels | None
    problem: str = ""
    counted: bool = True


class Evaluator:
    """The networks and the truth of a plan, ready to count."""

    def __init__(self, plan: Plan, networks: Sequence[Predictor] | None = None) -> None:
        """Load what the plan names; `networks` answer in place of its models, one for each.

        Raises DataError for truth or networks that do not fit each other.
        """
        self.plan = plan
        self.networks = networks or [OfflinePredictor(setting) for setting in plan.models]
        manifest = self.networks[0].manifest
        for setting, network in zip(plan.models, self.networks, strict=True):
            _check_classes(manifest, network.manifest, setting.title)
            _check_confidence(plan, network.manifest, setting.title)
        self.manifest = manifest
        void = plan.void or default_void(manifest)
        # What a teacher does not know, it does not claim.
        self.void_ids = tuple(sorted({*void, UNKNOWN})) if plan.teacher else void
        self.truth = self._find_truth()

    @cached_property
    def stamps(self) -> frozenset[int] | None:
        """The keys that count, None for all."""
        return answered_stamps(Path(self.plan.stamps)) if self.plan.stamps else None

    def accumulators(self, at: int = 0) -> list[Accumulator]:
        """Return an empty accumulator for each network, to count the recording `at` with."""
        plan, void = self.plan, self.void_ids
        is_placed = any(metric_class(name).needs_camera for name in plan.measures)
        camera = _mounted(plan, at) if is_placed else None
        return [
            Accumulator(
                m.label_space("model"),
                void,
                create(plan.measures, Context(m, void, camera)),
                compares=len(self.networks) > 1,
            )
            for m in (network.manifest for network in self.networks)
        ]

    def count(
        self,
        source: Source,
        accumulators: Sequence[Accumulator],
        *,
        span: Span | None = None,
        skip: int = 0,
        on_image: Callable[[], None] = lambda: None,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        """Add the images of a source, but the first `skip` of them, to the accumulators.

        Ends early, between two images, when `is_over`.
        """
        with closing(ahead(self._prepare(source, span, skip, accumulators[0]))) as images:
            for prepared in images:
                self._add(prepared, accumulators)
                if prepared.counted:
                    on_image()
                    if is_over():
                        return

    def _prepare(
        self, source: Source, span: Span | None, skip: int, accumulator: Accumulator
    ) -> Iterator[Prepared]:
        """Decode what will be segmented; runs in a thread of its own."""
        needs_previous = any(metric.needs_previous for metric in accumulator.metrics)
        before: deque[Frame] = deque(maxlen=BEFORE)
        for frame in source.frames(span):
            if self.stamps is not None and frame.key not in self.stamps:
                continue
            if not frame.counted or skip > 0:
                skip -= frame.counted
                before.append(frame)
                continue
            if before and needs_previous:
                yield from self._last_of(before)
            before.clear()
            yield self._prepared(frame, all_count=accumulator.needs_all)

    def _last_of(self, before: Iterable[Frame]) -> Iterator[Prepared]:
        """Yield, not to be counted, the last image that can be read, if there is one."""
        for frame in reversed(tuple(before)):
            prepared = self._prepared(frame, all_count=True)
            if prepared.image is not None:
                yield prepared._replace(counted=False)
                return

    def _prepared(self, frame: Frame, *, all_count: bool) -> Prepared:
        try:
            labels = self.truth.of(frame) if self.truth else None
            if self.truth and labels is None and not all_count:
                return Prepared(frame.key, None, None, NO_TRUTH)
            return Prepared(frame.key, frame.image, labels)
        except ImageError as error:
            return Prepared(frame.key, None, None, first_line(error))

    def _add(self, prepared: Prepared, accumulators: Sequence[Accumulator]) -> None:
        """Ask all networks for an image and count what they say; none where one has no answer.

        So all are scored on the same images. Raises DataError where its truth does not fit.
        """
        key, image, truth, problem, counted = prepared
        needs = any(accumulator.needs_confidence for accumulator in accumulators)
        try:
            if image is None:
                raise ImageError(problem)
            answers = [network.answer(key, image, confidence=needs) for network in self.networks]
        except ImageError as error:
            for accumulator in accumulators if counted else ():
                accumulator.skip(key, first_line(error))
            return
        base = None
        for answer, accumulator in zip(answers, accumulators, strict=True):
            view = LabelledFrame(key, image, answer.labels, truth, answer.confidence)
            if not counted:
                accumulator.observe_previous(view)
                continue
            try:
                made = accumulator.add(view, answer.timing, base)
            except DataError as error:
                name = self.truth.name if self.truth else "the recording"
                raise DataError(f"{name}, of {key}: {error}") from error
            base = base or made

    def _find_truth(self) -> Truth | None:
        plan = self.plan
        if plan.teacher:
            return TeacherTruth(plan.teacher, self.manifest)
        if plan.images[0].labels:
            return TopicTruth(plan.images[0].labels)
        return FolderTruth(Path(plan.labels), self.manifest) if plan.labels else None


def check(
    recording: Progress, name: str, truth: Truth | None, stamps: Collection[Key] | None
) -> None:
    """Raise DataError where no image of a recording was segmented or none could be compared."""
    accumulator, damage = recording.accumulators[0], recording.damage
    why = "; ".join(f"{count} times: {text}" for text, count in accumulator.skipped.items())
    if stamps is not None and not accumulator.frames_in:
        raise DataError(
            f"none of the {len(stamps)} stamps is among the images of {name}; "
            "give the bag that the recording was made from"
        )
    if not accumulator.frames_in:
        raise DataError(f"no image of {name} could be read: {damage or 'there is none'}")
    if (
        truth is not None
        and not accumulator.frames_scored
        and set(accumulator.skipped) <= {NO_TRUTH}
    ):
        example = f", the truth is named {truth.example}" if truth.example is not None else ""
        raise DataError(
            f"no image of {name} has its truth in {truth.name}: images are named "
            f"{accumulator.example}{example}; they must be the same stamps (ns) or names"
        )
    if not accumulator.frames_out:
        raise DataError(f"no image of {name} could be segmented: {why or damage}")


def _mounted(plan: Plan, at: int) -> MountedCamera | None:
    """Return the camera of a bag on its robot; None for what is no bag."""
    images, bag = plan.images[at], Path(plan.images[at].path)
    if images.kind != "bag":
        return None
    with open_bag(bag) as reader:
        topics = find_topics(reader.topics, images.topic)
        info = first_camera_info(reader, topics.camera_info, bag)
        poses = BagPoses(reader, plan.placement, str(info.header.frame_id))
    mount = poses.fixed_extrinsics(stamp_ns(info.header))
    return MountedCamera(info, mount, plan.placement.rectified)


def _check_classes(base: Manifest, other: Manifest, title: str) -> None:
    ours, theirs = base.classes, other.classes
    if ours != theirs:
        differ = next((t for o, t in zip(ours, theirs, strict=False) if o != t), "more or fewer")
        raise DataError(
            f"{title!r} has {len(theirs)} classes, the first model {base.name!r} {len(ours)}; they "
            f"differ from {differ!r} on: compare models of the same classes"
        )


def _check_confidence(plan: Plan, manifest: Manifest, title: str) -> None:
    needy = [name for name in plan.measures if metric_class(name).needs_confidence]
    if needy and manifest.output.kind == "labels":
        raise DataError(
            f"{title!r} gives labels without confidence, so there is nothing to measure {needy[0]} "
            f"of; leave out --measure {needy[0]}"
        )
