# SPDX-License-Identifier: Apache-2.0
"""scikit-learn: ``partial_fit`` of its multilayer perceptrons; plain nets with one output or classes."""

import warnings

import numpy as np
import sklearn
from sklearn.neural_network import MLPClassifier, MLPRegressor

from workloads import flat

from .base import Contestant

SOLVERS = {"sgd": ("sgd", {"momentum": 0.0}), "momentum": ("sgd", {"momentum": 0.9}), "adam": ("adam", {})}
HALF = 2  # its squared error is half the mean square


class Sklearn(Contestant):
    actions = ("train", "infer")

    @staticmethod
    def supports(workload):
        plain = {layer[0] for layer in workload.layers} in ({"linear", "relu"}, {"linear", "tanh"})
        reals = workload.loss == "squared_error"
        return plain and workload.optimizer in SOLVERS and (not reals or workload.outputs == 1)

    def build(self, workload, parameters, x, y, lr, dropout):
        warnings.filterwarnings("ignore")
        solver, options = SOLVERS[workload.optimizer]
        hidden = [layer[2] for layer in flat(workload.layers) if layer[0] == "linear"][:-1]
        activation = next(layer[0] for layer in workload.layers if layer[0] != "linear")
        self.classes = workload.loss == "cross_entropy"
        self.model = (MLPClassifier if self.classes else MLPRegressor)(
            hidden_layer_sizes=tuple(hidden), activation=activation, solver=solver, alpha=0.0, batch_size=workload.batch,
            shuffle=False, learning_rate_init=lr, nesterovs_momentum=False, random_state=0, **options,
        )  # fmt: skip
        self.arguments = (x, y) if self.classes else (x, y[:, 0])
        self.model.partial_fit(*self.arguments, **({"classes": np.arange(workload.outputs)} if self.classes else {}))
        for i, (weight, bias) in enumerate(zip(parameters[::2], parameters[1::2], strict=True)):
            self.model.coefs_[i][...], self.model.intercepts_[i][...] = weight, bias
        rule = self.model._optimizer  # it has seen one batch: its states begin again
        for name in ("velocities", "ms", "vs"):
            for state in getattr(rule, name, ()):
                state[...] = 0
        rule.t = 0

    def step(self):
        self.model.partial_fit(*self.arguments)

    def loss(self):
        return float(self.model.loss_) * (1 if self.classes else HALF)

    def predictor(self, x):
        predict = self.model.predict_proba if self.classes else self.model.predict
        return lambda: predict(x)

    def logits(self, outputs):
        return np.log(outputs) if self.classes else outputs[:, None]

    def version(self):
        return sklearn.__version__
