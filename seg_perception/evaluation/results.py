"""Reports of an evaluation: numbers from counts, verdicts on them, files."""

import math
import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seg_perception.errors import UsageError
from seg_perception.evaluation.accumulator import Accumulator
from seg_perception.evaluation.evaluator import Evaluator
from seg_perception.evaluation.ground_truth import Truth
from seg_perception.evaluation.plan import Plan
from seg_perception.evaluation.progress import Progress
from seg_perception.evaluation.requirements import Requirement
from seg_perception.manifest import Manifest
from seg_perception.metrics.confusion import ConfusionMatrix
from seg_perception.metrics.paired import Difference, compare
from seg_perception.metrics.registry import METRICS
from seg_perception.reporting.report import (
    Report,
    known_keys,
    write_comparison,
    write_html,
    write_json,
)

WRITTEN = ("report.json", "report.html")
COMPARED = ("miou", "miou_void_counted", "pixel_accuracy", "per_class_iou")
LIVE = ("age_ms", "jitter_ms")


class Outcome(NamedTuple):
    """A report for each network, the others' differences to the first, and the verdicts.

    `missing` says of each requirement that could not be judged what there is instead.
    """

    reports: Sequence[Report]
    differences: Sequence[Difference]
    verdicts: Sequence[Mapping[str, Any]]
    missing: Sequence[str]


def write(
    out: Path,
    evaluator: Evaluator,
    totals: Sequence[Accumulator],
    recordings: Sequence[Progress],
    requirements: Sequence[Requirement],
    *,
    seconds: float,
    interrupted: bool,
) -> Outcome:
    """Write out/report.json and report.html; ModelError where they cannot be written."""
    made = [
        _report(evaluator, at, total, recordings, seconds=seconds, interrupted=interrupted)
        for at, total in enumerate(totals)
    ]
    differences = _differences(evaluator, totals)
    verdicts, missing = _judge(requirements, made, differences)
    if len(made) == 1:
        made = [replace(made[0], verdicts=verdicts or None)]
        _write_one(out, evaluator, totals[0], made[0])
    else:
        write_comparison(
            out / "report.json",
            out / "report.html",
            reports=made,
            differences=differences,
            worst=[total.worst.chosen() for total in totals],
            verdicts=verdicts or None,
            space=totals[0].space,
        )
    return Outcome(made, differences, verdicts, missing)


def _write_one(out: Path, evaluator: Evaluator, total: Accumulator, report: Report) -> None:
    write_json(out / "report.json", report)
    write_html(
        out / "report.html",
        report,
        samples=total.samples.chosen(),
        worst=total.worst.chosen(),
        timeline=evaluator.networks[0].timeline,
        confusion=total.matrix.counts if report.scores else None,
        space=total.space,
    )


def check_requirements(requirements: Sequence[Requirement], plan: Plan, *, is_live: bool) -> None:
    """Raise UsageError, before anything is done, for a key that such a run never measures."""
    never = {*METRICS} - {*plan.measures}
    if not is_live:
        never |= {*LIVE}
    if not (plan.labels or plan.teacher):
        never |= {*COMPARED, "agreement_with", "frames_scored", "worst"}
    else:
        never |= {*COMPARED} if plan.teacher else {"agreement_with"}
    known = known_keys() - never
    if len(plan.models) > 1:
        known |= {"models", "comparison"}
    for requirement in requirements:
        requirement.check(known)


def _report(
    evaluator: Evaluator,
    at: int,
    total: Accumulator,
    recordings: Sequence[Progress],
    *,
    seconds: float,
    interrupted: bool,
) -> Report:
    """Return the numbers of one network."""
    plan, network, truth = evaluator.plan, evaluator.networks[at], evaluator.truth
    values: dict[str, Any] = {
        "frames_in": total.frames_in,
        "frames_out": total.frames_out,
        "frames_scored": total.frames_scored if truth else None,
        "dropped": total.frames_in - total.frames_out,
        "skipped": dict(total.skipped),
        "damage": "; ".join(r.damage for r in recordings if r.damage) or None,
        "interrupted": interrupted or None,
        # With several networks the time is of all of them.
        "rate_hz": total.frames_out / max(seconds, 1e-9) if len(plan.models) == 1 else None,
        "stage_ms": {k: float(np.percentile(v, 50)) for k, v in total.times.items()},
        "stage_p95_ms": {k: float(np.percentile(v, 95)) for k, v in total.times.items()},
        "peak_memory_mb": _peak_memory_mb(),
        "model": _name(evaluator, at),
        "provider": network.provider,
        "threads": network.threads,
        "source": ", ".join(images.path for images in plan.images),
        "truth": truth.name if truth else None,
        "worst": total.worst.result() if total.frames_scored else None,
        "per_source": _per_source(evaluator, at, recordings) if len(recordings) > 1 else None,
        **(_scores(total.matrix, network.manifest, truth) if truth else {}),
        "metrics": _results(total),
        **network.measured,
    }
    return Report(**values)


def _results(total: Accumulator) -> dict[str, Mapping[str, Any]]:
    """Return by name, in the order of METRICS, what was counted; nothing where none could be."""
    found = {metric.name: metric.result() for metric in total.metrics}
    return {name: result for name in METRICS if (result := found.get(name)) is not None}


def _name(evaluator: Evaluator, at: int) -> str:
    """Return the network's own name; where another has it too, the setting as it was given."""
    names = [network.manifest.name for network in evaluator.networks]
    return names[at] if names.count(names[at]) == 1 else evaluator.plan.models[at].title


def _per_source(
    evaluator: Evaluator, at: int, recordings: Sequence[Progress]
) -> list[dict[str, Any]]:
    """Return the main numbers of each recording."""
    listed = []
    for images, recording in zip(evaluator.plan.images, recordings, strict=True):
        accumulator = recording.accumulators[at]
        row = {n: getattr(accumulator, n) for n in ("frames_in", "frames_out", "frames_scored")}
        miou = {"miou": _number(accumulator.matrix.miou())} if accumulator.frames_scored else {}
        listed.append({"source": images.path, **row, **miou})
    return listed


def _scores(matrix: ConfusionMatrix, manifest: Manifest, truth: Truth) -> dict[str, Any]:
    """Return the keys of Report that compare; another network's labels are never called truth."""
    values = zip(manifest.classes, matrix.iou(), strict=True)
    scores = {
        "miou": _number(matrix.miou()),
        "miou_void_counted": _number(matrix.miou(void_counted=True)),
        "per_class_iou": {name: _number(value) for name, value in values},
    }
    accuracy = _number(matrix.pixel_accuracy())
    common = {"confusion_matrix": matrix.counts.tolist(), "void_ids": sorted(matrix.void_ids)}
    if truth.teacher is None:
        return {**scores, "pixel_accuracy": accuracy, **common}
    agreement = {**scores, "pixel_agreement": accuracy}
    return {"agreement_with": agreement, "teacher": truth.teacher, **common}


def _differences(evaluator: Evaluator, totals: Sequence[Accumulator]) -> list[Difference]:
    """Compare every other network with the first, where there is something to compare by."""
    if not totals[0].frames_scored:
        return []
    base, names = totals[0].blocks, evaluator.manifest.classes
    return [compare(base, total.blocks, names) for total in totals[1:]]


def _judge(
    requirements: Sequence[Requirement],
    reports: Sequence[Report],
    differences: Sequence[Difference],
) -> tuple[list[Mapping[str, Any]], list[str]]:
    """Return the verdicts, one of each model for a key of its report, and what is not there."""
    verdicts: list[Mapping[str, Any]] = []
    missing = []
    each = [report.content() for report in reports]
    pairs = zip(differences, reports[1:], strict=False)
    comparison = [d.content(reports[0].model, other.model) for d, other in pairs]
    whole = {"models": each, "comparison": comparison}
    for requirement in requirements:
        for content in [whole] if requirement.is_under(whole) else each:
            of = {"model": content["model"]} if len(each) > 1 and content is not whole else {}
            try:
                verdicts.append({**requirement.judge(content), **of})
            except UsageError as error:
                missing.append(str(error))
    return verdicts, missing


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _peak_memory_mb() -> float:
    """Return the most memory that this process has had so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e6 / 1024)
