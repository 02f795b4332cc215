"""Pictures come out as they lie in the folder, in every layout."""

import numpy as np
import pack
import pictures
import pytest
from PIL import Image

from swag_jax._checks import UserError


def test_image_folder(data):
    read = pictures.read(data, "train")
    assert read.classes == ("across", "down")
    assert read.pixels.shape == (32, 64, 64, 3)
    assert read.labels.tolist() == [0] * 16 + [1] * 16
    with Image.open(data / "train" / "down" / "03.png") as image:
        np.testing.assert_array_equal(read.pixels[16 + 3], np.asarray(image))


def test_tiny_imagenets_annotations(tmp_path):
    (tmp_path / "val" / "images").mkdir(parents=True)
    for i in range(3):
        Image.new("RGB", (64, 64), (i, 0, 0)).save(tmp_path / "val" / "images" / f"val_{i}.png")
    lines = [f"val_{i}.png\t{name}\t0\t0\t63\t63" for i, name in enumerate(("n2", "n1", "n2"))]
    (tmp_path / "val" / "val_annotations.txt").write_text("\n".join(lines))
    read = pictures.read(tmp_path, "val")
    assert (read.classes, read.labels.tolist()) == (("n1", "n2"), [1, 0, 1])
    assert read.pixels[:, 0, 0, 0].tolist() == [0, 1, 2]


def test_damaged_and_large_pictures(tmp_path):
    folder = tmp_path / "train" / "only"
    folder.mkdir(parents=True)
    (folder / "a.jpg").write_bytes(b"no picture")
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 200  # the square in the middle
    Image.fromarray(wide).save(folder / "b.png")
    read = pictures.read(tmp_path, "train", size=10)
    assert read.damaged == (str(folder / "a.jpg"),)
    assert read.pixels.shape == (1, 10, 10, 3)
    assert (read.pixels == 200).all()


def test_no_pictures(tmp_path):
    with pytest.raises(UserError, match="must hold pictures in train/CLASS/"):
        pictures.read(tmp_path, "train")


def test_packed_shards_hold_the_same_pictures(data, tmp_path, capsys):
    whole = pictures.read(data, "train")
    limit = 0.02
    assert pack.main([str(data), str(tmp_path), "--quality", "95", "--megabytes", str(limit)]) == 0
    shards = sorted(tmp_path.glob("train-*.npz"))
    assert len(shards) > 1
    assert all(shard.stat().st_size < limit * 1e6 + 3000 for shard in shards)
    packed = pictures.read(tmp_path, "train")
    np.testing.assert_array_equal(packed.labels, whole.labels)
    assert packed.classes == whole.classes
    assert np.abs(packed.pixels.astype(float) - whole.pixels).mean() < 12  # of 255: noise is what WebP loses first
    assert "train: 32 pictures of 2 classes" in capsys.readouterr().out


def test_packing_nothing_is_bad_usage(tmp_path, capsys):
    assert pack.main([str(tmp_path), str(tmp_path / "out")]) == 2
    assert "must hold pictures" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
