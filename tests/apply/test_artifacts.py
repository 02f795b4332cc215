"""An artifact gives the same pictures after it has been written and read."""

import zipfile

import numpy as np
import pytest

from swag_jax._checks import UserError
from swag_jax.apply import Settings, load_artifact, repaint, save_artifact


@pytest.mark.parametrize("kind", ["johnson", "adaattn"])
def test_a_reloaded_artifact_gives_the_same_picture(kind, stylizers, pictures, tmp_path):
    stylizer, path = stylizers[kind], tmp_path / "made.swag"
    content, styles = pictures[0], [] if kind == "johnson" else pictures[1:]
    blend = () if kind == "johnson" else (3.0, 1.0)
    save_artifact(path, stylizer, content.shape[:2], style_shapes=[s.shape[:2] for s in styles], batch=2)
    artifact = load_artifact(path)
    assert (artifact.shape, artifact.batch, artifact.platforms) == ((27, 37), 2, ("cpu",))
    found = artifact(np.stack([content, content[::-1]]), styles, blend=blend)
    for image, picture in zip(found, (content, content[::-1]), strict=True):
        expected = repaint(stylizer, picture, styles, settings=Settings(style_size=0, blend=blend))
        np.testing.assert_allclose(image, expected, rtol=0, atol=1e-5)


def test_a_strength_is_heard_where_it_was_asked_for(stylizers, pictures, tmp_path):
    content, style = pictures[0][:16, :24], pictures[1]
    for mixed in (True, False):
        path = tmp_path / f"{mixed}.swag"
        save_artifact(path, stylizers["adain"], (16, 24), style_shapes=[style.shape[:2]], mixed=mixed)
    found = load_artifact(tmp_path / "True.swag")(content[None], [style], strength=0.4)[0]
    expected = repaint(stylizers["adain"], content, [style], settings=Settings(style_size=0, strength=0.4))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    with pytest.raises(UserError, match=r"paints at full strength, got 0\.4"):
        load_artifact(tmp_path / "False.swag")(content[None], [style], strength=0.4)
    with pytest.raises(UserError, match=r"takes pictures of shapes \[\(1, 16, 24, 3\), \(18, 14, 3\)\]"):
        load_artifact(tmp_path / "True.swag")(content[None], [style[:5]])


def test_bad_artifacts(stylizers, tmp_path):
    with pytest.raises(UserError, match="needs at least one style shape, got 0"):
        save_artifact(tmp_path / "a.swag", stylizers["adain"], (16, 16))
    with pytest.raises(UserError, match="needs no style shapes, got 1"):
        save_artifact(tmp_path / "a.swag", stylizers["johnson"], (16, 16), style_shapes=[(8, 8)])
    assert not (tmp_path / "a.swag").exists()
    (tmp_path / "text.swag").write_text("no zip file")
    with zipfile.ZipFile(tmp_path / "other.swag", "w") as archive:
        archive.writestr("about.json", "{}")
    for name in ("text.swag", "other.swag", "none.swag"):
        with pytest.raises(UserError, match="must be an artifact that save_artifact wrote"):
            load_artifact(tmp_path / name)
