// Ctrl-C and SIGTERM under the real `npx tsx`, whose command line kills what doesn't answer within 60 ms. As often as wanted, and with
// a larger model: npx tsx tests/interrupts.ts 10

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";

import { hasTerminal, MOMENTS, SIGNALS, stopTraining, stopUnderNpx } from "./interrupts.ts";
import { attempts, flags, ROOT, temporaryFolder, tinyDataset } from "./scripts.ts";

const FOLDER = temporaryFolder();
// a step takes several times the 60 ms
const SETTINGS = flags({
  ...{ dataset: tinyDataset(FOLDER), n_layer: 2, n_head: 4, n_embd: 256, block_size: 128, batch_size: 32 },
  ...{ gradient_accumulation_steps: 1, eval_iters: 1, log_interval: 1 },
});
const TERMINAL = { skip: !hasTerminal && "needs Linux and the script program of util-linux" };

test("a script whose event loop has no turn for a second says that it heard, and isn't killed", TERMINAL, async () => {
  const script = join(FOLDER, "busy.mts");
  writeFileSync(
    script,
    `import { main } from ${JSON.stringify(pathToFileURL(join(ROOT, "lib", "common", "errors.ts")).href)};
    main(async () => {
      await new Promise((go) => setTimeout(go, 500)); // the answering thread is there by now
      console.log("busy");
      for (const start = performance.now(); performance.now() - start < 1000; );
      console.log("free again");
      setTimeout(() => console.log("unstopped"), 5000);
    });`,
  );
  for (const signal of SIGNALS) {
    const { code, output } = await stopUnderNpx(script, [`--mark=${signal}`], `--mark=${signal}`, /busy/, signal);
    assert.match(output, new RegExp(`${signal}: heard.*free again.*${signal}: stopped`, "s")); // stopped by the script itself
    assert.doesNotMatch(output, /unstopped/);
    assert.equal(code, signal === "SIGINT" ? 130 : 143);
  }
});

for (const [i, moment] of (Object.keys(MOMENTS) as (keyof typeof MOMENTS)[]).entries()) {
  // each moment with one of them; the step, where there is something to lose, with both
  for (const signal of moment === "step" ? SIGNALS : [SIGNALS[i % 2]!]) {
    test(
      `${signal} in the ${moment} under npx tsx: an answer, the signal's code, and a checkpoint if there is one to be`,
      TERMINAL,
      async () => {
        const delay = moment === "step" ? 200 : 0;
        const { output } = await attempts((i) => stopTraining(FOLDER, SETTINGS, moment, signal, delay + i));
        if (moment === "step") assert.match(output, /continue with: npx tsx train\.ts --init_from=resume/);
      },
    );
  }
}
