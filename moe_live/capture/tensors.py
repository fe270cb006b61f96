"""Reading tensors of llama.cpp in the middle of a computation, through a view of its `ggml_tensor` struct.

llama-cpp-python does not declare the struct. The view here is of the layout that llama.cpp has had since the
end of 2024; `Tensors` proves on tensors of its own that the library at hand has it before any other is read.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from moe_live.errors import MoeLiveError

F32, I32 = 0, 26  # ggml_type: numbers of the file format, which do not change

_OBJECT_SIZE = 32  # what ggml_tensor_overhead() counts besides the struct
_CONTEXT_SIZE = 1 << 16


class Tensor(ctypes.Structure):
    """`struct ggml_tensor` of ggml.h."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * 4),
        ("nb", ctypes.c_size_t * 4),
        ("op", ctypes.c_int),
        ("op_params", ctypes.c_int32 * 16),
        ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * 10),
        ("view_src", ctypes.c_void_p),
        ("view_offs", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("name", ctypes.c_char * 64),
        ("extra", ctypes.c_void_p),
        ("padding", ctypes.c_char * 8),
    )


NAME_OFFSET: int = Tensor.name.offset


class _InitParams(ctypes.Structure):
    _fields_ = (
        ("mem_size", ctypes.c_size_t),
        ("mem_buffer", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    )


class Tensors:
    """Reads tensors by their address.

    Args:
        library: libggml, or a library linked with it.

    Raises:
        MoeLiveError: its tensors are laid out differently.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        try:
            self._nbytes = self._function("ggml_nbytes", ctypes.c_size_t, ctypes.c_void_p)
            self._get = self._function(
                "ggml_backend_tensor_get", None, *[ctypes.c_void_p] * 2, *[ctypes.c_size_t] * 2
            )
            difference = self._difference()
        except AttributeError as error:
            difference = f"a function is missing: {error}"
        if difference:
            raise MoeLiveError(
                f"this llama.cpp lays out its tensors differently ({difference}): nothing can be captured; "
                "install the llama-cpp-python that the extra capture asks for"
            )

    def matrix(self, address: int, element: int) -> NDArray[Any]:
        """Copy a tensor of at most two dimensions, wherever it is, row by row at its row stride.

        Args:
            address: of the tensor, which has been computed.
            element: its type, `F32` or `I32`.

        Returns:
            (ne[1], ne[0]) float32 or int32.

        Raises:
            MoeLiveError: it is of another type, or has more dimensions.
        """
        tensor = Tensor.from_address(address)
        columns, rows, *more = tensor.ne
        if tensor.type != element or more != [1, 1]:
            raise MoeLiveError(
                f"{tensor.name.decode(errors='replace')} is not what this version can capture "
                f"(type {tensor.type}, shape {list(tensor.ne)}): install the llama-cpp-python that the extra "
                "capture asks for"
            )
        dtype: DTypeLike = np.float32 if element == F32 else np.int32
        if not rows or not columns:
            return np.empty((rows, columns), dtype)
        size = self._nbytes(address)
        buffer = np.empty(size, np.uint8)
        self._get(address, buffer.ctypes.data, 0, size)
        view: NDArray[Any] = np.ndarray((rows, columns), dtype, buffer, strides=(tensor.nb[1], tensor.nb[0]))
        return view.copy()

    def is_product(self, tensor: Tensor) -> bool:
        """Whether a tensor is the product of two: of `src[0]`, the weights, and `src[1]`."""
        return bool(tensor.op == self._mul_mat)

    def _function(self, name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
        prototype = ctypes.CFUNCTYPE(result, *arguments)
        return prototype((name, self._library))

    def _difference(self) -> str:
        """What in the library is not as declared here; empty if nothing is."""
        pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64
        struct_size = self._function("ggml_tensor_overhead", size)() - _OBJECT_SIZE
        if struct_size != ctypes.sizeof(Tensor):
            return f"{struct_size} bytes a tensor, not {ctypes.sizeof(Tensor)}"
        context = self._function("ggml_init", pointer, _InitParams)(_InitParams(_CONTEXT_SIZE))
        try:
            new = self._function("ggml_new_tensor_2d", pointer, pointer, ctypes.c_int, number, number)
            view_of = self._function("ggml_view_2d", pointer, pointer, pointer, number, number, size, size)
            set_name = self._function("ggml_set_name", pointer, pointer, ctypes.c_char_p)
            data_of = self._function("ggml_get_data", pointer, pointer)
            product_of = self._function("ggml_mul_mat", pointer, pointer, pointer, pointer)
            op_name = self._function("ggml_op_name", ctypes.c_char_p, ctypes.c_int)

            ranking = new(context, I32, 7, 5)
            chosen = view_of(context, ranking, 3, 5, 28, 8)
            set_name(chosen, b"probe-7")
            weight, inputs = new(context, F32, 6, 4), new(context, F32, 6, 2)
            product = product_of(context, weight, inputs)
            view, result = Tensor.from_address(chosen), Tensor.from_address(product)
            self._mul_mat = result.op
            expected = [
                ("type", view.type, I32),
                ("shape", list(view.ne), [3, 5, 1, 1]),
                ("strides", list(view.nb[:2]), [4, 28]),
                ("size", self._nbytes(chosen), 4 * 28 + 3 * 4),
                ("view source", view.view_src, ranking),
                ("view offset", view.view_offs, 8),
                ("data", view.data, data_of(ranking) + 8),
                ("name", view.name, b"probe-7"),
                ("operation", op_name(result.op), b"MUL_MAT"),
                ("result type", result.type, F32),
                ("result shape", list(result.ne), [4, 2, 1, 1]),
                ("operands", list(result.src[:3]), [weight, inputs, None]),
            ]
        finally:
            self._function("ggml_free", None, pointer)(context)
        return "; ".join(
            f"{what} {found}, not {wanted}" for what, found, wanted in expected if found != wanted
        )
