"""LabelInfo lists every id of the label space; vision_msgs is a stand-in where it is missing."""

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace

import pytest
from support.brightest import card

from seg_perception.manifest import Manifest
from seg_perception.nodes import label_info as module


@pytest.fixture
def with_vision_msgs(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Reload the module with vision_msgs, the real one where it is installed."""
    if importlib.util.find_spec("vision_msgs") is None:
        messages = ModuleType("vision_msgs.msg")
        messages.LabelInfo = messages.VisionClass = SimpleNamespace
        monkeypatch.setitem(sys.modules, "vision_msgs", ModuleType("vision_msgs"))
        monkeypatch.setitem(sys.modules, "vision_msgs.msg", messages)
    yield importlib.reload(module)
    monkeypatch.undo()
    importlib.reload(module)


def test_classes_but_void_are_listed_by_name(with_vision_msgs: ModuleType) -> None:
    from std_msgs.msg import Header

    space = Manifest.from_dict(card(void_ids=[1])).label_space()
    message = with_vision_msgs.label_info(space, Header(), threshold=0.25)
    assert [(c.class_id, c.class_name) for c in message.class_map] == [(0, "red"), (2, "blue")]
    assert message.threshold == 0.25
    groups = Manifest.from_dict(card()).label_space("groups")
    listed = with_vision_msgs.label_info(groups, Header(), threshold=0.0).class_map
    assert (listed[4].class_id, listed[4].class_name) == (4, "person")
    assert 255 not in [c.class_id for c in listed]
