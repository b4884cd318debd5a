"""Thirty-two bytes at a time: the few vector steps that Numba has no Python spelling for.

Each function exists twice, as LLVM IR for compiled code and in plain Python for runs with the JIT off (coverage,
Python's own index errors); the tests hold one against the other. Nothing about CSV or Kafka may live here.

The IR works on raw pointers, which Numba's bounds checking cannot see. Every function is therefore reached through
a wrapper that also touches the last element it will read or write: free in normal builds, where the compiler drops
a load that nobody uses, and an IndexError where bounds checking is on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

WIDTH = 32  # bytes in one step; callers keep this many readable (and writable) past every position they pass

Bytes = NDArray[np.uint8]
Offsets = NDArray[np.int64]
Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Compile to machine code that releases the GIL, cached on disk.

    Without Numba's runtime: arrays are borrowed from the caller, never counted. Counting took half of the kernel's
    time, and nothing here allocates (a kernel that did would not compile).
    """
    return _compiled(function, forceinline=function.__module__ == __name__)


def inlined_kernel(function: Function) -> Function:
    """A kernel that becomes a part of its callers: for those with large tuples among their arguments."""
    return _compiled(function, forceinline=True)


def _compiled(function: Function, *, forceinline: bool) -> Function:
    options = {"nogil": True, "cache": True, "_nrt": False, "forceinline": forceinline}
    return cast(Function, cast(Any, numba.njit)(**options)(function))


_intrinsic = cast(Callable[[Callable[..., Any]], Callable[..., Any]], intrinsic)
_VECTOR = ir.VectorType(ir.IntType(8), WIDTH)
_LANES = ir.VectorType(ir.IntType(32), WIDTH)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())


def _load(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    return builder.load(_pointer(context, builder, array_type, array, index), align=1)


def _splat(builder: Any, byte: Any) -> Any:
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), byte, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), ir.Constant(_LANES, None))


def _constant(byte: int) -> Any:
    return ir.Constant(_VECTOR, [byte] * WIDTH)


def _mask(builder: Any, lanes: Any) -> Any:
    return builder.bitcast(lanes, ir.IntType(WIDTH))


def _special(builder: Any, vector: Any, *others: Any) -> Any:
    """Lanes that a JSON string cannot take over as they are (control, quote, backslash, non-ASCII) or `others`."""
    lanes = builder.icmp_signed("<", vector, _constant(0x20))  # signed: bytes from 0x80 on are negative
    lanes = builder.or_(lanes, builder.icmp_signed("==", vector, _constant(ord('"'))))
    lanes = builder.or_(lanes, builder.icmp_signed("==", vector, _constant(ord("\\"))))
    for other in others:
        lanes = builder.or_(lanes, builder.icmp_signed("==", vector, _splat(builder, other)))
    return lanes


@_intrinsic
def _copy32_ir(typing_context: Any, dst: Any, at: Any, src: Any, start: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = _load(context, builder, signature.args[2], args[2], args[3])
        builder.store(vector, _pointer(context, builder, signature.args[0], args[0], args[1]), align=1)
        return context.get_dummy_value()

    return types.void(dst, types.intp, src, types.intp), codegen


@_intrinsic
def _copy_until_special_ir(typing_context: Any, dst: Any, at: Any, src: Any, start: Any, a: Any, b: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = _load(context, builder, signature.args[2], args[2], args[3])
        builder.store(vector, _pointer(context, builder, signature.args[0], args[0], args[1]), align=1)
        mask = _mask(builder, _special(builder, vector, args[4], args[5]))
        return builder.zext(builder.cttz(mask, ir.Constant(ir.IntType(1), 0)), ir.IntType(64))

    return types.intp(dst, types.intp, src, types.intp, types.uint8, types.uint8), codegen


@_intrinsic
def _matches_ir(typing_context: Any, src: Any, start: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = _load(context, builder, signature.args[0], args[0], args[1])
        lanes = builder.icmp_signed("==", vector, _splat(builder, args[2]))
        for byte in args[3:]:
            lanes = builder.or_(lanes, builder.icmp_signed("==", vector, _splat(builder, byte)))
        return builder.zext(_mask(builder, lanes), ir.IntType(64))

    return types.int64(src, types.intp, types.uint8, types.uint8, types.uint8, types.uint8), codegen


@_intrinsic
def _lowest_bit_ir(typing_context: Any, mask: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), codegen


def _copy32_py(dst: Bytes, at: int, src: Bytes, start: int) -> None:
    dst[at : at + WIDTH] = src[start : start + WIDTH]


def _copy_until_special_py(dst: Bytes, at: int, src: Bytes, start: int, a: int, b: int) -> int:
    _copy32_py(dst, at, src, start)
    for lane in range(WIDTH):
        byte = int(src[start + lane])
        if byte < 0x20 or byte >= 0x80 or byte in (0x22, 0x5C, a, b):
            return lane
    return WIDTH


def _matches_py(src: Bytes, start: int, a: int, b: int, c: int, d: int) -> int:
    return sum(1 << lane for lane in range(WIDTH) if int(src[start + lane]) in (a, b, c, d))


def _lowest_bit_py(mask: int) -> int:
    return (mask & -mask).bit_length() - 1


# Compiled code takes the IR; with the JIT off the same names are the Python twins.
_INTERPRETED = bool(cast(Any, numba.config).DISABLE_JIT)
_copy32: Callable[..., None] = _copy32_py if _INTERPRETED else _copy32_ir
_copy_until_special: Callable[..., int] = _copy_until_special_py if _INTERPRETED else _copy_until_special_ir
_matches: Callable[..., int] = _matches_py if _INTERPRETED else _matches_ir
_lowest_bit: Callable[..., int] = _lowest_bit_py if _INTERPRETED else _lowest_bit_ir


@kernel
def copy32(dst: Bytes, at: int, src: Bytes, start: int) -> None:
    """Copy `src[start:start+32]` to `dst[at:at+32]`."""
    _ = src[start + WIDTH - 1]
    _ = dst[at + WIDTH - 1]
    _copy32(dst, at, src, start)


@kernel
def copy_until_special(dst: Bytes, at: int, src: Bytes, start: int, a: int, b: int) -> int:
    """Copy 32 bytes and return how many of them (0 to 32) lie before the first special one, `a` or `b`.

    Compiled, the same byte given twice costs nothing more.
    """
    _ = src[start + WIDTH - 1]
    _ = dst[at + WIDTH - 1]
    return _copy_until_special(dst, at, src, start, a, b)


@kernel
def matches(src: Bytes, start: int, a: int, b: int, c: int, d: int) -> int:
    """A bit for each of the 32 bytes that equals one of the four, the first byte's lowest."""
    _ = src[start + WIDTH - 1]
    return _matches(src, start, a, b, c, d)


@kernel
def lowest_bit(mask: int) -> int:
    """The number of the lowest set bit of a mask that is not zero."""
    return _lowest_bit(mask)
