// A model's weights for another vocabulary: known tokens keep their rows, others get new ones, in the token embeddings and in an untied
// output layer. Nothing else depends on the vocabulary.

import type { GPT } from "../../model.ts";
import { breathe } from "../common/breathe.ts";
import { randomWeightsInPieces } from "../nn/init.ts";
import type { Parameter } from "../nn/parameter.ts";
import type { OpenedModel } from "./pretrained.ts";

/**
 * Fill the weights of a model that differs from `opened.modelArgs` only in its vocabulary. A new row is the mean of the model's rows
 * plus noise as in a new model (Hewitt 2021: its logits are then near those of the others, while a row near 0 may outweigh all of
 * them).
 * @param rows [vocab_size] of the new model: the row of the old tables for each of its tokens, -1 for a new one
 * @param seed of the noise
 */
export async function readExtended(
  { tensors, modelArgs }: OpenedModel,
  model: GPT,
  rows: Int32Array,
  seed: number,
): Promise<void> {
  const tables = new Set<Parameter>([model.transformer.wte, model.lmHead]);
  await randomWeightsInPieces([...tables], seed);
  for (const parameter of model.parameters) {
    await breathe();
    const { name, shape, data } = parameter;
    if (!tables.has(parameter)) {
      tensors.read(name, shape, data);
      continue;
    }
    const [V, C] = [modelArgs.vocab_size, shape[1]!];
    const old = new Float32Array(V * C);
    tensors.read(name, [V, C], old);
    const mean = meanRow(old, C);
    for (const [token, row] of rows.entries()) {
      const into = data.subarray(token * C, (token + 1) * C);
      if (row >= 0) into.set(old.subarray(row * C, (row + 1) * C));
      else for (let i = 0; i < C; i++) into[i]! += mean[i]!;
    }
  }
}

/** [rows * C] -> [C] */
function meanRow(table: Float32Array, C: number): Float64Array {
  const mean = new Float64Array(C);
  for (let at = 0; at < table.length; at++) mean[at % C]! += table[at]!;
  return mean.map((sum) => (sum * C) / table.length);
}
