"""Presets against their witnesses, and the settings they are made of."""

import dataclasses
import math

import pytest

from swag_jax import UserError, backbones, presets
from swag_jax.losses import Objective
from swag_jax.optimize import LBFGS, Adam, StylizeSettings
from swag_jax.presets import OF_BACKBONE, PRESETS, of_backbone
from swag_jax.smoothing import Smoothing

RESNET_STYLE_LAYERS = ("conv1", "conv2_3", "conv3_4", "conv4_6", "conv5_3")

VGG_STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


@pytest.fixture(params=PRESETS)
def preset(request):
    return PRESETS[request.param]


def test_names_on_the_command_line():
    assert sorted(PRESETS) == [
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
    settings, style_layers = of_backbone(backbone), backbones.entry(backbone).style_layers
    assert settings.backbone == backbone
    assert settings.full_objective.style_layers == style_layers
    assert settings.objective.smoothing.layers in (None, style_layers[-2:])
    assert (settings in PRESETS.values()) == (backbone in OF_BACKBONE)


def test_networks_without_a_preset_are_as_resnet50():
    assert of_backbone("resnet50") is presets.swag_resnet50
    changed = {"backbone": "resnet50", "layers": ("conv4_6", "conv5_3")}
    for backbone in set(backbones.NAMES) - set(OF_BACKBONE):
        assert of_backbone(backbone).replace(**changed) == presets.swag_resnet50


def test_presets_are_frozen_and_hashable(preset):
    assert hash(preset) == hash(preset.replace(size=preset.size))
    assert len(set(PRESETS.values())) == len(PRESETS)
    with pytest.raises(dataclasses.FrozenInstanceError):
        preset.size = 7


def test_presets_read_layers_that_their_network_has(preset):
    names = {name.rsplit(".", 1)[0].split(".")[0] for name in backbones.parameter_shapes(preset.backbone)}
    smoothed = preset.objective.smoothing.layers or ()
    for layer in (*preset.full_objective.layers, *smoothed):
        assert layer.replace("relu", "conv") in names


def test_names_say_what_the_preset_does():
    longer = {"wide": "wide_resnet50_2", "inception": "inception_v3"}
    for name, preset in PRESETS.items():
        word = name.split("-")[1]
        assert preset.backbone == longer.get(word, word)
        assert (preset.objective.smoothing.kind == "none") == name.startswith("gatys")
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
    assert (settings.size, settings.smallest_size, settings.style_scale) == (512, 512, 1.0)
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
        changes = {"backbone": preset.backbone, "layers": preset.objective.smoothing.layers}
        assert preset == presets.swag_resnet50.replace(**changes)


def test_replace_routes_names_to_where_they_live():
    changed = StylizeSettings().replace(size=64, style_weight=30.0, kind="softmax", temperature=2.0, steps=3)
    assert (changed.size, changed.steps) == (64, 3)
    smoothing = Smoothing("softmax", temperature=2.0)
    assert changed.objective == Objective(style_weight=30.0, tv_weight=5.0, smoothing=smoothing)
    assert StylizeSettings().replace() == StylizeSettings()


def test_replace_takes_whole_parts_and_changes_them_further():
    smoothing = Smoothing("scale", scale=0.5)
    changed = StylizeSettings().replace(smoothing=smoothing, layers=("relu1_1",))
    assert changed.objective.smoothing == dataclasses.replace(smoothing, layers=("relu1_1",))
    changed = StylizeSettings().replace(objective=Objective(tv_weight=2.0), style_weight=7.0, kind="softmax")
    assert changed.objective == Objective(tv_weight=2.0, style_weight=7.0, smoothing=Smoothing("softmax"))


def test_no_name_lives_in_two_places():
    names = [field.name for part in (StylizeSettings, Objective, Smoothing) for field in dataclasses.fields(part)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("style_wieght", "unknown setting 'style_wieght': did you mean style_weight"),
        ("tempature", "unknown setting 'tempature': did you mean temperature"),
        ("stepz", "unknown setting 'stepz': did you mean steps"),
        ("qqq", "unknown setting 'qqq': known: averaging, backbone, blend, "),
    ],
)
def test_replace_explains_unknown_names(name, text):
    with pytest.raises(UserError) as caught:
        StylizeSettings().replace(**{name: 1.0})
    assert str(caught.value).startswith(text)


def test_replace_checks_what_it_changes():
    with pytest.raises(UserError, match=r"style weight must be at least 0 .*, got -1\.0"):
        StylizeSettings().replace(style_weight=-1.0)
    with pytest.raises(UserError, match="temperature must be greater than 0, got 0"):
        StylizeSettings().replace(temperature=0.0)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"size": 0}, "size must be at least 1, got 0."),
        ({"smallest_size": -4}, "smallest size must be at least 1, got -4."),
        ({"steps": 0}, "steps must be at least 1, got 0."),
        ({"scale_ratio": 1.0}, "scale ratio must be at least 1.1, got 1.0."),
        ({"scale_ratio": math.nan}, "scale ratio must be at least 1.1, got nan."),
        ({"style_scale": 0.0}, "style scale must be at least 0.05 and at most 20, got 0.0."),
        ({"style_scale": 21.0}, "style scale must be at least 0.05 and at most 20, got 21.0."),
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
@pytest.mark.usefixtures("unchecked")
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
