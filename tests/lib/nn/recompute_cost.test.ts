// What recomputation saves: numbers kept for the backward pass, and that the runtime neither merges the second pass with
// the first nor computes it before the gradient that it waits for.

import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";

import * as z from "zod/mini";

import type { Graph, Shape } from "../../../lib/engine/graph.ts";
import { withRecompute } from "../../../lib/nn/recompute.ts";
import type { GPT, GPTConfig } from "../../../model.ts";
import { compiled, randomBatch, shaken, sizeOf } from "../../support.ts";

const B = 2;

function lossProgram(model: GPT, wish: boolean, profile?: string) {
  const tokens = { shape: [B, model.config.block_size], dtype: "int32" } as const;
  return compiled.program(({ x, y }, mask) => withRecompute(wish, () => model.loss(x, y, mask)), {
    variables: model.parameters,
    inputs: { x: tokens, y: tokens },
    gradients: true,
    profile,
  });
}

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

const eventsSchema = z.array(
  z.object({
    cat: z.string(),
    name: z.string(),
    ts: z.number(),
    args: z.looseObject({
      op_name: z.optional(z.string()),
      output_type_shape: z.optional(z.array(z.record(z.string(), z.array(z.number())))),
      mem_in_use_peak: z.optional(z.string()),
    }),
  }),
);

interface Executed {
  order: { operator: string; shape: Shape }[]; // what was computed, in its order: each operator, its first result's shape
  peak: number; // the most bytes of the runtime's own memory that were in use at once
}

/** What the runtime does in one step, by its own account. */
async function executed(config: Partial<GPTConfig>, wish: boolean): Promise<Executed> {
  const folder = mkdtempSync(join(tmpdir(), "recompute-"));
  try {
    const model = shaken(config);
    const program = await lossProgram(model, wish, join(folder, "step"));
    await program.run(randomBatch(model, B), { dropout: [1] });
    await program.dispose();
    const events = eventsSchema
      .parse(JSON.parse(readFileSync(join(folder, readdirSync(folder)[0]!), "utf8")))
      .filter(({ cat, name }) => cat === "Node" && name.endsWith("_kernel_time"))
      .sort((a, b) => a.ts - b.ts);
    const order = events.map(({ args }) => ({
      operator: args.op_name!,
      shape: Object.values(args.output_type_shape?.[0] ?? {})[0] ?? [],
    }));
    return { order, peak: Math.max(...events.map(({ args }) => Number(args.mem_in_use_peak))) };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

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
  const [plain, again] = [await executed(config, false), await executed(config, true)];
  // a block keeps 19 times its input, or only that; what differentiating one of them takes comes once in either case
  assert.ok(again.peak < plain.peak / 3, `${again.peak} bytes, ${plain.peak} without`);
});
