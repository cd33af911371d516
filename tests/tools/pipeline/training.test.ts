// The train stage with train.ts itself, on texts of which nothing can be learned that helps at their ends: it says what was
// seen, and there is a model.

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { prepareCharacters } from "../../../lib/text/characters.ts";
import { READING } from "../../../lib/text/documents.ts";
import { loadCheckpoint } from "../../../lib/training/checkpoint.ts";
import { Runner } from "../../../tools/pipeline/child.ts";
import { defaultsOfTraining } from "../../../tools/pipeline/settings.ts";
import { type Context, stages } from "../../../tools/pipeline/stages.ts";
import { madeUpText, temporaryFolder } from "../../scripts.ts";

const SMALL = { n_layer: 1, n_head: 2, n_embd: 16, block_size: 16, batch_size: 4, threads: 1, eval_iters: 2 };
const STEPS = { max_iters: 60, lr_decay_iters: 60, warmup_iters: 0, eval_interval: 30, learning_rate: 1e-2 };

for (const [name, text, expected] of [
  [
    "a text whose end is unlike the rest",
    `${madeUpText(5400)}${madeUpText(600).toUpperCase()}`,
    /^the validation loss was never below that of step 0 \(\d/,
  ],
  ["a text of one character", "a".repeat(2000), /^the validation loss is 0: every token follows/],
] as const) {
  test(`${name}: a model is kept, and it is said what was seen`, async () => {
    const outDir = temporaryFolder();
    const source = { name, sha256: "0".repeat(64) };
    prepareCharacters({ text, source, directory: join(outDir, "data") });
    const defaults = defaultsOfTraining();
    const train = { ...defaults, ...SMALL, ...STEPS, gradient_accumulation_steps: 1, always_save_checkpoint: false };
    const own = { input_file: "", tokenizer: "characters" as const, ...READING, optimize: false, optimize_seconds: 1 };
    const drawn = { start: "\n", num_samples: 1, max_new_tokens: 1, temperature: 1, top_k: 0 };
    const context: Context = {
      ...{ outDir, own: { ...own, ...drawn }, train, trainDefaults: defaults, flags: new Set(Object.keys(STEPS)) },
      ...{ mostTokens: 0, batchSearched: false },
    };
    const said: string[] = [];
    const runner = new Runner(() => {});
    const work = {
      runner,
      log: join(outDir, "log"),
      beginning: {},
      say: (line: string) => said.push(line),
      onStart() {},
    };
    const outputs = await stages.train.run({ ...context, ...work });
    runner.dispose();
    const { metadata, tensors } = await loadCheckpoint(outDir); // whole
    tensors.close();
    assert.deepEqual(outputs, ["ckpt.json", metadata.weights.file]);
    assert.ok(
      said.some((line) => expected.test(line)),
      said.join("\n"),
    );
    assert.ok(!said.some((line) => /NaN/.test(line)));
  });
}
