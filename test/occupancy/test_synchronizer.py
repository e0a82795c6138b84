"""Messages of one image find each other by stamp and frame, in bounded memory."""

from types import SimpleNamespace

from seg_perception.occupancy.synchronizer import COMPANIONS, KEPT_FRAMES, Match, Pairing


def message(stamp: int, text: str = "", frame: str = "camera") -> SimpleNamespace:
    """Return a message with a header; `text` tells it from others."""
    seconds, nanoseconds = divmod(stamp, 10**9)
    header = SimpleNamespace(
        stamp=SimpleNamespace(sec=seconds, nanosec=nanoseconds), frame_id=frame
    )
    return SimpleNamespace(header=header, text=text)


def taken(pairing: Pairing) -> tuple[str, str | None, str | None, int] | None:
    """Return the texts of what is matched, and the tag."""
    match: Match | None = pairing.take()
    if match is None:
        return None
    confidence, info = (m and m.text for m in (match.confidence, match.info))
    return match.mask.text, confidence, info, match.tag


def test_without_confidence_a_mask_waits_for_nothing() -> None:
    pairing = Pairing()
    assert taken(pairing) is None
    pairing.on_mask(message(1, "a"), 7)
    assert taken(pairing) == ("a", None, None, 7)
    assert taken(pairing) is None


def test_confidence_of_the_same_stamp_is_awaited_and_may_come_first() -> None:
    pairing = Pairing()
    pairing.expect(["confidence"])
    pairing.on_mask(message(5, "a"), 1)
    pairing.on_companion("confidence", message(4, "of another"))
    assert taken(pairing) is None
    pairing.on_companion("confidence", message(5, "of a"))
    assert taken(pairing) == ("a", "of a", None, 1)
    pairing.on_companion("confidence", message(6, "of b"))
    pairing.on_mask(message(6, "b"), 2)
    assert taken(pairing) == ("b", "of b", None, 2)


def test_stamps_match_to_the_nanosecond() -> None:
    pairing = Pairing()
    pairing.expect(["confidence"])
    pairing.on_mask(message(10**9 + 1, "a"), 1)
    pairing.on_companion("confidence", message(10**9 + 2, "no"))
    assert taken(pairing) is None
    pairing.on_companion("confidence", message(10**9 + 1, "yes"))
    assert taken(pairing) == ("a", "yes", None, 1)


def test_a_confidence_that_never_comes_costs_one_mask_of_delay() -> None:
    pairing = Pairing()
    pairing.expect(["confidence"])
    pairing.on_mask(message(1, "a"), 1)
    assert taken(pairing) is None
    pairing.on_mask(message(2, "b"), 2)
    assert taken(pairing) == ("a", None, None, 1)
    assert taken(pairing) is None


def test_a_mask_is_let_go_when_the_publisher_of_confidence_leaves() -> None:
    pairing = Pairing()
    pairing.expect(["confidence"])
    pairing.on_mask(message(1, "a"), 1)
    pairing.expect([])
    assert taken(pairing) == ("a", None, None, 1)


def test_the_newest_match_wins() -> None:
    pairing = Pairing()
    for stamp in (30, 40, 2):  # by arrival: time may jump back
        pairing.on_mask(message(stamp, f"mask {stamp}"), stamp)
    assert taken(pairing) == ("mask 2", None, None, 2)
    assert taken(pairing) is None


def test_camera_info_is_the_newest_of_the_masks_frame() -> None:
    pairing = Pairing()
    pairing.on_info(message(1, "old", "left"))
    pairing.on_info(message(2, "right", "right"))
    pairing.on_info(message(3, "left", "left"))
    pairing.on_mask(message(9, "a", "left"), 1)
    assert taken(pairing) == ("a", None, "left", 1)
    pairing.on_mask(message(9, "a", "rear"), 1)
    assert taken(pairing) == ("a", None, None, 1)
    assert set(pairing.info_frames()) == {"left", "right"}


def test_depth_is_awaited_as_confidence_is_and_beside_it() -> None:
    pairing = Pairing()
    pairing.expect(["confidence", "depth"])
    for first, second in (("confidence", "depth"), ("depth", "confidence")):
        pairing.on_mask(message(1, "a"), 1)
        pairing.on_companion(first, message(1, f"{first} of a"))
        assert pairing.take() is None
        pairing.on_companion(second, message(1, f"{second} of a"))
        match = pairing.take()
        assert (match.confidence.text, match.depth.text) == ("confidence of a", "depth of a")
    pairing.on_companion("depth", message(2, "depth of b"))  # it is there long before the mask
    pairing.on_companion("depth", message(3, "depth of another"))
    pairing.on_mask(message(2, "b"), 2)
    pairing.on_mask(message(4, "c"), 3)
    match = pairing.take()
    assert (match.mask.text, match.confidence, match.depth.text) == ("b", None, "depth of b")
    pairing.expect(["confidence"])  # the publisher of depth leaves
    pairing.on_companion("confidence", message(4, "confidence of c"))
    match = pairing.take()
    assert (match.mask.text, match.confidence.text, match.depth) == ("c", "confidence of c", None)


def test_masks_that_waited_in_vain_are_counted() -> None:
    pairing = Pairing()
    pairing.on_mask(message(1), 1)
    assert pairing.missed() == {"confidence": 0, "depth": 0}, "nobody publishes them"
    pairing.expect(["depth"])
    for stamp in (2, 3, 4):
        pairing.on_mask(message(stamp), stamp)
    assert pairing.missed() == {"confidence": 0, "depth": 2}


def test_memory_is_bounded() -> None:
    pairing = Pairing()
    pairing.expect(COMPANIONS)
    for stamp in range(1000):
        for name in COMPANIONS:
            pairing.on_companion(name, message(stamp, f"{name} of {stamp}"))
        pairing.on_info(message(stamp, frame=f"frame {stamp}"))
    assert {name: len(kept) for name, kept in pairing._early.items()} == COMPANIONS
    assert pairing.info_frames() == tuple(f"frame {i}" for i in range(1000 - KEPT_FRAMES, 1000))
    oldest = 1000 - COMPANIONS["confidence"]
    pairing.on_mask(message(oldest, "a"), 1)
    assert taken(pairing) == ("a", f"confidence of {oldest}", None, 1)
