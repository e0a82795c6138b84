"""occupancy_node as a process over DDS: a known world comes out at its place, stamp and frame."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from sensor_msgs.msg import Image, PointCloud2
from support import bounds, graph
from support.graph import Graph
from support.rig import CAMERA, NODE, PLACED, Rig, best, cells, grids, places, points
from support.world import DRIVABLE, OBSTACLE, PERSON, VEGETATION, Box, Pose2D, Poses, World, mounted

from seg_perception.messages import stamp_ns, to_array
from seg_perception.occupancy.mapper import LabelFrame, Mapper
from seg_perception.occupancy.settings import Settings

HERE = Pose2D(0, 0, 0)
ROAD = World().image(CAMERA, mounted(), HERE)
BOX = Box(3.0, -0.6, 3.8, 0.6, 1.0)
BLOCKED = World((BOX,)).image(CAMERA, mounted(), HERE)
MATCHED = ("label_mask", "confidence", "points")


def test_a_drive_through_a_world_comes_out_in_odom(
    ros: Graph, make_model: Callable[..., Path]
) -> None:
    answers, rig, truth = grids(ros), Rig(ros), World((BOX,))
    ros.start_node(model=make_model(), half_life=60.0, max_range=8.0, **PLACED)
    rig.odometry(HERE, rig.now())
    rig.wait()
    sent = []
    for i in range(12):
        place, stamp = Pose2D(0.1 * i, 0.02 * i, 0.02 * i), rig.now()
        rig.odometry(place, stamp)
        ros.spin(0.05)
        sent.append(rig.show(truth.image(CAMERA, mounted(), place), stamp))
        ros.wait(lambda: answers["cost"] and stamp_ns(answers["cost"][-1].header) == sent[-1])
    ros.wait(lambda: all(stamp_ns(a[-1].header) == sent[-1] for a in answers.values()))

    for messages in answers.values():
        message = messages[-1]
        assert message.header.frame_id == "odom"
        assert (message.info.width, message.info.height) == (200, 200)
        assert message.info.resolution == pytest.approx(0.1)
    x, y = places(answers["cost"][-1])
    found, ground = best(answers), truth.ground(x, y)
    in_box = (x > BOX.x0 - 0.1) & (x < BOX.x1 + 0.1) & (np.abs(y) < BOX.y1 + 0.1)
    seen = (found >= 0) & (found != OBSTACLE)
    assert seen.sum() > 1000
    pure = seen & truth.is_one_group(x, y, 0.1)  # no border runs through the cell
    assert (found[pure] == ground[pure]).all()
    solid = cells(answers["obstacle"][-1]) >= 50
    assert solid.sum() >= 10
    assert in_box[solid].all()
    row = bounds.of_row(BOX.x0, 1.2, CAMERA.fx)  # where the contact is that the cell begins before
    assert -0.1 < x[solid].min() - 0.05 - BOX.x0 <= row
    cost = cells(answers["cost"][-1])
    assert (cost[solid] == 100).all()
    assert (cost[pure & (found == DRIVABLE) & ~in_box] == 0).all()
    assert (cost[found == -1] == -1).all()
    assert (cells(answers["drivable"][-1])[found == -1] == -1).all()


def test_the_costmap_set_is_matched_and_points_stand_in_base(
    ros: Graph, make_model: Callable[..., Path]
) -> None:
    images = {n: ros.collect(Image, f"{NODE}/costmap/{n}") for n in MATCHED[:2]}
    clouds = {n: ros.collect(PointCloud2, f"{NODE}/{n}")
              for n in ("costmap/points", "obstacles", "clearing")}  # fmt: skip
    answers, rig = grids(ros, "cost"), Rig(ros)
    ros.start_node(model=make_model(), **PLACED)
    rig.until(BLOCKED, answers["cost"])
    for messages in (*images.values(), *clouds.values()):
        ros.wait(lambda messages=messages: messages)
    mask, confidence = (images[n][-1] for n in MATCHED[:2])
    cloud = clouds["costmap/points"][-1]
    sizes = {(m.width, m.height) for m in (mask, confidence, cloud)}
    assert len(sizes) == 1
    assert (mask.encoding, mask.step, confidence.step) == ("mono8", mask.width, mask.width)
    assert len(cloud.data) <= 320_000
    stamps = [stamp_ns(m[-1].header) for m in (*images.values(), *clouds.values())]
    assert len(set(stamps)) == 1
    assert stamp_ns(answers["cost"][-1].header) == stamps[0]
    assert {m.header.frame_id for m in (mask, confidence, cloud)} == {"camera_optical"}
    assert (to_array(confidence) == 255).all(), "nobody publishes confidence"
    seen, known = points(cloud), np.isfinite(points(cloud)).all(2)
    assert not cloud.is_dense
    right = Mapper(Settings(), Poses(mounted())).update(
        LabelFrame(BLOCKED, None, CAMERA, "", "camera_optical", stamps[0])
    )
    assert (to_array(mask) == right.reduced.mask).all()
    np.testing.assert_array_equal(seen, right.reduced.points)
    assert (to_array(mask)[known] == OBSTACLE).any()

    obstacles, clearing = clouds["obstacles"][-1], clouds["clearing"][-1]
    assert obstacles.header.frame_id == clearing.header.frame_id == "base_link"
    assert answers["cost"][-1].header.frame_id == "base_link", "there is no odometry"
    raised = points(obstacles)[0]
    assert {tuple(p) for p in raised[:, :2].tolist()} == set(map(tuple, right.contacts.tolist()))
    assert sorted({round(float(z), 3) for z in raised[:, 2]}) == [0.1, 0.3, 0.5, 0.7, 0.9]
    assert np.isfinite(points(clearing)).all()
    assert len(points(clearing)[0]) > 100


def test_confidence_of_the_same_stamp_goes_with_the_mask(
    ros: Graph, make_model: Callable[..., Path]
) -> None:
    found, rig = ros.collect(Image, f"{NODE}/costmap/confidence"), Rig(ros)
    ros.start_node(model=make_model(), **PLACED)
    sure = np.full(ROAD.shape, 180, np.uint8)
    rig.until(ROAD, found, confidence=sure)
    ros.wait(lambda: (to_array(rig.until(ROAD, found, confidence=sure)) == 180).all())


@pytest.mark.parametrize("unit", ["metres", "millimetres"])
def test_depth_of_the_same_stamp_tells_ground_from_what_lies_deeper(
    ros: Graph, make_model: Callable[..., Path], unit: str
) -> None:
    found, rig = grids(ros, "drivable"), Rig(ros)
    obstacles = ros.collect(PointCloud2, f"{NODE}/obstacles")
    ros.start_node(model=make_model(), **PLACED)
    labels, depth = World((BOX,)).look(CAMERA, mounted(), HERE)
    depth[:, :120] *= 1.3  # left of the box
    if unit == "millimetres":
        depth = np.where(np.isfinite(depth), depth * 1000, 0).astype(np.uint16)
    rig.until(labels, obstacles, depth=depth)
    rig.until(labels, obstacles, depth=depth)  # the first may have been too early for depth
    ros.wait(lambda: found["drivable"][-1].header.stamp == obstacles[-1].header.stamp)
    x, y = places(found["drivable"][-1])
    share, near = cells(found["drivable"][-1]), (x > 1.6) & (x < 2.6)
    assert (share[near & (y < -0.3) & (y > -0.8)] == 100).all()
    assert (share[near & (y > 0.8)] == -1).all()
    # A millimetre at most is cut off along the optical axis, which is pitched by 0.3.
    off = 0.001 / np.cos(0.3) if unit == "millimetres" else bounds.of_ground(BOX.x0, 1.2)
    assert np.abs(points(obstacles[-1])[0, :, 0] - BOX.x0).max() <= off
    assert ros.values()["without_depth"] in ("0", "1")


def test_it_maps_what_segmentation_node_says(ros: Graph, make_model: Callable[..., Path]) -> None:
    answers, sure = grids(ros), ros.collect(Image, f"{NODE}/costmap/confidence")
    images, model, rig = ros.camera(topic="/image"), make_model(), Rig(ros)
    ros.start_node(model=model)
    said = ros.collect(Image, f"{graph.NODE}/label_mask")
    remaps = {n: f"{graph.NODE}/{n}" for n in ("label_mask", "confidence", "camera_info")}
    ros.start_node(remaps, model=model, **{**PLACED, "label_space": "model"})
    ros.wait(lambda: ros.node.count_subscribers(f"{graph.NODE}/confidence"))
    grass = np.zeros((*ROAD.shape, 3), np.uint8)
    grass[..., 1] = 20  # little enough to be unsure

    def is_mapped() -> bool:
        stamp = rig.now()
        rig.publish("/camera_info", rig.info(stamp))
        ros.spin(0.05)
        images.publish(ros.image_message(grass, stamp=stamp))
        ros.wait(lambda: sure and stamp_ns(sure[-1].header) == stamp, 0.5, must=False)
        if not sure or stamp_ns(sure[-1].header) != stamp:
            return False
        return bool((to_array(sure[-1]) < 255).all())

    ros.wait(is_mapped)
    ros.wait(lambda: all(a and a[-1].header.stamp == sure[-1].header.stamp
                         for a in answers.values()))  # fmt: skip
    assert set(np.unique(best(answers))) == {-1, VEGETATION}
    assert said[-1].header.stamp == sure[-1].header.stamp


def test_nothing_in_the_way_is_an_empty_cloud(ros: Graph, make_model: Callable[..., Path]) -> None:
    obstacles, rig = ros.collect(PointCloud2, f"{NODE}/obstacles"), Rig(ros)
    ros.start_node(model=make_model(), **PLACED)
    cloud = rig.until(ROAD, obstacles)
    assert (cloud.width, cloud.height, len(cloud.data)) == (0, 1, 0)
    assert [f.name for f in cloud.fields] == ["x", "y", "z"]


def test_late_listeners_get_the_newest_grids(ros: Graph, make_model: Callable[..., Path]) -> None:
    early, rig = grids(ros, "cost"), Rig(ros)
    ros.start_node(model=make_model(), **PLACED)
    rig.until(ROAD, early["cost"])
    ros.spin(0.5)
    late = grids(ros)
    ros.wait(lambda: all(late.values()))
    assert late["cost"][0] == early["cost"][-1]
    assert (best(late) == DRIVABLE).any()


def test_model_classes_become_groups_and_void_is_unknown(
    ros: Graph, make_model: Callable[..., Path]
) -> None:
    answers, rig = grids(ros), Rig(ros)
    obstacles = ros.collect(PointCloud2, f"{NODE}/obstacles")
    model = make_model(void_ids=[2])  # red is person, green vegetation, blue void
    ros.start_node(model=model, **{**PLACED, "label_space": "model"})
    labels = np.ones(ROAD.shape, np.uint8)
    labels[:, :100] = 2
    labels[60:160, 150:170] = 0
    rig.until(labels, obstacles)
    ros.wait(lambda: all(answers.values()))
    assert set(np.unique(best(answers))) == {-1, PERSON, VEGETATION}
    x, y = places(answers["person"][-1])
    left = (y > 0.6) & (x > 1.5) & (x < 5)
    assert (cells(answers["vegetation"][-1])[left & (y > 0.6 * x)] == -1).all(), "void"
    assert obstacles[-1].width > 0


def test_costs_and_frames_are_parameters(ros: Graph, make_model: Callable[..., Path]) -> None:
    answers, rig = grids(ros, "cost"), Rig(ros)
    obstacles = ros.collect(PointCloud2, f"{NODE}/obstacles")
    clouds = ros.collect(PointCloud2, f"{NODE}/costmap/points")
    changed = {"costs.drivable": 7, "costs.obstacle": 60, "base_frame": "footprint",
               "camera_frame": "eye", "width": 10.0, "height": 6.0, "resolution": 0.2}  # fmt: skip
    ros.start_node(model=make_model(), **PLACED, **changed)
    grid = rig.until(BLOCKED, answers["cost"])
    assert grid.header.frame_id == "footprint"
    assert (grid.info.width, grid.info.height) == (50, 30)
    assert {7, 60} <= set(np.unique(cells(grid)))
    ros.wait(lambda: obstacles and clouds)
    assert obstacles[-1].width == 0, "no longer lethal"
    assert clouds[-1].header.frame_id == "eye"
    assert obstacles[-1].header.frame_id == "footprint"


def test_two_cameras_and_odometry_make_one_grid(
    ros: Graph, make_model: Callable[..., Path]
) -> None:
    mounts = {"front": mounted(height=1.2), "left": mounted(height=1.0, yaw=np.pi / 2)}
    parameters = {"front.camera_z": 1.2, "front.camera_pitch": 0.3, "left.camera_z": 1.0,
                  "left.camera_pitch": 0.3, "left.camera_yaw": np.pi / 2}  # fmt: skip
    start = {k: v for k, v in PLACED.items() if not k.startswith("camera_")}
    answers, rig = grids(ros), Rig(ros, *mounts)
    clouds = {n: ros.collect(PointCloud2, f"{NODE}/{n}/costmap/points") for n in mounts}
    ros.start_node(
        model=make_model(), cameras=list(mounts), half_life=60.0, max_range=5.0,
        **start, **parameters,
    )  # fmt: skip
    place = Pose2D(4.0, -1.0, 0.5)
    rig.odometry(place, rig.now())
    rig.wait()
    for _ in range(4):
        for name, mount in mounts.items():
            rig.odometry(place, rig.now())
            ros.spin(0.05)
            seen = World().image(CAMERA, mount, place)
            stamp = rig.show(seen, name=name, frame=f"{name}_eye")
            ros.wait(
                lambda stamp=stamp: (
                    answers["cost"] and stamp_ns(answers["cost"][-1].header) == stamp
                )
            )
    ros.wait(lambda: all(stamp_ns(a[-1].header) == stamp for a in answers.values()))
    found, (x, y) = best(answers), places(answers["cost"][-1])
    assert answers["cost"][-1].header.frame_id == "odom"
    seen = found >= 0
    pure = seen & World().is_one_group(x, y, 0.1)
    assert (found[pure] == World().ground(x, y)[pure]).all()
    # Ahead of both cameras, seen from where the robot stands and turned as it is.
    for angle in (0.5, 0.5 + np.pi / 2):
        at = (x - (place.x + 3 * np.cos(angle))) ** 2 + (y - (place.y + 3 * np.sin(angle))) ** 2
        assert seen[at < 0.3**2].all()
    assert {n: clouds[n][-1].header.frame_id for n in mounts} == {
        "front": "front_eye", "left": "left_eye",
    }  # fmt: skip
    ros.wait_for_status("mapping")
    assert [s.name for s in ros.diagnostics[-1].status] == [
        "occupancy_node: front",
        "occupancy_node: left",
    ]


def test_the_lifecycle_is_a_managers_when_autostart_is_off(
    ros: Graph, make_model: Callable[..., Path]
) -> None:
    answers, rig = grids(ros, "cost"), Rig(ros)
    node = ros.start_node(model=make_model(), autostart=False, **PLACED)
    assert ros.wait_for_status("unconfigured").level == b"\x00"
    steps = {
        Transition.TRANSITION_CONFIGURE: "inactive",
        Transition.TRANSITION_ACTIVATE: "active",
        Transition.TRANSITION_DEACTIVATE: "inactive",
        Transition.TRANSITION_CLEANUP: "unconfigured",
    }
    for _ in range(2):
        for transition, state in steps.items():
            assert ros.change_state(transition)
            assert ros.state() == state
            if state == "active":
                rig.until(ROAD, answers["cost"])
                late = ros.set("resolution", 0.2)
                assert "deactivate and clean up first" in late.reason
    assert ros.set("cameras", ["front"]).successful
    assert ros.set("front.camera_z", 1.2).successful, "declared with its camera"
    assert graph.stop(node, graph.signal.SIGINT) == 0
    assert "Traceback" not in ros.logs()
