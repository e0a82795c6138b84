"""What the disk may do to a node that runs: models change under it, and logs find no room."""

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sensor_msgs.msg import Image
from support import graph
from support.drive import SEGMENTATION, Drive
from support.graph import NODE, Graph

from seg_perception.messages import to_array

Make = Callable[..., Path]
INPUT = {"size": [32, 48], "layout": "NHWC", "dtype": "uint8"}
RED = np.zeros((32, 48, 3), np.uint8)
RED[..., 0] = 250
IMAGE = np.full((128, 192, 3), 20, np.uint8)
SILENCE = 'exec "$@" >/dev/full 2>&1'
# In a mount namespace of its own the folder $0 has no room for a byte.
FILL = (
    'mount -t tmpfs -o size=4k none "$0" && head -c 4096 /dev/zero >"$0/full" '
    '&& ! echo >"$0/more" && '
)
UNSHARE = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]


def test_a_model_that_changes_on_disk_changes_nothing_until_it_is_set_again(
    ros: Graph, make_model: Make
) -> None:
    masks = ros.collect(Image, f"{NODE}/label_mask", depth=100)
    camera = ros.camera()
    path = make_model()
    ros.start_node(model=path)

    def label() -> int:
        return int(to_array(ros.ask(camera, ros.image_message(RED), masks)).max())

    def refusal() -> str:
        result = ros.set("model", str(path))
        assert not result.successful
        return str(result.reason)

    assert label() == 0
    whole = path.read_bytes()
    with path.open("r+b") as file:  # the same inode, as cp and rsync --inplace write
        file.truncate(len(whole) // 2)
    assert label() == 0
    assert "truncated" in refusal()
    path.unlink()
    assert label() == 0
    assert "no model file" in refusal()
    make_model(input={**INPUT, "color": "BGR"})  # takes red for blue
    assert label() == 0
    assert ros.set("model", str(path)).successful
    assert label() == 2
    assert ros.values()["failed"] == "0"


def wrapper(where: str, folder: Path) -> list[str]:
    """Return the command that leaves a node no room for logs, or skip where it is not allowed."""
    if where == "streams":
        return ["sh", "-c", SILENCE, "sh"]
    try:
        subprocess.run([*UNSHARE, f"{FILL} true", str(folder)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small file system cannot be mounted here: {error}")
    return [*UNSHARE, FILL + SILENCE, str(folder)]


@pytest.mark.parametrize("where", ["streams", "streams and folder"])
def test_both_nodes_go_on_where_their_logs_find_no_room(
    ros: Graph, make_model: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    monkeypatch.setenv("ROS_LOG_DIR", str(folder))
    ros.wrapper = wrapper(where, folder)
    models = [make_model("a.onnx"), make_model("b.onnx")]
    drive = Drive(ros, models[0])
    drive.start()
    drive.until_mapped(IMAGE)
    ros.name = NODE
    assert ros.set("model", str(models[1])).successful  # which is logged
    drive.publish("/image", ros.image_message(IMAGE[..., :2], "16SC2"))  # a warning
    ros.wait(lambda: ros.values(SEGMENTATION)["unreadable"] == "1")
    assert drive.is_mapped(drive.send(IMAGE))
    for name, process in drive.nodes.items():
        assert ros.values(name)["failed"] == "0"
        assert graph.stop(process, signal.SIGINT) == 0
    logs = "".join(path.read_text() for path in folder.glob("*.log"))
    assert ("the model is now" in logs) == (where == "streams")
