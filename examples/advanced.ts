// Single layers: weights and outputs of two kinds of attention and of feed-forward layers, and the gradient of a custom loss.
//
//   npx tsx examples/advanced.ts

import { tf } from "../lib/common/tf.ts";

import { createEngine } from "../lib/engine/runtime/program.ts";
import { createModel } from "../lib/formats/create_model.ts";
import { parametersOf } from "../lib/nn/recompute.ts";

const shape = { n_layer: 4, n_head: 4, n_embd: 64, block_size: 32, vocab_size: 65 };
const engine = await createEngine({ compile: true, threads: 1 });

// 1) attention: weights, and the norm of the output for one random input
for (const choice of [{}, { pos: "rotary", n_kv_head: 1 }, { pos: "alibi", window: 8 }] as const) {
  const { attn } = createModel({ ...shape, ...choice }).transformer.blocks[0]!;
  const parameters = parametersOf(attn);
  const program = await engine.program(({ x }) => tf.norm(attn.forward(x)), {
    variables: parameters,
    inputs: { x: { shape: [2, 32, 64], dtype: "float32" } },
  });
  const x = Float32Array.from({ length: 2 * 32 * 64 }, (_, i) => Math.sin(i));
  const [length] = await program.run({ x });
  const count = parameters.reduce((sum, { data }) => sum + data.length, 0);
  console.log(`attention ${JSON.stringify(choice)}: ${count} weights, |y| = ${length!.toFixed(4)}`);
  await program.dispose();
}

// 2) feed-forward layers with as many weights
for (const ffn of ["gelu", "swiglu"] as const) {
  const { mlp } = createModel({ ...shape, ffn }).transformer.blocks[0]!;
  console.log(
    `ffn ${ffn}: ${parametersOf(mlp)
      .map(({ name, shape }) => `${name} [${shape}]`)
      .join(", ")}`,
  );
}

// 3) a custom loss with a modern model: cross-entropy, and a penalty on large logits
const model = createModel({ ...shape, pos: "rotary", norm: "rmsnorm", ffn: "swiglu", n_kv_head: 2 });
const ids = { shape: [2, 32], dtype: "int32" } as const;
const program = await engine.program(
  ({ x, y }) => tf.add(model.loss(x, y), tf.mul(1e-4, tf.mean(tf.square(model.logits(x))))) as tf.Scalar,
  { variables: model.parameters, inputs: { x: ids, y: ids }, gradients: true },
);
const x = Int32Array.from({ length: 64 }, (_, i) => i % 65);
const [loss] = await program.run({ x, y: x.map((id) => (id + 1) % 65) });
const longest = model.parameters.map(({ name, grad }) => ({ name, norm: Math.hypot(...grad!) }));
longest.sort((a, b) => b.norm - a.norm);
console.log(`loss ${loss!.toFixed(4)}; the largest gradient norm is that of ${longest[0]!.name}`);
await program.dispose();
