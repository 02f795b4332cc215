"""Pickles read without PyTorch and without Python's unpickler: a machine that builds plain values and calls nothing.

Python's own machine can be kept from calling what a pickle names, but not from building values whose hashes, copies or
memory have no bound. This one knows the instructions (`pickletools`) that build numbers, texts, lists, tuples and
dictionaries, each at a cost of its length. PyTorch's `torch/_weights_only_unpickler.py` is of the same kind.
"""

import io
import mmap
import pickle
import pickletools
from collections.abc import Callable
from typing import Any, TypeAlias

from swag_jax._limits import DESCRIPTION_BYTES, DESCRIPTION_VALUES

Readable: TypeAlias = io.BytesIO | mmap.mmap

_LARGEST_KEY = 2**63


class Machine:
    """What runs one pickle; subclasses say what names, calls and references stand for.

    None of what it builds is hashed but the keys of dictionaries, which are texts and numbers.
    """

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memory: dict[int, Any] = {}

    def name(self, module: str, name: str) -> Any:
        """Return what stands for a name; raise to refuse it."""
        raise pickle.UnpicklingError(f"the name {module}.{name}")

    def made(self, what: Any, arguments: tuple) -> Any:
        """Return what stands for a call of something that `name` returned."""
        raise pickle.UnpicklingError("a call")

    def referred(self, reference: Any) -> Any:
        """Return what stands for a reference to something outside of the pickle."""
        raise pickle.UnpicklingError("a reference")

    def run(self, file: Readable) -> Any:
        """Read one pickle, and return what it describes; raise if it is not one of plain values, or too large."""
        start = file.tell()
        for steps, (opcode, argument, place) in enumerate(pickletools.genops(file)):  # pyright: ignore[reportArgumentType]
            if steps >= DESCRIPTION_VALUES or (place or 0) - start > DESCRIPTION_BYTES:
                raise pickle.UnpicklingError("a description without end")
            if opcode.name == "STOP":
                return self.stack.pop()
            if opcode.name in _PUSHES:
                self.stack.append(_PUSHES[opcode.name](self, argument))
            elif opcode.name in _CHANGES:
                _CHANGES[opcode.name](self, argument)
            else:
                raise pickle.UnpicklingError(f"the instruction {opcode.name}")
        raise pickle.UnpicklingError("a pickle without end")

    def popped(self, count: int) -> list:
        """Take the last values off the stack."""
        if len(self.stack) < count:
            raise pickle.UnpicklingError("an instruction without operands")
        taken = self.stack[-count:]
        del self.stack[-count:]
        return taken

    def since_mark(self) -> list:
        """Take what lies above the last mark off the stack."""
        start = self.marks.pop()
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def extend(self, items: list) -> None:
        """Add to the list on top of the stack."""
        if type(self.stack[-1]) is not list:
            raise pickle.UnpicklingError("an instruction for a list")
        self.stack[-1].extend(items)

    def update(self, items: list) -> None:
        """Add keys and values that take turns to the dictionary on top of the stack."""
        if type(self.stack[-1]) is not dict:
            raise pickle.UnpicklingError("an instruction for a dictionary")
        self.stack[-1].update(mapping(items))

    def named(self) -> Any:
        """Return what stands for the name on top of the stack."""
        module, name = self.popped(2)
        if not (isinstance(module, str) and isinstance(name, str)):
            raise pickle.UnpicklingError("a name that is no text")
        return self.name(module, name)

    def called(self) -> Any:
        """Return what stands for a call of what is on top of the stack."""
        what, arguments = self.popped(2)
        if type(arguments) is not tuple:
            raise pickle.UnpicklingError("a call without a tuple of arguments")
        return self.made(what, arguments)


Step: TypeAlias = Callable[[Machine, Any], Any]

# By pickletools' names: the arguments of these are what they leave on the stack.
_CONSTANTS = (
    *("INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
)

# What each instruction leaves on the stack.
_PUSHES: dict[str, Step] = {
    **dict.fromkeys(_CONSTANTS, lambda machine, argument: argument),
    "NONE": lambda machine, _: None,
    "NEWTRUE": lambda machine, _: True,
    "NEWFALSE": lambda machine, _: False,
    "EMPTY_TUPLE": lambda machine, _: (),
    "EMPTY_DICT": lambda machine, _: {},
    # A set would hash what it holds; none matters here.
    **dict.fromkeys(("EMPTY_LIST", "EMPTY_SET"), lambda machine, _: []),
    "TUPLE1": lambda machine, _: tuple(machine.popped(1)),
    "TUPLE2": lambda machine, _: tuple(machine.popped(2)),
    "TUPLE3": lambda machine, _: tuple(machine.popped(3)),
    **dict.fromkeys(("TUPLE", "FROZENSET"), lambda machine, _: tuple(machine.since_mark())),
    "LIST": lambda machine, _: machine.since_mark(),
    "DICT": lambda machine, _: mapping(machine.since_mark()),
    "DUP": lambda machine, _: machine.stack[-1],
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda machine, place: machine.memory[place]),
    "GLOBAL": lambda machine, names: machine.name(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.named(),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), lambda machine, _: machine.called()),
    "BINPERSID": lambda machine, _: machine.referred(*machine.popped(1)),
}

# What each of the others does.
_CHANGES: dict[str, Step] = {
    **dict.fromkeys(("PROTO", "FRAME"), lambda machine, _: None),
    "MARK": lambda machine, _: machine.marks.append(len(machine.stack)),
    "POP_MARK": lambda machine, _: machine.since_mark(),
    # What BUILD would set on an object, such as the versions of a state dict's modules, is nobody's need here.
    **dict.fromkeys(("POP", "BUILD"), lambda machine, _: machine.popped(1)),
    "APPEND": lambda machine, _: machine.extend(machine.popped(1)),
    **dict.fromkeys(("APPENDS", "ADDITEMS"), lambda machine, _: machine.extend(machine.since_mark())),
    "SETITEM": lambda machine, _: machine.update(machine.popped(2)),
    "SETITEMS": lambda machine, _: machine.update(machine.since_mark()),
    **dict.fromkeys(
        ("PUT", "BINPUT", "LONG_BINPUT"), lambda machine, place: machine.memory.update({place: machine.stack[-1]})
    ),
    "MEMOIZE": lambda machine, _: machine.memory.update({len(machine.memory): machine.stack[-1]}),
}


def mapping(items: list) -> dict:
    """Return a dictionary of keys and values that take turns; keys are texts and numbers, whose hashes cost little."""
    keys = items[::2]
    for key in keys:
        is_number = key is None or isinstance(key, float) or (isinstance(key, int) and abs(key) < _LARGEST_KEY)
        if not (isinstance(key, str) or is_number):
            raise pickle.UnpicklingError("a key that is neither a text nor a number")
    return dict(zip(keys, items[1::2], strict=True))
