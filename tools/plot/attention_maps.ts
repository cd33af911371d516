// The attention weights of a text in every layer and head of a model, for plots. On tfjs' current backend, one text at a time.

import { tf } from "../../lib/common/tf.ts";
import { withTaps } from "../../lib/nn/tap.ts";
import { GPT } from "../../model.ts";

/**
 * For each layer the weights [H, T, T]: row i has the weights of query i, which sum to 1.
 * @param ids T tokens, at most block_size
 */
export function attentionMaps(model: GPT, ids: readonly number[]): Float32Array[] {
  const maps: Float32Array[] = [];
  // the same model with dense attention: over chunks the whole matrix never exists
  const dense = new GPT({ ...model.config, attention: "dense", attn_chunk: 0 });
  tf.tidy(() => {
    for (const [i, weight] of dense.parameters.entries()) weight.value = model.parameters[i]!.value;
    withTaps(
      (name, x) => {
        if (name === "attention") maps.push(x.dataSync() as Float32Array);
      },
      () => dense.forward(tf.tensor2d([...ids], [1, ids.length], "int32")),
    );
  });
  return maps;
}
