// Activation checkpointing (Chen et al. 2016, section 3): only a layer's input is kept for the backward pass, which recomputes the rest.
// Memory for activations is then that of one layer and an input for each, at the cost of one more forward pass. Left out: choosing
// which layers, or parts of a layer, to keep; each call here is one segment.
//
// The recomputation must not be merged with the first computation: lib/engine/runtime/session.ts turns that optimization off.

import { tf } from "../common/tf.ts";

import type { DropoutRng } from "./dropout.ts";
import type { ForwardArgs } from "./forward_args.ts";
import { withGradient } from "./fused.ts";
import { Parameter } from "./parameter.ts";

let wanted = false;

/** Run `body`, in which calls of `recompute` are checkpointed if `wish` is true, and else plain calls. */
export function withRecompute<T>(wish: boolean, body: () => T): T {
  wanted = wish;
  try {
    return body();
  } finally {
    wanted = false;
  }
}

/**
 * `forward(inputs, rng)`, recomputed in the backward pass with the same inputs, weights and random numbers, and so the same bits.
 * Everything that needs a gradient must be in `inputs` or a weight of `layer`; other tensors of the caller are disposed of by then.
 * Outside of `withRecompute` it is just `forward`.
 * @param layer the layer with the weights that `forward` reads: every Parameter in its public fields and in nested layers
 * @param inputs any shapes; usually [B, T, C] first
 */
export function recompute(
  layer: object,
  inputs: tf.Tensor[],
  rng: DropoutRng | undefined,
  forward: (inputs: tf.Tensor[], rng?: DropoutRng) => tf.Tensor,
): tf.Tensor {
  if (!wanted) return forward(inputs, rng);
  const weights = parametersOf(layer);
  const N = inputs.length;
  const given = [...inputs, ...weights.map(({ value }) => value)];
  return withGradient(given, (...given) => {
    const masks: tf.Tensor[] = [];
    const recorded = (choice: tf.Tensor) => {
      masks.push(choice);
      return choice;
    };
    const record: DropoutRng = {
      keep: (shape, rate) => recorded(rng!.keep(shape, rate)),
      integers: (shape, bits) => recorded(rng!.integers(shape, bits)),
    };
    const value = onlyOf(weights, () => forward(given.slice(0, N), rng && record));
    const count = given.length;
    return {
      value,
      saved: [...given, ...masks],
      gradient(dy, saved) {
        const masks = saved.slice(count).values();
        const next = () => masks.next().value!;
        const replay: DropoutRng = { keep: next, integers: next };
        const again = (given: tf.Tensor[]) =>
          bound(weights, given.slice(N), () => forward(given.slice(0, N), rng && replay));
        return gradients(again, saved.slice(0, count), dy);
      },
    };
  });
}

/** A layer for `recomputeLayer`. */
export interface Layer {
  forward(x: tf.Tensor, args: ForwardArgs): tf.Tensor;
}

/** `layer.forward(x, args)`, checkpointed inside `withRecompute`: [B, T, C] -> [B, T, C]. The logits of its routers are appended to
 * `args.routers` as usual. */
export function recomputeLayer(layer: Layer, x: tf.Tensor, args: ForwardArgs): tf.Tensor {
  if (!wanted) return layer.forward(x, args);
  const { encoded, keyPaddingMask, routers, rng } = args;
  const others = encoded ? [encoded.x, encoded.keyPaddingMask] : keyPaddingMask ? [keyPaddingMask] : [];
  let widths: number[] = [];
  const joined = recompute(layer, [x, ...others], rng, ([x, ...others], rng) => {
    const seen = encoded ? { encoded: { x: others[0]!, keyPaddingMask: others[1]! } } : { keyPaddingMask: others[0] };
    const own: tf.Tensor[] = []; // its router's logits
    const results = [layer.forward(x!, { ...args, ...seen, rng, routers: routers && own }), ...own];
    widths = results.map(({ shape }) => shape.at(-1)!); // they differ only in their last axis
    return results.length === 1 ? results[0]! : tf.concat(results, -1);
  });
  if (widths.length === 1) return joined;
  const [y, ...logits] = tf.split(joined, widths, -1);
  routers!.push(...logits);
  return y!;
}

/** dy times the derivatives of f by each of xs, nested inside another gradient of tfjs. */
export function gradients(f: (xs: tf.Tensor[]) => tf.Tensor, xs: tf.Tensor[], dy: tf.Tensor): tf.Tensor[] {
  // tfjs has one tape: it starts a new one here and drops it at the end, so the current one is saved
  const { state } = tf.engine();
  const { activeTape } = state;
  try {
    return tf.tidy(() => {
      const { grads } = tf.engine().gradients(() => f(xs), xs, dy, true);
      return grads.map((grad, i) => grad ?? tf.zerosLike(xs[i]!)); // none if f doesn't depend on it
    });
  } finally {
    state.activeTape = activeTape;
  }
}

/** Run `body`, which may read only these weights: the gradient of another one would be lost. */
function onlyOf<T>(weights: readonly Parameter[], body: () => T): T {
  const known = new Set(weights);
  Parameter.onRead = (weight) => {
    if (!known.has(weight))
      throw new Error(`internal: ${weight.name} is in no public field of the layer that reads it`);
  };
  try {
    return body();
  } finally {
    Parameter.onRead = undefined;
  }
}

/** Run `body` with other tensors as the weights. */
export function bound<T>(weights: readonly Parameter[], tensors: readonly tf.Tensor[], body: () => T): T {
  const before = weights.map(({ value }) => value);
  const bind = (tensors: readonly tf.Tensor[]) => {
    for (const [i, weight] of weights.entries()) weight.value = tensors[i]!;
  };
  bind(tensors);
  try {
    return body();
  } finally {
    bind(before);
  }
}

/** The weights of a layer: those in its public fields, in lists, and in nested layers, each once. */
export function parametersOf(layer: object, found = new Set<Parameter>(), seen = new Set<object>()): Parameter[] {
  if (layer instanceof Parameter) found.add(layer);
  else if (!seen.has(layer)) {
    seen.add(layer);
    for (const part of Object.values(layer)) {
      if (typeof part === "object" && part !== null && !ArrayBuffer.isView(part)) parametersOf(part, found, seen);
    }
  }
  return [...found];
}
