"""Where does the time of the plain and of the rewritten graph go, and what could still be won?

python benchmarks/operators.py    prints milliseconds by operator (ONNX Runtime's profiler, one
thread, medians of 60 runs) and the ratio that remained if everything but convolution were free.
"""

import json
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from seg_perception.bench.bench import export_both
from seg_perception.runtimes.onnx import ort

RUNS = 60
SHOWN = 8


def profile(path: Path, folder: Path) -> Counter[str]:
    """Return the median milliseconds of one run by operator."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / path.stem)
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    kind = np.uint8 if "uint8" in entry.type else np.float32
    x = np.random.default_rng(0).integers(0, 256, entry.shape).astype(kind)
    for _ in range(RUNS):
        session.run(None, {entry.name: x})
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in json.loads(Path(session.end_profiling()).read_text("utf-8")):
        if event["name"].endswith("kernel_time"):
            times[event["name"], event["args"]["op_name"]].append(event["dur"] / 1e3)
    total: Counter[str] = Counter()
    for (_, operator), durations in times.items():
        total[operator] += float(np.median(durations))
    return total


def main() -> None:
    """Print both tables and the bound."""
    with tempfile.TemporaryDirectory() as folder:
        files = export_both(Path(folder))
        totals = {name: profile(path, Path(folder)) for name, path in files.items()}
    for name, total in totals.items():
        print(f"{name}: {total.total():.2f} ms")
        for operator, milliseconds in total.most_common(SHOWN):
            print(f"  {operator:<16}{milliseconds:>8.2f} ms {milliseconds / total.total():>6.1%}")
    plain, rewritten = totals["plain"], totals["rewritten"]
    print(f"rewritten / plain, by the profiler: {rewritten.total() / plain.total():.3f}")
    print(f"convolutions alone / plain:         {rewritten['Conv'] / plain.total():.3f}")


if __name__ == "__main__":
    main()
