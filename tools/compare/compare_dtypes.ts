// Compares training steps with products in float32 and in float16, alternating in one process on this machine:
//
//   npx tsx tools/compare/compare_dtypes.ts --n_layer=6 --n_head=6 --n_embd=384 --block_size=256 --batch_size=4 --rounds=8
//
// The result is the median of the rounds' ratios, as both steps of a round see the same load. Memory is that of one process for
// each: bench.ts --benchmark=memory --dtype=float16.

import { runScript } from "../../configurator.ts";
import { keyOf, uniform } from "../../lib/common/rng.ts";
import { median } from "../../lib/common/statistics.ts";
import { createEngine } from "../../lib/engine/runtime/program.ts";
import { adamw } from "../../lib/training/optimizers/adamw.ts";
import { Step } from "../../lib/training/step.ts";
import { GPT } from "../../model.ts";

export const defaults = {
  rounds: 60, // one step of each per round
  warmup: 3, // rounds before timing
  threads: 1,
  batch_size: 12,
  block_size: 64,
  n_layer: 4,
  n_head: 4,
  n_embd: 128,
  vocab_size: 65,
};

/** Print the times of a step in float32 and float16. */
export async function run(config: Readonly<typeof defaults>): Promise<void> {
  const { rounds, warmup, threads, batch_size: B, block_size: T, vocab_size: V } = config;
  const engine = await createEngine({ compile: true, threads });
  const draw = (name: string) => Int32Array.from({ length: B * T }, (_, i) => uniform(keyOf(1, name), i) * V);
  const inputs = { x: draw("x"), y: draw("y") };

  const trainer = async (half: boolean) => {
    const model = new GPT({ ...config, dropout: 0, bias: false, ffn: "gelu" }).initWeights(1);
    const tokens = { shape: [B, T], dtype: "int32" } as const;
    const step = await Step.create({
      ...{ engine, parameters: model.parameters, groups: model.decayGroups(), inputs: { x: tokens, y: tokens }, half },
      loss: ({ x, y }) => model.loss(x, y),
      optimizer: adamw({ beta1: 0.9, beta2: 0.99 }),
      ...{ weight_decay: 0.1, grad_clip: 1 },
    });
    return async () => {
      const start = performance.now();
      await step.run({ iteration: 0, learningRate: 1e-3, batch: () => inputs });
      return performance.now() - start;
    };
  };
  const [single, half] = [await trainer(false), await trainer(true)];
  const times: { single: number; half: number }[] = [];
  for (let round = 0; round < warmup + rounds; round++) {
    const time = { single: await single(), half: await half() };
    if (round >= warmup) times.push(time);
  }
  const report = (name: string, list: number[]) =>
    console.log(`${name}  ${median(list).toFixed(1)} ms (${Math.min(...list).toFixed(1)} at best)`);
  console.log(`${B} x ${T} tokens, ${engine.description}`);
  report(
    "float32",
    times.map(({ single }) => single),
  );
  report(
    "float16",
    times.map(({ half }) => half),
  );
  console.log(`ratio    ${median(times.map(({ single, half }) => half / single)).toFixed(2)}`);
}

await runScript(import.meta.url, defaults, run, { usage: "Time a training step in float32 and float16." });
