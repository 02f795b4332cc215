"""Pickles read without PyTorch and without Python's unpickler: a machine that builds plain values and calls nothing.

A pickle is a program. Python's own machine can be kept from calling what it names, but not from building values
whose hashes, copies or memory have no bound. This one knows the instructions that build numbers, texts, lists,
tuples and dictionaries, each at a cost of its length; names and references are handed to its user. PyTorch's
`torch/_weights_only_unpickler.py` is of the same kind. Instructions: `pickletools` of the standard library.
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

# By pickletools' names: what an instruction leaves on the stack is its argument.
_CONSTANTS = frozenset(
    (
        *("INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
        *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    )
)
_SINGLES: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": list,  # a set would hash what it holds; none matters here
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class Machine:
    """What runs one pickle; subclasses say what names, calls and references stand for.

    None of what it builds is hashed but the keys of dictionaries, which are texts and numbers.
    """

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memory: dict[int, Any] = {}

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
        """Read one pickle, and return what it describes.

        Raises:
            pickle.UnpicklingError: If it is no pickle of plain values, or too large.
        """
        start = file.tell()
        for steps, (opcode, argument, place) in enumerate(pickletools.genops(file)):  # pyright: ignore[reportArgumentType]
            if steps >= DESCRIPTION_VALUES or (place or 0) - start > DESCRIPTION_BYTES:
                raise pickle.UnpicklingError("a description without end")
            if opcode.name == "STOP":
                return self._stack.pop()
            self._step(opcode.name, argument)
        raise pickle.UnpicklingError("a pickle without end")

    def _step(self, opcode: str, argument: Any) -> None:
        if opcode in _CONSTANTS:
            self._stack.append(argument)
        elif opcode in _SINGLES:
            self._stack.append(_SINGLES[opcode]())
        elif opcode in _TUPLES:
            self._stack.append(tuple(self._popped(_TUPLES[opcode])))
        elif opcode not in ("PROTO", "FRAME"):
            step = getattr(self, f"_{opcode.lower()}", None)
            if step is None:
                raise pickle.UnpicklingError(f"the instruction {opcode}")
            step(argument)

    def _popped(self, count: int) -> list:
        if len(self._stack) < count:
            raise pickle.UnpicklingError("an instruction without operands")
        taken = self._stack[-count:]
        del self._stack[-count:]
        return taken

    def _since_mark(self) -> list:
        start = self._marks.pop()
        taken = self._stack[start:]
        del self._stack[start:]
        return taken

    def _mark(self, _: Any) -> None:
        self._marks.append(len(self._stack))

    def _pop(self, _: Any) -> None:
        self._popped(1)

    def _pop_mark(self, _: Any) -> None:
        self._since_mark()

    def _dup(self, _: Any) -> None:
        self._stack.append(self._stack[-1])

    def _tuple(self, _: Any) -> None:
        self._stack.append(tuple(self._since_mark()))

    def _frozenset(self, _: Any) -> None:
        self._tuple(None)

    def _list(self, _: Any) -> None:
        self._stack.append(self._since_mark())

    def _dict(self, _: Any) -> None:
        self._stack.append(mapping(self._since_mark()))

    def _extend(self, items: list) -> None:
        if type(self._stack[-1]) is not list:
            raise pickle.UnpicklingError("an instruction for a list")
        self._stack[-1].extend(items)

    def _append(self, _: Any) -> None:
        self._extend(self._popped(1))

    def _appends(self, _: Any) -> None:
        self._extend(self._since_mark())

    def _additems(self, _: Any) -> None:
        self._extend(self._since_mark())

    def _update(self, items: list) -> None:
        if type(self._stack[-1]) is not dict:
            raise pickle.UnpicklingError("an instruction for a dictionary")
        self._stack[-1].update(mapping(items))

    def _setitem(self, _: Any) -> None:
        self._update(self._popped(2))

    def _setitems(self, _: Any) -> None:
        self._update(self._since_mark())

    def _put(self, place: int) -> None:
        self._memory[place] = self._stack[-1]

    _binput = _long_binput = _put

    def _memoize(self, _: Any) -> None:
        self._memory[len(self._memory)] = self._stack[-1]

    def _get(self, place: int) -> None:
        self._stack.append(self._memory[place])

    _binget = _long_binget = _get

    def _global(self, argument: str) -> None:
        self._stack.append(self.name(*argument.split(" ", 1)))

    def _stack_global(self, _: Any) -> None:
        module, name = self._popped(2)
        if not (isinstance(module, str) and isinstance(name, str)):
            raise pickle.UnpicklingError("a name that is no text")
        self._stack.append(self.name(module, name))

    def _reduce(self, _: Any) -> None:
        what, arguments = self._popped(2)
        if type(arguments) is not tuple:
            raise pickle.UnpicklingError("a call without a tuple of arguments")
        self._stack.append(self.made(what, arguments))

    _newobj = _reduce

    def _build(self, _: Any) -> None:
        # What it would set on an object, such as the versions of a state dict's modules, is nobody's need here.
        self._popped(1)

    def _binpersid(self, _: Any) -> None:
        self._stack.append(self.referred(self._popped(1)[0]))


def mapping(items: list) -> dict:
    """Return a dictionary of keys and values that take turns.

    Raises:
        pickle.UnpicklingError: If a key is neither a text nor a number, whose hashes cost little.

    Example:
        >>> mapping(["a", 1, "b", 2])
        {'a': 1, 'b': 2}
    """
    keys = items[::2]
    for key in keys:
        is_number = key is None or isinstance(key, float) or (isinstance(key, int) and abs(key) < _LARGEST_KEY)
        if not (isinstance(key, str) or is_number):
            raise pickle.UnpicklingError("a key that is neither a text nor a number")
    return dict(zip(keys, items[1::2], strict=True))
