"""What a Johnson generator is trained by: the perceptual loss of Johnson, Alahi and Fei-Fei, ECCV 2016.

It is the `Objective` that stylization minimizes too, over the generator's image: squared distances of features and of
Gram matrices, with any smoothing. The style's Gram matrices are computed once.
"""

from swag_jax.losses.objective import Objective

PORT = Objective(
    content_layers=("relu2_2",),
    style_layers=("relu1_2", "relu2_2", "relu3_3", "relu4_3"),
    content_layer_weights=(1.0,),
    style_layer_weights=(1.0, 1.0, 1.0, 1.0),
    content_weight=1e5,
    style_weight=1e10,
    normalization="released",
)
"""`fast_neural_style` of pytorch/examples: its layers and weights, and `released` is its unit. There the network is
VGG16; VGG19 has the layers of these names at the same depths. The paper compares content at relu3_3."""
