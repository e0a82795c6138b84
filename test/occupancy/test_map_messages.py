"""Points and cells become messages that planners read."""

import numpy as np
import pytest
from nav_msgs.msg import OccupancyGrid
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from seg_perception.messages import fill_cloud, fill_grid


def header() -> Header:
    made = Header(frame_id="camera")
    made.stamp.sec, made.stamp.nanosec = 3, 7
    return made


def read(message: PointCloud2) -> np.ndarray:
    """Read a cloud by its own fields, steps and size, as consumers do."""
    assert [(f.name, f.offset, f.datatype, f.count) for f in message.fields] == [
        ("x", 0, PointField.FLOAT32, 1),
        ("y", 4, PointField.FLOAT32, 1),
        ("z", 8, PointField.FLOAT32, 1),
    ]
    assert not message.is_bigendian
    assert message.row_step == message.point_step * message.width
    assert len(message.data) == message.row_step * message.height
    return np.frombuffer(message.data, "<f4").reshape(message.height, message.width, 3)


def test_an_organised_cloud_keeps_its_rows_and_its_unknown() -> None:
    points = np.arange(2 * 5 * 3, dtype=np.float32).reshape(2, 5, 3)
    message = fill_cloud(PointCloud2(), points, header(), field=PointField)
    assert (message.height, message.width, message.point_step) == (2, 5, 12)
    assert message.is_dense
    assert (read(message) == points).all()
    assert message.header == header()
    points[1, 2] = np.nan
    message = fill_cloud(PointCloud2(), points, header(), field=PointField)
    assert not message.is_dense
    np.testing.assert_array_equal(read(message), points)


@pytest.mark.parametrize("count", [0, 1, 7])
def test_a_flat_cloud_is_one_row_that_may_be_empty(count: int) -> None:
    points = np.random.default_rng(0).random((count, 6)).astype(np.float32)[:, ::2]
    message = fill_cloud(PointCloud2(), points, header(), field=PointField)
    assert (message.height, message.width) == (1, count)
    assert message.is_dense
    assert (read(message)[0] == points).all()


def test_a_grid_has_its_corner_and_rows_along_y() -> None:
    cells = np.array([[-1, 0, 100], [1, 2, 3]], np.int8)
    message = fill_grid(OccupancyGrid(), cells, 0.1, (-1.5, 2), header())
    assert (message.info.width, message.info.height) == (3, 2)
    assert message.info.resolution == pytest.approx(0.1)
    position = message.info.origin.position
    assert (position.x, position.y, position.z) == (-1.5, 2.0, 0.0)
    assert message.info.origin.orientation.w == 1.0
    assert message.info.map_load_time == message.header.stamp == header().stamp
    assert list(message.data) == [-1, 0, 100, 1, 2, 3]
