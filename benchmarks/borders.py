"""How far the image border alone shows in a generator's input: zero padding compared with reflection.

Features, normalized for each image as in AdaIN, are averaged over images. The remaining variance is common to all
images: it depends on a position, not on what the image shows there. N unrelated images leave 1 / N.

    python benchmarks/borders.py --images photos/ --count 48
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import swag_jax as swag
from swag_jax._files import replacing
from swag_jax.images import resize
from swag_jax.images.crop import read_crop
from swag_jax.train.data import find_images

RESULTS = Path(__file__).resolve().parent / "results"
PADDINGS = ("zeros", "replicate", "reflect")
SMALLEST = 1e-5
"""Added to variances, as in AdaIN."""


def squares(folder: Path | None, count: int, size: int) -> Any:
    """Return the middle squares of images, `count size size 3` in [0, 1]; of the samples without a folder."""
    if folder is None:
        images = [swag.sample(name, size=256) for name in (*swag.images.CONTENTS, *swag.images.STYLES)]
        return jnp.asarray(np.stack([resize(image, size, size) for image in images]))
    paths = find_images(folder, what="images")[:count]
    return jnp.asarray(np.stack([read_crop(path, size=size, crop=size) for path in paths]), jnp.float32) / 255


def shared(network: Any, images: Any, layer: str) -> float:
    """Return the share of variance that is the same in all images."""
    extract = jax.jit(jax.vmap(lambda image: swag.extract(network, image, layers=(layer,))[layer]))
    features = np.asarray(extract(images))
    normed = features - features.mean((1, 2), keepdims=True)
    normed /= np.sqrt(features.var((1, 2), keepdims=True) + SMALLEST)
    return float((normed.mean(0) ** 2).sum() / (normed**2).mean(0).sum())


def parse(words: Sequence[str] | None = None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Return the parser and the parsed options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=Path, help="a folder; default: the samples")
    parser.add_argument("--count", type=int, default=48, help="images that are read of it (default: 48)")
    parser.add_argument("--sizes", nargs="+", type=int, default=[64, 128], help="pixels (default: 64 128)")
    parser.add_argument("--layer", default="relu4_1", help="default: relu4_1, which AdaIN reads")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS / "borders.json")
    return parser, parser.parse_args(words)


def main() -> None:
    """Print and write the table."""
    parser, arguments = parse()
    rows = []
    try:
        for size in arguments.sizes:
            images = squares(arguments.images, arguments.count, size)
            row: dict[str, Any] = {"size": size, "images": len(images), "chance": 1 / len(images)}
            for padding in PADDINGS:
                network, _ = swag.backbones.load("vgg19", layers=(arguments.layer,), padding=padding)
                row[padding] = shared(network.frozen(), images, arguments.layer)
            rows.append(row)
            print(", ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)
    except swag.UserError as problem:
        parser.error(str(problem))
    with replacing(arguments.output) as temporary:
        temporary.write_text(json.dumps({"layer": arguments.layer, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
