// Sampling speed: ours against Hugging Face's generate (with its cache) and nanoGPT's, in one sitting on this machine:
//
//   npx tsx tools/compare/compare_generate.ts --nanogpt=PATH --python=PATH
//
// One sample, greedy, from the same random weights in a temporary folder. Every run is a separate process, and the
// contenders alternate; results are medians over the rounds. Reports whether all sampled the same tokens.

import { resolve } from "node:path";
import { runScript } from "../../configurator.ts";
import { median } from "../../lib/common/statistics.ts";
import { TemporaryFolder } from "../../lib/common/temporary_folder.ts";
import { z } from "../../lib/common/zod.ts";
import { writeHuggingFace } from "../../lib/formats/huggingface.ts";
import { GPT } from "../../model.ts";
import { pathOf, runContender } from "./rival.ts";

export const defaults = {
  nanogpt: "", // a checkout of karpathy/nanoGPT; without it that opponent is left out
  python: "python3", // a Python that has torch and transformers
  rounds: 3, // each contender runs once per round
  tokens: 200, // new tokens in a run
  runs: 3, // in each process, the first token separately
  threads: 2,
  // shapes: GPT-2 124M
  n_layer: 12,
  n_head: 12,
  n_embd: 768,
  block_size: 1024,
  vocab_size: 50257,
};

const PROMPT = [464, 3280, 318, 11, 286, 1781, 13, 198];

const runSchema = z.object({
  tokens: z.array(z.int()),
  tokens_per_s: z.number(),
  first_token_s: z.number(),
  peak_rss_mb: z.number(),
});
type Run = z.infer<typeof runSchema>;

/** Print the table of speeds. @throws UserError if an opponent is missing */
export async function run(config: Readonly<typeof defaults>): Promise<void> {
  const { rounds, tokens, runs, threads, nanogpt, n_layer, n_head, n_embd, block_size, vocab_size } = config;
  const { path: folder } = new TemporaryFolder("compare"); // removed when the process ends
  const shape = { n_layer, n_head, n_embd, block_size, vocab_size };
  const model = new GPT({ ...shape, dropout: 0, bias: true, ffn: "gelu_tanh" }).initWeights(1);
  // larger than a new model's, so that one token is clearly the likeliest
  for (const { init, data } of model.parameters) if ("normal" in init) data.set(data.map((x) => 4 * x));
  await writeHuggingFace(model, undefined, folder);

  const prompt = PROMPT.map((token) => token % vocab_size).join();
  const shared = [
    `--model=${folder}`,
    `--prompt=${prompt}`,
    `--tokens=${tokens}`,
    `--rounds=${runs}`,
    `--threads=${threads}`,
  ];
  const python = pathOf(config.python);
  const ours = (dtype: string) => [
    process.execPath,
    "--import",
    "tsx",
    "tools/compare/our_generate.ts",
    `--dtype=${dtype}`,
  ];
  const rival = (name: string) => [python, "tools/compare/rival_generate.py", `--rival=${name}`];
  const contenders = [
    { name: "ours, float32", command: ours("float32"), done: [] as Run[] },
    { name: "ours, int8", command: ours("int8"), done: [] },
    { name: "transformers", command: rival("transformers"), done: [] },
  ];
  if (nanogpt) {
    const command = [...rival("nanogpt"), `--nanogpt=${resolve(nanogpt)}`];
    contenders.push({ name: "nanoGPT", command, done: [] });
  }
  for (let round = 1; round <= rounds; round++) {
    for (const { name, command, done } of contenders) {
      const run = await runOnce(name, [...command, ...shared]);
      done.push(run);
      console.error(`round ${round}/${rounds}  ${name}: ${run.tokens_per_s.toFixed(1)} tokens/s`);
    }
  }

  const [first] = contenders;
  const speed = (done: Run[]) => median(done.map(({ tokens_per_s }) => tokens_per_s));
  console.log(`\n${JSON.stringify(shape)}, ${threads} threads, ${tokens} tokens, medians of ${rounds} rounds`);
  for (const { name, done } of contenders) {
    const figures = [
      `${speed(done).toFixed(1)} tokens/s`,
      `ours ${(speed(first!.done) / speed(done)).toFixed(2)} x, ours in int8 ${(speed(contenders[1]!.done) / speed(done)).toFixed(2)} x`,
      `first token after ${median(done.map((run) => run.first_token_s)).toFixed(2)} s`,
      `${median(done.map((run) => run.peak_rss_mb)).toFixed(0)} MB`,
      `${same(done[0]!.tokens, first!.done[0]!.tokens)} of ${tokens} tokens as the first`,
    ];
    console.log(`${name.padEnd(14)} ${figures.join("; ")}`);
  }
}

/** The length of the common prefix. */
function same(a: readonly number[], b: readonly number[]): number {
  const at = a.findIndex((token, i) => token !== b[i]);
  return at < 0 ? a.length : at;
}

async function runOnce(name: string, [command, ...args]: string[]): Promise<Run> {
  return runSchema.parse(JSON.parse(await runContender(name, command!, args)));
}

await runScript(import.meta.url, defaults, run, { usage: "Compare sampling speed with other programs." });
