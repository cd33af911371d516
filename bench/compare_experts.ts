// A mixture of experts three ways, forward and backward of the layer alone, in one sitting on this machine:
//
//   tsx bench/compare_experts.ts --n_expert=8 --n_expert_active=2
//
// `sorted` is what training runs (nn/routing.ts), `dense` its plain twin, where every expert computes every token, and
// `mlp` one gated MLP as wide as the active experts together: what the mixture would cost without any routing. They take
// turns; what counts is the median.

import * as tf from "@tensorflow/tfjs";

import { configure } from "../configurator.ts";
import { main } from "../engine/errors.ts";
import { createEngine } from "../engine/program.ts";
import { fillNormal, keyOf } from "../engine/rng.ts";
import { GatedMLP } from "../nn/feed_forward.ts";
import { Scope } from "../nn/module.ts";
import { Parameter } from "../nn/parameter.ts";
import { experts, expertsDense, route } from "../nn/routing.ts";
import { median } from "./statistics.ts";

const defaults = {
  rounds: 15, // each way runs once a round
  warmup: 3, // rounds before
  threads: 1,
  tokens: 768, // in a step: batch_size times block_size
  n_embd: 128,
  n_hidden: 352, // hidden units of an expert
  n_expert: 8,
  n_expert_active: 2,
};

await main(async () => {
  const config = await configure(import.meta.url, defaults, { usage: "Time a mixture of experts." });
  const { rounds, warmup, threads, tokens: N, n_embd: C, n_hidden: F, n_expert: E, n_expert_active: k } = config;
  const random = (name: string, shape: number[], deviation: number) => {
    const parameter = new Parameter(name, shape, { normal: deviation });
    fillNormal(parameter.data, keyOf(1, "compare", name), deviation);
    return parameter;
  };
  const x = random("x", [N, C], 1);
  const router = random("router", [C, E], 0.02);
  const [gate, fc, proj] = [
    random("gate", [E, C, F], 0.02),
    random("fc", [E, C, F], 0.02),
    random("proj", [E, F, C], 0.02),
  ];
  const mixture = (compute: typeof experts) => () => {
    const logits = tf.matMul(x.value as tf.Tensor2D, router.value as tf.Tensor2D);
    const weights = { gate: gate.value, fc: fc.value, proj: proj.value };
    return tf.sum(tf.square(compute(x.value, route(logits, k), weights)));
  };
  const dense: Parameter[] = [];
  const mlp = new GatedMLP(new Scope(dense), { n_embd: C, n_hidden: k * F, bias: false, ffn: "swiglu" }, 0.02);
  for (const { name, data } of dense) fillNormal(data, keyOf(1, "compare", name), 0.02);

  const engine = await createEngine({ compile: true, threads });
  const own = [x, router, gate, fc, proj];
  const program = (body: () => tf.Tensor, variables: Parameter[]) =>
    engine.program(body, { variables, inputs: {}, gradients: true });
  const ways = {
    sorted: await program(mixture(experts), own),
    dense: await program(mixture(expertsDense), own),
    mlp: await program(() => tf.sum(tf.square(mlp.forward(x.value))), [x, ...dense]),
  };
  const times = new Map(Object.keys(ways).map((name) => [name, [] as number[]]));
  for (let round = 0; round < warmup + rounds; round++) {
    for (const [name, way] of Object.entries(ways)) {
      const start = performance.now();
      await way.run({});
      if (round >= warmup) times.get(name)!.push(performance.now() - start);
    }
  }
  console.log(`${E} experts, ${k} active; ${N} tokens, n_embd ${C}, n_hidden ${F}; ${engine.description}`);
  for (const [name, list] of times) {
    console.log(`${name.padEnd(7)} ${median(list).toFixed(2)} ms (${Math.min(...list).toFixed(2)} at best)`);
  }
});
