import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from reference.weights import random_weights, reference_image

from swag_jax import backbones
from swag_jax._checks import UserError
from swag_jax.backbones.zoo import parameter_shapes
from swag_jax.images.normalize import normalize
from swag_jax.params.convert import read_parameters
from swag_jax.params.quantize import companion_keys, decode, dequantize, quantize, tabulate
from swag_jax.params.safetensors_file import write_safetensors
from swag_jax.params.tree import with_parameters


def kernel_of(*channels):
    """A 1x1 kernel from the weights of each output channel."""
    return np.float32(channels)[:, :, None, None]


def random_kernel(shape=(6, 4, 3, 3), seed=0):
    rng = np.random.default_rng(seed)
    # Channels of many scales, some of them with outliers.
    return (rng.standard_t(3, shape) * 10.0 ** rng.uniform(-4, 4, (shape[0], 1, 1, 1))).astype(np.float32)


def error_of(kernel, step):
    whole = np.clip(np.rint(kernel / step), -127, 127)
    return np.square(kernel - whole * step, dtype=np.float64).sum((1, 2, 3))


def test_multiples_of_the_largest_weight_over_127_are_exact():
    kernel = kernel_of([127, -64, 1, 0], [-254, 2, 4, 126], [0.125, 127 / 8, 0, -1.5])
    quantized = quantize({"k": kernel})
    assert list(quantized) == ["k", "k.step"]
    assert quantized["k"].dtype == np.int8
    assert quantized["k"][:, :, 0, 0].tolist() == [[127, -64, 1, 0], [-127, 1, 2, 63], [1, 127, 0, -12]]
    np.testing.assert_array_equal(quantized["k.step"], kernel_of([1], [2], [0.125]), strict=True)
    np.testing.assert_array_equal(dequantize(quantized)["k"], kernel, strict=True)


def test_a_large_weight_is_cut_off_where_that_serves_the_many():
    # At c = 0.98 the many are 63 steps, and the large one loses 2 % = 2.6 steps; at c = 1 each of the many is 61.74
    # steps, so that the squared errors are 2.6^2 = 6.7 against 400 * 0.26^2 = 27.
    many = 63 * 98 / 127
    quantized = quantize({"k": kernel_of([100, *400 * [many]])})
    assert quantized["k.step"].item() == pytest.approx(98 / 127, rel=1e-5)
    assert quantized["k"].ravel().tolist() == [127, *400 * [63]]


def test_the_step_has_the_least_error_of_the_grid():
    kernel = np.random.default_rng(0).standard_normal((20, 512, 3, 3), np.float32)
    step = quantize({"k": kernel})["k.step"]
    largest = np.abs(kernel).max((1, 2, 3), keepdims=True)
    share = 127 * step / largest
    np.testing.assert_allclose(share * 50, np.rint(share * 50), atol=1e-3)
    assert share.min() < 0.99
    for clip in range(70, 101, 2):
        assert (error_of(kernel, step) <= 1.001 * error_of(kernel, clip / 100 * largest / 127)).all()


def test_the_error_is_half_a_step_inside_the_range():
    kernel = random_kernel()
    quantized = quantize({"k": kernel})
    step, actual = quantized["k.step"], dequantize(quantized)["k"]
    assert (step.shape, step.dtype) == ((6, 1, 1, 1), np.float32)
    assert np.abs(quantized["k"].astype(int)).max((1, 2, 3)).tolist() == 6 * [127]
    inside = np.abs(kernel) <= 127 * step
    assert inside.mean() > 0.9
    assert (np.abs(actual - kernel) <= 0.5001 * step)[inside].all()
    np.testing.assert_array_equal(actual[~inside], (127 * step * np.sign(kernel))[~inside])


@pytest.mark.parametrize("scale", [1, 1e-40, 3e38 / 1000])
def test_what_is_dequantized_quantizes_to_itself(scale):
    rows = np.random.default_rng(0).uniform(-1, 1, (500, 9)) * 1000
    once = quantize({"k": kernel_of(*(rows * scale))})
    again = quantize(dequantize(once))
    np.testing.assert_array_equal(again["k"], once["k"], strict=True)
    np.testing.assert_array_equal(again["k.step"], once["k.step"], strict=True)


def test_products_are_exact_in_float32():
    quantized = quantize({"k": random_kernel()})
    exact = quantized["k"].astype(np.float64) * quantized["k.step"]
    np.testing.assert_array_equal(dequantize(quantized)["k"], exact)


def test_output_channels_on_the_last_axis():
    kernel = random_kernel()
    first, last = quantize({"k": kernel}), quantize({"k": kernel.transpose(2, 3, 1, 0)}, channel_axis=3)
    assert last["k.step"].shape == (1, 1, 1, 6)
    for key in ("k", "k.step"):
        np.testing.assert_array_equal(last[key].transpose(3, 2, 0, 1), first[key])
    np.testing.assert_array_equal(dequantize(last)["k"].transpose(3, 2, 0, 1), dequantize(first)["k"])


def test_a_channel_of_zeros_stays_one():
    quantized = quantize({"k": kernel_of([0, -0.0], [127, -1])})
    assert (quantized["k.step"] > 0).all()
    assert dequantize(quantized)["k"][:, :, 0, 0].tolist() == [[0, 0], [127, -1]]


def test_a_kernel_without_weights():
    assert dequantize(quantize({"k": np.zeros((0, 2, 3, 3), np.float32)}))["k"].shape == (0, 2, 3, 3)


def test_other_tensors_become_float32():
    others = {"bias": np.float64([1.5, -2]), "half": np.float16([[1, 2]]), "count": np.array(5)}
    for function in (quantize, dequantize):
        changed = function(others)
        assert list(changed) == list(others)
        for key, value in others.items():
            np.testing.assert_array_equal(changed[key], value.astype(np.float32), strict=True)


def test_the_tensors_given_are_unchanged():
    tensors = {"k": random_kernel(), "b": np.float32([1])}
    before = {key: value.copy() for key, value in tensors.items()}
    quantized = quantize(tensors)
    dequantize(quantized)
    for key, value in before.items():
        np.testing.assert_array_equal(tensors[key], value)


def test_any_axes_and_precision_of_steps():
    whole = np.arange(-6, 6, dtype=np.int8).reshape(2, 2, 3)
    for shape in [(1, 1, 3), (2, 1, 1), (1, 1, 1), (2, 2, 3)]:
        step = np.random.default_rng(0).uniform(0.5, 1, shape).astype(np.float16)
        actual = dequantize({"k": whole, "k.step": step})
        np.testing.assert_array_equal(actual["k"], whole * step.astype(np.float32), strict=True)
        assert list(actual) == ["k"]


@pytest.mark.parametrize("key", ["k", "b"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_numbers_that_are_not_finite(key, bad):
    tensors = {"k": random_kernel().astype(np.float64), "b": np.zeros(3)}
    tensors[key].flat[:2] = bad
    with pytest.raises(UserError, match=rf"^{key} must hold finite numbers, got 2 NaN or infinite values\.$"):
        quantize(tensors)


def test_8_bit_tensors_are_not_quantized_again():
    with pytest.raises(UserError, match=r"must not be 8-bit already, got k\.step: dequantize them first"):
        quantize(quantize({"k": random_kernel()}))


STEPS = {
    r"k\.step has shape \(2,\), expected 1 or the length of \(2, 3\) along every axis": np.ones(2),
    r"k\.step has shape \(3, 1\), expected": np.ones((3, 1)),
    r"k\.step holds 1 values that are not finite and positive": np.array([[1.0], [np.nan]]),
    r"k\.step holds 2 values that are": np.array([[np.inf], [1e300]]),
    r"k\.step holds 2 values": np.array([[0.0], [-1.0]]),
}


@pytest.mark.parametrize("message", STEPS)
def test_steps_that_cannot_be_used(message):
    tensors = {"k": np.ones((2, 3), np.int8), "k.step": STEPS[message], "other": np.ones(1)}
    with pytest.raises(UserError, match=f"^{message}.*: pass what quantize returned"):
        dequantize(tensors)
    decoded, misfits = decode(tensors)
    assert list(decoded) == ["other"]
    assert len(misfits) == 1


def test_whole_numbers_without_steps():
    with pytest.raises(UserError, match=r"^k holds int8 numbers without its k\.step"):
        dequantize({"k": np.ones((2, 3), np.int8), "j.step": np.ones(1)})
    with pytest.raises(UserError, match=r"^k holds uint8 numbers without its k\.table"):
        dequantize({"k": np.ones((2, 3), np.uint8), "k.step": np.ones(1)})
    assert companion_keys({"k": "int8", "j.step": "float32"}) == {}


def test_places_in_a_table():
    table = np.random.default_rng(0).standard_normal(256).astype(np.float32)
    index = np.arange(256, dtype=np.uint8).reshape(16, 1, 2, 8)
    values = dequantize({**tabulate(index, table, "k"), "other": np.ones(2, np.float16)})
    assert list(values) == ["other", "k"]
    np.testing.assert_array_equal(values["k"].ravel(), table)
    assert values["k"].shape == index.shape


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (np.ones(255), r"k\.table has shape \(255,\), expected \(256,\)"),
        (np.full(256, np.inf), "256 values that are not"),
    ],
)
def test_tables_that_cannot_be_used(table, message):
    with pytest.raises(UserError, match=message):
        dequantize({"k": np.zeros((1, 2), np.uint8), "k.table": table})


# Random weights are the hard case: their errors add up layer by layer, since every layer passes all of them on.
@pytest.mark.parametrize(("name", "until"), [("vgg19", "relu5_1"), ("resnet50", "conv5_3")])
def test_features_from_8_bits(name, until, tmp_path):
    weights = random_weights(name, 0)
    write_safetensors(tmp_path / "8.safetensors", quantize(weights), {})
    write_safetensors(tmp_path / "32.safetensors", weights, {})
    assert (tmp_path / "8.safetensors").stat().st_size < 0.26 * (tmp_path / "32.safetensors").stat().st_size
    expected = parameter_shapes(name, until=until)
    compute = backbones.Compute(kernels="xla")  # compile fastest
    skeleton = nnx.eval_shape(lambda: backbones.create(name, until=until, compute=compute))
    images = normalize(jnp.asarray(reference_image(64, 64, 0)), "imagenet")[None]
    run = jax.jit(lambda network, images: network(images))
    low, high = (
        run(with_parameters(skeleton, read_parameters(path, name, expected, whole=False)), images)
        for path in (tmp_path / "8.safetensors", tmp_path / "32.safetensors")
    )
    for layer, exact in jax.device_get(high).items():
        assert 0.001 < np.linalg.norm(np.asarray(low[layer]) - exact) / np.linalg.norm(exact) < 0.02
