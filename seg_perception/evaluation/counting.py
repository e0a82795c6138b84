"""Count one recording, or a span of it, through all networks of a plan, in this process."""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import DataError, ImageError, first_line
from seg_perception.evaluation.bags import open_bag
from seg_perception.evaluation.ledger import Progress
from seg_perception.evaluation.mapping import find_topics
from seg_perception.evaluation.measure import Key, View
from seg_perception.evaluation.measures import make
from seg_perception.evaluation.networks import Network, Offline
from seg_perception.evaluation.occupancy_error import Mounted
from seg_perception.evaluation.plan import Plan
from seg_perception.evaluation.sources import (
    BEFORE,
    Frame,
    Source,
    Span,
    ahead,
    answered_stamps,
)
from seg_perception.evaluation.tally import Tally
from seg_perception.evaluation.truth import (
    FolderTruth,
    Labels,
    TeacherTruth,
    TopicTruth,
    Truth,
    default_void,
)
from seg_perception.labels import UNKNOWN
from seg_perception.manifest import Manifest
from seg_perception.occupancy.camera import Pose

NO_TRUTH = "no truth of its key"
MAPPED = "occupancy"  # the measure that needs the camera's place
SURE = "calibration"  # the one that needs confidence


class Prepared(NamedTuple):
    """What the decoding thread hands over: a picture and its truth, or why there is none.

    One that is not `counted` is shown to the measures that look back.
    """

    key: Key
    image: NDArray[np.uint8] | None
    truth: Labels | None
    problem: str = ""
    counted: bool = True


class Counting:
    """The networks and the truth of a plan, ready to count."""

    def __init__(self, plan: Plan, networks: Sequence[Network] | None = None) -> None:
        """Load what the plan names; `networks` answer in place of its models, one for each.

        Raises DataError for truth or networks that do not fit each other.
        """
        self.plan = plan
        self.networks = networks or [Offline(setting) for setting in plan.models]
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

    def tallies(self, at: int = 0) -> list[Tally]:
        """Return an empty tally for each network, to count the recording `at` with."""
        plan, void = self.plan, self.void_ids
        mounted = _mounted(plan, at) if MAPPED in plan.measures else None
        return [
            Tally(
                m.label_space("model"),
                void,
                make(plan.measures, m, void, mounted),
                compares=len(self.networks) > 1,
            )
            for m in (network.manifest for network in self.networks)
        ]

    def count(
        self,
        source: Source,
        tallies: Sequence[Tally],
        *,
        span: Span | None = None,
        skip: int = 0,
        on_picture: Callable[[], None] = lambda: None,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        """Add the pictures of a source, but the first `skip` of them, to the tallies.

        Ends early, between two pictures, when `is_over`.
        """
        with closing(ahead(self._prepare(source, span, skip, tallies[0]))) as pictures:
            for prepared in pictures:
                self._add(prepared, tallies)
                if prepared.counted:
                    on_picture()
                    if is_over():
                        return

    def _prepare(
        self, source: Source, span: Span | None, skip: int, tally: Tally
    ) -> Iterator[Prepared]:
        """Decode what will be segmented; runs in a thread of its own."""
        looks_back = any(measure.looks_back for measure in tally.measures)
        before: deque[Frame] = deque(maxlen=BEFORE)
        for frame in source.frames(span):
            if self.stamps is not None and frame.key not in self.stamps:
                continue
            if not frame.counted or skip > 0:
                skip -= frame.counted
                before.append(frame)
                continue
            if before and looks_back:
                yield from self._last_of(before)
            before.clear()
            yield self._prepared(frame, all_count=tally.needs_all)

    def _last_of(self, before: Iterable[Frame]) -> Iterator[Prepared]:
        """Yield, not to be counted, the last picture that can be read, if there is one."""
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

    def _add(self, prepared: Prepared, tallies: Sequence[Tally]) -> None:
        """Ask all networks for a picture and count what they say; none where one has no answer.

        So all are scored on the same pictures. Raises DataError where its truth does not fit.
        """
        key, image, truth, problem, counted = prepared
        needs = any(tally.needs_confidence for tally in tallies)
        try:
            if image is None:
                raise ImageError(problem)
            answers = [network.answer(key, image, confidence=needs) for network in self.networks]
        except ImageError as error:
            for tally in tallies if counted else ():
                tally.skip(key, first_line(error))
            return
        base = None
        for answer, tally in zip(answers, tallies, strict=True):
            view = View(key, image, answer.labels, truth, answer.confidence)
            if not counted:
                tally.look(view)
                continue
            try:
                made = tally.add(view, answer.timing, base)
            except DataError as error:
                name = self.truth.name if self.truth else "the recording"
                raise DataError(f"{name}, of {key}: {error}") from error
            base = base or made

    def _find_truth(self) -> Truth | None:
        plan = self.plan
        if plan.teacher:
            return TeacherTruth(plan.teacher, self.manifest)
        if plan.pictures[0].labels:
            return TopicTruth(plan.pictures[0].labels)
        return FolderTruth(Path(plan.labels), self.manifest) if plan.labels else None


def check(
    recording: Progress, name: str, truth: Truth | None, stamps: Collection[Key] | None
) -> None:
    """Raise DataError where no picture of a recording was segmented or none could be compared."""
    tally, damage = recording.tallies[0], recording.damage
    why = "; ".join(f"{count} times: {text}" for text, count in tally.skipped.items())
    if stamps is not None and not tally.frames_in:
        raise DataError(
            f"none of the {len(stamps)} stamps is among the pictures of {name}; "
            "give the bag that the recording was made from"
        )
    if not tally.frames_in:
        raise DataError(f"no picture of {name} could be read: {damage or 'there is none'}")
    if truth is not None and not tally.frames_scored and set(tally.skipped) <= {NO_TRUTH}:
        example = f", the truth is named {truth.example}" if truth.example is not None else ""
        raise DataError(
            f"no picture of {name} has its truth in {truth.name}: pictures are named "
            f"{tally.example}{example}; they must be the same stamps (ns) or names"
        )
    if not tally.frames_out:
        raise DataError(f"no picture of {name} could be segmented: {why or damage}")


def _mounted(plan: Plan, at: int) -> Mounted | None:
    """Return the camera of a bag on its robot; None where the plan does not say."""
    pictures, mount = plan.pictures[at], plan.mount
    if mount is None or pictures.kind != "bag":
        return None
    with open_bag(Path(pictures.path)) as bag:
        topic = find_topics(bag.topics, pictures.topic).camera_info
        info = next(bag.messages([topic]), None)
    if info is None:
        raise DataError(f"{pictures.path} has no message on {topic}; record CameraInfo too")
    *place, rectified = mount
    return Mounted(info, Pose.from_rpy(*place), rectified)


def _check_classes(base: Manifest, other: Manifest, title: str) -> None:
    ours, theirs = base.classes, other.classes
    if ours != theirs:
        differ = next((t for o, t in zip(ours, theirs, strict=False) if o != t), "more or fewer")
        raise DataError(
            f"{title!r} has {len(theirs)} classes, the first model {base.name!r} {len(ours)}; they "
            f"differ from {differ!r} on: compare models of the same classes"
        )


def _check_confidence(plan: Plan, manifest: Manifest, title: str) -> None:
    if SURE in plan.measures and manifest.output.kind == "labels":
        raise DataError(
            f"{title!r} gives labels without confidence, so there is nothing to measure {SURE} of; "
            f"leave out --measure {SURE}"
        )
