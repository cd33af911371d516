// The parts of a transformer for programs of your own, checked and with their weights drawn: examples/ uses them.
//
//   const config = createTransformerConfig({ n_layer: 2, n_head: 2, n_embd: 64, block_size: 64, vocab_size: 65 });
//   const model = createTransformerModel(config, { seed: 1 });

import { type FullConfig, GPT, GPT2_CHOICES, type GPTConfig, SelfAttention } from "../../model.ts";
import { inPieces } from "../common/breathe.ts";
import { fillNormal, keyOf } from "../common/rng.ts";
import type { GenerativeModel } from "../decoding/interfaces.ts";
import { checkModelArgs } from "../formats/model_args.ts";
import { type FeedForward, feedForwards } from "../nn/feed_forward.ts";
import { Scope } from "../nn/module.ts";
import type { Parameter } from "../nn/parameter.ts";
import { positions } from "../nn/position.ts";

/** What a model has to be told; everything else is GPT-2's where it isn't given. */
export type TransformerOptions = Pick<GPTConfig, "n_layer" | "n_head" | "n_embd" | "block_size" | "vocab_size"> &
  Partial<GPTConfig>;

/**
 * Complete settings: no dropout, no biases and an exact GELU where nothing else is said, as in train.ts.
 * @throws UserError that names a setting out of its range, or two that can't go together
 */
export function createTransformerConfig(options: TransformerOptions): FullConfig {
  const config = { ...GPT2_CHOICES, dropout: 0, bias: false, ffn: "gelu", ...options };
  return checkModelArgs(config, "createTransformerConfig") as FullConfig;
}

/**
 * A model with random weights, which are a function of `seed`.
 * @throws UserError as createTransformerConfig
 */
export function createTransformerModel(options: TransformerOptions, { seed = 1337 } = {}): GPT & GenerativeModel {
  const model = new GPT(createTransformerConfig(options));
  model.initWeights((out, name, deviation) => fillNormal(out, keyOf(seed, "init", name), deviation));
  return model;
}

/** The same random weights for parameters of a model that was made; the event loop has its turns meanwhile. */
export async function randomWeights(parameters: readonly Parameter[], seed: number): Promise<void> {
  for (const { name, init, data } of parameters) {
    if (!("normal" in init)) continue;
    const key = keyOf(seed, "init", name);
    await inPieces(data.length, (from, to) => fillNormal(data.subarray(from, to), key, init.normal, from));
  }
}

/** One layer, with the weights that it and its positions have. */
export interface Layer<T> {
  readonly layer: T;
  readonly parameters: readonly Parameter[];
}

/**
 * Self-attention alone: `layer.forward(x, T)` takes x [B, T, C] at the positions from 0 on to [B, T, C]; an encoder's sees all.
 * @throws UserError as createTransformerConfig
 */
export function createAttention(options: TransformerOptions, { seed = 1337 } = {}): Layer<SelfAttention> {
  const config = createTransformerConfig(options);
  const causal = config.architecture !== "encoder";
  return create(seed, (scope) => {
    return new SelfAttention(scope, config, new positions[config.pos]!(scope, config, causal), causal);
  });
}

/**
 * A feed-forward layer alone, of the family of `ffn`: `layer.forward(x)` takes [B, T, C] to [B, T, C].
 * @throws UserError as createTransformerConfig
 */
export function createFeedForward(options: TransformerOptions, { seed = 1337 } = {}): Layer<FeedForward> {
  const config = createTransformerConfig(options);
  return create(seed, (scope) => new feedForwards[config.ffn]!(scope, config, 0.02 / Math.sqrt(2 * config.n_layer)));
}

function create<T>(seed: number, make: (scope: Scope) => T): Layer<T> {
  const parameters: Parameter[] = [];
  const layer = make(new Scope(parameters));
  for (const { name, init, data } of parameters) {
    if ("normal" in init) fillNormal(data, keyOf(seed, "init", name), init.normal);
  }
  return { layer, parameters };
}
