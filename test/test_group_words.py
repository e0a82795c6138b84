"""Planner groups are guessed from names by a table, and agree with the cards."""

import pytest

from seg_perception.cards import load_card
from seg_perception.group_words import guess_groups, plain


@pytest.mark.parametrize(
    ("name", "group", "words"),
    [
        ("Road", "drivable", "road"),
        ("asphalt_road", "drivable", "road"),
        ("traffic-light", "obstacle", "traffic light"),
        ("TrafficSign", "obstacle", "traffic sign"),
        ("Pedestrians", "person", "pedestrian"),
        ("buses", "vehicle", "bus"),
        ("road sign", "obstacle", "sign"),
        ("background", "other", "background"),
        ("desert background", "other", ""),
        ("gizmo", "other", ""),
        ("", "other", ""),
    ],
)
def test_the_last_words_of_a_name_decide(name: str, group: str, words: str) -> None:
    (guess,) = guess_groups([name])
    assert (guess.group, guess.words) == (group, words)
    assert guess.text().startswith(f"{name}: {group} (")


@pytest.mark.parametrize("dataset", ["ade20k", "cityscapes", "camvid"])
def test_guesses_agree_with_the_cards(dataset: str) -> None:
    card = load_card(dataset)
    guesses = [guess for guess in guess_groups(card["classes"]) if guess.words]
    assert len(guesses) >= min(11, len(card["classes"]) // 2)
    for guess in guesses:
        assert guess.group == card["groups"].get(guess.name, "other"), guess


def test_a_name_is_read_without_its_writing() -> None:
    assert plain("Sign_symbol") == plain("sign-symbol") == plain("SignSymbol") == "sign symbol"
