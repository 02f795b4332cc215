"""`swag-jax weights`: list, fetch, convert and verify checkpoints. Only `fetch` uses the network."""

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import jax.numpy as jnp
import numpy as np
from rich.table import Table
from rich.text import Text

from swag_jax import backbones, generators, params
from swag_jax._checks import UserError, check_name, error, one_line, printable
from swag_jax._files import check_apart
from swag_jax._types import Images
from swag_jax.backbones.rescale import mean_activations
from swag_jax.backbones.resnet import SWITCHES
from swag_jax.backbones.vgg import PADDINGS
from swag_jax.backbones.zoo import parameter_shapes
from swag_jax.cli._display import table_console
from swag_jax.cli._exit import ExitCode
from swag_jax.cli._flags import Group, Quiet, flag, word
from swag_jax.cli._networks import read_network
from swag_jax.cli._outputs import labeled
from swag_jax.generators.registry import PUBLISHED
from swag_jax.images import CONTENTS, sample
from swag_jax.images.crop import read_crop
from swag_jax.images.normalize import NORMALIZATIONS, normalize
from swag_jax.params import store
from swag_jax.params._files import file_sha256
from swag_jax.params.checkpoint_file import tensors_sha256
from swag_jax.params.convert import Converted, architecture_of
from swag_jax.params.layouts import LAYOUT_NAMES
from swag_jax.params.manifest import (
    Checkpoint,
    checkpoint,
    checkpoint_of_file,
    default_checkpoint,
    packaged_generators,
    weights_folder,
)
from swag_jax.params.rescale import divided
from swag_jax.params.safetensors_file import read_metadata, write_safetensors
from swag_jax.params.store import check_hash, stored_path, verify_embedded, verify_stored
from swag_jax.params.tree import with_parameters
from swag_jax.train.data import find_images

_STORED, _PACKAGE = "store", "package"

# Side in pixels and largest number of the photographs that a VGG is rescaled on. Our choice.
UNIT_MEAN_SIZE, UNIT_MEAN_IMAGES = 224, 256


@dataclass(frozen=True, kw_only=True)
class List:
    """Show known and stored checkpoints, and the generators of the package."""

    def run(self) -> ExitCode:
        """Print a table."""
        table, known = Table(box=None, pad_edge=False), {entry.name: entry for entry in params.checkpoints()}
        for column in ("name", "backbone", "kind", "license", "size", "where"):
            table.add_column(column, overflow="fold")
        for name, entry in known.items():
            path = _path(entry)
            table.add_row(name, entry.backbone, entry.kind, entry.license, _size(path), _where(entry, path))
        for name, entry in packaged_generators().items():
            network = known[entry.encoder].backbone if entry.encoder else ""
            table.add_row(name, network, f"{entry.method} generator", entry.license, _size(entry.path), _PACKAGE)
        for name, path in store.stored().items():
            if name not in known:
                # As text: a file may call itself anything, and markup in its name is not followed.
                texts = map(Text, (printable(name), printable(_backbone_of(path))))
                table.add_row(*texts, "converted", "", _size(path), _STORED)
        table_console().print(table)
        without = [name for name in backbones.NAMES if name not in {entry.backbone for entry in known.values()}]
        print(f"no checkpoint known (random weights, or convert a file of yours): {', '.join(without)}")
        print(printable(f"store: {store.home() / 'weights'}; package: {weights_folder()}"))
        return ExitCode.DONE


@dataclass(frozen=True, kw_only=True)
class Fetch(Quiet):
    """Download, check, convert and store checkpoints."""

    names: tuple[str, ...] = word("NAME|BACKBONE", "A checkpoint, or a network for its default one")
    quiet: bool = flag("Show no progress bar", False)

    def run(self) -> ExitCode:
        """Fetch every checkpoint that is not here."""
        found = [(entry, _path(entry)) for entry in map(_named, self.names)]
        for entry, path in found:
            if path is not None:
                print(printable(f"{entry.name}: already here, {path}"))

        def fetch(entry: Checkpoint) -> str:
            expected = parameter_shapes(entry.backbone)
            return f"{entry.name}: {params.fetch(entry, expected=expected, progress=not self.quiet)}"

        return _each([entry for entry, path in found if path is None], fetch)


@dataclass(frozen=True, kw_only=True)
class Convert:
    """Convert a file (.pth, .pt, .safetensors) and store it."""

    files: tuple[Path, ...] = word("FILE", "The checkpoint, all its files; nothing in them is run")
    backbone: str | None = flag(
        "Its network; a ResNet with the stride on its first 1x1 convolutions, as published for Caffe, is "
        "NAME:version=v1",
        None,
        metavar="NAME[:SWITCH=VALUE]",
        known=backbones.NAMES,
    )
    generator: str | None = flag("A published generator", None, metavar="NAME", names=PUBLISHED)
    layout: str = flag("Of the file's tensors", "auto", metavar="NAME", names=LAYOUT_NAMES)
    input: Literal["auto", "imagenet", "caffe"] = flag(
        "What the network reads: RGB by ImageNet's mean and deviation, or Caffe's BGR in 0..255 minus its "
        "mean; auto goes by the layout, and knows the original VGGs, as jcjohnson's files, by their numbers",
        "auto",
    )
    output: Path | None = flag(
        "Write a safetensors file here, not into the store; needed for a generator", None, short="-o", metavar="OUT"
    )
    unit_mean: bool = flag(
        "Rescale a VGG's filters to a mean activation of one, as Gatys et al. and AdaIN's authors did", False
    )
    images: Path | None = flag("Photographs for --unit-mean; by default the package's own", None, metavar="DIR")

    def run(self) -> ExitCode:
        """Convert one file of a network, or all files of a generator."""
        if self.backbone is not None and self.generator is not None:
            raise error("--backbone and --generator exclude each other", cure="leave one out")
        if self.output is not None:
            images = find_images(self.images, what="--images") if self.unit_mean and self.images else []
            check_apart([("-o", self.output)], [*labeled("FILE", self.files), *labeled("--images", images)])
        print(printable(_convert(self) if self.generator is None else _convert_generator(self, self.generator)))
        return ExitCode.DONE


@dataclass(frozen=True, kw_only=True)
class Verify:
    """Check hashes, names, shapes and values of checkpoints here."""

    names: tuple[str, ...] = word("NAME", "By default all stored and embedded ones", ())

    def run(self) -> ExitCode:
        """Check stored and embedded checkpoints, and the generators of the package."""
        embedded = {entry.name: entry for entry in params.checkpoints() if entry.kind == "embedded"}
        stored, packaged = store.stored(), packaged_generators()
        here = list(dict.fromkeys([*embedded, *packaged, *stored]))

        def verify(name: str) -> str:
            if name in embedded:
                verify_embedded(embedded[name], parameter_shapes(embedded[name].backbone))
            elif name in packaged:
                path = packaged[name].path
                check_hash(path, file_sha256(path), packaged[name].sha256)
                generators.load_generator(path)
            else:
                verify_stored(name, parameter_shapes(_backbone_of(stored[name])))
            return f"{name}: sound"

        return _each([check_name(name, here, what="checkpoint here") for name in self.names] or here, verify)


WEIGHTS = Group(
    "List, fetch, convert and verify checkpoints", {"list": List, "fetch": Fetch, "convert": Convert, "verify": Verify}
)


def _convert(args: Convert) -> str:
    if args.backbone is None:
        raise error("there must be a --backbone or a --generator")
    file, *others = args.files
    if others:
        raise error("a network must be in one file", got=len(args.files), cure="convert one file at a time")
    if args.images is not None and not args.unit_mean:
        raise error("--images is for --unit-mean", cure="add --unit-mean, or leave it out")
    name, switches = read_network(args.backbone)
    if args.unit_mean and name not in ("vgg19", "vgg16"):
        raise error("only a VGG can be rescaled", got=name, cure="leave out --unit-mean")
    expected, options = parameter_shapes(name, **switches), {"layout": args.layout, "normalization": args.input}
    converted = params.convert(file, name, expected, architecture=switches or None, **options)
    facts = converted.metadata
    _check_setup(name, facts, file)
    if args.unit_mean:
        converted = _rescaled(converted, args.images)
    if args.output is None:
        path = _install(converted, file, suffix="-unit-mean" if args.unit_mean else "")
    else:
        path = args.output
        write_safetensors(path, converted.tensors, converted.metadata)
    told_by = f" ({facts['told_by']})" if facts.get("told_by") else ""
    return (
        f"{path}: {facts['backbone']} down to {facts['deepest_layer']}, {facts['layout']} layout, "
        f"normalization {facts.get('normalization', 'by default')}{told_by}, padding {facts['padding']}"
    )


def _check_setup(backbone: str, facts: Mapping[str, str], file: Path) -> None:
    """Raise unless a network can be set up as a file of our own says."""
    asked = {"normalization": facts["normalization"]} if "normalization" in facts else {}
    if facts["padding"] != "zeros":
        asked["padding"] = facts["padding"]
    try:
        check_name(asked.get("normalization", "none"), NORMALIZATIONS, what="normalization")
        check_name(facts["padding"], PADDINGS, what="padding")
        architecture = architecture_of(file, facts)
        for switch in architecture:
            check_name(switch, SWITCHES, what="switch")
        backbones.layer_names(backbone, **architecture, **asked)
    except (UserError, TypeError) as problem:  # TypeError: a switch of another type
        rule = f"{file} must say how its network is set up"
        raise error(rule, got=f"what cannot be used ({str(problem).rstrip('.')})", cure="get it again") from problem


def _rescaled(converted: Converted, folder: Path | None) -> Converted:
    """Rescale a VGG to a mean activation of one over photographs."""
    facts = converted.metadata
    options: dict[str, Any] = {"until": facts["deepest_layer"].replace("conv", "relu"), "padding": facts["padding"]}
    options |= {"normalization": facts["normalization"]} if "normalization" in facts else {}
    network = backbones.create(facts["backbone"], **options)
    network = with_parameters(network, converted.tensors)
    images = normalize(_photographs(folder), network.normalization)
    means = mean_activations(network, images)
    tensors = divided(converted.tensors, {name: np.asarray(mean) for name, mean in means.items()})
    return Converted(tensors, {**facts, "tensors_sha256": tensors_sha256(tensors)})


def _photographs(folder: Path | None) -> Images:
    """Return squares of a folder's photographs, or of the package's own, `batch height width 3` in [0, 1]."""
    if folder is None:
        whole = [sample(name, size=2 * UNIT_MEAN_SIZE) for name in CONTENTS]
        return jnp.stack([image[:UNIT_MEAN_SIZE, :UNIT_MEAN_SIZE] for image in whole])
    files = find_images(folder, what="--images")[:UNIT_MEAN_IMAGES]
    crops = [read_crop(file, size=UNIT_MEAN_SIZE, crop=UNIT_MEAN_SIZE) for file in files]
    return jnp.asarray(np.stack(crops), jnp.float32) / 255


def _convert_generator(args: Convert, name: str) -> str:
    if args.output is None:
        raise error("a generator needs a file to be written to", cure="pass -o OUT.safetensors")
    if args.layout != "auto":
        raise error("--layout is for networks; a generator has one layout", got=args.layout, cure="leave it out")
    if args.input != "auto":
        raise error("--input is for networks", got=args.input, cure="leave it out")
    config = generators.convert_generator(args.files, name, args.output)
    reads = ", ".join(tap.layer for tap in config.taps) or "images"
    return f"{args.output}: {name} generator, reads {reads}"


Item = TypeVar("Item")


def _each(items: Iterable[Item], work: Callable[[Item], str]) -> ExitCode:
    """Do all of the work, whatever fails: a single item's failure is an error, one of many exit code 3."""
    items = list(items)
    failed = False
    for item in items:
        try:
            print(printable(work(item)))
        except UserError as problem:
            if len(items) == 1:
                raise
            print(one_line(problem), file=sys.stderr)
            failed = True
    return ExitCode.SOME_FAILED if failed else ExitCode.DONE


def _named(name: str) -> Checkpoint:
    """Find a checkpoint by its own name, or the default one of a network."""
    default = default_checkpoint(name)
    if default is None and name in backbones.NAMES:
        cure = f"use --weights random, or `swag-jax weights convert FILE --backbone {name}`"
        raise error(f"no checkpoint of {name} is known", cure=cure)
    entry = default or checkpoint(name)
    if entry.kind == "manual":
        raise error(
            f"{entry.name} cannot be fetched",
            cure=f"get {entry.source}, then `swag-jax weights convert FILE --backbone {entry.backbone}`",
        )
    return entry


def _path(entry: Checkpoint) -> Path | None:
    """Return where a known checkpoint lies on this machine, if it does."""
    path = weights_folder() / entry.file if entry.file else stored_path(entry.name)
    return path if path.is_file() else None


def _backbone_of(path: Path) -> str:
    return read_metadata(path).get("backbone", "unknown")


def _where(entry: Checkpoint, path: Path | None) -> str:
    if path is not None:
        return _PACKAGE if entry.kind == "embedded" else _STORED
    return "not here; yours to convert" if entry.kind == "manual" else "not here; fetch it"


def _size(path: Path | None) -> str:
    return f"{path.stat().st_size / 1e6:.0f} MB" if path else ""


def _install(converted: Converted, source: Path, *, suffix: str) -> Path:
    """Put a converted checkpoint into the store, under its known or its file's name and a suffix."""
    known = checkpoint_of_file(converted.metadata["source_sha256"])
    if known is not None and converted.metadata.get("normalization", known.normalization) != known.normalization:
        rule = f"the input of {known.name}, which {source} is, must stay {known.normalization} in the store"
        raise error(rule, got=converted.metadata["normalization"], cure="pass -o OUT")
    name = (known.name if known else source.stem) + suffix
    entry = next((entry for entry in params.checkpoints() if entry.name == name), None)
    if entry and entry.kind == "embedded":
        raise error(f"{name} comes with the package", cure=f"use it as --weights {name}, or pass -o OUT")
    # Under a published checkpoint's name, `--weights imagenet` would take the file for that checkpoint.
    if entry and known is None:
        raise error(f"{source} is not the published {name}: its sha256 differs", cure="rename it or pass -o OUT")
    check_apart([(f"the store's {name}", stored_path(name))], [("FILE", source)])
    return store.install(name, converted)
