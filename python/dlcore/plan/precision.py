# SPDX-License-Identifier: Apache-2.0
"""How products are made: by multiply-adds in the real type, or from bf16 terms on a matrix unit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from .. import _core
from ..backend import CUBLASLT, GEMMS, describe_precision
from ..backend import terms as terms_from
from ..graph import Node, Value
from ..ops import ROLE_NN, ROLE_NT, Product

HALVES = {"bf16": "bf16", "float16": "f16"}  # by precision: of values between kernels where both operands come in parts


def product_shape(role: int, a: Value, b: Value) -> tuple[int, int, int]:
    """(m, n, k) of a product by its role."""
    if role == ROLE_NN:
        return a.rows, b.cols, a.cols
    if role == ROLE_NT:
        return a.rows, b.rows, a.cols
    return a.cols, b.cols, a.rows


def terms_of(node: Node) -> int:
    """The bf16 terms that a product sums; 0 for multiply-adds and for every other node."""
    return int(node.numbers[1]) if node.op is Product and len(node.numbers) > 1 else 0


def choose_terms(nodes: Iterable[Node], backend, precision: str, gemm: str = "auto") -> list[Node]:
    """The list in which every product says how it is made; products in float32 that were asked to be, by kernels of
    dlcore, say nothing."""

    def chosen(node: Node) -> Node:
        if node.op is not Product:
            return node
        role = int(node.numbers[0])
        terms = terms_from(backend, precision, *product_shape(role, node.operands["a"], node.operands["b"]), gemm)
        by = [GEMMS.index(gemm)] if (terms and gemm != "auto") or gemm == CUBLASLT else []
        asked = terms == 0 and precision == "float32" and not by
        return node if asked else replace(node, numbers=tuple(map(float, (role, terms, *by))))

    return [chosen(node) for node in nodes]


def layout_of(backend, precision: str, kept: bool, role: int, terms: int, m: int, n: int, k: int) -> tuple[str, int, str]:
    """The layout of a product's B, or of both operands (parts), with the columns of a strip or the number of parts, and the
    dtype. ``kept``: it is packed once."""
    if terms:
        return backend.unit_layout, _core.PARTS[terms], HALVES.get(precision, "bf16")
    return backend.layout(_core.ROLES[role], m, n, k, kept), backend.strip, "real"


def product_name(node: Node) -> str:
    """The kernel's name in a listing: product, or with how it is made where that is not what float32 would say."""
    if len(node.numbers) < 2:
        return "product"
    if GEMMS[int(node.numbers[2]) if len(node.numbers) > 2 else 0] == CUBLASLT:
        return f"product.{CUBLASLT}"
    terms = terms_of(node)
    of = "f16" if node.operands["a"].dtype == "f16" else "bf16"
    return f"product.{of}{f'x{terms}' if terms > 1 else ''}" if terms else "product.float32"


def precision_line(nodes: Iterable[Node], backend, precision: str, gemm: str = "auto") -> str:
    """How many products of a plan take which path, and why."""
    products = [node for node in nodes if node.op is Product]
    small = sum(terms_of(node) == 0 for node in products)
    name = precision if backend.real == "float32" else backend.real
    count = f"; {small} of {len(products)} products are" if backend.unit and backend.name == "cpu" else ""
    return f"precision {name}: {describe_precision(backend, precision, gemm)}{count}"
