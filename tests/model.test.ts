// The whole model: compiled against eager, GPT-2's names and counts, how it starts.

import assert from "node:assert/strict";
import test from "node:test";
import { fillNormal, keyOf } from "../lib/common/rng.ts";
import { tf } from "../lib/common/tf.ts";
import { GPT, type GPTConfig, type MLP } from "../model.ts";
import {
  assertClose,
  assertEnginesAgree,
  compiled,
  eager,
  lossProgram,
  randomBatch,
  shaken,
  smallGPT,
} from "./support.ts";

const CONFIGS: Partial<GPTConfig>[] = [
  {},
  { bias: false },
  { ffn: "gelu_tanh" },
  { dropout: 0.3 },
  { n_head: 4, n_layer: 1, bias: false, dropout: 0.1, ffn: "gelu_tanh" },
  { n_head: 1, block_size: 1 },
  { vocab_size: 600, n_layer: 1, n_head: 8 },
];
for (const config of CONFIGS) {
  test(`loss and every gradient, compiled against eager: ${JSON.stringify(config)}`, async () => {
    const model = shaken(config);
    // gradients of up to 1, summed over 18 positions and two layers in single precision: some 50 roundings of 6e-8
    const grads = await assertEnginesAgree(model, 3, { atol: 3e-6, rtol: 1e-5 });
    for (const [i, { name }] of model.parameters.entries()) {
      assert.ok(model.config.block_size === 1 || grads[i]!.some((g) => g !== 0), `${name} has a gradient`);
    }
  });
}

test("the gradient is the slope of the loss", async () => {
  const model = shaken({ n_layer: 1 });
  const batch = randomBatch(model, 2);
  const program = await lossProgram(compiled, model, 2);
  await program.run(batch);
  const grads = model.parameters.map(({ grad }) => grad!.slice());
  for (const [i, { name, data }] of model.parameters.entries()) {
    // along the gradient's own direction: the steepest, so rounding of the loss matters least
    const norm = Math.hypot(...grads[i]!);
    const start = data.slice();
    const lossAt = async (distance: number) => {
      data.set(start.map((weight, j) => weight + (distance * grads[i]![j]!) / norm));
      return (await program.run(batch))[0]!;
    };
    const slope = ((await lossAt(0.01)) - (await lossAt(-0.01))) / 0.02;
    data.set(start);
    // the loss is known to 3e-7, so the slope to 3e-5; the curvature's error is of the order of 0.01^2
    assertClose([slope], [norm], { atol: 3e-4, rtol: 5e-3, label: name });
  }
  await program.dispose();
});

test("a new model's loss is near ln V", async () => {
  for (const vocab_size of [11, 300]) {
    const model = smallGPT({ vocab_size, n_embd: 16 });
    const program = await lossProgram(compiled, model, 8);
    const [loss] = await program.run(randomBatch(model, 8));
    assert.ok(Math.abs(loss! - Math.log(vocab_size)) < 0.05, `${loss}, ln V is ${Math.log(vocab_size)}`);
    await program.dispose();
  }
});

test("each weight has a role, and a packed matrix the widths of its parts", () => {
  const model = smallGPT({ architecture: "encoder_decoder", n_kv_head: 1, tie_weights: false, n_layer: 1 });
  const [C, KD] = [8, 4];
  const roles = new Map(model.parameters.map(({ name, role }) => [name, role]));
  assert.equal(roles.get("transformer.wte.weight"), "embedding");
  assert.equal(roles.get("transformer.wpe.weight"), "position");
  assert.equal(roles.get("lm_head.weight"), "head");
  for (const [name, role] of roles) {
    if (name.endsWith(".bias")) assert.equal(role, "bias", name);
    else if (/\.ln_\w+\.weight$/.test(name)) assert.equal(role, "norm", name);
    else if (/\.c_\w+\.weight$/.test(name)) assert.equal(role, "hidden", name);
  }
  const splits = (name: string) => model.parameters.find((parameter) => parameter.name.endsWith(name))!.splits;
  assert.deepEqual(splits("h.0.attn.c_attn.weight"), [C, KD, KD]);
  assert.deepEqual(splits("h.0.cross_attn.c_kv.weight"), [KD, KD]);
  assert.deepEqual(splits("h.0.mlp.c_fc.weight"), [4 * C]);
  const router = smallGPT({ ffn: "moe" }).parameters.find(({ name }) => name.endsWith("router.weight"))!;
  assert.equal(router.role, "router");
});

test("the numbers of weights are GPT-2's", () => {
  // the sizes of a model of many layers follow from one of 1 and one of 2: no need for half a gigabyte
  const count = (config: Partial<GPTConfig>, n_layer: number) => {
    const sizes = [1, 2].map((n_layer) => {
      const model = new GPT({ ...smallGPT().config, vocab_size: 1, ...config, n_layer });
      return [model.numParams(false), model.numParams()] as const;
    });
    return [0, 1].map((i) => sizes[0]![i]! + (n_layer - 1) * (sizes[1]![i]! - sizes[0]![i]!));
  };
  const gpt2 = { block_size: 1024, n_head: 12, n_embd: 768, bias: true };
  const embeddings = (50257 - 1) * 768;
  const [all, nonEmbedding] = count(gpt2, 12);
  assert.equal(all! + embeddings, 124_439_808); // as Hugging Face counts gpt2
  assert.equal(nonEmbedding! + embeddings, 124_439_808 - 1024 * 768);
  const [unbiased] = count({ ...gpt2, bias: false }, 12);
  assert.equal(unbiased! + embeddings, 124_439_808 - 12 * (3 + 1 + 4 + 1 + 2) * 768 - 768);
});

test("weights start as GPT-2's: deviation 0.02, less for projections into the residual stream", () => {
  const model = smallGPT({ n_embd: 64, n_layer: 3, vocab_size: 100, block_size: 50 });
  for (const { name, data, shape } of model.parameters) {
    if (shape.length < 2) {
      assert.ok(
        data.every((number) => number === (/ln_\w\.weight$/.test(name) ? 1 : 0)),
        name,
      );
      continue;
    }
    const mean = data.reduce((sum, number) => sum + number, 0) / data.length;
    const deviation = Math.sqrt(data.reduce((sum, number) => sum + (number - mean) ** 2, 0) / data.length);
    const expected = name.endsWith("c_proj.weight") ? 0.02 / Math.sqrt(6) : 0.02;
    // four standard errors
    assertClose([mean], [0], { atol: (4 * expected) / Math.sqrt(data.length), label: `${name}: mean` });
    assertClose([deviation], [expected], { atol: (4 * expected) / Math.sqrt(2 * data.length), label: name });
  }
});

test("initWeights: each weight is a function of the seed and its name", () => {
  const model = smallGPT();
  const [a, b] = [0, 1].map((i) => (model.transformer.blocks[i]!.mlp as MLP).cFc.weight.data);
  assert.notDeepEqual(a, b);
  const expected = new Float32Array(a!.length);
  fillNormal(expected, keyOf(1, "init", "transformer.h.0.mlp.c_fc.weight"), 0.02);
  assert.deepEqual(a, expected);
  const again = smallGPT();
  assert.deepEqual(
    again.parameters.map(({ data }) => data),
    model.parameters.map(({ data }) => data),
  );
  assert.throws(() => smallGPT({ n_embd: 9 }), /n_embd 9 can't be split among 2 heads/);
});

/** Logits [T, V] of one sequence, computed plainly. */
function logitsOf(model: GPT, tokens: readonly number[]): Float32Array {
  return tf.tidy(() => model.logits(tf.tensor2d([...tokens], [1, tokens.length], "int32")).dataSync() as Float32Array);
}

test("cropBlockSize: the first positions stay and compute the same", () => {
  const model = shaken({});
  const before = logitsOf(model, [1, 2, 3]);
  const wpe = model.transformer.wpe!.data.slice();
  model.cropBlockSize(3);
  assert.equal(model.config.block_size, 3);
  assert.deepEqual(model.transformer.wpe!.data, wpe.slice(0, 3 * 8));
  assert.equal(model.parameters[1], model.transformer.wpe!);
  assert.deepEqual(model.transformer.wpe!.shape, [3, 8]);
  assertClose(logitsOf(model, [1, 2, 3]), before, { atol: 1e-6, label: "logits" });
  assert.throws(() => logitsOf(model, [1, 2, 3, 4]), /4 tokens don't fit into block_size 3/);
  assert.throws(() => model.cropBlockSize(4), /block_size 3 can be cropped, not extended to 4/);
});

test("forward refuses more tokens than fit", () => {
  assert.throws(() => logitsOf(smallGPT(), [1, 2, 3, 4, 5, 6, 7]), /7 tokens don't fit into block_size 6/);
});

test("decayGroups: matrices decay, vectors don't, nothing is lost", () => {
  const model = smallGPT();
  const { decay, noDecay } = model.decayGroups();
  assert.ok(decay.every(({ name }) => /(wte|wpe|c_attn|c_proj|c_fc)\.weight$/.test(name)));
  assert.ok(noDecay.every(({ name }) => /(ln_\w+\.weight|\.bias)$/.test(name)));
  assert.equal(decay.length, 2 + 2 * 4);
  assert.equal(decay.length + noDecay.length, model.parameters.length);
});

test("estimateMfu: PaLM's formula", () => {
  const model = smallGPT();
  // 6 N + 12 L H Q T a token, where H Q = n_embd
  const flops = 6 * (model.numParams(false) - 6 * 8) + 12 * 2 * 8 * 6;
  assert.equal(model.flopsPerToken(), flops);
  const head = model.lmHead.data.length; // which runs for one token in four
  assert.equal(model.flopsPerToken(0.25), flops - 6 * 0.75 * head);
  assertClose([model.estimateMfu(10, 0.5, 1e9)], [(flops * 6 * 10) / 0.5 / 1e9], { atol: 1e-12, label: "mfu" });
});

test("nextLogits is the row of logits at that position, whatever stands behind it", async () => {
  const model = shaken({});
  const tokens = [3, 1, 4, 1, 5, 9];
  const all = logitsOf(model, tokens);
  const inputs = { ids: { shape: [1, 6], dtype: "int32" }, at: { shape: [1], dtype: "int32" } } as const;
  for (const engine of [compiled, eager]) {
    const next = await engine.program(({ ids, at }) => model.nextLogits(ids, at), {
      variables: model.parameters,
      inputs,
    });
    for (let at = 0; at < 6; at++) {
      const run = async (ids: number[]) =>
        (await next.run({ ids: Int32Array.from(ids), at: Int32Array.of(at) })).slice();
      const whole = await run(tokens);
      assertClose(whole, all.subarray(at * 11, (at + 1) * 11), { atol: 1e-5, label: `position ${at}` });
      const padded = await run(tokens.map((token, i) => (i <= at ? token : 0)));
      assert.deepEqual(padded, whole, `padding behind position ${at}`);
    }
    await next.dispose();
  }
});
