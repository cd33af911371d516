// The MLP's activations by name: the Gaussian error linear unit (Hendrycks and Gimpel 2016) in its two forms, and others.

import { tf } from "../common/tf.ts";

import type { ActivationName } from "./choices.ts";
import { type Kernel, numbers } from "./fast.ts";
import { type FusedKernel, fused, withGradient } from "./fused.ts";

/** x Phi(x), exactly: Phi(x) = (1 + erf(x / sqrt 2)) / 2. What PyTorch's nn.GELU() and nanoGPT compute. Any shape. */
export function gelu(x: tf.Tensor): tf.Tensor {
  return withGradient([x], (x) => ({
    value: fused(geluKernel, [x])[0]!,
    saved: [x!],
    gradient: (dy, [x]) => fused(geluGradient, [dy, x]),
  }));
}

const geluKernel: FusedKernel = {
  name: "Gelu",
  elementwise: true,
  plain: ([x]) => [tf.mul(x!, phi(x!))],
  lower: (g, inputs) => g.emit("Gelu", inputs),
};

/** dy, x -> dx. The derivative of x Phi(x) is Phi(x) + x phi(x), phi(x) = exp(-x^2 / 2) / sqrt(2 pi). */
const geluGradient: FusedKernel = {
  name: "GeluGrad",
  elementwise: true,
  plain([dy, x]) {
    const density = tf.mul(tf.exp(tf.mul(tf.square(x!), -0.5)), 1 / Math.sqrt(2 * Math.PI));
    return [tf.mul(dy!, tf.add(phi(x!), tf.mul(x!, density)))];
  },
  lower(g, [dy, x]) {
    // with t = x / sqrt(2): Phi = (1 + erf t) / 2, phi = exp(-t^2) / sqrt(2 pi)
    const t = g.emit("Mul", [x, g.float(Math.SQRT1_2)]);
    const half = g.emit("Mul", [g.emit("Erf", [t]), g.float(0.5)]);
    const density = g.emit("Exp", [g.emit("Neg", [g.emit("Mul", [t, t])])]);
    const tail = g.emit("Mul", [g.emit("Mul", [x, g.float(1 / Math.sqrt(2 * Math.PI))]), density]);
    return g.emit("Mul", [dy, g.emit("Add", [g.emit("Add", [half, tail]), g.float(0.5)])]);
  },
};

/** The normal distribution's cumulative function. */
const phi = (x: tf.Tensor) => tf.mul(tf.add(tf.erf(tf.mul(x, Math.SQRT1_2)), 1), 0.5);

/** The tanh form, which GPT-2 was trained with (section 2 of the paper): x (1 + tanh u) / 2, where
 * u = sqrt(2 / pi) (x + 0.044715 x^3). Any shape. */
export function geluTanh(x: tf.Tensor): tf.Tensor {
  return withGradient([x], (x) => ({
    value: fused(tanhKernel, [x])[0]!,
    saved: [x!],
    gradient: (dy, [x]) => fused(tanhGradient, [dy, x]),
  }));
}

const SCALE = Math.sqrt(2 / Math.PI);
const CUBIC = 0.044715;

const tanhKernel: FusedKernel = {
  name: "GeluTanh",
  elementwise: true,
  plain([x]) {
    const u = tf.mul(tf.mul(x!, tf.add(1, tf.mul(CUBIC, tf.square(x!)))), SCALE);
    return [tf.mul(tf.mul(x!, 0.5), tf.add(tf.tanh(u), 1))];
  },
  lower: (g, inputs) => g.emit("Gelu", inputs, { approximate: "tanh" }),
};

/** dy, x -> dx. With t = tanh u the derivative is (1 + t + x (1 - t^2) u') / 2, u' = sqrt(2 / pi) (1 + 3 * 0.044715 x^2). */
const tanhGradient: FusedKernel = {
  name: "GeluTanhGrad",
  elementwise: true,
  plain([dy, x]) {
    const square = tf.square(x!);
    const t = tf.tanh(tf.mul(tf.mul(x!, tf.add(1, tf.mul(CUBIC, square))), SCALE));
    const slope = tf.mul(tf.add(1, tf.mul(3 * CUBIC, square)), SCALE);
    const tail = tf.mul(tf.mul(x!, tf.sub(1, tf.square(t))), slope);
    return [tf.mul(tf.mul(dy!, 0.5), tf.add(tf.add(t, 1), tail))];
  },
  lower(g, [dy, x]) {
    const square = g.emit("Mul", [x, x]);
    const inner = g.emit("Add", [g.emit("Mul", [square, g.float(SCALE * CUBIC)]), g.float(SCALE)]);
    const t = g.emit("Tanh", [g.emit("Mul", [x, inner])]);
    const slope = g.emit("Add", [g.emit("Mul", [square, g.float(3 * SCALE * CUBIC)]), g.float(SCALE)]);
    const steep = g.emit("Sub", [g.float(1), g.emit("Mul", [t, t])]);
    const tail = g.emit("Mul", [g.emit("Mul", [x, slope]), steep]);
    const sum = g.emit("Add", [g.emit("Add", [t, tail]), g.float(1)]);
    return g.emit("Mul", [g.emit("Mul", [dy, g.float(0.5)]), sum]);
  },
};

const samples = (): [tf.Tensor][] => [[numbers([100], 1, 5)]];

/** For model.ts' formulas. */
export const geluKernels = {
  gelu: { name: "gelu", run: gelu, samples },
  gelu_tanh: { name: "gelu_tanh", run: geluTanh, samples },
} satisfies Record<string, Kernel<typeof gelu>>;

/** By the name in `ffn`. */
export const activations: Record<ActivationName, (x: tf.Tensor) => tf.Tensor> = {
  gelu,
  gelu_tanh: geluTanh,
  relu: (x) => tf.relu(x),
  relu2: (x) => tf.square(tf.relu(x)), // Primer (So et al. 2021, section 4.1)
  silu: (x) => tf.mul(x, tf.sigmoid(x)),
};
