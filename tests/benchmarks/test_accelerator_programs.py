"""What is read from a compiled program's text, and the bound that it is compared with."""

import functools

import accelerator_programs as programs
import jax
import jax.numpy as jnp

from swag_jax import backbones
from swag_jax.features import extract

TEXT = """HloModule program

%small (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %p = (s32[], f32[8]{0}) parameter(0)
  ROOT %out = f32[8]{0} copy(f32[8]{0} %x)
}

%body (p: (s32[], f32[4,256])) -> (s32[], f32[4,256]) {
  %p = (s32[], f32[4,256]{1,0}) parameter(0)
  %image = f32[4,256]{1,0} get-tuple-element((s32[], f32[4,256]{1,0}) %p), index=1
  %low = bf16[4,256]{1,0} convert(f32[4,256]{1,0} %image), metadata={op_name="step/convert"}
  %gram_fusion.2 = f32[4,4]{1,0} fusion(bf16[4,256]{1,0} %low), kind=kLoop, calls=%inner
  ROOT %result = (s32[], f32[4,256]{1,0}) tuple(%image, %gram_fusion.2)
}

ENTRY %main (a: f32[4,256]) -> f32[4,256] {
  %a = f32[4,256]{1,0} parameter(0)
  %one = (s32[], f32[8]{0}) while((s32[], f32[8]{0}) %t), condition=%c, body=%small
  %two = (s32[], f32[4,256]{1,0}) while((s32[], f32[4,256]{1,0}) %u), condition=%d, body=%body
}
"""


def test_the_largest_loop_is_read_and_each_instruction_is_counted_with_what_it_reads():
    found = programs.loop_instructions(TEXT)
    assert [(each.moved, each.kind, each.origin) for each in found] == [
        (4 * 256 * (2 + 4), "convert", "step/convert"),
        (4 * 256 * 2 + 4 * 4 * 4, "fusion:gram_fusion", ""),
    ]
    assert programs.moved(found) == 1024 * 8 + 64
    assert programs.loop_instructions("HloModule nothing") == []


def test_the_bound_by_hand():
    """VGG19 to relu1_2: two convolutions of 64 channels, of which the second is read for its Gram matrix."""
    network = backbones.create("vgg19", until="relu1_2", compute=backbones.Compute(kernels="xla"))
    image = jax.ShapeDtypeStruct((32, 48, 3), jnp.float32)
    traced = jax.make_jaxpr(functools.partial(extract, layers=("relu1_2",)))(network, image)
    values = 32 * 48 * 64
    assert programs.convolution_sizes(traced.jaxpr) == [values, values]
    assert programs.bound_bytes([values, values], [values], width=2) == 2 * values * (5 + 5 + 2)
