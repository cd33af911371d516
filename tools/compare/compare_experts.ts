// The cost of a step with a mixture of experts, by the number of experts for a fixed number of active ones, in one sitting on this machine:
//
//   npx tsx tools/compare/compare_experts.ts --counts=4,8,16,32 --n_expert_active=2
//
// `dropless` is a mixture without and `capacity` one with an expert_capacity_factor; `dense` has one gated MLP as wide as the
// active experts together: the cost without routing. They alternate, so that load on the machine affects all; results are medians, and the
// median of the ratios to dense in the same round. The update is AdamW's, over all weights. Left out: uneven routing, since the weights
// are random.

import { runScript } from "../../configurator.ts";
import { Clock } from "../../lib/common/clock.ts";
import { keyOf, uniform } from "../../lib/common/rng.ts";
import { median } from "../../lib/common/statistics.ts";
import { createEngine } from "../../lib/engine/runtime/program.ts";
import { adamw } from "../../lib/training/optimizers/adamw.ts";
import { Step } from "../../lib/training/step.ts";
import { GPT, type GPTConfig } from "../../model.ts";

export const defaults = {
  rounds: 15, // one step of each per round
  warmup: 3, // rounds before timing
  threads: 1,
  batch_size: 12,
  block_size: 64,
  n_layer: 4,
  n_head: 4,
  n_embd: 128,
  n_hidden: 176, // hidden units of an expert
  counts: [4, 8, 16, 32], // of experts
  n_expert_active: 2,
  expert_capacity_factor: 1.25,
};

/** Print the times of a step by number of experts. */
export async function run(config: Readonly<typeof defaults>): Promise<void> {
  const { rounds, warmup, threads, batch_size: B, counts, n_expert_active, expert_capacity_factor, ...shape } = config;
  const { block_size: T, n_hidden: F } = shape;
  const engine = await createEngine({ compile: true, threads });
  const base = { ...shape, vocab_size: 65, dropout: 0, bias: false };
  const batch = (name: string) => Int32Array.from({ length: B * T }, (_, i) => 65 * uniform(keyOf(1, name), i));
  const inputs = { x: batch("x"), y: batch("y") };

  const steps = async (name: string, config: GPTConfig) => {
    const model = new GPT(config).initWeights(1);
    const tokens = { shape: [B, T], dtype: "int32" } as const;
    const training = await Step.create({
      ...{ engine, parameters: model.parameters, groups: model.decayGroups(), inputs: { x: tokens, y: tokens } },
      loss: ({ x, y }, rng) => model.loss(x, y, rng),
      optimizer: adamw({ beta1: 0.9, beta2: 0.99 }),
      ...{ weight_decay: 0.1, grad_clip: 1 },
    });
    const step = async () => {
      const clock = new Clock();
      const learningRate = 1e-6; // tiny, so that the routing stays even
      await training.run({ iteration: 0, learningRate, batch: () => inputs, onPhase: (phase) => clock.lap(phase) });
      const { compute = 0, update = 0 } = clock.take();
      return [1000 * compute, 1000 * update] as const;
    };
    return { name, params: model.numParams(), step, loss: [] as number[], update: [] as number[] };
  };
  const ways = [await steps("dense", { ...base, ffn: "swiglu" as const, n_hidden: n_expert_active * F })];
  for (const E of counts) {
    const mixture = { ...base, ffn: "moe" as const, n_expert: E, n_expert_active };
    ways.push(await steps(`dropless ${E}`, mixture));
    ways.push(await steps(`capacity ${E}`, { ...mixture, expert_capacity_factor }));
  }
  for (let round = 0; round < warmup + rounds; round++) {
    for (const way of ways) {
      const [loss, update] = await way.step();
      if (round < warmup) continue;
      way.loss.push(loss);
      way.update.push(update);
    }
  }
  console.log(`${n_expert_active} active experts of ${F} hidden units; batch ${B} x ${T}; ${engine.description}`);
  console.log(
    "| experts | parameters | loss and gradients, ms | times | update, ms |\n| --- | ---: | ---: | ---: | ---: |",
  );
  for (const { name, params, loss, update } of ways) {
    const times = median(loss.map((ms, i) => ms / ways[0]!.loss[i]!)).toFixed(2);
    const count = params.toLocaleString("en-US");
    console.log(`| ${name} | ${count} | ${median(loss).toFixed(1)} | ${times} | ${median(update).toFixed(1)} |`);
  }
}

await runScript(import.meta.url, defaults, run, { usage: "Time steps with mixtures of experts." });
