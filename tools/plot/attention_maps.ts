// How much each position of a text looks at those before it, in every layer and head of a model: what attention
// computes and doesn't show. On tfjs' present backend, one text at a time; for pictures.

import * as tf from "@tensorflow/tfjs";
import { splitHeads } from "../../lib/nn/attention.ts";
import { type AttentionChoices, attentionWeights, GPT2_ATTENTION } from "../../lib/nn/general_attention.ts";
import { withTaps } from "../../lib/nn/tap.ts";
import type { GPT } from "../../model.ts";

/**
 * For each layer the weights [H, T, T]: row i is how position i looks at each, and sums to 1.
 * @param ids T tokens, at most block_size
 */
export function attentionMaps(model: GPT, ids: readonly number[]): Float32Array[] {
  const T = ids.length;
  const maps: Float32Array[] = [];
  tf.tidy(() => {
    const places = tf.range(0, T, 1, "float32");
    let query: tf.Tensor;
    const add = (query: tf.Tensor, key: tf.Tensor, choices: AttentionChoices) =>
      maps.push(attentionWeights(query, key, places, places, choices).dataSync() as Float32Array);
    withTaps(
      (name, x) => {
        const { variant } = model.blocks[maps.length]?.attn ?? {};
        if (name === "qkv" && !variant) {
          const [q, k] = splitHeads(x, model.config.n_head).map((x) => tf.expandDims(x, 0)); // [1, H, T, D]
          add(q!, k!, GPT2_ATTENTION);
        } else if (name === "query") query = x;
        else if (name === "key") add(query, x, variant!.choices);
      },
      () => model.forward(tf.tensor2d([...ids], [1, T], "int32")),
    );
  });
  return maps;
}
