// What ONNX Runtime does in one step, by its own account: for recompute_cost.test.ts, and as a process for its memory, since the
// sessions of a process share an arena.
//
//   npx tsx tests/lib/nn/executed_step.ts '{"n_layer":12}' true     the most bytes in use, with recomputation

import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isMain } from "../../../lib/common/main_module.ts";
import { z } from "../../../lib/common/zod.ts";
import type { Shape } from "../../../lib/engine/graph.ts";
import { withRecompute } from "../../../lib/nn/recompute.ts";
import type { GPT, GPTConfig } from "../../../model.ts";
import { compiled, randomBatch, shaken } from "../../support.ts";

const B = 2;

export function lossProgram(model: GPT, wish: boolean, profile?: string) {
  const tokens = { shape: [B, model.config.block_size], dtype: "int32" } as const;
  return compiled.program(({ x, y }, mask) => withRecompute(wish, () => model.loss(x, y, mask)), {
    variables: model.parameters,
    inputs: { x: tokens, y: tokens },
    gradients: true,
    profile,
  });
}

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
export async function executed(config: Partial<GPTConfig>, wish: boolean): Promise<Executed> {
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

if (isMain(import.meta.url)) {
  const [config = "{}", wish] = process.argv.slice(2);
  console.log((await executed(JSON.parse(config), wish === "true")).peak);
}
