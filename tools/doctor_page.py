"""Write docs/doctor.md: what seg-perception doctor says of real set-ups, well and broken.

PYTHONPATH=test python tools/doctor_page.py > docs/doctor.md
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from support.graph import PROFILE, Graph
from support.paths import SUPPORT

from seg_perception.launch_arguments import PROFILE_VARIABLES
from seg_perception.weights import BUNDLED

CAMERA = str(SUPPORT / "doctor_camera.py")
REMAPS = {"image": "/camera/image", "camera_info": "/camera/camera_info"}
NOISY = re.compile(r"^(ok|note)\b")

HEAD = """# seg-perception doctor

Written by `PYTHONPATH=test python tools/doctor_page.py > docs/doctor.md`; do not edit.
Everything below is real output of real nodes, on a 2-core virtual machine with ROS from PyPI
wheels; paths are shortened.

```
seg-perception doctor [--json] [--topic T ...] [--seconds 5] [--model M ...] [--provider cpu]
```

looks at Python and packages, threads, shared memory, ROS distribution, middleware and its profile,
sockets, domain, what runs networks, model files, and at the running graph: cameras (rate, loss,
quality of service, encoding, stamps, camera_info, tf), `/clock`, and what segmentation_node and
occupancy_node say of themselves; it knows them by their services, topics and parameters, whatever
their names and namespaces are, and asks tf for the cameras in their own `base_frame`. Run it on the
node's computer and in its shell: it sees what a node would see there. It changes nothing, but while
it listens every camera sends its images once more; on a busy robot name one with `--topic`.
Otherwise topics of images that no node of ours hears give warnings at most, where one is heard.

`FASTDDS_BUILTIN_TRANSPORTS=LARGE_DATA` is judged by what it does: TCP carries the images of other
computers, shared memory of twice its `sockets_size` those of this one, and it counts only where no
profile names transports and discovery is not limited to this computer.

Each finding has a level, what was found, what it means and what to do. Exit status: 1 when one is
an error, 0 otherwise. `--json` prints `{"schema": 1, "findings": [{"level", "check", "found",
"means", "do"}]}`. Where ROS is missing everything else is still looked at.

The nodes say two things themselves within 2 s, once in the log and in `/diagnostics` while they
last: a publisher that a subscription cannot hear (reliability, durability or type of a topic), and
stamps that are more than 5 s from the node's clock.
"""


class Case(NamedTuple):
    """A set-up: what is wrong, its camera's settings, its node's parameters, doctor's options."""

    title: str
    camera: tuple[str, ...] = ()
    node: dict[str, object] | None = None
    options: tuple[str, ...] = ()
    has_profile: bool = True


CASES = (
    Case("A healthy set-up", node={}),
    Case(
        "Best-effort images without the Fast DDS profile",
        camera=("width=1920", "height=1080"), node={}, has_profile=False,
    ),
    Case("use_sim_time, and nobody publishes /clock", node={"use_sim_time": True}),
    Case("A bag plays without --clock and use_sim_time", camera=("late=5000",), node={}),
    Case("A camera that is not calibrated", camera=("focal=0",), node={}),
    Case("An encoding that nobody knows", camera=("encoding=32SC4",), node={}),
    Case("A reliable subscription to a best-effort camera", node={"qos_reliability": "reliable"}),
    Case("A model file that was damaged", node={}, options=("--model", "{damaged}")),
)  # fmt: skip


def examine(case: Case, folder: Path) -> str:
    """Start a set-up and return what the doctor prints of it, and its exit status."""
    with Graph(folder) as ros:
        if not case.has_profile:
            for name in PROFILE_VARIABLES:
                os.environ.pop(name)
        else:  # the name that Kilted reads
            os.environ.pop(PROFILE_VARIABLES[1])
        ros.start(CAMERA, *case.camera)
        if case.node is not None:
            ros.start_node(REMAPS, model="tiny", **case.node)
        ros.wait(lambda: ros.diagnostics and ros.node.count_publishers("/camera/image"))
        ros.spin(4.0)  # the node has looked at its first images
        options = [o.format(damaged=folder / "damaged.onnx") for o in case.options]
        done = subprocess.run(
            [sys.executable, "-m", "seg_perception.cli", "doctor", *options],
            capture_output=True, text=True,
            env={**os.environ, "ROS_DOMAIN_ID": str(ros.domain)},
        )  # fmt: skip
        line = " ".join(["$ seg-perception doctor", *case.options]).format(damaged="damaged.onnx")
        text = done.stdout if case is CASES[0] else without_ok(done.stdout)
        return f"{line}\n{shortened(text, folder)}$ echo $?\n{done.returncode}"


def without_ok(text: str) -> str:
    """Leave out findings that are ok or notes; a finding goes on in the lines below its own."""
    kept, is_kept = [], True
    for line in text.splitlines(keepends=True):
        if not line.startswith(" "):
            is_kept = not NOISY.match(line)
        if is_kept:
            kept.append(line)
    return "".join(kept)


def shortened(text: str, folder: Path) -> str:
    """Leave out where things lie on this machine, and how it is wired for tests."""
    text = text.replace(str(Path(PROFILE).parent), "...").replace(str(folder), "...")
    return re.sub(r"ROS_DOMAIN_ID=\d+", "ROS_DOMAIN_ID=0", text)


def main() -> None:
    """Print the page."""
    print(HEAD)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        content = bytearray(BUNDLED["tiny"].read_bytes())
        content[len(content) // 2] ^= 1
        (folder / "damaged.onnx").write_bytes(content)
        for i, case in enumerate(CASES):
            print(f"## {case.title}\n\n```\n{examine(case, folder)}\n```\n")
            if not i:
                print("From here on, findings that are `ok` or a `note` are left out.\n")


if __name__ == "__main__":
    main()
