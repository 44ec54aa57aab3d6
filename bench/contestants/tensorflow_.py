# SPDX-License-Identifier: Apache-2.0
"""TensorFlow with Keras: a step of its own in one function compiled by XLA; a prediction likewise."""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import tensorflow as tf

from .base import Contestant

EPS = 1e-5
LAYERS = {
    "relu": keras.layers.ReLU, "tanh": lambda: keras.layers.Activation("tanh"), "dropout": keras.layers.Dropout,
    "gelu": lambda: keras.layers.Activation(lambda x: keras.activations.gelu(x, approximate=True)),
}  # fmt: skip


def optimizer(rule: str, lr: float):
    """An optimizer by the name of its rule, with PyTorch's defaults."""
    if rule in ("sgd", "momentum", "nesterov"):
        return keras.optimizers.SGD(lr, momentum=0.0 if rule == "sgd" else 0.9, nesterov=rule == "nesterov")
    if rule == "adamw":
        return keras.optimizers.AdamW(lr, epsilon=1e-8, weight_decay=0.01)
    return keras.optimizers.Adam(lr, epsilon=1e-8)


class Tensorflow(Contestant):
    actions = ("train", "infer")

    def __init__(self, threads):
        super().__init__(threads)
        if tf.config.threading.get_intra_op_parallelism_threads() != threads:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)

    def build(self, workload, parameters, x, y, lr, dropout):
        given, inputs = iter(parameters), keras.Input((workload.inputs,))
        net = keras.Model(inputs, self._added(workload.layers, inputs, given, dropout))
        rule = optimizer(workload.optimizer, lr)
        rule.build(net.trainable_variables)
        self.net, self.x, self.y = net, tf.constant(x), tf.constant(y)

        @tf.function(jit_compile=True)
        def step(x, y):
            with tf.GradientTape() as tape:
                out = net(x, training=True)
                if workload.loss == "cross_entropy":
                    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, out))
                else:
                    loss = tf.reduce_mean(tf.square(out - y))
            rule.apply(tape.gradient(loss, net.trainable_variables), net.trainable_variables)
            return loss

        self.compiled = step

    def _added(self, layers, x, given, dropout: bool):
        for kind, *numbers in layers:
            if kind == "residual":
                x = keras.layers.Add()([x, self._added(numbers[0], x, given, dropout)])
            elif kind == "linear":
                x = self._filled(keras.layers.Dense(numbers[1]), x, given)
            elif kind == "batch_norm":
                x = self._filled(keras.layers.BatchNormalization(momentum=0.9, epsilon=EPS), x, given)
            elif kind != "dropout" or dropout:
                x = LAYERS[kind](*numbers)(x)
        return x

    @staticmethod
    def _filled(layer, x, given):
        y = layer(x)
        for variable in layer.trainable_variables:
            variable.assign(next(given))
        return y

    def step(self):
        self.last = self.compiled(self.x, self.y)

    def loss(self):
        return float(self.last)

    def predictor(self, x):
        call, x = tf.function(lambda x: self.net(x, training=False), jit_compile=True), tf.constant(x)
        return lambda: call(x)

    def version(self):
        return f"{tf.__version__}, keras {keras.__version__}"
