# SPDX-License-Identifier: Apache-2.0
"""The listing of a plan: the one format in which nodes, chains, sections, offsets, bytes and flops are read and tested."""

from __future__ import annotations

from ..graph import Node, Value
from ..ops import Product
from .precision import product_name
from .sections import Section, flops


def listing(sections: list[tuple[str, Section]], offset_of, bytes_of, arenas: dict[str, int], counts: dict) -> str:
    """Lines of a plan: one a node, `|` joins the nodes of a section, `!` marks what is updated in place."""
    lines, name, number = [], None, 0
    for part, section in sections:
        if part != name:
            lines.append(f"-- {part} --")
            name = part
        for i, node in enumerate(section.nodes):
            bar = "|" if section.block_rows and len(section.nodes) > 1 else " "
            mode = "serial" if section.serial else _blocks(section) if section.block_rows else ""
            number += 1
            text = f"{number:3d}{bar} {_node(node, offset_of)}"
            lines.append(f"{text:<118s} {bytes_of(node):>10,d} B {flops(node):>12,.0f} flop  {mode if i == 0 else ''}".rstrip())
    total = ", ".join(f"{arena} {size:,d} B" for arena, size in arenas.items())
    lines.append(f"arenas: {total}")
    lines.append(f"calls {counts['calls']}, bytes {counts['bytes']:,d}, flops {counts['flops']:,.0f}")
    return "\n".join(lines)


def _blocks(section: Section) -> str:
    kept = f", {section.row_bytes:,d} B of a row kept" if section.local else ""
    return f"blocks of {section.block_rows} rows{kept}"


def _node(node: Node, offset_of) -> str:
    inputs = [
        _value(v, offset_of) + ("!" if node.op.signature[n] == "!" else "")
        for n, v in node.operands.items()
        if node.op.signature[n] != ">"
    ]
    outputs = [_value(v, offset_of) for n, v in node.operands.items() if node.op.signature[n] == ">"]
    kernel = product_name(node) if node.op is Product else node.op.kernel
    head = f"{kernel:<22s} {', '.join(inputs)}"
    tail = f" -> {', '.join(outputs)}" if outputs else ""
    chain = " ".join(_stage(s, offset_of) for s in node.chain)
    return head + tail + (f" : {chain}" if chain else "")


def _stage(node: Node, offset_of) -> str:
    inside = [node.function] if node.function else []
    for name, v in node.operands.items():
        if name in ("x", "out", "out2") or (name == "a" and node.op.stage == "dropout"):
            continue
        inside.append(v.name)
    if node.op.stage == "dropout":
        inside = [f"{node.numbers[0]:g}", f"#{node.random_op}", *(v.name for n, v in node.operands.items() if n == "operand")]
    elif node.op.stage == "scale":
        inside = [f"{node.numbers[0]:g}"]
    outs = [_value(node.operands[n], offset_of) for n in ("out", "out2") if n in node.operands]
    body = f"{node.op.stage}({', '.join(inside)})" if inside else node.op.stage
    return body + (f"->{','.join(outs)}" if outs else "")


def _value(value: Value, offset_of) -> str:
    shape = "x".join(str(n) for n in value.shape)
    place = f"@{offset_of(value)}" if value.kind == "temporary" else ""
    packed = value.layout != "row_major" and not value.name.rstrip("t").endswith("P")
    held = f".{value.dtype}" if packed and value.layout == "parts" else "P" if packed else ""
    return f"{value.name}{held}[{shape}]{place}"
