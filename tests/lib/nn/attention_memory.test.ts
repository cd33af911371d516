// Attention's memory in a training step, as the system sees it: what the runtime makes of the graph is not in the graph.

import assert from "node:assert/strict";
import { test } from "node:test";

import { run } from "../../scripts.ts";

/** MB at the peak of a step beyond Node and the libraries. */
async function peakOfStep(block_size: number, pos: string): Promise<number> {
  const model = ["--n_layer=1", "--n_head=2", "--n_embd=16", `--pos=${pos}`, `--block_size=${block_size}`];
  const short = [
    "--dropout=0.1",
    "--batch_size=1",
    "--steps=1",
    "--warmup=0",
    "--threads=1",
    "--results=",
    "--json=true",
  ];
  const { code, stdout, stderr } = await run("bench.ts", ["--benchmark=training_throughput", ...model, ...short]);
  assert.equal(code, 0, stderr);
  const { peak_rss_mb, rss_import_mb } = JSON.parse(stdout.trimEnd().split("\n").at(-1)!);
  return peak_rss_mb - rss_import_mb;
}

for (const pos of ["learned", "alibi"]) {
  test(`twice the length takes at most twice the memory, with dropout and pos ${pos}`, async () => {
    // 1.4 and 1.7 times, of 75 and 90 MB; 2.6 and 3.6 times where something of each query and key is kept
    const [short, long] = [await peakOfStep(2048, pos), await peakOfStep(4096, pos)];
    assert.ok(long < 2 * short, `${short.toFixed(0)} MB at 2,048 tokens, ${long.toFixed(0)} MB at 4,096`);
  });
}
