"""Pictures become batches in an order that nothing but the seed decides."""

import itertools
import sys

import numpy as np
import pytest

from swag_jax import devices, write_image
from swag_jax._checks import UserError
from swag_jax.train.data import TRIES, Cropped, Damage, Feed, batches, find_pictures


@pytest.fixture
def pictures(folders):
    return tuple(find_pictures(folders / name, what=name) for name in ("contents", "styles"))


def made(pictures, settings, damage=None):
    return batches(*pictures, settings=settings, damage=damage or Damage())


def taken(found, count):
    return list(itertools.islice(found, count))


def assert_equal(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def test_folders_are_searched_to_the_ground(folders):
    found = find_pictures(folders / "contents", what="contents")
    assert [path.name for path in found] == [f"{i:02d}.png" for i in range(12)]
    assert find_pictures(found[0], what="contents") == found[:1]


@pytest.mark.parametrize(
    ("name", "message"), [("absent", "contents must be a folder of pictures, got .*absent"), ("", "none in")]
)
def test_folders_without_pictures(tmp_path, name, message):
    with pytest.raises(UserError, match=message):
        find_pictures(tmp_path / name, what="contents")


def test_a_batch(pictures, small):
    (batch,) = taken(made(pictures, small["adain"]), 1)
    assert {name: (values.shape, values.dtype) for name, values in batch.items()} == {
        "content": ((8, 16, 16, 3), np.uint8),
        "style": ((8, 16, 16, 3), np.uint8),
    }


def test_one_style_needs_no_batch_of_styles(pictures, small):
    (batch,) = taken(made((pictures[0], ()), small["johnson"]), 1)
    assert batch.keys() == {"content"}


def test_a_sequence_goes_on_where_it_stood(pictures, small):
    first = made(pictures, small["adain"])
    taken(first, 2)
    state = first.get_state()
    second = made(pictures, small["adain"])
    second.set_state(state)
    assert_equal(taken(first, 3), taken(second, 3))


def test_seeds_give_other_orders(pictures, small):
    (first,), (second,) = (taken(made(pictures, small["adain"].replace(seed=seed)), 1) for seed in (0, 1))
    assert any((first[name] != second[name]).any() for name in first)


def test_every_content_comes_once_in_an_epoch(small, tmp_path):
    for i in range(12):
        write_image(tmp_path / f"{i:02d}.png", np.full((32, 32, 3), i / 15, np.float32))
    found = taken(made((find_pictures(tmp_path, what="contents"), ()), small["johnson"]), 3)
    places = np.concatenate([batch["content"][:, 0, 0, 0] for batch in found]) // 17
    epochs = places[:12].tolist(), places[12:].tolist()
    assert [sorted(epoch) for epoch in epochs] == [list(range(12))] * 2
    assert epochs[0] != epochs[1]


def test_two_processes_read_what_one_reads(pictures, small, monkeypatch):
    (whole,) = taken(made(pictures, small["adain"].replace(batch_size=16)), 1)
    shares = []
    for process in range(2):
        monkeypatch.setattr(devices, "process_index", lambda process=process: process)
        monkeypatch.setattr(devices, "process_count", lambda: 2)
        shares += taken(made(pictures, small["adain"].replace(batch_size=16)), 1)
    both = {name: np.stack([share[name] for share in shares], 1).reshape(16, 16, 16, 3) for name in whole}
    assert_equal([whole], [both])


def test_damaged_pictures_are_told_once_and_replaced(folders, small, tmp_path):
    good = find_pictures(folders / "contents", what="contents")
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("no picture")
    bad = find_pictures(tmp_path, what="contents")
    damage = Damage()
    found = made(((*good[:3], *bad), good[:1]), small["adain"], damage)
    assert_equal(taken(found, 4), taken(made(((*good[:3], *bad), good[:1]), small["adain"]), 4))
    told = damage.new()
    assert len(told) == 2
    assert any("empty.png must hold a picture" in line for line in told)
    assert damage.new() == []


def test_a_folder_of_nothing_but_damage_ends(small, tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    crops = Cropped(find_pictures(tmp_path, what="contents"), (), small["adain"], Damage())
    with pytest.raises(UserError, match=f"pictures of .* must be readable, got {TRIES} damaged ones"):
        crops(0, np.random.default_rng(0))


def test_flips_and_places_differ(folders, small):
    contents = find_pictures(folders / "contents", what="contents")[:1]
    crops = Cropped(contents, (), small["adain"].replace(size=36, flip=True), Damage())
    seen = {crops(0, np.random.default_rng(seed))["content"].tobytes() for seed in range(8)}
    assert len(seen) == 8


def test_a_feed_is_one_batch_ahead_of_its_state(pictures, small):
    found = made(pictures, small["adain"])
    feed = Feed(found)
    first = feed.take()
    assert first["content"].shape == (8, 1, 16, 16, 3)
    assert feed.state == {"next_index": 8}
    feed.fetch()
    assert feed.state == {"next_index": 8}
    assert found.get_state() == {"next_index": 16}
    feed.take()
    assert feed.state == {"next_index": 16}
    assert feed.waited > 0


def test_batches_divide_among_devices(pictures, small):
    with pytest.raises(UserError, match=r"must be a multiple of the number of devices \(8\), got 12"):
        made(pictures, small["adain"].replace(batch_size=12))


def test_grain_is_named_where_it_is_missing(pictures, small, monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(UserError, match=r"Grain, got no such package: pip install 'swag-jax\[train\]'"):
        made(pictures, small["adain"])
