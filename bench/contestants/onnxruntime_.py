# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime: inference of a graph that is written here; folding and fusing are left to it."""

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from .base import Contestant

OPSET, IR_VERSION = 20, 9
EPS = 1e-5
NODES = {"relu": ("Relu", {}), "tanh": ("Tanh", {}), "gelu": ("Gelu", {"approximate": "tanh"})}


class Graph:
    """The nodes and constants of a net in evaluation mode."""

    def __init__(self, parameters):
        self.nodes, self.constants, self.parameters = [], [], iter(parameters)

    def add(self, layers, x: str) -> str:
        """Append layers; the name of their output."""
        for kind, *numbers in layers:
            if kind == "residual":
                x = self._node("Add", [x, self.add(numbers[0], x)])
            elif kind == "linear":
                x = self._node("Gemm", [x, *self._next(2)])
            elif kind == "batch_norm":
                statistics = [self._constant(f(numbers[0], np.float32)) for f in (np.zeros, np.ones)]
                x = self._node("BatchNormalization", [x, *self._next(2), *statistics], epsilon=EPS)
            elif kind != "dropout":
                op, options = NODES[kind]
                x = self._node(op, [x], **options)
        return x

    def _next(self, count: int) -> list[str]:
        return [self._constant(next(self.parameters)) for _ in range(count)]

    def _constant(self, value: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(value, f"c{len(self.constants)}"))
        return self.constants[-1].name

    def _node(self, op: str, inputs: list[str], **options) -> str:
        self.nodes.append(helper.make_node(op, inputs, [f"v{len(self.nodes)}"], **options))
        return self.nodes[-1].output[0]


class OnnxRuntime(Contestant):
    actions = ("infer",)

    def build(self, workload, parameters, x, y, lr, dropout):
        graph = Graph(parameters)
        out = graph.add(workload.layers, "x")
        inputs, outputs = (
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", cols])]
            for name, cols in (("x", workload.inputs), (out, workload.outputs))
        )
        model = helper.make_model(
            helper.make_graph(graph.nodes, "net", inputs, outputs, graph.constants),
            opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION,
        )  # fmt: skip
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])

    def predictor(self, x):
        return lambda: self.session.run(None, {"x": x})[0]

    def version(self):
        return onnxruntime.__version__
