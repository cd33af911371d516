// The mixture of experts: sorted by expert and multiplied in groups equals every expert on every token, values and
// gradients, also where experts stand idle; with a capacity, who is dropped, and that the rest is as before; against
// transformers; its losses and its capacity are there in training alone.

import assert from "node:assert/strict";
import { test } from "node:test";

import { tf } from "../../../lib/common/tf.ts";

import { createEngine } from "../../../lib/engine/runtime/program.ts";
import { groupedMatMul } from "../../../lib/nn/grouped_matmul.ts";
import { withRecompute } from "../../../lib/nn/recompute.ts";
import {
  capacityOf,
  experts,
  expertsDense,
  expertsWithin,
  keep,
  route,
  routerLosses,
} from "../../../lib/nn/routing.ts";
import { GPT, type GPTConfig } from "../../../model.ts";
import { layerFixture, layerIndex, takeWeights } from "../../fixtures/layers/read.ts";
import {
  type Argument,
  assertClose,
  assertLayer,
  assertSameBits,
  compiled,
  eager,
  evaluate,
  floats,
  lossProgram,
  randomBatch,
  randomFloats,
  shaken,
  smallGPT,
} from "../../support.ts";

for (const counts of [
  [2, 0, 4, 1],
  [0, 0, 0, 7],
  [7, 0, 0, 0],
]) {
  test(`a grouped product with groups of ${counts}`, async () => {
    const args = [floats("x", [7, 3]), floats("weights", [4, 3, 5])];
    const plain = (x: tf.Tensor, weights: tf.Tensor) => {
      const starts = counts.map((_, e) => counts.slice(0, e).reduce((sum, count) => sum + count, 0));
      const products = counts.flatMap((count, e) => {
        const rows = tf.slice(x, [starts[e]!, 0], [count, 3]);
        return count > 0 ? [tf.matMul(rows, tf.reshape(tf.slice(weights, e, 1), [3, 5]))] : [];
      });
      return tf.concat(products);
    };
    const { kernels } = await assertLayer(
      ([x, weights]) => groupedMatMul(x, weights, tf.tensor1d(counts, "float32")),
      ([x, weights]) => plain(x, weights),
      args,
      { atol: 1e-5, label: "grouped product" }, // sums of 7 products of up to 4
    );
    assert.ok(kernels.has("Fused"));
  });
}

for (const [N, E, k] of [
  [9, 4, 2],
  [1, 8, 2],
  [20, 3, 1],
  [6, 4, 4],
] as const) {
  test(`${N} tokens, ${k} of ${E} experts: sorted equals dense`, async () => {
    const args = [
      ...[floats("x", [N, 6]), floats("logits", [N, E])],
      ...[floats("gate", [E, 6, 5]), floats("fc", [E, 6, 5]), floats("proj", [E, 5, 6])],
    ];
    const mixture =
      (compute: typeof experts) =>
      ([x, logits, gate, ...rest]: tf.Tensor[]) =>
        compute(x!, route(logits!, k), { gate: gate!, fc: rest[0]!, proj: rest[1]! });
    // sums of some 30 products of three numbers of up to 12 each
    await assertLayer(mixture(experts), mixture(expertsDense), args, { atol: 1e-3, rtol: 1e-4, label: "mixture" });
  });
}

/** Which choices an expert still has room for, one at a time: 1 or 0 for choice j of token n at n k + j. */
function keptByHand(logits: Float32Array, E: number, k: number, capacity: number): number[] {
  const N = logits.length / E;
  const picks = Array.from({ length: N }, (_, n) => {
    const own = [...logits.subarray(n * E, (n + 1) * E)];
    return own
      .map((_, e) => e)
      .sort((a, b) => own[b]! - own[a]! || a - b)
      .slice(0, k);
  });
  const taken = new Array<number>(E).fill(0);
  const kept = new Array<number>(N * k).fill(0);
  for (let j = 0; j < k; j++) {
    for (let n = 0; n < N; n++) {
      const expert = picks[n]![j]!;
      if (taken[expert]! >= capacity) continue;
      taken[expert]!++;
      kept[n * k + j] = 1;
    }
  }
  return kept;
}

for (const [N, E, k, capacity, skew] of [
  [9, 4, 2, 5, 0],
  [9, 4, 2, 2, 0],
  [9, 4, 2, 1, 0],
  [12, 4, 2, 9, 5], // all want the first one, and some experts stand nearly idle
  [20, 3, 1, 7, 5],
  [6, 4, 4, 2, 0], // every expert is wanted by all
  [1, 8, 2, 1, 0],
  [7, 3, 2, 7, 0], // room for all
] as const) {
  test(`${N} tokens, ${k} of ${E} experts with room for ${capacity}${skew ? ", skewed" : ""}`, async () => {
    const logits = floats("logits", [N, E]);
    for (let n = 0; n < N; n++) logits.data[n * E]! += skew;
    const args = [
      ...[floats("x", [N, 6]), logits],
      ...[floats("gate", [E, 6, 5]), floats("fc", [E, 6, 5]), floats("proj", [E, 5, 6])],
    ];
    const expected = keptByHand(logits.data as Float32Array, E, k, capacity);
    assert.equal(expected.includes(0), capacity < N && N > 1);
    for (const engine of [eager, compiled]) {
      const kept = await evaluate(engine, ([_, logits]) => keep(route(logits!, k).chosen, capacity), args, {
        gradients: false,
      });
      assert.deepEqual([...kept.values], expected);
    }

    const within = ([x, logits, gate, ...rest]: tf.Tensor[]) =>
      expertsWithin(x!, route(logits!, k), { gate: gate!, fc: rest[0]!, proj: rest[1]! }, capacity);
    const dense = ([x, logits, gate, ...rest]: tf.Tensor[]) => {
      const { chosen, weights } = route(logits!, k);
      const kept = tf.tensor(expected, [N, k, 1]);
      const left = { chosen: tf.mul(chosen, kept), weights };
      return expertsDense(x!, left, { gate: gate!, fc: rest[0]!, proj: rest[1]! });
    };
    // sums of some 30 products of three numbers of up to 12 each
    const tolerance = { atol: 1e-3, rtol: 1e-4, label: "mixture" };
    const { kernels } = await assertLayer(within, dense, args, tolerance);
    assert.ok(!kernels.has("UnsortedSegmentSum"), "the gradients are gathers");
  });
}

test("the capacity is the factor times an expert's even share, rounded up, and at most all tokens", () => {
  const capacity = (factor: number, N: number, k: number, E: number) => capacityOf(factor, tf.zeros([N, k, E]));
  assert.equal(capacity(1.25, 768, 2, 8), 240);
  assert.equal(capacity(1, 10, 1, 3), 4);
  assert.equal(capacity(100, 10, 2, 4), 10);
  assert.equal(capacity(0.01, 10, 1, 4), 1);
});

test("a model drops tokens in training alone, and nothing where there is room for all", async () => {
  const losses = new Map<number, [training: number, evaluation: number]>();
  for (const expert_capacity_factor of [0, 0.5, 4]) {
    const model = shaken({ ffn: "moe", n_expert: 4, expert_capacity_factor, router_aux_coef: 0, router_z_coef: 0 });
    const training = await lossProgram(compiled, model, 2);
    const spec = { shape: [2, 6], dtype: "int32" } as const;
    const options = { variables: model.parameters, inputs: { x: spec, y: spec } };
    const evaluation = await compiled.program(({ x, y }) => model.loss(x, y), options);
    const batch = randomBatch(model, 2);
    const [trained] = await training.run(batch, { dropout: [0] });
    losses.set(expert_capacity_factor, [trained!, (await evaluation.run(batch))[0]!]);
    await training.dispose();
    await evaluation.dispose();
  }
  const [without, evaluated] = losses.get(0)!;
  assertClose([without, ...losses.get(4)!], [evaluated, evaluated, evaluated], { atol: 1e-6, label: "room for all" });
  const [dropped, whole] = losses.get(0.5)!;
  assert.equal(whole, evaluated);
  assert.ok(Math.abs(dropped - whole) > 1e-3, `${dropped}, ${whole}`);
});

test("a token whose choices are all dropped passes the mixture unchanged", async () => {
  const logits = { shape: [3, 2], data: Float32Array.of(5, 0, 5, 0, 0, 5) };
  const args = [floats("x", [3, 4]), logits, ...["gate", "fc"].map((name) => floats(name, [2, 4, 5]))];
  const proj = randomFloats("proj", [2, 5, 4]);
  for (const engine of [eager, compiled]) {
    const { values } = await evaluate(
      engine,
      ([x, logits, gate, fc]) => {
        const weights = { gate: gate!, fc: fc!, proj: tf.tensor(proj, [2, 5, 4]) };
        return expertsWithin(x!, route(logits!, 1), weights, 1);
      },
      args,
      { gradients: false },
    );
    assert.deepEqual([...values.subarray(4, 8)], [0, 0, 0, 0]); // the second token: the mixture adds 0
    assert.ok([...values.subarray(0, 4), ...values.subarray(8)].every((number) => number !== 0));
  }
});

test("the experts of the highest probability, the first of equal ones, with their shares as weights", async () => {
  const logits = Float32Array.of(0, 2, 1, -1, 3, 3, 3, 0);
  const args: Argument[] = [{ shape: [2, 4], data: logits }];
  for (const engine of [eager, compiled]) {
    const run = (result: "chosen" | "weights") =>
      evaluate(engine, ([x]) => route(x, 2)[result], args, { gradients: false });
    assert.deepEqual([...(await run("chosen")).values], [0, 1, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 1, 0, 0]);
    const first = 1 / (1 + Math.exp(-1)); // e^2 / (e^2 + e)
    assertClose((await run("weights")).values, [first, 1 - first, 0.5, 0.5], { atol: 1e-6, label: "weights" });
    const one = await evaluate(engine, ([x]) => route(x, 1).weights, args, { gradients: false });
    const sum = Math.exp(0) + Math.exp(2) + Math.exp(1) + Math.exp(-1);
    assertClose(one.values, [Math.exp(2) / sum, 1 / (3 + Math.exp(-3))], {
      atol: 1e-6,
      label: "a single one's weight",
    });
  }
});

for (const name of ["mixtral", "moe_shared"]) {
  test(`${name}: logits, loss, router losses and gradients of ${layerIndex[name]!.reference}`, async () => {
    const { architecture: _, ...config } = layerIndex[name]!.config;
    const coefficients = { router_aux_coef: 0.02, router_z_coef: 0.001 }; // the fixture's
    const model = new GPT({ dropout: 0, ...config, ...coefficients } as unknown as GPTConfig);
    const fixture = layerFixture(name);
    const { tensors, integers } = fixture;
    takeWeights(model.parameters, fixture);
    const [x, y] = [integers.get("x")!, integers.get("targets")!];
    const spec = { shape: x.shape, dtype: "int32" } as const;
    const expected = (name: string) => tensors.get(name)!.data;
    const options = { variables: model.parameters, inputs: { x: spec, y: spec } };
    const batch = { x: x.data, y: y.data };
    for (const engine of [compiled, eager]) {
      const logits = await engine.program(({ x }) => model.logits(x), options);
      assertClose(await logits.run(batch), expected("logits"), { atol: 1e-4, label: "logits" });
      const losses = await engine.program(({ x }, rng) => {
        const routers: tf.Tensor[] = [];
        model.forward(x, { rng, training: true, routers });
        const { balance, z } = routerLosses(routers, model.config.n_expert_active);
        return tf.stack([balance, z]);
      }, options);
      const both = [...expected("aux_loss"), ...expected("z_loss")];
      assertClose(await losses.run(batch), both, { atol: 1e-5, rtol: 1e-5, label: "router losses" });

      for (const [total, checkpoint] of [
        [false, false],
        [true, false],
        [true, true],
      ] as const) {
        const program = await engine.program(
          ({ x, y }, mask) => withRecompute(checkpoint, () => model.loss(x, y, total ? mask : undefined)),
          { ...options, gradients: true },
        );
        const loss = await program.run(batch);
        assertClose(loss, expected(total ? "total_loss" : "loss"), { atol: 1e-5, label: "loss" });
        for (const { name, grad } of model.parameters) {
          const reference = expected(`${total ? "grads_total" : "grads"}/${name}`);
          assertClose(grad!, reference, { atol: 1e-5, rtol: 1e-3, label: `${name}${total ? ", total" : ""}` });
        }
        await program.dispose();
      }
      await logits.dispose();
      await losses.dispose();
    }
  });
}

test("the router's losses are part of the loss in training alone, and only if wished", async () => {
  const losses: number[] = [];
  for (const router_aux_coef of [0, 0.5]) {
    const model = shaken({ ffn: "moe", n_expert: 4, router_aux_coef, router_z_coef: 0 });
    const training = await lossProgram(compiled, model, 2);
    const tokens = { shape: [2, 6], dtype: "int32" } as const;
    const spec = { variables: model.parameters, inputs: { x: tokens, y: tokens } };
    const evaluation = await compiled.program(({ x, y }) => model.loss(x, y), spec);
    const batch = randomBatch(model, 2);
    losses.push((await training.run(batch, { dropout: [0] }))[0]!, (await evaluation.run(batch))[0]!);
    await training.dispose();
    await evaluation.dispose();
  }
  const [without, plain, withLoss, plainToo] = losses as [number, number, number, number];
  assertClose([without, plainToo], [plain, plain], { atol: 1e-6, label: "cross-entropy" });
  assert.ok(withLoss > plain + 0.5 * 1.5, `${withLoss}, ${plain}`); // 0.5 * about 2, the experts a token has
});

test("all weights count as parameters, the active ones alone as work", () => {
  const mixture = { ffn: "moe" as const, n_hidden: 16, n_expert: 8, n_expert_active: 2, n_shared_hidden: 4 };
  const model = smallGPT(mixture);
  const all = smallGPT({ ...mixture, n_expert_active: 8 });
  assert.equal(model.numParams(), all.numParams());
  const expert = 3 * 8 * 16;
  assert.equal(all.flopsPerToken() - model.flopsPerToken(), 6 * 2 * (8 - 2) * expert); // two layers, six idle experts
});

for (const expert_capacity_factor of [0, 1]) {
  test(`the same bits for any number of threads, with an expert_capacity_factor of ${expert_capacity_factor}`, async () => {
    const model = shaken({ ffn: "moe", n_embd: 32, n_hidden: 48, block_size: 64, expert_capacity_factor });
    const grads: Float32Array[][] = [];
    for (const threads of [1, 2]) {
      const program = await lossProgram(await createEngine({ compile: true, threads }), model, 4);
      await program.run(randomBatch(model, 4), { dropout: [0] });
      grads.push(model.parameters.map(({ grad }) => grad!.slice()));
      await program.dispose();
    }
    model.parameters.forEach(({ name }, i) => {
      assertSameBits(grads[1]![i]!, grads[0]![i]!, name);
    });
  });
}
