"""Images become batches in an order that nothing but the seed decides."""

import hashlib
import itertools
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from swag_jax import devices, write_image
from swag_jax._checks import UserError
from swag_jax.train.data import TRIES, Cropped, Feed, SkippedFiles, batches, find_images
from swag_jax.train.record import fingerprint


@pytest.fixture
def images(folders):
    return tuple(find_images(folders / name, what=name) for name in ("contents", "styles"))


def made(images, settings, damage=None):
    return batches(*images, settings=settings, damage=damage or SkippedFiles())


def taken(found, count):
    return list(itertools.islice(found, count))


def assert_equal(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def test_folders_are_searched_to_the_ground(folders):
    found = find_images(folders / "contents", what="contents")
    assert [path.name for path in found] == [f"{i:02d}.png" for i in range(12)]
    assert find_images(found[0], what="contents") == found[:1]


@pytest.mark.parametrize(
    ("name", "message"), [("absent", "contents must be a folder of images, got .*absent"), ("", "none in")]
)
def test_folders_without_images(tmp_path, name, message):
    with pytest.raises(UserError, match=message):
        find_images(tmp_path / name, what="contents")


def test_a_batch(images, small):
    (batch,) = taken(made(images, small["adain"]), 1)
    assert {name: (values.shape, values.dtype) for name, values in batch.items()} == {
        "content": ((8, 16, 16, 3), np.uint8),
        "style": ((8, 16, 16, 3), np.uint8),
    }


def test_one_style_needs_no_batch_of_styles(images, small):
    (batch,) = taken(made((images[0], ()), small["johnson"]), 1)
    assert batch.keys() == {"content"}


def test_a_sequence_goes_on_where_it_stood(images, small):
    first = made(images, small["adain"])
    taken(first, 2)
    state = first.get_state()
    second = made(images, small["adain"])
    second.set_state(state)
    assert_equal(taken(first, 3), taken(second, 3))


def test_seeds_give_other_orders(images, small):
    (first,), (second,) = (taken(made(images, small["adain"].replace(seed=seed)), 1) for seed in (0, 1))
    assert any((first[name] != second[name]).any() for name in first)


def test_every_content_comes_once_in_an_epoch(small, tmp_path):
    for i in range(12):
        write_image(tmp_path / f"{i:02d}.png", np.full((32, 32, 3), i / 15, np.float32))
    found = taken(made((find_images(tmp_path, what="contents"), ()), small["johnson"]), 3)
    places = np.concatenate([batch["content"][:, 0, 0, 0] for batch in found]) // 17
    epochs = places[:12].tolist(), places[12:].tolist()
    assert [sorted(epoch) for epoch in epochs] == [list(range(12))] * 2
    assert epochs[0] != epochs[1]


def test_two_processes_read_what_one_reads(images, small, monkeypatch):
    (whole,) = taken(made(images, small["adain"].replace(batch_size=16)), 1)
    shares = []
    for process in range(2):
        monkeypatch.setattr(devices, "process_index", lambda process=process: process)
        monkeypatch.setattr(devices, "process_count", lambda: 2)
        shares += taken(made(images, small["adain"].replace(batch_size=16)), 1)
    both = {name: np.stack([share[name] for share in shares], 1).reshape(16, 16, 16, 3) for name in whole}
    assert_equal([whole], [both])


def test_damaged_images_are_told_once_and_replaced(folders, small, tmp_path):
    good = find_images(folders / "contents", what="contents")
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("no image")
    bad = find_images(tmp_path, what="contents")
    damage = SkippedFiles()
    found = made(((*good[:3], *bad), good[:1]), small["adain"], damage)
    assert_equal(taken(found, 4), taken(made(((*good[:3], *bad), good[:1]), small["adain"]), 4))
    told = damage.new()
    assert len(told) == 2
    assert any("empty.png must hold an image" in line for line in told)
    assert damage.new() == []


def test_a_folder_of_nothing_but_damage_ends(small, tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    crops = Cropped(find_images(tmp_path, what="contents"), (), small["adain"], SkippedFiles())
    with pytest.raises(UserError, match=f"images of .* must be readable, got {TRIES} damaged ones"):
        crops(0, np.random.default_rng(0))


def test_flips_and_places_differ(folders, small):
    contents = find_images(folders / "contents", what="contents")[:1]
    crops = Cropped(contents, (), small["adain"].replace(size=36, flip=True), SkippedFiles())
    seen = {crops(0, np.random.default_rng(seed))["content"].tobytes() for seed in range(8)}
    assert len(seen) == 8


def test_a_feed_is_one_batch_ahead_of_its_state(images, small):
    found = made(images, small["adain"])
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


def test_batches_divide_among_devices(images, small):
    with pytest.raises(UserError, match=r"must be a multiple of the number of devices \(8\), got 12"):
        made(images, small["adain"].replace(batch_size=12))


def test_grain_is_named_where_it_is_missing(images, small, monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(UserError, match=r"Grain, got no such package: pip install 'swag-jax\[train\]'"):
        made(images, small["adain"])


def test_what_a_folder_of_contents_may_hold(folders, tmp_path):
    """Pipes, devices and links without end are no files; what a run draws itself is no image of its contents."""
    good = find_images(folders / "contents", what="contents")[0]
    for name in ("a.png", "samples/b.png", "run/samples/step-0000001.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(good, tmp_path / name)
    os.mkfifo(tmp_path / "pipe.png")
    for name, target in {"zero.png": "/dev/zero", "loop.png": "loop.png", "nowhere.png": "gone.png"}.items():
        (tmp_path / name).symlink_to(target)
    (tmp_path / "round").symlink_to(tmp_path, target_is_directory=True)
    shutil.copy(good, os.fsencode(tmp_path) + b"/\xff.png")
    found = find_images(tmp_path, what="contents", besides=tmp_path / "run" / "samples")
    assert [os.fsencode(path.relative_to(tmp_path)) for path in found] == [b"a.png", b"samples/b.png", b"\xff.png"]
    assert fingerprint(found).startswith("3 images ")
    assert fingerprint(found) != fingerprint(found[:2])


def test_the_fingerprint_of_names_is_that_of_version_0_1_0():
    """By which the runs that it began go on."""
    names = [Path("contents") / name for name in ("a.png", "ü.png")]
    expected = hashlib.sha256("a.png\nü.png".encode()).hexdigest()[:16]
    assert fingerprint(names) == f"2 images {expected}"


def test_a_link_to_no_folder_is_called_so(tmp_path):
    (tmp_path / "contents").symlink_to("gone")
    with pytest.raises(UserError, match="a link to gone, which does not exist"):
        find_images(tmp_path / "contents", what="contents")


def test_a_folder_of_other_files_says_what_they_are(tmp_path):
    (tmp_path / "a.heic").touch()
    with pytest.raises(UserError, match=r"none in .*: left out of .*: 1 file .* \(1 \.heic: export as JPEG\)"):
        find_images(tmp_path, what="contents")
