// A mixture of experts (Shazeer et al. 2017; as in Mixtral, Jiang et al. 2024): the routing of tokens, the
// experts' computation, and the router's two auxiliary losses. Dropless, where an expert takes all tokens routed to it, or with a
// capacity. Left out: expert parallelism.
//
// Letters of shapes: N tokens, C channels, E experts, k of them active for a token, F hidden units of an expert.

import { tf } from "../common/tf.ts";

import { activations } from "./activation.ts";
import { type FusedKernel, fused, withGradient } from "./fused.ts";
import { groupedMatMul } from "./grouped_matmul.ts";
import { tap } from "./tap.ts";

/** The routes of all tokens. */
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

/** Router logits [N, E] -> the top-k experts, weighted by their renormalized probabilities (Mixtral). A single one is weighted by
 * its probability (Fedus et al. 2021, equation 2): renormalized it would be 1, and the router would learn nothing. */
export function route(logits: tf.Tensor, k: number): Routes {
  const probabilities = tf.softmax(logits);
  const chosen = choose(probabilities, k);
  const picked = tf.sum(tf.mul(chosen, tf.expandDims(probabilities, 1)), -1); // [N, k]
  return { chosen, weights: k === 1 ? picked : tf.div(picked, tf.sum(picked, -1, true)) };
}

/** Probabilities [N, E] -> [N, k, E], one-hot from the highest down; ties: the first. No gradient. */
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

/** x [N, C] -> the weighted sum of the chosen experts' outputs [N, C]. Costs k experts per token. */
export function experts(x: tf.Tensor, { chosen, weights }: Routes, { gate, fc, proj }: Experts): tf.Tensor {
  const sorted = sort(rank(chosen));
  const rows = byExpert(x, sorted);
  const { counts } = sorted;
  const hidden = tf.mul(activations.silu(groupedMatMul(rows, gate, counts)), groupedMatMul(rows, fc, counts));
  return weigh(byToken(groupedMatMul(tap("mlp", hidden), proj, counts), sorted), weights);
}

/** The plain twin: every expert computes every token, mostly with weight 0. Costs E experts per token. */
export function expertsDense(x: tf.Tensor, { chosen, weights }: Routes, { gate, fc, proj }: Experts): tf.Tensor {
  const E = gate.shape[0]!;
  const share = tf.sum(tf.mul(chosen, tf.expandDims(weights, -1)), 1); // [N, E]
  const copies = tf.tile(tf.expandDims(x, 0), [E, 1, 1]);
  const hidden = tf.mul(activations.silu(tf.matMul(copies, gate)), tf.matMul(copies, fc)); // [E, N, F]
  return tf.sum(tf.mul(tf.matMul(hidden, proj), tf.expandDims(tf.transpose(share), -1)), 0);
}

/**
 * `experts` with at most `capacity` tokens for each: later choices are dropped (`keep`). One batched product of a fixed shape, with
 * E capacity rows even if few are used.
 */
export function expertsWithin(
  x: tf.Tensor,
  { chosen, weights }: Routes,
  { gate, fc, proj }: Experts,
  capacity: number,
): tf.Tensor {
  const [E, C] = gate.shape as [number, number];
  const slots = fill(rank(chosen), capacity);
  const taken = tf.reshape(intoSlots(x, slots), [E, capacity, C]);
  const hidden = tf.mul(activations.silu(tf.matMul(taken, gate)), tf.matMul(taken, fc)); // [E, capacity, F]
  const made = tf.reshape(tf.matMul(tap("mlp", hidden), proj), [E * capacity, C]);
  return weigh(outOfSlots(made, slots), weights);
}

/** The capacity of an expert for `chosen` [N, k, E]: ceil(factor N k / E) (Fedus et al. 2021, equation 3, for k choices),
 * and at most N. */
export function capacityOf(factor: number, chosen: tf.Tensor): number {
  const [N, k, E] = chosen.shape as [number, number, number];
  return Math.min(N, Math.ceil((factor * N * k) / E));
}

/**
 * Which choices fit into the capacity: all first choices before the second ones, each in the order of tokens (Lepikhin et al.
 * 2020, algorithm 1).
 * @param chosen [N, k, E]
 * @returns float32 [N, k]: 1, or 0 for a dropped choice. No gradient.
 */
export function keep(chosen: tf.Tensor, capacity: number): tf.Tensor {
  const [N, k] = chosen.shape as [number, number];
  return withGradient([chosen], (chosen) => ({
    value: tf.transpose(tf.reshape(tf.cast(tf.less(rank(chosen!).ranks, capacity), "float32"), [k, N])),
    saved: [chosen!],
    gradient: (_, [chosen]) => [tf.zerosLike(chosen!)],
  }));
}

/** Results [k N, C] of all rows, weights [N, k] -> [N, C] */
function weigh(results: tf.Tensor, weights: tf.Tensor): tf.Tensor {
  const [N, k] = weights.shape as [number, number];
  return tf.sum(tf.mul(tf.reshape(results, [k, N, -1]), tf.expandDims(tf.transpose(weights), -1)), 0);
}

/** The choices as rows: number j N + n is choice j of token n. Float32, exact up to 2^24 rows. */
interface Ranked {
  rows: tf.Tensor; // [k N, E], 1 at the expert
  ranks: tf.Tensor; // [k N]: number of earlier rows of the same expert
  counts: tf.Tensor; // [E]: rows of each expert
  starts: tf.Tensor; // [E]: rows of earlier experts
}

function rank(chosen: tf.Tensor): Ranked {
  const [N, k, E] = chosen.shape as [number, number, number];
  const rows = tf.reshape(tf.transpose(chosen, [1, 0, 2]), [k * N, E]);
  const counts = tf.sum(rows, 0);
  return { rows, ranks: atExpert(rows, tf.cumsum(rows, 0, true)), counts, starts: tf.cumsum(counts, 0, true) };
}

/** The value at the expert of each row: rows [M, E], values [M, E] or [E] -> [M] */
const atExpert = (rows: tf.Tensor, values: tf.Tensor) => tf.sum(tf.mul(rows, values), 1);

/** Sorted by expert, stable. */
interface Sorted {
  counts: tf.Tensor; // float32 [E]: rows of each expert
  places: tf.Tensor; // int32 [k N]: where each row goes
  order: tf.Tensor; // int32 [k N]: the row at each place
}

function sort({ rows, ranks, counts, starts }: Ranked): Sorted {
  const places = tf.cast(tf.add(ranks, atExpert(rows, starts)), "int32");
  const numbers = tf.cumsum(tf.ones([rows.shape[0]!]), 0, true);
  return { counts, places, order: tf.cast(fused(inverse, [numbers, places])[0]!, "int32") };
}

/** Each expert has `capacity` slots, in sequence. Unmatched rows and slots have an arbitrary index. */
interface Slots {
  kept: tf.Tensor; // float32 [k N, 1]: 1 if a row has a slot
  slots: tf.Tensor; // int32 [k N]: the row's slot
  filled: tf.Tensor; // float32 [E capacity, 1]: 1 if a slot has a row
  rows: tf.Tensor; // int32 [E capacity]: the slot's row
}

function fill(ranked: Ranked, capacity: number): Slots {
  const { rows, ranks, counts, starts } = ranked;
  const [M, E] = rows.shape as [number, number];
  const firsts = tf.mul(tf.range(0, E), capacity); // [E]: each expert's first slot
  const slots = tf.add(tf.minimum(ranks, capacity - 1), atExpert(rows, firsts));
  const nth = tf.range(0, capacity); // [capacity]
  const places = tf.minimum(tf.add(tf.expandDims(starts, 1), nth), M - 1); // [E, capacity]
  return {
    kept: tf.cast(tf.less(tf.expandDims(ranks, 1), capacity), "float32"),
    slots: tf.cast(slots, "int32"),
    filled: tf.reshape(tf.cast(tf.less(nth, tf.expandDims(counts, 1)), "float32"), [-1, 1]),
    rows: take(sort(ranked).order, tf.cast(tf.reshape(places, [E * capacity]), "int32")),
  };
}

/** 0, 1, 2, ... [M] and a permutation, int32 [M] -> its inverse, float32 [M] */
const inverse: FusedKernel = {
  name: "InversePermutation",
  plain: ([numbers, places]) => [tf.unsortedSegmentSum(numbers!, places as tf.Tensor1D, numbers!.size)],
  lower: (g, [numbers, places]) => g.emit("ScatterElements", [numbers, places, numbers], { axis: 0 }), // all are replaced
};

// All permutations are gathers, forward and backward: tfjs' own gradient of a gather would be a scatter-add.

const take = (x: tf.Tensor, numbers: tf.Tensor) => tf.gather(x, numbers as tf.Tensor1D);

/** int32 numbers [M] of rows -> of their tokens. By lookup: N would be a constant in a graph for any length. */
function tokensOf(rows: tf.Tensor, N: number, k: number): tf.Tensor {
  return tf.cast(take(tf.tile(tf.cumsum(tf.ones([N]), 0, true), [k]), rows), "int32");
}

/** x [N, C] -> the token of each row [k N, C], sorted */
function byExpert(x: tf.Tensor, { places, order }: Sorted): tf.Tensor {
  const [N, C] = x.shape as [number, number];
  return withGradient([x], (x) => ({
    value: take(x!, tokensOf(order, N, order.size / N)),
    saved: [places],
    gradient: (dy, [places]) => [tf.sum(tf.reshape(take(dy, places!), [-1, N, C]), 0)],
  }));
}

/** Sorted rows [k N, C] -> in their original order */
function byToken(sorted: tf.Tensor, { places, order }: Sorted): tf.Tensor {
  return withGradient([sorted], (sorted) => ({
    value: take(sorted!, places),
    saved: [order],
    gradient: (dy, [order]) => [take(dy, order!)],
  }));
}

/** x [N, C] -> the token in each slot [E capacity, C]; an arbitrary one in an empty slot */
function intoSlots(x: tf.Tensor, { kept, slots, rows }: Slots): tf.Tensor {
  const [N, C] = x.shape as [number, number];
  return withGradient([x], (x) => ({
    value: take(x!, tokensOf(rows, N, slots.size / N)),
    saved: [kept, slots],
    gradient: (dy, [kept, slots]) => [tf.sum(tf.reshape(tf.mul(take(dy, slots!), kept!), [-1, N, C]), 0)],
  }));
}

/** Slots [E capacity, C] -> the rows in them [k N, C]; a dropped one is 0 */
function outOfSlots(made: tf.Tensor, { kept, slots, filled, rows }: Slots): tf.Tensor {
  return withGradient([made], (made) => ({
    value: tf.mul(take(made!, slots), kept),
    saved: [filled, rows],
    gradient: (dy, [filled, rows]) => [tf.mul(take(dy, rows!), filled!)],
  }));
}

/**
 * The auxiliary losses of training.
 * @param logits of each layer's router [..., E]; the tokens of all layers count together
 * @returns balance: E sum_e f_e P_e, with f_e the fraction of tokens routed to an expert and P_e its mean probability (Fedus et al.
 *   2021, equation 4; k if balanced). z: mean of logsumexp(logits)^2 (Zoph et al. 2022, equation 5)
 */
export function routerLosses(logits: readonly tf.Tensor[], k: number): { balance: tf.Scalar; z: tf.Scalar } {
  const E = logits[0]!.shape.at(-1)!;
  const all = tf.concat(logits.map((x) => tf.reshape(x, [x.size / E, E]))); // [layers N, E]
  const probabilities = tf.softmax(all);
  const taken = tf.sum(tf.mean(choose(probabilities, k), 0), 0); // [E]
  const balance = tf.mul(tf.sum(tf.mul(taken, tf.mean(probabilities, 0))), E);
  return { balance: balance as tf.Scalar, z: tf.mean(tf.square(tf.logSumExp(all, 1))) };
}

/** The loss with `routerLosses` times their coefficients; unchanged without routers. */
export function addRouterLosses(
  loss: tf.Scalar,
  routers: readonly tf.Tensor[],
  config: { n_expert_active: number; router_aux_coef: number; router_z_coef: number },
): tf.Scalar {
  if (routers.length === 0) return loss;
  const { balance, z } = routerLosses(routers, config.n_expert_active);
  return tf.addN([loss, tf.mul(balance, config.router_aux_coef), tf.mul(z, config.router_z_coef)]) as tf.Scalar;
}
