"""An artifact gives the same images after it has been written and read."""

import json
import zipfile

import numpy as np
import pytest
from safetensors.numpy import load, save

from swag_jax._checks import UserError
from swag_jax.apply import ApplySettings, load_artifact, repaint, save_artifact


@pytest.mark.parametrize("kind", ["johnson", "adaattn"])
def test_a_reloaded_artifact_gives_the_same_image(kind, stylizers, images, tmp_path):
    stylizer, path = stylizers[kind], tmp_path / "made.swag"
    content, styles = images[0], [] if kind == "johnson" else images[1:]
    blend = () if kind == "johnson" else (3.0, 1.0)
    save_artifact(path, stylizer, content.shape[:2], style_shapes=[s.shape[:2] for s in styles], batch=2)
    artifact = load_artifact(path)
    assert (artifact.shape, artifact.batch, artifact.platforms) == ((27, 37), 2, ("cpu",))
    found = artifact(np.stack([content, content[::-1]]), styles, blend=blend)
    for image, source in zip(found, (content, content[::-1]), strict=True):
        expected = repaint(stylizer, source, styles, settings=ApplySettings(style_size=0, blend=blend))
        np.testing.assert_allclose(image, expected, rtol=0, atol=1e-5)


def test_a_strength_is_heard_where_it_was_asked_for(stylizers, images, tmp_path):
    content, style = images[0][:16, :24], images[1]
    for mixed in (True, False):
        path = tmp_path / f"{mixed}.swag"
        save_artifact(path, stylizers["adain"], (16, 24), style_shapes=[style.shape[:2]], mixed=mixed)
    found = load_artifact(tmp_path / "True.swag")(content[None], [style], strength=0.4)[0]
    expected = repaint(stylizers["adain"], content, [style], settings=ApplySettings(style_size=0, strength=0.4))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    with pytest.raises(UserError, match=r"paints at full strength, got 0\.4"):
        load_artifact(tmp_path / "False.swag")(content[None], [style], strength=0.4)
    with pytest.raises(UserError, match=r"takes images of shapes \[\(1, 16, 24, 3\), \(18, 14, 3\)\]"):
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


ABOUT, WEIGHTS, PROGRAM = "about.json", "weights.safetensors", "program.bin"


@pytest.fixture(scope="module")
def parts(stylizers, tmp_path_factory):
    """What a sound artifact consists of."""
    path = tmp_path_factory.mktemp("artifact") / "made.swag"
    save_artifact(path, stylizers["johnson"], (16, 16))
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def said(**changes):
    return lambda parts: {ABOUT: json.dumps(json.loads(parts[ABOUT]) | changes)}


def whole(text):
    return lambda parts: {ABOUT: text}


def weighing(change):
    return lambda parts: {WEIGHTS: save({name: change(x) for name, x in load(parts[WEIGHTS]).items()})}


TAMPERED = {
    "format 99": said(format="99"),
    "no format": said(format=None),
    "a list": whole("[]"),
    "a number": whole("3"),
    "null": whole("null"),
    "no JSON": whole("{"),
    "no text": whole(b"\xff\xfe"),
    "deep JSON": whole("[" * 100_000),
    "long JSON": whole(" " * 2**21 + "{}"),
    "a field missing": whole('{"format": "1"}'),
    "a shape of text": said(shape="16"),
    "a shape of three": said(shape=[16, 16, 3]),
    "a shape of fractions": said(shape=[16.0, 16.0]),
    "a shape of truths": said(shape=[True, True]),
    "a negative shape": said(shape=[-16, 16]),
    "another shape": said(shape=[16, 24]),
    "shapes of a number": said(style_shapes=5),
    "a style more": said(style_shapes=[[8, 8]]),
    "another batch": said(batch=2),
    "a batch of text": said(batch="1"),
    "a batch of none": said(batch=0),
    "mixed as a number": said(mixed=1),
    "platforms of a number": said(platforms=7),
    "other platforms": said(platforms=["tpu"]),
    "weights of numbers": said(weights=[1, 2]),
    "weights of others": said(weights=["x"]),
    "weights of none": said(weights=[]),
    "larger weights": weighing(lambda x: np.stack([x, x])),
    "wider weights": weighing(lambda x: x.astype(np.float16)),
    "no weights": lambda parts: {WEIGHTS: b"garbage"},
    "empty weights": lambda parts: {WEIGHTS: b""},
    "no program": lambda parts: {PROGRAM: b"garbage"},
    "an empty program": lambda parts: {PROGRAM: b""},
    "half a program": lambda parts: {PROGRAM: parts[PROGRAM][: len(parts[PROGRAM]) // 2]},
}


@pytest.mark.parametrize("name", TAMPERED)
def test_tampered_artifacts_are_refused_in_one_line(name, parts, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.swag", "w") as archive:
        for entry, data in {**parts, **TAMPERED[name](parts)}.items():
            archive.writestr(entry, data)
    with pytest.raises(UserError, match="must be an artifact that save_artifact wrote") as caught:
        load_artifact(tmp_path / "x.swag")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("entry", [ABOUT, WEIGHTS, PROGRAM])
@pytest.mark.parametrize("damage", ["compressed", "missing"])
def test_parts_that_are_compressed_or_missing(entry, damage, parts, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.swag", "w") as archive:
        for name, data in parts.items():
            if name != entry:
                archive.writestr(name, data)
            elif damage == "compressed":
                archive.writestr(name, data, zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match="must be an artifact that save_artifact wrote"):
        load_artifact(tmp_path / "x.swag")


def test_the_untouched_parts_are_an_artifact(parts, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.swag", "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    assert load_artifact(tmp_path / "x.swag").shape == (16, 16)
