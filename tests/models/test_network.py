from tser_lightning.models.network import four_stages


def test_the_last_stage_is_always_the_fourth() -> None:
    assert list(four_stages("stem", ["a", "b", "c", "d", "e"]).values()) == ["b", "c", "d", "e"]
    assert four_stages("stem", ["a", "b", "c"]) == {"stage1": "stem", "stage2": "a", "stage3": "b", "stage4": "c"}
    assert list(four_stages("stem", ["a"]).values()) == ["stem", "stem", "stem", "a"]
