"""Write the PyTorch files that the tests read: `python tests/params/make_torch_files.py` (needs torch).

`content` is what they hold; the tests compute the same arrays with numpy.
"""

import os
import pickle
from collections import OrderedDict
from pathlib import Path

import torch

FOLDER = Path(__file__).parent / "torch_files"


class Payload:
    """What a hostile file would do, if it were run."""

    def __reduce__(self):
        return os.system, ("echo this must never be printed",)


def content() -> OrderedDict:
    ramp = torch.arange(24.0).reshape(2, 3, 4)
    return OrderedDict(
        float=ramp,
        double=ramp.double() / 3,
        half=ramp.half() / 8,
        bfloat16=(ramp / 8).bfloat16(),
        transposed=ramp.permute(2, 0, 1),
        slice=ramp[1:, 1:, ::2],
        shared=ramp.flatten()[5:9],
        parameter=torch.nn.Parameter(ramp + 1),
        scalar=torch.tensor(7),
        empty=torch.zeros(0, 3),
        ints=torch.arange(3, dtype=torch.int32),
        bools=torch.tensor([True, False]),
    )


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    parallel = {f"module.{name}": tensor for name, tensor in content().items()}
    for suffix, zipped in (("zip", True), ("legacy", False)):

        def save(thing, name, suffix=suffix, zipped=zipped):
            torch.save(thing, FOLDER / f"{name}_{suffix}.pth", _use_new_zipfile_serialization=zipped)

        save(content(), "plain")
        save({"state_dict": parallel, "epoch": 3, "optimizer": {"m": torch.ones(5)}}, "wrapped")
        save({"model": content()}, "model")
        save({"weight": torch.ones(1), "evil": Payload()}, "malicious")
        save([torch.ones(1)], "list")
        save({"weight": torch.ones(1), "note": "text"}, "stranger")
        save({}, "empty")
        save({"repeated": torch.ones(1).expand(1000)}, "repeated")
    # The older format would copy torch's source, and where it lies on this machine, into the file.
    torch.save(torch.nn.Conv2d(1, 1, 1), FOLDER / "module_zip.pth")
    (FOLDER / "malicious_bare.pth").write_bytes(pickle.dumps(Payload()))


if __name__ == "__main__":
    main()
