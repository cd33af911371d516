// What recomputation saves: numbers kept for the backward pass, and that the runtime neither merges the second pass with
// the first nor computes it before the gradient that it waits for.

import assert from "node:assert/strict";
import test from "node:test";

import type { Graph } from "../../../lib/engine/graph.ts";
import { run } from "../../scripts.ts";
import { shaken, sizeOf } from "../../support.ts";
import { executed, lossProgram } from "./executed_step.ts";

const B = 2;

/** Numbers that are made before the loss and read after it. */
function kept({ nodes }: Graph): number {
  const loss = nodes.findIndex(({ kernel, attrs }) => kernel === "Fused" && attrs.kernel.name === "CrossEntropy");
  const forward = new Set(nodes.slice(0, loss + 1).flatMap(({ outputs }) => outputs));
  const later = new Set(nodes.slice(loss + 1).flatMap(({ inputs }) => inputs.filter((value) => forward.has(value))));
  return [...later].reduce((sum, { shape }) => sum + sizeOf(shape), 0);
}

test("of a further block its input is kept, and nothing else", async () => {
  const numbers = async (n_layer: number, wish: boolean) => {
    const program = await lossProgram(shaken({ n_layer }), wish);
    await program.dispose();
    return kept(program.graph!);
  };
  const { block_size, n_embd } = shaken({}).config;
  const input = B * block_size * n_embd;
  assert.equal((await numbers(4, true)) - (await numbers(3, true)), input);
  const plain = (await numbers(4, false)) - (await numbers(3, false));
  assert.ok(plain > 10 * input, `without it a block keeps ${plain} numbers`);
});

for (const config of [{ bias: true }, { bias: false }, { bias: false, dropout: 0.2 }] as const) {
  test(`a block's second pass stands behind the later block's gradients: ${JSON.stringify(config)}`, async () => {
    const n_layer = 4;
    const C = 8;
    // Each pass over a block begins with a layer norm; of a block's matrices the MLP's last gets its gradient first, and
    // c_attn last. Operators and shapes tell which is which.
    const names: Record<string, string> = {
      LayerNormalization: "norm",
      [`Gemm ${4 * C},${C}`]: "c_proj",
      [`Gemm ${C},${3 * C}`]: "c_attn",
    };
    const order = async (wish: boolean) =>
      (await executed({ n_layer, n_embd: C, ...config }, wish)).order
        .map(({ operator, shape }) => names[operator] ?? names[`${operator} ${shape}`])
        .filter((name) => name !== undefined)
        .join(" ");
    const forward = `${"norm norm ".repeat(n_layer)}norm `; // two a block, and the last one
    assert.equal(`${await order(false)} `, forward + "c_proj c_attn ".repeat(n_layer));
    assert.equal(`${await order(true)} `, forward + "norm norm c_proj c_attn ".repeat(n_layer));
  });
}

test("the second pass is not merged with the first", async () => {
  const counts = async (wish: boolean) => {
    const { order } = await executed({ n_layer: 3, dropout: 0.2 }, wish);
    const operators = ["LayerNormalization", "Transpose", "Softmax", "Gelu"];
    return operators.map((name) => order.filter(({ operator }) => operator === name).length);
  };
  // a block: 2 norms, 2 transposes forward and 2 in the gradient, a softmax, a Gelu; and a norm behind the last block
  assert.deepEqual(await counts(false), [2 * 3 + 1, 4 * 3, 3, 3]);
  assert.deepEqual(await counts(true), [4 * 3 + 1, 6 * 3, 6, 6]);
});

test("12 blocks need less than a third of the memory", async () => {
  const config = { n_layer: 12, n_embd: 32, block_size: 64, bias: false };
  const peak = async (wish: boolean) => {
    const { code, stdout, stderr } = await run("tests/lib/nn/executed_step.ts", [JSON.stringify(config), `${wish}`]);
    assert.equal(code, 0, stderr);
    return Number(stdout);
  };
  const [plain, again] = [await peak(false), await peak(true)];
  // a block keeps 19 times its input, or only that; what differentiating one of them takes comes once in either case
  assert.ok(again < plain / 3, `${again} bytes, ${plain} without`);
});
