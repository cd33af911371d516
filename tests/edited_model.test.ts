// A student's edits of model.ts: training, sampling with a KV cache and without, and ONNX files follow them and agree with one another,
// and what would no longer be GPT-2's weights is not exported as such. Each edit is one that can be had in another way, too.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { pathToFileURL } from "node:url";

import { createCachedDecoder } from "../lib/decoding/cached_decoder.ts";
import { createPlainDecoder } from "../lib/decoding/plain_decoder.ts";
import { writeHuggingFace } from "../lib/formats/huggingface.ts";
import { writeNanoGPT } from "../lib/formats/nanogpt.ts";
import { writeOnnx } from "../lib/formats/onnx.ts";
import { GPT, type GPTConfig } from "../model.ts";
import { ROOT, temporaryFolder } from "./scripts.ts";
import { assertClose, compiled, eager, lossProgram, randomBatch, shaken } from "./support.ts";

type Model = typeof import("../model.ts");

/** model.ts with `before` replaced, from a folder of its own; and what it writes to the console from then on. */
async function editedModel(
  t: TestContext,
  [before, after]: Edit["edit"],
): Promise<{ GPT: Model["GPT"]; lines: string[] }> {
  const source = readFileSync(join(ROOT, "model.ts"), "utf8");
  assert.equal(source.split(before).length, 2, `model.ts has not one ${before}`);
  const text = source.replace(before, after).replaceAll('from "./', `from "${pathToFileURL(ROOT)}/`);
  const file = join(temporaryFolder(), "model.mts");
  writeFileSync(file, text);
  const lines: string[] = [];
  t.mock.method(console, "error", (line: string) => lines.push(line));
  return { ...((await import(pathToFileURL(file).href)) as Model), lines };
}

const SHAPE = { n_embd: 32, n_head: 2, block_size: 12 }; // heads of 16 channels, which the runtime's operator takes
const SCALE = "1 / Math.sqrt(query.shape[3]!)";
const SCORES = "tf.softmax(tf.add(scores,";

const SIDE_BY_SIDE = [
  "x = tf.add(x, this.attn.forward(this.ln1.forward(x), args));\n    x = tf.add(x, this.mlp.forward(this.ln2.forward(x), args));",
  "x = tf.add(tf.add(x, this.attn.forward(this.ln1.forward(x), args)), this.mlp.forward(this.ln2.forward(x), args));",
] as const;

interface Edit {
  edit: readonly [before: string, after: string];
  line: string; // what is said of it
  changes?: Partial<GPTConfig>; // settings of the edited model
  /** The same model without the edit: settings, and weights made from the edited one's. */
  twin: Partial<GPTConfig>;
  weigh?: (name: string, data: Float32Array) => void;
}

const EDITS: Record<string, Edit> = {
  "a cap on the scores": {
    edit: [SCORES, "tf.softmax(tf.add(tf.mul(tf.tanh(tf.div(scores, 0.5)), 0.5),"],
    line: "attention",
    twin: { attn_softcap: 0.5 },
  },
  "a cap on the scores, with dropout": {
    edit: [SCORES, "tf.softmax(tf.add(tf.mul(tf.tanh(tf.div(scores, 0.5)), 0.5),"],
    line: "attention",
    changes: { dropout: 0.3 },
    twin: { attn_softcap: 0.5 },
  },
  "another scale": {
    edit: [SCALE, "3 / Math.sqrt(query.shape[3]!)"],
    line: "attention",
    twin: {},
    weigh(name, data) {
      if (!name.includes("c_attn")) return;
      for (let i = 0; i < data.length; i++) if (i % 96 < 32) data[i]! *= 3; // the columns of queries
    },
  },
  "a sliding window": {
    edit: [
      "tf.less(tf.expandDims(at, 1), from)",
      "tf.logicalOr(tf.less(tf.expandDims(at, 1), from), tf.greater(tf.expandDims(at, 1), tf.add(from, 2)))",
    ],
    line: "attention",
    twin: { window: 3 },
  },
  "a cap, in a model of rotary positions and fewer keys": {
    edit: [SCORES, "tf.softmax(tf.add(tf.mul(tf.tanh(tf.div(scores, 0.5)), 0.5),"],
    line: "attention",
    changes: { pos: "rotary", n_kv_head: 1, qk_norm: true },
    twin: { attn_softcap: 0.5 },
  },
  "another activation": {
    edit: ["return tf.mul(x, tf.mul(tf.add(1, tf.erf(tf.mul(x, Math.SQRT1_2))), 0.5));", "return tf.relu(x);"],
    line: "gelu",
    twin: { ffn: "relu" },
  },
  "a block, not a formula: sublayers side by side": {
    edit: SIDE_BY_SIDE,
    line: "",
    twin: { parallel_block: true, parallel_norms: 2 },
  },
  "a block of other layers: sublayers side by side": {
    edit: SIDE_BY_SIDE,
    line: "",
    changes: { pos: "rotary", norm: "rmsnorm", ffn: "swiglu" },
    twin: { parallel_block: true, parallel_norms: 2 },
  },
  "a transformer of other layers: tokens that are multiplied by sqrt(C)": {
    edit: [
      "let x = embedding(this.wte.value, ids);",
      "let x = tf.mul(embedding(this.wte.value, ids), Math.sqrt(this.config.n_embd));",
    ],
    line: "",
    changes: { pos: "none", norm_position: "post", tie_weights: false },
    twin: {},
    weigh(name, data) {
      if (name.includes("wte")) for (let i = 0; i < data.length; i++) data[i]! *= Math.sqrt(32);
    },
  },
};

for (const [name, { edit, line, changes = {}, twin: other, weigh }] of Object.entries(EDITS)) {
  test(`${name}: everything follows`, async (t) => {
    const plain = shaken({ ...SHAPE, ...changes });
    const { GPT: Edited, lines } = await editedModel(t, edit);
    const model = new Edited(plain.config) as GPT;
    for (const [i, { data }] of model.parameters.entries()) data.set(plain.parameters[i]!.data);
    assert.deepEqual(
      lines,
      line
        ? [`${line} is not GPT-2's any more: the formula runs as it is written, in training, sampling and export`]
        : [],
    );
    const twin = new GPT({ ...plain.config, ...other });
    for (const parameter of twin.parameters) {
      parameter.data.set(model.parameters.find(({ name }) => name === parameter.name)!.data);
      weigh?.(parameter.name, parameter.data);
    }

    // sums of up to a hundred products, in single precision
    const compare = (actual: ArrayLike<number>, expected: ArrayLike<number>, label: string) =>
      assertClose(actual, expected, { atol: 5e-5, rtol: 1e-4, label });
    const batch = randomBatch(model, 3);
    const lossOf = async (model: GPT, engine = compiled) => {
      const program = await lossProgram(engine, model, 3);
      const loss = (await program.run(batch, { dropout: [1, 2] })).slice();
      await program.dispose();
      return loss;
    };
    const expected = await lossOf(twin);
    assert.ok(Math.abs((await lossOf(plain))[0]! - expected[0]!) > 1e-3, "the edit changes something");
    compare(await lossOf(model), expected, "loss");
    const gradients = model.parameters.map(({ grad }) => grad!.slice());
    compare(await lossOf(model, eager), expected, "loss, not compiled");
    for (const [i, { name, grad }] of model.parameters.entries()) {
      compare(gradients[i]!, grad!, name); // compiled and by tfjs' own backend
      const same = twin.parameters.find((parameter) => parameter.name === name)!;
      if (!weigh) compare(gradients[i]!, same.grad!, `${name} of the twin`);
    }

    const [cached, whole] = [await createCachedDecoder(compiled, model), createPlainDecoder(model)];
    const oracle = createPlainDecoder(twin);
    const starts = await Promise.all([cached, whole, oracle].map((decoder) => decoder.start([1, 2, 3], 2)));
    compare(starts[1]!, starts[2]!, "the prompt");
    compare(starts[0]!, starts[1]!, "the prompt, with a cache");
    for (let i = 0; i < 12; i++) {
      const tokens = [(3 * i) % 11, (7 * i) % 11];
      const next = await Promise.all([cached, whole, oracle].map((decoder) => decoder.next(tokens)));
      compare(next[1]!, next[2]!, `token ${i}`);
      compare(next[0]!, next[1]!, `token ${i}, with a cache`);
    }
    await cached.dispose();

    compare(await exported(model), await oracle.start([1, 5, 2, 8, 3], 1), "exported");
    const refusal = { name: "UserError", message: /^\w+ is for [^\n]*; export it as --format=onnx$/ };
    if (!changes.pos) await assert.rejects(writeHuggingFace(model, undefined, temporaryFolder()), refusal);
    if (!changes.pos) assert.throws(() => writeNanoGPT(model, undefined, temporaryFolder()), refusal);
  });
}

test("settings whose blocks model.ts' Block isn't: a line says that the edit doesn't reach them", async (t) => {
  const { GPT: Edited, lines } = await editedModel(t, SIDE_BY_SIDE);
  const { config } = shaken(SHAPE);
  new Edited({ ...config, norm_position: "sandwich", stochastic_depth: 0.1 });
  assert.deepEqual(lines, []);
  for (let i = 0; i < 2; i++) new Edited({ ...config, norm_position: "post" });
  assert.equal(lines.length, 1);
  assert.match(lines[0]!, /^Block is not GPT-2's any more, but the blocks of these settings .* are lib\/nn's$/);
  new GPT({ ...config, norm_position: "post" });
  assert.equal(lines.length, 1, "not edited");
});

test("settings whose attention model.ts doesn't have: a line says that the edit doesn't reach it", async (t) => {
  const { GPT: Edited, lines } = await editedModel(t, [SCALE, "1"]);
  for (let i = 0; i < 2; i++) new Edited({ ...shaken(SHAPE).config, window: 3 });
  assert.equal(lines.length, 2);
  assert.match(lines[1]!, /^but the attention of these settings .* is lib\/nn's, not model\.ts'$/);
});

/** The last logits of a few tokens, from an ONNX file. */
async function exported(model: GPT): Promise<Float32Array> {
  const { n_layer, n_head, n_kv_head, n_embd, vocab_size } = model.config;
  const folder = join(temporaryFolder(), "onnx");
  mkdirSync(folder);
  await writeOnnx(model, undefined, folder, 2 ** 30);
  process.env.ORT_DISABLE_TELEMETRY = "1"; // before it is loaded
  const { InferenceSession, Tensor } = await import("onnxruntime-node"); // as another program would read the file
  const session = await InferenceSession.create(join(folder, "model.onnx"));
  const empty = new Tensor("float32", new Float32Array(), [1, n_kv_head || n_head, 0, n_embd / n_head]);
  const past = Array.from({ length: n_layer }, (_, i) => [`past.${i}.key`, `past.${i}.value`]).flat();
  const ids = new Tensor("int32", Int32Array.of(1, 5, 2, 8, 3), [1, 5]);
  const { logits } = await session.run({ input_ids: ids, ...Object.fromEntries(past.map((name) => [name, empty])) });
  const last = (logits!.data as Float32Array).slice(-vocab_size);
  await session.release();
  return last;
}
