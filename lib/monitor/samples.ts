// Samples from the model during training.

import { appendFileSync, mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { samplePath } from "../common/file_names.ts";
import { keyOf, uniform } from "../common/rng.ts";
import { z } from "../common/zod.ts";
import { createContinuer } from "../decoding/continue.ts";
import { defaultStart } from "../decoding/start.ts";
import { GPT2_META } from "../text/meta.ts";
import { createTokenizer, type Tokenizer } from "../text/tokenizer.ts";
import type { Callback, Run } from "./callback.ts";

const TOKENS = 200;

const State = z.object({ evaluations: z.int(), last: z.int() });

/** Adds the text "sample" to every `interval`th evaluation, and keeps it as samples/sample_{date}_{time}.txt. */
export function samples({ interval }: { interval: number }): Callback {
  let run: Run;
  let tokenizer: Tokenizer | undefined;
  let [evaluations, last] = [0, -1]; // how many, and the step of the last one: a resumed run repeats it
  return {
    name: "samples",
    onError: "continue",
    onTrainStart(started) {
      run = started;
    },
    async onEvaluate({ iter, texts }) {
      if (iter !== last) evaluations++;
      last = iter;
      if ((evaluations - 1) % interval !== 0) return;
      tokenizer ??= await createTokenizer(run.tokenizer ?? GPT2_META, run.outDir);
      const text = await draw(run, tokenizer);
      texts.set("sample", text);
      const path = samplePath(run.outDir);
      mkdirSync(dirname(path), { recursive: true });
      appendFileSync(path, `after ${iter} steps:\n${text}\n`); // two in one second share a file
    },
    state: () => ({ evaluations, last }),
    restore(state) {
      ({ evaluations, last } = State.parse(state));
    },
  };
}

/** The same seed each time: only the model differs. */
async function draw(run: Run, tokenizer: Tokenizer): Promise<string> {
  const { model, engine, config } = run;
  const frozen = config.compile ? {} : undefined;
  const continueTexts = await createContinuer(engine, model, tokenizer, { frozen, pairs: run.tokenizer?.pairs });
  try {
    const random = (_: number, step: number) => uniform(keyOf(Number(config.seed), "sample"), step);
    const interrupted = () => run.abort.aborted;
    const options = { max_new_tokens: TOKENS, temperature: 0.8, top_k: 200, random, interrupted };
    let text = "";
    for await (const [sample] of continueTexts(promptOf(run, tokenizer), [0], options)) {
      text = sample!.text;
    }
    return text;
  } finally {
    await continueTexts.dispose();
  }
}

/** The validation split's first source if the model has an encoder, else the default prompt. */
function promptOf({ model, validationBatch }: Run, tokenizer: Tokenizer): number[] {
  if (!model.transformer.encoder) return tokenizer.encode(defaultStart(tokenizer));
  const { source, source_length } = validationBatch();
  return [...source.subarray(0, source_length[0]!)];
}
