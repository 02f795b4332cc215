"""Pack a data set into WebP shards, small enough to travel to a machine that cannot fetch it.

python weights/pack.py DATA OUT --quality 50 --megabytes 55
"""

import argparse
import sys
from pathlib import Path

import pictures

from swag_jax._checks import UserError


def main(arguments: list[str] | None = None) -> int:
    """Pack both splits; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path, help="image-folder data set with train/ and val/")
    parser.add_argument("output", type=Path, help="folder for the shards")
    parser.add_argument("--size", type=int, default=64, help="side of a picture in pixels")
    parser.add_argument("--quality", type=int, default=50, help="WebP quality, 1 to 100")
    parser.add_argument("--megabytes", type=float, default=55, help="largest shard")
    given = parser.parse_args(arguments)
    try:
        for split in ("train", "val"):
            read = pictures.read(given.data, split, size=given.size)
            limit = round(given.megabytes * 1e6)
            files = pictures.write_shards(given.output, split, read, quality=given.quality, limit=limit)
            total = sum(file.stat().st_size for file in files) / 1e6
            print(
                f"{split}: {len(read.labels)} pictures of {len(read.classes)} classes, {total:.1f} MB in {len(files)}"
            )
            for file in read.damaged:
                print(f"  damaged, left out: {file}")
    except UserError as problem:
        print(problem, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
