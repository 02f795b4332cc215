"""A video is its frames, each painted as alone; a killed run is resumed, and ends like an unbroken one."""

import itertools
from fractions import Fraction

import numpy as np
import pytest

from swag_jax._checks import UserError
from swag_jax.apply import ApplySettings, repaint, repaint_video
from swag_jax.apply import video as videos
from swag_jax.images.video import Frame, open_video, read_frames, write_segment
from swag_jax.images.video import join_segments as join

SMALL = ApplySettings(style_size=16)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Seven frames of moving stripes."""
    folder = tmp_path_factory.mktemp("clip")
    rows = np.arange(24)[:, None, None] / 6
    frames = [np.broadcast_to(0.5 + 0.3 * np.sin(rows + t), (24, 32, 3)).astype(np.float32) for t in range(7)]
    part = folder / "part.mp4"
    made = [Frame(frame, 512 * t) for t, frame in enumerate(frames)]
    write_segment(part, made, suffix=".mp4", time_base=Fraction(1, 12800), rate=Fraction(25))
    join(folder / "clip.mp4", [part], source=part)
    return folder / "clip.mp4"


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(videos, "SEGMENT", 3)


def test_every_frame_is_painted_as_alone(clip, stylizers, images, tmp_path, short):
    seen = []
    output = tmp_path / "out.mp4"
    result = repaint_video(stylizers["adain"], clip, images[1:2], output, settings=SMALL, callback=seen.append)
    assert (result.path, result.frames, result.status) == (output, 7, "done")
    assert [(p.frame, p.frames) for p in seen] == [(i, 7) for i in range(1, 8)]
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
    for source, painted in zip(read_frames(open_video(clip)), read_frames(open_video(output)), strict=True):
        alone = repaint(stylizers["adain"], source.image, images[1:2], settings=SMALL)
        assert np.abs(painted.image - alone).mean() < 0.03  # H.264 has half the colors' resolution
        assert painted.time == source.time


def test_a_stopped_run_is_resumed_at_its_last_segment(clip, stylizers, images, tmp_path, short):
    once, output = tmp_path / "once.mp4", tmp_path / "out.mp4"
    options = {"settings": SMALL}
    repaint_video(stylizers["adain"], clip, images[1:2], once, **options)
    asked = itertools.chain([False] * 4, itertools.repeat(True))
    stopped = repaint_video(stylizers["adain"], clip, images[1:2], output, interrupted=lambda: next(asked), **options)
    assert (stopped.frames, stopped.status, output.exists()) == (3, "stopped", False)
    seen = []
    resumed = repaint_video(stylizers["adain"], clip, images[1:2], output, callback=seen.append, **options)
    assert (resumed.frames, seen[0].frame) == (7, 4)
    assert output.read_bytes() == once.read_bytes()


def test_parts_of_other_settings_are_made_again(clip, stylizers, images, tmp_path, short):
    output, asked = tmp_path / "out.mp4", itertools.chain([False] * 4, itertools.repeat(True))
    repaint_video(stylizers["adain"], clip, images[1:2], output, settings=SMALL, interrupted=lambda: next(asked))
    seen = []
    other = SMALL.replace(strength=0.5)
    repaint_video(stylizers["adain"], clip, images[1:2], output, settings=other, callback=seen.append)
    assert seen[0].frame == 1


def test_a_folder_of_somebody_else_is_left_alone(clip, stylizers, tmp_path):
    mine = tmp_path / "out.mp4.parts"
    mine.mkdir()
    (mine / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match=r"out\.mp4\.parts must hold the parts of a video, got something else"):
        repaint_video(stylizers["johnson"], clip, [], tmp_path / "out.mp4", settings=SMALL)
    assert (mine / "letter.txt").read_text() == "dear"


def test_an_output_is_not_the_input(clip, stylizers):
    with pytest.raises(UserError, match="the output"):
        repaint_video(stylizers["johnson"], clip, [], clip, settings=SMALL)
