// A minimal example: a model, a text, a hundred steps, and a sample.
//
//   npx tsx examples/basic.ts

import { keyOf, uniform } from "../lib/common/rng.ts";
import { createCachedDecoder } from "../lib/decoding/cached_decoder.ts";
import { continueTokens } from "../lib/decoding/generate.ts";
import { createEngine } from "../lib/engine/runtime/program.ts";
import { createModel } from "../lib/formats/create_model.ts";
import { adamw } from "../lib/training/optimizers/adamw.ts";
import { Step } from "../lib/training/step.ts";

const TEXT = "the quick brown fox jumps over the lazy dog. ".repeat(40);
const [B, T, STEPS] = [8, 32, 150];

// 1) one token per character
const characters = [...new Set(TEXT)].sort();
const tokens = [...TEXT].map((character) => characters.indexOf(character));

// 2) a model and its training step
const shape = { n_layer: 2, n_head: 2, n_embd: 32, block_size: T, vocab_size: characters.length };
const model = createModel(shape);
const engine = await createEngine({ compile: true, threads: 1 });
const batch = { shape: [B, T], dtype: "int32" } as const;
const step = await Step.create({
  ...{ engine, parameters: model.parameters, groups: model.decayGroups(), inputs: { x: batch, y: batch } },
  loss: ({ x, y }) => model.loss(x, y),
  optimizer: adamw({ beta1: 0.9, beta2: 0.99 }),
  ...{ weight_decay: 0.1, grad_clip: 1 },
});

// 3) the loop
for (let iteration = 0; iteration < STEPS; iteration++) {
  const key = keyOf(iteration);
  const rows = Array.from({ length: B }, (_, row) => Math.floor(uniform(key, row) * (tokens.length - T)));
  const cut = (shift: number) => Int32Array.from(rows.flatMap((at) => tokens.slice(at + shift, at + shift + T)));
  const { loss } = await step.run({ iteration, learningRate: 1e-2, batch: () => ({ x: cut(0), y: cut(1) }) });
  if (iteration % 50 === 0 || iteration === STEPS - 1) console.log(`step ${iteration}: loss ${loss.toFixed(3)}`);
}

// 4) a sample
const decoder = await createCachedDecoder(engine, model);
const prompt = [..."the "].map((character) => characters.indexOf(character));
const sampled = await continueTokens(decoder, prompt, { max_new_tokens: 60, temperature: 0, random: () => 0 });
console.log(`the ${sampled.map((token) => characters[token]).join("")}`);
await decoder.dispose();
await step.dispose();
