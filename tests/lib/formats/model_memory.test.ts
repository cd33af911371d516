// lib/formats/model_memory.ts: what doesn't fit is refused with the sum, in no time; and the sum is never more than is used.

import assert from "node:assert/strict";
import { test } from "node:test";
import { UserError } from "../../../lib/common/errors.ts";
import {
  checkLoading,
  checkTraining,
  countWeights,
  memoryLimit,
  type Training,
} from "../../../lib/formats/model_memory.ts";
import { NAMES } from "../../../lib/nn/choices.ts";
import { OPTIMIZERS } from "../../../lib/training/choices.ts";
import { createOptimizer } from "../../../lib/training/optimizers/create.ts";
import { optimizerState } from "../../../lib/training/update.ts";
import { GPT, type GPTConfig } from "../../../model.ts";
import { smallGPT } from "../../support.ts";
import { userError } from "../text/support.ts";

const GPT2: GPTConfig = {
  ...{ block_size: 1024, vocab_size: 50_304, n_layer: 12, n_head: 12, n_embd: 768 },
  ...{ dropout: 0, bias: false, ffn: "gelu" as const },
};
const TRAINING: Training = {
  ...{ block_size: 1024, batch_size: 12, micro_batch_size: 0, gradient_accumulation_steps: 40 },
  ...{ optimizer: "adamw", beta1: 0.9, beta2: 0.95, momentum: 0.9, ema: 0, grad_checkpoint: false, eval_only: false },
};
const NONE = { bytes: 0, what: "this machine has" };

/** What training takes, in MB, by the message: the sum, and each part. */
function partsOf(config: GPTConfig, training: Training): Record<string, number> {
  try {
    checkTraining(config, training, NONE);
    assert.fail("nothing fits into no memory");
  } catch (error) {
    const megabytes = (text: string) => Number(text.replaceAll(/[^\d.]/g, "")) * (text.endsWith("GB") ? 1024 : 1);
    if (!(error instanceof UserError)) throw error;
    const { message } = error;
    const [, sum = ""] = /takes ([\d,.]+ .B) at least/.exec(message) ?? [];
    const parts = [...message.matchAll(/(\w+) ([\d,.]+ .B)[,)]/g)].map(([, name, text]) => [name, megabytes(text!)]);
    return { ...Object.fromEntries(parts), sum: megabytes(sum) };
  }
}

test("weights are counted without being made, whatever the layers are", () => {
  const choices = Object.entries(NAMES).flatMap(([key, names]) => names.map((name) => ({ [key]: name })));
  for (const choice of [
    ...choices,
    { n_kv_head: 1 },
    { tie_weights: false },
    { ffn: "moe" as const, n_shared_hidden: 8 },
  ]) {
    for (const n_layer of [1, 2, 5]) {
      const { config, parameters } = smallGPT({ ...choice, n_layer });
      const made = parameters.reduce((sum, { data }) => sum + data.length, 0);
      assert.equal(countWeights(config), made, JSON.stringify({ ...choice, n_layer }));
    }
  }
});

test("a model takes no memory before its weights are asked for", () => {
  const huge = new GPT({ ...GPT2, n_embd: 2 ** 20, n_head: 1 }); // 48 TB
  assert.equal(huge.numParams(false), countWeights({ ...GPT2, n_embd: 2 ** 20, n_head: 1 }));
});

test("GPT-2 takes what it took when it was measured, or a little less", () => {
  const parts = partsOf(GPT2, { ...TRAINING, batch_size: 1, gradient_accumulation_steps: 1 });
  assert.ok(parts.sum! > 2000 && parts.sum! < 3270 - 200, `${parts.sum} MB`); // docs/validation/speed.md: 3,270 MB, 200 of them Node's
  const { weights } = parts;
  assert.deepEqual([parts.gradients, parts.adamw], [weights, 949], JSON.stringify(parts));
  assert.equal(partsOf(GPT2, TRAINING).gradients, weights); // once: those of micro-batches are added up in place
  assert.equal(partsOf(GPT2, { ...TRAINING, eval_only: true }).gradients, undefined);
  assert.ok(partsOf(GPT2, { ...TRAINING, grad_checkpoint: true }).activations! < parts.activations!);
});

test("an optimizer's share is not more than what it keeps", async () => {
  const model = smallGPT({ n_embd: 64, vocab_size: 200 });
  const options = { beta1: 0.9, beta2: 0.95, momentum: 0.9 };
  const config = { ...model.config, n_embd: 2048, n_layer: 100, n_head: 2 };
  for (const optimizer of OPTIMIZERS) {
    const kept = model.parameters.flatMap((weight) => optimizerState(createOptimizer(optimizer, options), weight));
    const bytes = kept.reduce((sum, { data }) => sum + data.byteLength, 0) / (4 * model.numParams(false));
    const parts = partsOf(config, { ...TRAINING, optimizer });
    assert.ok((parts[optimizer] ?? 0) / parts.weights! <= bytes + 0.01, `${optimizer}: ${JSON.stringify(parts)}`);
  }
});

test("what doesn't fit is one line with the sum, the limit and what to do", () => {
  const machine = { bytes: 8 * 2 ** 30, what: "this container may use" };
  assert.throws(
    () => checkTraining({ ...GPT2, n_layer: 10_000 }, TRAINING, machine),
    userError(
      /^training this model takes 1,[\d,]+ GB at least \(weights 264 GB, gradients 264 GB, adamw 528 GB, activations \d+ GB\), and this container may use 8 GB; lower --n_layer/,
    ),
  );
  checkTraining(GPT2, TRAINING, machine);
  const large = { ...GPT2, n_layer: 400 };
  assert.throws(
    () => checkLoading(large, "the model in out", "float32", machine),
    userError(/^the model in out takes 10\.7 GB at least, and this container may use 8 GB; .* --dtype=int8$/),
  );
  checkLoading(large, "the model in out", "int8", machine);
});

test("the limit is a container's, where it has one", () => {
  assert.deepEqual(memoryLimit(16, 4), { bytes: 4, what: "this container may use" });
  for (const none of [0, 16, 2 ** 63]) assert.deepEqual(memoryLimit(16, none), { bytes: 16, what: "this machine has" });
  assert.ok(memoryLimit().bytes > 2 ** 28);
});
