// Losses of a text, window by window, against the plain decoder token by token.

import assert from "node:assert/strict";
import test from "node:test";
import { UserError } from "../../../lib/common/errors.ts";
import { createCachedDecoder } from "../../../lib/decoding/cached_decoder.ts";
import { describe, evaluate, modelLosses, totalLoss, windows } from "../../../lib/decoding/evaluate.ts";
import { createPlainDecoder } from "../../../lib/decoding/plain_decoder.ts";
import { assertClose, compiled, eager, randomInts, shaken } from "../../support.ts";
import { userError } from "../text/support.ts";

const model = shaken({}); // block_size 6, 11 tokens
const IDS = [...randomInts("text", [23], 0, 11)];

/** -ln of the probability of `target` after a context, by the plain decoder. */
async function lossAfter(context: readonly number[], target: number): Promise<number> {
  return lossOf(await createPlainDecoder(model).start(context, 1), target);
}

function lossOf(logits: Float32Array, target: number): number {
  const sum = logits.reduce((sum, logit) => sum + Math.exp(logit), 0); // of logits of up to 3: needs no care
  return Math.log(sum) - logits[target]!;
}

test("every token but the first is predicted once, with enough before it", () => {
  for (const count of [0, 1, 2, 6, 7, 8, 9, 23, 100]) {
    for (const block_size of [1, 4, 6]) {
      for (let stride = 1; stride <= block_size; stride++) {
        const predicted: number[] = [];
        for (const { start, from, end } of windows(count, block_size, stride)) {
          assert.ok(end - start <= block_size + 1 && end <= count && from < end);
          for (let i = from; i < end; i++) {
            assert.ok(i - start >= Math.min(i, block_size - stride + 1), `${i} of ${count}: sees ${i - start}`);
            predicted.push(i);
          }
        }
        assert.deepEqual(
          predicted,
          Array.from({ length: Math.max(0, count - 1) }, (_, i) => i + 1),
        );
      }
    }
  }
});

test("a window's losses, whole and padded, compiled and eager, are the plain decoder's", async () => {
  for (const engine of [compiled, eager]) {
    const losses = await modelLosses(engine, model);
    for (const length of [7, 2, 4, 7]) {
      const ids = IDS.slice(0, length);
      const expected = [];
      for (let i = 1; i < length; i++) expected.push(await lossAfter(ids.slice(0, i), ids[i]!));
      // sums of 11 exponentials in single precision
      assertClose(await losses(Int32Array.from(ids)), expected, { atol: 2e-6, label: `${length} tokens` });
    }
  }
});

test("a token that the model doesn't know is one line, not another row of the logits", async () => {
  const losses = await modelLosses(eager, model);
  for (const place of [0, 2]) {
    const window = Int32Array.of(1, 2, 3).fill(11, place, place + 1); // as a target alone, too
    await assert.rejects(losses(window), userError(new RegExp(`index ${place} is 11, and the model knows 11`)));
  }
});

test("in 8 bits the losses are the 8-bit decoder's", async () => {
  const losses = await modelLosses(compiled, model, { int8: true });
  const decoder = await createCachedDecoder(compiled, model, { int8: true });
  const ids = IDS.slice(0, 7);
  const expected = [];
  for (let i = 1; i < 7; i++) expected.push(lossOf(await decoder.start(ids.slice(0, i), 1), ids[i]!));
  const actual = (await losses(Int32Array.from(ids))).slice();
  assertClose(actual, expected, { atol: 1e-5, label: "8 bits" }); // the same weights in products of other shapes
  const exact = await (await modelLosses(compiled, model))(Int32Array.from(ids));
  const worst = Math.max(...actual.map((loss, i) => Math.abs(loss - exact[i]!)));
  assert.ok(worst > 1e-4, "are these 8 bits at all?");
  assertClose(actual, exact, { atol: 0.1, label: "8 bits against 32" });
  await decoder.dispose();
});

test("the total is that of the plain decoder with the same contexts; stride 1 sees all it can", async () => {
  const losses = await modelLosses(compiled, model);
  for (const stride of [1, 3, 6]) {
    let expected = 0;
    for (const { start, from, end } of windows(IDS.length, 6, stride)) {
      for (let i = from; i < end; i++) expected += await lossAfter(IDS.slice(start, i), IDS[i]!);
    }
    const done: number[] = [];
    const progress = (predicted: number) => done.push(predicted);
    const total = await totalLoss(IDS, losses, { block_size: 6, stride, progress });
    assertClose([total], [expected], { atol: 22 * 2e-6, label: `stride ${stride}` });
    assert.equal(done.at(-1), 22);
  }
  let full = 0;
  for (let i = 1; i < IDS.length; i++) full += await lossAfter(IDS.slice(Math.max(0, i - 6), i), IDS[i]!);
  assertClose([await totalLoss(IDS, losses, { block_size: 6, stride: 1 })], [full], { atol: 5e-5, label: "full" });
});

test("figures: nats a token, perplexity, bits a byte of UTF-8", async () => {
  const evenly = async (ids: Int32Array) => new Float32Array(ids.length - 1).fill(Math.LN2); // a bit a token
  const result = await evaluate("añb", [1, 2, 3], evenly, { block_size: 6, stride: 0 });
  const { loss, perplexity, bits_per_byte, ...rest } = result;
  assert.deepEqual(rest, { tokens: 3, bytes: 4, block_size: 6, stride: 3 });
  // ln 2 in single precision
  assertClose([loss, perplexity, bits_per_byte!], [Math.LN2, 2, 2 / 4], { atol: 1e-7, label: "figures" });
  assert.equal(
    describe({ ...result, tokens: 1234 }),
    "tokens:        1,234, all but the first predicted\nbytes:         4\nloss:          0.6931 nats/token\n" +
      "perplexity:    2.0000\nbits per byte: 0.5000\n",
  );
  const odd = await evaluate("ab", [1, 2], evenly, { block_size: 5, stride: 0 });
  assert.equal(odd.stride, 3);
  const numbers = await evaluate(undefined, [1, 2, 3], evenly, { block_size: 6, stride: 0 }); // no text, no bytes
  assert.deepEqual([numbers.bytes, numbers.bits_per_byte, numbers.loss], [null, null, loss]);
  assert.match(describe(numbers), /^tokens: .*\nloss: .*\nperplexity: .*\n$/);
});

test("a text too short, a stride too long", async () => {
  const none = async () => new Float32Array();
  const run = (ids: number[], stride: number) => evaluate("", ids, none, { block_size: 6, stride });
  const says = (pattern: RegExp) => (error: unknown) => error instanceof UserError && pattern.test(error.message);
  await assert.rejects(run([], 0), says(/--evaluate is too short; it takes two tokens or more/));
  await assert.rejects(run([1], 0), says(/too short/));
  await assert.rejects(run([1, 2], 7), says(/--stride=7 is beyond the context of 6 tokens/));
});
