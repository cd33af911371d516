// A mixture of experts (Shazeer et al. 2017; as in Mixtral, Jiang et al. 2024): which experts a token goes to, what they
// make of it, and the two losses that keep the router in order. Dropless: an expert takes as many tokens as want it, so
// there is no capacity to choose. Several machines with some of the experts each are left out.
//
// Letters of shapes: N tokens, C channels, E experts, k of them active for a token, F hidden units of one.

import * as tf from "@tensorflow/tfjs";

import { activations } from "./activation.ts";
import { type FusedKernel, fused, withGradient } from "./fused.ts";
import { groupedMatMul } from "./grouped_matmul.ts";
import { tap } from "./tap.ts";

/** Where each token goes. */
export interface Routes {
  chosen: tf.Tensor; // [N, k, E], 1 at the expert and 0 elsewhere
  weights: tf.Tensor; // [N, k]
}

/** The weights of all experts: each is a gated MLP, (silu(x gate) * x fc) proj. */
export interface Experts {
  gate: tf.Tensor; // [E, C, F]
  fc: tf.Tensor; // [E, C, F]
  proj: tf.Tensor; // [E, F, C]
}

/** Router logits [N, E] -> the k experts of the highest probability, weighted by their shares of it (Mixtral). A single one
 * is weighted by its probability (Fedus et al. 2021, equation 2): its share is 1, and the router would learn nothing. */
export function route(logits: tf.Tensor, k: number): Routes {
  const probabilities = tf.softmax(logits);
  const chosen = choose(probabilities, k);
  const picked = tf.sum(tf.mul(chosen, tf.expandDims(probabilities, 1)), -1); // [N, k]
  return { chosen, weights: k === 1 ? picked : tf.div(picked, tf.sum(picked, -1, true)) };
}

/** Probabilities [N, E] -> [N, k, E], 1 at the highest, at the next, and so on; of equal ones the first. No gradient. */
function choose(probabilities: tf.Tensor, k: number): tf.Tensor {
  return withGradient([probabilities], (probabilities) => {
    const E = probabilities!.shape[1]!;
    const chosen: tf.Tensor[] = [];
    let left = probabilities!;
    for (let j = 0; j < k; j++) {
      const highest = tf.oneHot(tf.argMax(left, 1), E, 1, 0, "float32");
      left = tf.sub(left, tf.mul(highest, 2)); // below every probability
      chosen.push(highest);
    }
    const value = tf.stack(chosen, 1);
    return { value, saved: [probabilities!], gradient: (_, [probabilities]) => [tf.zerosLike(probabilities!)] };
  });
}

/** x [N, C] -> the weighted sum of what its experts make of each token [N, C]. Costs k experts a token. */
export function experts(x: tf.Tensor, { chosen, weights }: Routes, { gate, fc, proj }: Experts): tf.Tensor {
  const [N, k] = chosen.shape as [number, number];
  const { counts, places, order } = sort(chosen);
  const rows = byExpert(x, k, places, order);
  const hidden = tf.mul(activations.silu!(groupedMatMul(rows, gate, counts)), groupedMatMul(rows, fc, counts));
  const sorted = groupedMatMul(tap("mlp", hidden), proj, counts); // [N k, C]
  const results = tf.reshape(byToken(sorted, places, order), [N, k, x.shape[1]!]);
  return tf.sum(tf.mul(results, tf.expandDims(weights, -1)), 1);
}

/** The plain twin: every expert computes every token, and most of it counts 0. Costs E experts a token. */
export function expertsDense(x: tf.Tensor, { chosen, weights }: Routes, { gate, fc, proj }: Experts): tf.Tensor {
  const E = gate.shape[0]!;
  const share = tf.sum(tf.mul(chosen, tf.expandDims(weights, -1)), 1); // [N, E]
  const copies = tf.tile(tf.expandDims(x, 0), [E, 1, 1]);
  const hidden = tf.mul(activations.silu!(tf.matMul(copies, gate)), tf.matMul(copies, fc)); // [E, N, F]
  return tf.sum(tf.mul(tf.matMul(hidden, proj), tf.expandDims(tf.transpose(share), -1)), 0);
}

/** A token's choices are rows: number n k + j is choice j of token n. Sorted by expert, and those of one as they were. */
interface Sorted {
  counts: tf.Tensor; // float32 [E]: rows of each expert
  places: tf.Tensor; // int32 [N k]: where each row comes to stand
  order: tf.Tensor; // int32 [N k]: which row stands at each place
}

function sort(chosen: tf.Tensor): Sorted {
  const [N, k, E] = chosen.shape as [number, number, number];
  const rows = tf.reshape(chosen, [N * k, E]);
  const counts = tf.sum(rows, 0);
  const place = tf.add(tf.cumsum(rows, 0, true), tf.cumsum(counts, 0, true)); // if it goes there. Exact up to 2^24 rows
  const places = tf.cast(tf.sum(tf.mul(rows, place), 1), "int32");
  const numbers = tf.cumsum(tf.ones([N * k]), 0, true);
  return { counts, places, order: tf.cast(fused(inverse, [numbers, places])[0]!, "int32") };
}

/** 0, 1, 2, ... [M] and a permutation, int32 [M] -> its inverse, float32 [M] */
const inverse: FusedKernel = {
  name: "InversePermutation",
  plain: ([numbers, places]) => [tf.unsortedSegmentSum(numbers!, places as tf.Tensor1D, numbers!.size)],
  lower: (g, [numbers, places]) => g.emit("ScatterElements", [numbers, places, numbers], { axis: 0 }), // all are replaced
};

// Both ways are gathers, forward and backward: tfjs' own gradient of a gather is a sum by index.

/** x [N, C] -> the token of each row [N k, C], sorted */
function byExpert(x: tf.Tensor, k: number, places: tf.Tensor, order: tf.Tensor): tf.Tensor {
  const [N, C] = x.shape as [number, number];
  return withGradient([x], (x) => ({
    value: tf.gather(x!, tf.cast(tf.floor(tf.div(tf.add(order, 0.5), k)), "int32")),
    saved: [places],
    gradient: (dy, [places]) => [tf.sum(tf.reshape(tf.gather(dy, places as tf.Tensor1D), [N, k, C]), 1)],
  }));
}

/** Sorted rows [N k, C] -> as they were before */
function byToken(sorted: tf.Tensor, places: tf.Tensor, order: tf.Tensor): tf.Tensor {
  return withGradient([sorted], (sorted) => ({
    value: tf.gather(sorted!, places as tf.Tensor1D),
    saved: [order],
    gradient: (dy, [order]) => [tf.gather(dy, order as tf.Tensor1D)],
  }));
}

/**
 * The losses that are added in training.
 * @param logits of each layer's router [..., E]; the tokens of all layers count together
 * @returns balance: E sum_e f_e P_e, with f_e tokens an expert takes, over all, and P_e its mean probability (Fedus et al.
 *   2021, equation 4; k where all experts take the same). z: mean of logsumexp(logits)^2 (Zoph et al. 2022, equation 5)
 */
export function routerLosses(logits: readonly tf.Tensor[], k: number): { balance: tf.Scalar; z: tf.Scalar } {
  const E = logits[0]!.shape.at(-1)!;
  const all = tf.concat(logits.map((x) => tf.reshape(x, [x.size / E, E]))); // [layers N, E]
  const probabilities = tf.softmax(all);
  const taken = tf.sum(tf.mean(choose(probabilities, k), 0), 0); // [E]
  const balance = tf.mul(tf.sum(tf.mul(taken, tf.mean(probabilities, 0))), E);
  return { balance: balance as tf.Scalar, z: tf.mean(tf.square(tf.logSumExp(all, 1))) };
}
