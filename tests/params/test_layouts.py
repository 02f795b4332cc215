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


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("conv2.conv.weight", "conv2.kernel"),
        ("conv3.bn.running_mean", "conv3.norm.mean"),
        ("inception3a.branch1.conv.weight", "inception3a.branch1.kernel"),
        ("inception4e.branch2.0.conv.weight", "inception4e.branch2_1.kernel"),
        ("inception4e.branch3.1.bn.weight", "inception4e.branch3_2.norm.scale"),
        ("inception5b.branch4.1.bn.running_var", "inception5b.branch4.norm.variance"),
        ("Conv2d_2b_3x3.conv.weight", "conv2b.kernel"),
        ("Conv2d_3b_1x1.bn.bias", "conv3b.norm.bias"),
        ("Mixed_5b.branch1x1.conv.weight", "mixed5b.branch1x1.kernel"),
        ("Mixed_6e.branch7x7dbl_5.bn.weight", "mixed6e.branch7x7dbl_5.norm.scale"),
        ("Mixed_7c.branch3x3dbl_3a.conv.weight", "mixed7c.branch3x3dbl_3a.kernel"),
        ("conv1.weight", None),
        ("conv1.conv.bias", None),
        ("inception3a.branch1.0.conv.weight", None),
        ("inception3a.branch4.0.conv.weight", None),
        ("aux1.conv.conv.weight", None),
        ("AuxLogits.conv0.conv.weight", None),
    ],
)
def test_inception_names(key, name, googlenet):
    assert find_layout(shapes_of(googlenet), backbone="googlenet").rename(key) == name


def test_what_inceptions_drop(inception):
    layout = find_layout(shapes_of(inception), backbone="inception_v3")
    dropped = ("fc.weight", "fc.bias", "aux1.conv.conv.weight", "aux2.fc2.bias", "AuxLogits.fc.bias")
    assert all(map(layout.dropped, (*dropped, "Mixed_5b.branch1x1.bn.num_batches_tracked")))
    assert not any(map(layout.dropped, ("fc2.weight", "aux3.fc1.weight", "Mixed_8a.branch1x1.conv.weight")))


LITE = {"_conv_stem.weight": (32, 3, 3, 3), "_blocks.0._depthwise_conv.weight": (32, 1, 3, 3)}


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("_conv_stem.weight", "stem.kernel"),
        ("_bn0.running_var", "stem.norm.variance"),
        ("_conv_head.weight", "head.kernel"),
        ("_bn1.weight", "head.norm.scale"),
        ("_blocks.12._expand_conv.weight", "block12_expand.kernel"),
        ("_blocks.12._bn0.running_mean", "block12_expand.norm.mean"),
        ("_blocks.0._depthwise_conv.weight", "block0_depthwise.kernel"),
        ("_blocks.0._bn1.bias", "block0_depthwise.norm.bias"),
        ("_blocks.15._project_conv.weight", "block15.kernel"),
        ("_blocks.15._bn2.weight", "block15.norm.scale"),
        ("_blocks.15._se_reduce.weight", None),
        ("_fc.weight", None),
    ],
)
def test_efficientnet_names(key, name):
    layout = find_layout(LITE, backbone="efficientnet-lite0")
    assert (layout.rename(key), layout.normalization) == (name, "lite")
    assert all(map(layout.dropped, ("_fc.weight", "_fc.bias", "_blocks.1._bn2.num_batches_tracked")))


def test_vgg_layouts_by_their_keys(vgg):
    shapes = shapes_of(vgg)
    timm = {**shapes, "pre_logits.fc1.weight": (9, 9, 7, 7)}
    adain = {"0.weight": (3, 3, 1, 1), "0.bias": (3,), "2.weight": (2, 3, 3, 3), "2.bias": (2,)}
    assert find_layout(shapes, backbone="vgg19").name == "torchvision"
    assert find_layout(timm, backbone="vgg19").name == "timm"
    assert find_layout(adain, backbone="vgg19").name == "adain"
    assert find_layout(vgg.expected, backbone="vgg19").name == "native"
    assert LAYOUT_NAMES == ("auto", "timm", "torchvision", "gatys", "adain", "lukemelas", "native")


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


def test_what_layouts_ask_of_the_network(vgg, resnet, googlenet, inception):
    adain = {"0.weight": (3, 3, 1, 1), "0.bias": (3,), "2.weight": (2, 3, 3, 3), "2.bias": (2,)}
    found = [
        find_layout(shapes, backbone=backbone)
        for shapes, backbone in (
            (shapes_of(vgg), "vgg19"),
            (shapes_of(resnet), "resnet50"),
            (adain, "vgg19"),
            (shapes_of(googlenet), "googlenet"),
            (shapes_of(inception), "inception_v3"),
            (inception.expected, "inception_v3"),
        )
    ]
    assert [(layout.name, layout.normalization, layout.padding) for layout in found] == [
        ("torchvision", "imagenet", "zeros"),
        ("torchvision", "imagenet", "zeros"),
        ("adain", "none", "reflect"),
        ("torchvision", "inception", "zeros"),
        ("torchvision", "inception", "zeros"),
        ("native", None, "zeros"),
    ]


def basic_shapes(blocks):
    shapes = {"conv1.weight": (64, 3, 7, 7), "layer1.0.conv1.weight": (64, 64, 3, 3)}
    return shapes | {f"layer3.{i}.conv2.weight": (256, 256, 3, 3) for i in range(blocks)}


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
        (basic_shapes(2), "resnet18"),
        (basic_shapes(6), "resnet34"),
        (basic_shapes(3), "resnet of another depth"),
        ({**resnet_shapes(6, 128), "layer1.0.conv2.weight": (128, 4, 3, 3)}, "resnext"),
        ({"features.0.weight": (64, 3, 3, 3), "features.17.weight": (512, 256, 3, 3)}, "vgg16"),
        ({"features.0.weight": (64, 3, 3, 3), "features.16.weight": (256, 256, 3, 3)}, "vgg19"),
        ({"features.0.weight": (64, 3, 3, 3), "features.14.weight": (256, 256, 3, 3)}, "vgg16 or vgg19"),
        ({"features.0.weight": (64, 3, 3, 3), "features.1.running_mean": (64,)}, "vgg with batch norm"),
        ({"features.0.weight": (64, 3, 3, 3), "features.3.weight": (128, 64, 3, 3)}, "vgg of another depth"),
        ({"features.0.weight": (64, 3, 11, 11)}, "alexnet"),
        ({"inception3a.branch1.conv.weight": (64, 192, 1, 1)}, "googlenet"),
        ({"Mixed_5b.branch1x1.conv.weight": (64, 192, 1, 1)}, "inception_v3"),
        ({"conv1_1.kernel": (3, 3, 3, 64)}, "vgg16 or vgg19"),
        ({"conv1_1.kernel": (3, 3, 3, 64), "conv4_1.kernel": (3, 3, 256, 512)}, "vgg16"),
        ({"conv1_1.kernel": (3, 3, 3, 64), "conv3_4.kernel": (3, 3, 256, 256)}, "vgg19"),
        ({"conv1.kernel": (11, 11, 3, 64), "conv5.kernel": (3, 3, 256, 256)}, "alexnet"),
        ({"inception3a.branch1.kernel": (1, 1, 192, 64)}, "googlenet"),
        ({"mixed5b.branch1x1.kernel": (1, 1, 192, 64)}, "inception_v3"),
        (LITE, "efficientnet-lite0"),
        ({**LITE, "_blocks.0._se_reduce.weight": (8, 32, 1, 1)}, "efficientnet"),
        ({**LITE, "_blocks.16._depthwise_conv.weight": (1152, 1, 5, 5)}, "efficientnet"),
        ({"stem.kernel": (3, 3, 3, 32), "block0_depthwise.kernel": (3, 3, 1, 32)}, "efficientnet-lite0"),
        ({"conv2_1.conv2.kernel": (3, 3, 128, 128)}, None),
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
    with pytest.raises(UserError, match=r"looks like a checkpoint of resnet101: pass --backbone resnet101"):
        find_layout(resnet_shapes(23, 64), backbone="resnet50")
    with pytest.raises(UserError, match=r"looks like a checkpoint of resnet152: pass a checkpoint of resnet50"):
        find_layout(resnet_shapes(36, 64), backbone="resnet50")
    with pytest.raises(UserError, match=r"looks like a checkpoint of resnet18: pass --backbone resnet18"):
        find_layout(basic_shapes(2), backbone="resnet34")


@pytest.mark.parametrize("backbone", ["no_resnet50", "pseudo_vgg", "pseudo_resvgg", "preact_resnet50"])
def test_networks_that_nobody_publishes_have_files_of_our_own_only(backbone):
    with pytest.raises(UserError) as caught:
        find_layout(resnet_shapes(6, 64), backbone=backbone)
    assert str(caught.value) == (
        f"the file must hold weights of {backbone} in layout native, got what looks like a checkpoint of resnet50: "
        f"pass --backbone resnet50, or a checkpoint of {backbone}."
    )
    assert find_layout({"conv2_1.conv2.kernel": (3, 3, 64, 64)}, backbone=backbone).name == "native"


def test_unknown_keys_name_the_known_layouts():
    with pytest.raises(UserError, match=r"timm, torchvision, gatys, adain, native, got keys such as a\.b, c"):
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
