"""What a look needs is compiled before the first one."""

import os
import subprocess
import sys


def test_no_look_waits_for_the_compiler() -> None:
    code = """
import sys
import numpy as np
from support.world import World, Pose2D, Poses, mounted, pinhole
from seg_perception.occupancy.mapper import LabelFrame, Mapper
from seg_perception.occupancy.settings import Settings

def kernels():
    modules = [m for name, m in sys.modules.items() if name.startswith("seg_perception.occupancy")]
    found = {id(k): len(k.overloads) for m in modules for k in vars(m).values()
             if hasattr(k, "overloads")}
    assert len(found) > 3
    return found

poses, camera = Poses(mounted(), Pose2D(0, 0, 0)), pinhole()
mapper = Mapper(Settings(), poses)
before = kernels()
groups, metres = World().look(camera, poses.mount, poses.where)
for i, depth in enumerate((None, metres, (np.minimum(metres, 60) * 1000).astype(np.uint16))):
    mapper.update(LabelFrame(groups, np.full_like(groups, 9), camera, "", "", i, depth))
    mapper.costs()
assert kernels() == before
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
