"""Presets against their witnesses, and the settings they are made of."""

import dataclasses
import math

import numpy as np
import pytest

from swag_jax import UserError, backbones, presets
from swag_jax.backbones.zoo import entry, parameter_shapes
from swag_jax.losses import Objective
from swag_jax.optimize import LBFGS, Adam, StylizeSettings
from swag_jax.presets import PRESETS, of_backbone
from swag_jax.smoothing import Smoothing

RESNET_STYLE_LAYERS = ("conv1", "conv2_3", "conv3_4", "conv4_6", "conv5_3")

VGG_STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


@pytest.fixture(params=PRESETS)
def preset(request):
    return PRESETS[request.param]


def moved(settings, backbone, layers):
    """The settings for another network, of which other layers are smoothed."""
    objective = settings.objective
    smoothing = objective.smoothing.replace(layers=layers)
    return settings.replace(backbone=backbone, objective=objective.replace(smoothing=smoothing))


def test_names_on_the_command_line():
    assert sorted(PRESETS) == [
        "fast",
        "gatys-alexnet",
        "gatys-googlenet",
        "gatys-inception-v3",
        "gatys-resnet50",
        "gatys-vgg16",
        "gatys-vgg19",
        "gatys-wide-resnet50",
        "swag-googlenet",
        "swag-inception-v3",
        "swag-resnet50",
        "swag-resnet50-first",
        "swag-resnet50-paper",
        "swag-resnet50-released",
        "swag-vgg19",
        "swag-wide-resnet50",
        "swag-wide-resnet50-first",
        "swag-wide-resnet50-paper",
        "swag-wide-resnet50-released",
    ]
    for name, value in PRESETS.items():
        assert getattr(presets, name.replace("-", "_")) is value


@pytest.mark.parametrize("backbone", backbones.NAMES)
def test_every_backbone_has_settings_at_its_own_layers(backbone):
    settings, style_layers = of_backbone(backbone), entry(backbone).style_layers
    assert settings.backbone == backbone
    assert settings.full_objective.style_layers == style_layers
    assert settings.objective.smoothing.layers in (None, style_layers[-2:])
    assert (settings in PRESETS.values()) == (backbone in {preset.backbone for preset in PRESETS.values()})


def test_networks_without_a_preset_are_as_resnet50():
    assert of_backbone("resnet50") is presets.swag_resnet50
    for backbone in set(backbones.NAMES) - {preset.backbone for preset in PRESETS.values()}:
        assert moved(of_backbone(backbone), "resnet50", ("conv4_6", "conv5_3")) == presets.swag_resnet50


def test_presets_are_frozen_and_hashable(preset):
    assert hash(preset) == hash(preset.replace(size=preset.size))
    assert len(set(PRESETS.values())) == len(PRESETS)
    with pytest.raises(dataclasses.FrozenInstanceError):
        preset.size = 7


def test_presets_read_layers_that_their_network_has(preset):
    names = {name.rsplit(".", 1)[0].split(".")[0] for name in parameter_shapes(preset.backbone)}
    smoothed = preset.objective.smoothing.layers or ()
    for layer in (*preset.full_objective.layers, *smoothed):
        assert layer.replace("relu", "conv") in names


def test_names_say_what_the_preset_does():
    longer = {"wide": "wide_resnet50_2", "inception": "inception_v3", "fast": "efficientnet-lite0"}
    for name, preset in PRESETS.items():
        word = [*name.split("-"), name][1]
        assert preset.backbone == longer.get(word, word)
        assert (preset.objective.smoothing.kind == "none") == name.startswith(("gatys", "fast"))
        raw_units = name.startswith("swag") and preset.backbone != "vgg19"
        normalization = "paper" if name.endswith("paper") else "released" if raw_units else "relative"
        assert preset.objective.normalization == normalization


def test_gatys_layers():
    """Gatys et al., CVPR 2016."""
    objective = presets.gatys_vgg19.full_objective
    assert objective.content_layers == ("relu4_2",)
    assert objective.style_layers == VGG_STYLE_LAYERS


@pytest.mark.parametrize("name", ["swag-resnet50-paper", "swag-wide-resnet50-paper"])
def test_paper_witness(name):
    """SWAG eqs. 11 to 13: softmax over everything without a temperature, w_l = 1, at SWAG's layers."""
    settings = PRESETS[name]
    objective = settings.full_objective
    assert objective.content_layers == ("conv4_6",)
    assert objective.style_layers == RESNET_STYLE_LAYERS
    assert objective.style_layer_weights == (1.0,) * 5
    assert objective.normalization == "paper"
    assert objective.tv_weight == 0
    assert objective.smoothing == Smoothing("softmax", temperature=1.0)
    check_released_solver(settings)


@pytest.mark.parametrize("backbone", ["resnet50", "wide-resnet50"])
@pytest.mark.parametrize(
    ("release", "smoothing"),
    [
        ("released", {"kind": "scale", "scale": 0.001}),
        ("first", {"kind": "channel-softmax", "temperature": 1.0}),
    ],
)
def test_released_witness(backbone, release, smoothing):
    """`resnet_swag.py`: content weight 1, style weight 1e17; layer3 and layer4 times 0.001, or softmax by position."""
    name = f"swag-{backbone}-{release}"
    settings = PRESETS[name]
    objective = settings.full_objective
    assert objective.content_layers == ("conv4_6",)
    assert objective.style_layers == RESNET_STYLE_LAYERS
    assert objective.style_layer_weights == (1.0,) * 5
    assert (objective.content_weight, objective.style_weight, objective.tv_weight) == (1.0, 1e17, 0.0)
    assert objective.normalization == "released"
    assert objective.smoothing == Smoothing(**smoothing, layers=("conv4_6", "conv5_3"))
    check_released_solver(settings)


def check_released_solver(settings):
    """512 pixels, one scale, about 1000 evaluations of L-BFGS with history 100, from the content."""
    assert (settings.size, settings.smallest_size, settings.style_scale) == (512, 512, (1.0,))
    assert (settings.solver, settings.steps, settings.init, settings.colors) == ("lbfgs", 1000, "content", "style")
    assert settings.method == LBFGS(memory=100, spectral_decay=0.0)


def test_the_default_settings_are_the_default_preset():
    assert StylizeSettings() == presets.gatys_vgg19


def test_gatys_presets_differ_in_the_network_alone():
    for name, preset in PRESETS.items():
        if name.startswith("gatys"):
            assert preset == presets.gatys_vgg19.replace(backbone=preset.backbone)


def test_swag_presets_differ_in_the_network_and_its_smoothed_layers_alone():
    for preset in (presets.swag_wide_resnet50, presets.swag_googlenet, presets.swag_inception_v3):
        assert preset == moved(presets.swag_resnet50, preset.backbone, preset.objective.smoothing.layers)


def test_replace_changes_the_parts_by_their_own_replace():
    settings = StylizeSettings()
    changed = settings.replace(size=64, steps=3, objective=settings.objective.replace(smoothing="softmax"))
    assert (changed.size, changed.steps, changed.seed) == (64, 3, 0)
    assert changed.objective == Objective(style_weight=60.0, tv_weight=5.0, smoothing=Smoothing.softmax())
    assert settings.replace() == settings == StylizeSettings()


def test_presets_have_no_other_public_names():
    names = {name for name in vars(presets) if not name.startswith("_")} - {"jaxtyping"}  # the tests' own
    assert names == {name.replace("-", "_") for name in PRESETS} | {"PRESETS", "of_backbone"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("style_wieght", "unknown setting 'style_wieght': did you mean style_weight"),
        ("tempature", "unknown setting 'tempature': did you mean temperature"),
        ("stepz", "unknown setting 'stepz': did you mean steps"),
        ("qqq", "unknown setting 'qqq': known: averaging, backbone, blend, "),
        (
            "style_weight",
            "style_weight is not an attribute of StylizeSettings itself: pass "
            "objective=settings.objective.replace(style_weight=...).",
        ),
        (
            "kind",
            "kind is not an attribute of StylizeSettings itself: pass "
            "objective=settings.objective.replace(smoothing=settings.objective.smoothing.replace(kind=...)).",
        ),
    ],
)
@pytest.mark.parametrize("change", [StylizeSettings, StylizeSettings().replace])
def test_unknown_names_are_explained(change, name, text):
    with pytest.raises(UserError) as caught:
        change(**{name: 1.0})
    assert str(caught.value).startswith(text)


def test_replace_checks_what_it_changes():
    with pytest.raises(UserError, match=r"style weight must be at least 0 .*, got -1\.0"):
        Objective().replace(style_weight=-1.0)
    with pytest.raises(UserError, match="temperature must be greater than 0, got 0"):
        Smoothing().replace(temperature=0.0)


def test_equal_settings_are_equal_keys():
    """Lists become tuples, integers floats, and NumPy's numbers Python's."""
    given = StylizeSettings(blend=[1, 2], steps=np.int64(7), style_scale=np.float32(0.5))
    assert given == StylizeSettings(blend=(1.0, 2.0), steps=7, style_scale=0.5)
    assert hash(given) == hash(StylizeSettings(blend=(1.0, 2.0), steps=7, style_scale=0.5))
    assert (type(given.steps), [type(weight) for weight in given.blend]) == (int, [float, float])
    assert hash(Objective(style_layers=["relu1_1"])) == hash(Objective(style_layers=("relu1_1",)))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"size": 0}, "size must be at least 1, got 0."),
        ({"smallest_size": -4}, "smallest size must be at least 1, got -4."),
        ({"steps": 0}, "steps must be at least 1, got 0."),
        ({"steps": 10.5}, "steps must be an integer, got 10.5."),
        ({"seed": 1.5}, "seed must be an integer, got 1.5."),
        ({"seed": True}, "seed must be an integer, got True."),
        ({"scale_ratio": "2"}, "scale ratio must be a number, got '2'."),
        ({"backbone": None}, "backbone must be a string, got None."),
        ({"blend": 1.0}, "blend must be a tuple of numbers, got 1.0."),
        ({"blend": ("1",)}, "each of blend must be a number, got '1'."),
        ({"solver": 1}, "solver must be lbfgs or adam, got 1."),
        ({"objective": Smoothing()}, "objective must be Objective, got Smoothing("),
        ({"scale_ratio": 1.0}, "scale ratio must be at least 1.1, got 1.0."),
        ({"scale_ratio": math.nan}, "scale ratio must be at least 1.1, got nan."),
        ({"style_scale": 0.0}, "style scale must be at least 0.05 and at most 20, got 0.0."),
        ({"style_scale": 21.0}, "style scale must be at least 0.05 and at most 20, got 21.0."),
        ({"style_scale": ()}, "there must be at least one style scale, got none."),
        ({"blend": (1.0, -0.5)}, "a blend weight must be at least 0, got -0.5."),
        ({"blend": (math.inf,)}, "a blend weight must be at least 0, got inf."),
        ({"blend": (0.0, 0.0)}, "at least one blend weight must be greater than 0, got (0.0, 0.0)."),
        ({"memory": 0}, "L-BFGS memory must be at least 1, got 0."),
        ({"spectral_decay": -0.5}, "spectral decay must be at least 0 and at most 2, got -0.5."),
        ({"backbone": "resnet5"}, "unknown backbone 'resnet5': did you mean resnet50"),
        ({"pooling": "avg"}, "unknown pooling 'avg': "),
        ({"padding": "zero"}, "unknown padding 'zero': did you mean zeros"),
        ({"solver": "lbgs"}, "unknown solver 'lbgs': did you mean lbfgs"),
        ({"init": "contents"}, "unknown init 'contents': did you mean content"),
        ({"colors": "styles"}, "unknown colors 'styles': did you mean style"),
        ({"precision": "bf16"}, "unknown precision 'bf16': did you mean bfloat16"),
        (
            {"objective": Objective(style_layer_weights=(1.0,))},
            "there must be one style layer weight per style layer (5), got 1.",
        ),
    ],
)
def test_bad_settings_are_explained(arguments, text):
    with pytest.raises(UserError) as caught:
        StylizeSettings(**arguments)
    assert str(caught.value).startswith(text)


def test_the_solver_is_made_of_its_settings():
    assert StylizeSettings(memory=7, spectral_decay=0.25).method == LBFGS(memory=7, spectral_decay=0.25)
    adam = StylizeSettings(solver="adam", learning_rate=0.5, averaging=0.25).method
    assert adam == Adam(learning_rate=0.5, averaging=0.25)


def test_adam_settings_are_checked_where_adam_is_used():
    for arguments in ({"learning_rate": 0.0}, {"averaging": 1.0}, {"averaging": -0.1}):
        with pytest.raises(UserError, match=next(iter(arguments)).replace("_", " ")):
            StylizeSettings(solver="adam", **arguments)
