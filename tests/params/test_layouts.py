import numpy as np
import pytest

from swag_jax._checks import UserError
from swag_jax.params.layouts import LAYOUT_NAMES, find_layout, fold_color_convolution, looks_like


def shapes_of(network):
    return {key: value.shape for key, value in network.foreign.items()}


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("conv1.weight", "conv1.kernel"),
        ("bn1.running_var", "conv1.norm.variance"),
        ("layer1.0.conv1.weight", "conv2_1.conv1.kernel"),
        ("layer2.3.bn2.weight", "conv3_4.conv2.norm.scale"),
        ("layer3.5.bn3.running_mean", "conv4_6.conv3.norm.mean"),
        ("layer4.0.downsample.0.weight", "conv5_1.shortcut.kernel"),
        ("layer4.0.downsample.1.bias", "conv5_1.shortcut.norm.bias"),
        ("layer1.0.conv1.bias", None),
        ("fc.weight", None),
        ("bn1.num_batches_tracked", None),
    ],
)
def test_resnet_names(key, name, resnet):
    assert find_layout(shapes_of(resnet), backbone="resnet50").rename(key) == name


def test_what_resnets_drop(resnet):
    layout = find_layout(shapes_of(resnet), backbone="resnet50")
    dropped = ("fc.weight", "fc.bias", "bn1.num_batches_tracked", "layer1.0.downsample.1.num_batches_tracked")
    assert all(map(layout.dropped, dropped))
    assert not any(map(layout.dropped, ("fc2.weight", "conv1.weight", "layer5.0.conv1.weight")))


def test_vgg_layouts_by_their_keys(vgg):
    shapes = shapes_of(vgg)
    timm = {**shapes, "pre_logits.fc1.weight": (9, 9, 7, 7)}
    adain = {"0.weight": (3, 3, 1, 1), "0.bias": (3,), "2.weight": (2, 3, 3, 3), "2.bias": (2,)}
    assert find_layout(shapes, backbone="vgg19").name == "torchvision"
    assert find_layout(timm, backbone="vgg19").name == "timm"
    assert find_layout(adain, backbone="vgg19").name == "adain"
    assert find_layout(vgg.expected, backbone="vgg19").name == "native"
    assert LAYOUT_NAMES == ("auto", "timm", "torchvision", "adain", "native")


@pytest.mark.parametrize(
    ("backbone", "key", "name"),
    [
        ("vgg16", "features.17.weight", "conv4_1.kernel"),
        ("vgg16", "features.28.bias", "conv5_3.bias"),
        ("vgg16", "features.16.weight", None),
        ("alexnet", "features.0.weight", "conv1.kernel"),
        ("alexnet", "features.10.bias", "conv5.bias"),
        ("alexnet", "features.1.weight", None),
    ],
)
def test_vgg16_and_alexnet_names(backbone, key, name):
    first = (64, 3, 3, 3) if backbone == "vgg16" else (64, 3, 11, 11)
    layout = find_layout({"features.0.weight": first, "classifier.0.weight": (9, 9)}, backbone=backbone)
    assert (layout.name, layout.rename(key), layout.dropped("classifier.0.weight")) == ("torchvision", name, True)


def test_only_adain_asks_for_something_of_the_network(vgg, resnet):
    adain = {"0.weight": (3, 3, 1, 1), "0.bias": (3,), "2.weight": (2, 3, 3, 3), "2.bias": (2,)}
    found = [
        find_layout(shapes, backbone=backbone)
        for shapes, backbone in ((shapes_of(vgg), "vgg19"), (shapes_of(resnet), "resnet50"), (adain, "vgg19"))
    ]
    asked = [(layout.normalization, layout.padding) for layout in found]
    assert asked == [("imagenet", "zeros"), ("imagenet", "zeros"), ("none", "reflect")]


def resnet_shapes(blocks, width):
    shapes = {"conv1.weight": (64, 3, 7, 7), "layer1.0.conv1.weight": (width, 64, 1, 1)}
    shapes |= {"layer1.0.conv2.weight": (width, width, 3, 3), "layer1.0.conv3.weight": (256, width, 1, 1)}
    return shapes | {f"layer3.{i}.conv2.weight": (4 * width, 4 * width, 3, 3) for i in range(blocks)}


@pytest.mark.parametrize(
    ("shapes", "name"),
    [
        (resnet_shapes(6, 64), "resnet50"),
        (resnet_shapes(6, 128), "wide_resnet50_2"),
        (resnet_shapes(23, 64), "resnet101"),
        (resnet_shapes(3, 2), "resnet"),
        ({"layer1.0.conv1.weight": (64, 64, 3, 3)}, "resnet18 or resnet34"),
        ({**resnet_shapes(6, 128), "layer1.0.conv2.weight": (128, 4, 3, 3)}, "resnext"),
        ({"features.0.weight": (64, 3, 3, 3), "features.17.weight": (512, 256, 3, 3)}, "vgg16"),
        ({"features.0.weight": (64, 3, 3, 3), "features.16.weight": (256, 256, 3, 3)}, "vgg19"),
        ({"features.0.weight": (64, 3, 3, 3), "features.14.weight": (256, 256, 3, 3)}, "vgg16 or vgg19"),
        ({"features.0.weight": (64, 3, 3, 3), "features.1.running_mean": (64,)}, "vgg with batch norm"),
        ({"features.0.weight": (64, 3, 3, 3), "features.3.weight": (128, 64, 3, 3)}, "vgg of another depth"),
        ({"features.0.weight": (64, 3, 11, 11)}, "alexnet"),
        ({"inception3a.branch1.conv.weight": (64, 192, 1, 1)}, "googlenet"),
        ({"Mixed_5b.branch1x1.conv.weight": (64, 192, 1, 1)}, "inception v3"),
        ({"conv1_1.kernel": (3, 3, 3, 64)}, "vgg16 or vgg19"),
        ({"conv1_1.kernel": (3, 3, 3, 64), "conv4_1.kernel": (3, 3, 256, 512)}, "vgg16"),
        ({"conv1_1.kernel": (3, 3, 3, 64), "conv3_4.kernel": (3, 3, 256, 256)}, "vgg19"),
        ({"conv1.kernel": (11, 11, 3, 64), "conv5.kernel": (3, 3, 256, 256)}, "alexnet"),
        ({"conv2_1.conv2.kernel": (3, 3, 128, 128)}, "wide_resnet50_2"),
        ({"cls_token": (1, 1, 768)}, "vision transformer"),
        ({"something": (1,)}, None),
    ],
)
def test_what_a_checkpoint_looks_like(shapes, name):
    assert looks_like(shapes) == name


def test_another_network_is_named_with_the_cure():
    with pytest.raises(UserError, match=r"looks like a checkpoint of resnet50: pass --backbone resnet50"):
        find_layout(resnet_shapes(6, 64), backbone="vgg19")
    with pytest.raises(UserError, match=r"looks like a checkpoint of wide_resnet50_2: pass --backbone wide_resnet50_2"):
        find_layout(resnet_shapes(6, 128), backbone="resnet50")
    with pytest.raises(UserError, match=r"looks like a checkpoint of resnet101: pass a checkpoint of resnet50"):
        find_layout(resnet_shapes(23, 64), backbone="resnet50")


def test_unknown_keys_name_the_known_layouts():
    with pytest.raises(UserError, match=r"timm, torchvision, adain, native, got keys such as a\.b, c"):
        find_layout({"a.b": (1,), "c": (1,)}, backbone="vgg19")


def test_a_layout_the_file_does_not_have(vgg):
    with pytest.raises(UserError, match=r"in layout adain, .*: pass --layout torchvision"):
        find_layout(shapes_of(vgg), backbone="vgg19", name="adain")
    with pytest.raises(UserError, match=r"unknown layout 'torchvison': did you mean torchvision"):
        find_layout(shapes_of(vgg), backbone="vgg19", name="torchvison")


def convolve(image, kernel, bias):
    """A valid cross-correlation, as its definition: (height, width, in) with (out, in, 3, 3)."""
    windows = np.lib.stride_tricks.sliding_window_view(image, (3, 3), axis=(0, 1))
    return np.einsum("yxchw,ochw->yxo", windows, kernel) + bias


def test_the_folded_first_convolution_is_exact():
    rng = np.random.default_rng(1)
    # AdaIN's own: 0..255, RGB to BGR, minus Caffe's mean.
    mix = np.float32([[0, 0, 255], [0, 255, 0], [255, 0, 0]]).reshape(3, 3, 1, 1)
    shift = np.float32([-103.939, -116.779, -123.68])
    kernel, bias = rng.standard_normal((4, 3, 3, 3)), rng.standard_normal(4)
    image = rng.random((6, 5, 3))
    mixed = image @ mix[:, :, 0, 0].T + shift
    pad = ((1, 1), (1, 1), (0, 0))
    expected = convolve(np.pad(mixed, pad, mode="reflect"), kernel, bias)

    folded = fold_color_convolution({"0.weight": mix, "0.bias": shift, "2.weight": kernel, "2.bias": bias})
    assert sorted(folded) == ["2.bias", "2.weight"]
    actual = convolve(np.pad(image, pad, mode="reflect"), folded["2.weight"], folded["2.bias"])
    np.testing.assert_allclose(actual, expected, atol=1e-7 * np.abs(expected).max())
