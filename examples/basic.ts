// The least that it takes: a model, a text, a hundred steps, and what it writes then.
//
//   npx tsx examples/basic.ts

import { keyOf, uniform } from "../lib/common/rng.ts";
import { createCachedDecoder } from "../lib/decoding/cached_decoder.ts";
import { continueTokens } from "../lib/decoding/generate.ts";
import { createEngine } from "../lib/engine/runtime/program.ts";
import { createTransformerModel } from "../lib/training/create.ts";
import { AdamW } from "../lib/training/optimizers/adamw.ts";

const TEXT = "the quick brown fox jumps over the lazy dog. ".repeat(40);
const [B, T, STEPS] = [8, 32, 150];

// 1) a character a token
const characters = [...new Set(TEXT)].sort();
const tokens = [...TEXT].map((character) => characters.indexOf(character));

// 2) a model, and a program that computes its loss and gradients
const shape = { n_layer: 2, n_head: 2, n_embd: 32, block_size: T, vocab_size: characters.length };
const model = createTransformerModel(shape);
const engine = await createEngine({ compile: true, threads: 1 });
const batch = { shape: [B, T], dtype: "int32" } as const;
const program = await engine.program(({ x, y }) => model.loss(x, y), {
  variables: model.parameters,
  inputs: { x: batch, y: batch },
  gradients: true,
});

// 3) the loop
const optimizer = new AdamW(model.decayGroups(), { beta1: 0.9, beta2: 0.99, weight_decay: 0.1, grad_clip: 1 });
for (let step = 0; step < STEPS; step++) {
  const rows = Array.from({ length: B }, (_, row) => Math.floor(uniform(keyOf(step), row) * (tokens.length - T)));
  const cut = (shift: number) => Int32Array.from(rows.flatMap((at) => tokens.slice(at + shift, at + shift + T)));
  const [loss] = await program.run({ x: cut(0), y: cut(1) });
  await optimizer.step(1e-2);
  if (step % 50 === 0 || step === STEPS - 1) console.log(`step ${step}: loss ${loss!.toFixed(3)}`);
}

// 4) text
const decoder = await createCachedDecoder(engine, model);
const prompt = [..."the "].map((character) => characters.indexOf(character));
const drawn = await continueTokens(decoder, prompt, { max_new_tokens: 60, temperature: 0, random: () => 0 });
console.log(`the ${drawn.map((token) => characters[token]).join("")}`);
await decoder.dispose();
await program.dispose();
