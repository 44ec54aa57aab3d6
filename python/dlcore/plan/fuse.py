# SPDX-License-Identifier: Apache-2.0
"""Stages move into the chains of kernels. Three rules, no patterns.

1. A pointwise stage joins the end of the chain that makes its input, when its other operands exist there.
2. A reduction rides in the kernel that makes its input.
3. A stage whose value only products read, in a packed layout, becomes the chain of a pack node; the bf16 parts of a value
   are stored by the chain that makes it.

What is cheap to rebuild (stored value, column affine) is rebuilt by its reader instead of stored.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from ..graph import Node, Value
from ..ops import ROLE_NN, ROLE_NT, Accumulate, Normalize, Pack, Pointwise, Product, Stage, Store
from .precision import product_shape, terms_of


def unfused(nodes: Iterable[Node], layout) -> list[Node]:
    """Every stage as a kernel of its own, every value stored: the naive reference. Parts alone are packed, as their products
    read nothing else."""
    kernels = []
    for node in nodes:
        if issubclass(node.op, Stage):
            chain = (node, *_stores(node.value)) if node.op is not Accumulate else (node,)
            kernels.append(Node(Pointwise, {"x": node.operands["x"]}, node.operands["x"], section=node.section, chain=chain))
        else:
            kernels.append(replace(node, chain=_stores(node.value)))
    return _pack(kernels, lambda *product: wanted if (wanted := layout(*product))[0] == "parts" else ("row_major", 0))


def fuse(nodes: list[Node], layout) -> list[Node]:
    """The fused list; ``layout(role, terms, m, n, k)`` gives (layout, strip or parts, dtype) that a product wants of its B,
    parts of both operands."""
    hosts = _hosts(nodes)
    needed = _needed(hosts)
    return _absorb(_store_parts(_pack([h.kernel(needed) for h in hosts], layout)))


def stored(nodes: list[Node]) -> set[Value]:
    """The values that kernels of the fused list read from memory."""
    return _needed(_hosts(nodes))


def _hosts(nodes: list[Node]) -> list[_Host]:
    return _ride(_rebuild(_known_first(nodes)))


def _stores(value: Value | None) -> tuple[Node, ...]:
    """What is held in 16 bits is rounded for all who read it, in memory or further on in the chain."""
    return () if value is None else (Node(Store, {"out": value}, numbers=(float(value.layout == "parts"),)),)


def _known_first(nodes: list[Node]) -> list[Node]:
    """What depends on parameters alone comes first, so that chains can read it: scale and shift of a net that predicts."""
    changed = {v for node in nodes for v in node.updates()}
    known: set[Value] = set()

    def is_known(node: Node) -> bool:
        fixed = all(v in known or (v.kind == "parameter" and v not in changed) for v in node.reads())
        if not fixed or node.updates() or issubclass(node.op, Stage) or node.section != nodes[0].section:
            return False
        known.update(node.writes())
        return True

    first = [node for node in nodes if is_known(node)]
    return first + [node for node in nodes if node not in first]


def _rebuild(nodes: list[Node]) -> list[Node]:
    """Read y = z * scale + shift as (z, scale, shift) where a stage's operand allows it."""
    normalized = {n.value: n for n in nodes if n.op is Normalize}
    out = []
    for node in nodes:
        source = normalized.get(node.operands.get("operand"))
        if source is not None and "operand_scale" in node.op.signature and "operand_scale" not in node.operands:
            v = source.operands
            operands = {**node.operands, "operand": v["x"], "operand_scale": v["a"], "operand_shift": v["b"]}
            node = replace(node, operands=operands)
        out.append(node)
    return out


class _Host:
    """A kernel and the chain that grows at its end."""

    def __init__(self, node: Node, index: int):
        self.node, self.index = node, index
        self.chain: list[Node] = []
        self.flow = [node.value] if node.value is not None else []  # values that pass through the chain, in order

    def insert(self, stage: Node) -> None:
        x = stage.operands["x"]
        if not stage.op.reduces:
            self.chain.append(stage)
            self.flow.append(stage.value)
            return
        at = next((i + 1 for i, s in enumerate(self.chain) if s.value is x), 0)
        while at < len(self.chain) and self.chain[at].op.reduces:
            at += 1
        self.chain.insert(at, stage)

    def kernel(self, needed: set[Value]) -> Node:
        """The node with its chain, storing what others need."""
        chain = [s for v in self.flow[:1] for s in _stores(v) if v in needed and not self._given(v)]
        for stage in self.chain:
            chain.append(stage)
            if stage.value in needed and stage.op is not Accumulate:
                chain.extend(_stores(stage.value))
        return replace(self.node, chain=tuple(chain))

    def _given(self, value: Value) -> bool:
        return self.node.op is Pointwise and value is self.node.operands["x"]

    def reads(self) -> list[Value]:
        """Values this kernel reads from memory."""
        return replace(self.node, chain=tuple(self.chain)).reads()


def _ride(nodes: list[Node]) -> list[_Host]:
    """Rules 1 and 2: every stage joins a host, or becomes one."""
    hosts: list[_Host] = []
    born: dict[Value, int] = {}  # value -> index of the host that makes it
    updated: dict[Value, list[int]] = defaultdict(list)  # value -> hosts that update it in place
    for node in nodes:
        host = _choose(node, hosts, born, updated) if issubclass(node.op, Stage) else None
        if host is None:
            x = node.operands.get("x")
            stage = issubclass(node.op, Stage)
            kernel = Node(Pointwise, {"x": x}, x, section=node.section) if stage else node
            host = _Host(kernel, len(hosts))
            hosts.append(host)
            if stage:
                host.insert(node)
        else:
            node = _oriented(node, host)
            host.insert(node)
        for v in [node.value, *node.writes()]:
            if v is not None:
                born.setdefault(v, host.index)
        for v in node.updates():
            updated[v].append(host.index)
    return hosts


def _oriented(node: Node, host: _Host) -> Node:
    """An add may ride at either of its two inputs."""
    if node.op.stage == "add" and "operand" in node.operands and node.operands["x"] is not host.flow[-1]:
        return replace(node, operands={"x": node.operands["operand"], "operand": node.operands["x"]})
    return node


def _choose(node: Node, hosts, born, updated) -> _Host | None:
    """The latest host whose chain this stage may join: the one legality function."""
    best = None
    for name in ("x", "operand") if node.op.stage == "add" and "operand" in node.operands else ("x",):
        x = node.operands[name]
        host = hosts[born[x]] if x in born else None
        if host is None or host.node.section != node.section:
            continue
        tip = x in host.flow if node.op.reduces else bool(host.flow) and host.flow[-1] is x
        # By name, not by value: an operand that is x itself must be in memory, and the chain has not stored it yet.
        others = [v for n, v in node.operands.items() if n != name and node.op.signature[n] != ">"]
        here = all(born.get(v, -1) < host.index for v in others)
        still = all(i <= host.index for v in others + node.updates() for i in updated.get(v, ()))
        if tip and here and still and (best is None or host.index > best.index):
            best = host
    return best


def _needed(hosts: list[_Host]) -> set[Value]:
    """Values that some kernel reads from memory, and those that belong to an arena of their own."""
    read = {v for host in hosts for v in host.reads()}
    return read | {v for host in hosts for v in host.flow if v.kind != "temporary"}


def _pack(nodes: list[Node], layout) -> list[Node]:
    """Operands that a product wants packed get a pack node, made once for all readers."""
    out: list[Node] = []
    packs: dict[Value, int] = {}  # packed value -> position of its pack node
    for node in nodes:
        if node.op is Product:
            role = int(node.numbers[0])
            wanted = layout(role, terms_of(node), *product_shape(role, node.operands["a"], node.operands["b"]))
            if wanted[0] == "parts":
                unpacked = [name for name, v in node.operands.items() if v.layout != "parts"]
                made = {name: _packed(out, packs, node, name, *wanted) for name in unpacked}
                node = replace(node, operands={**node.operands, **made})
            elif wanted[0] != "row_major":
                b = _packed(out, packs, node, "b", *wanted, transposed=role == ROLE_NT)
                role = ROLE_NN if role == ROLE_NT else role
                node = replace(node, operands={**node.operands, "b": b}, numbers=(float(role), *node.numbers[1:]))
        out.append(node)
    return out


def _packed(
    out: list[Node], packs: dict[Value, int], node: Node, name: str, kind: str, ld: int, dtype="real", transposed=False
) -> Value:
    """The packed form of a product's operand, from the pack node of that value: a new one, or its second output."""
    b, transposed = node.operands[name], float(transposed)
    at = packs.get(b)
    names = ("packed", "packed2")
    if at is not None:
        pack = out[at]
        for name, flag in zip(names, pack.numbers, strict=True):
            made = pack.operands.get(name)
            if made is not None and (flag, made.layout, made.ld) == (transposed, kind, ld):
                return made
    shape = (b.cols, b.rows) if transposed else (b.rows, b.cols)
    value = b.trace.value(f"{b.name}P{'t' if transposed else ''}", shape, layout=kind, ld=ld, dtype=dtype)
    if at is None or "packed2" in pack.operands:
        packs[b] = len(out)
        out.append(Node(Pack, {"x": b, "packed": value}, b, (transposed, 0.0), section=node.section))
    else:
        out[at] = replace(pack, operands={**pack.operands, "packed2": value}, numbers=(pack.numbers[0], transposed))
    return value


def _store_parts(nodes: list[Node]) -> list[Node]:
    """The parts of a value that a chain stores are stored beside it, or, where nothing else reads it, in its place."""
    makers = {s.operands["out"]: node for node in nodes for s in node.chain if s.op is Store}
    packs = {n.operands["x"]: n for n in nodes if n.op is Pack and n.operands["packed"].layout == "parts"}
    taken = {x: pack for x, pack in packs.items() if x in makers and makers[x].section == pack.section}
    read = {v for node in nodes if node not in taken.values() for v in node.reads()}

    def chain(node: Node) -> Iterable[Node]:
        for stage in node.chain:
            x = stage.operands["out"] if stage.op is Store else None
            if x not in taken or x in read or x.kind != "temporary":
                yield stage
            if x in taken:
                yield from (Node(Store, {"out": v}) for v in taken[x].writes())

    return [replace(node, chain=tuple(chain(node))) for node in nodes if node not in taken.values()]


def _absorb(nodes: list[Node]) -> list[Node]:
    """A pointwise kernel whose stored value only one pack reads becomes that pack's chain."""
    readers = defaultdict(list)
    for node in nodes:
        for v in node.reads():
            readers[v].append(node)
    absorbed: dict[Value, Node] = {}
    for node in nodes:
        last = node.chain[-1] if node.chain else None
        if node.op is Pointwise and last is not None and last.op is Store:
            value = last.operands["out"]
            if value.kind == "temporary" and len(readers[value]) == 1 and readers[value][0].op is Pack:
                absorbed[value] = node
    out = []
    for node in nodes:
        if node in absorbed.values():
            continue
        source = absorbed.get(node.operands.get("x")) if node.op is Pack else None
        if source is not None:
            operands = {**node.operands, "x": source.operands["x"]}
            node = replace(node, operands=operands, value=source.value, chain=source.chain[:-1])
        out.append(node)
    return out
