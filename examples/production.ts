// A trained model in a server: loaded once, 8-bit weights, several samples side by side, one-line errors.
//
//   npx tsx train.ts config/train_shakespeare_char_cpu.ts
//   npx tsx examples/production.ts out-shakespeare-char "ROMEO:" "JULIET:"

import { main, UserError } from "../lib/common/errors.ts";
import { keyOf, uniform } from "../lib/common/rng.ts";
import { createCachedDecoder } from "../lib/decoding/cached_decoder.ts";
import { generateTexts, type Sample } from "../lib/decoding/generate.ts";
import { createEngine } from "../lib/engine/runtime/program.ts";
import { openModel } from "../lib/formats/pretrained.ts";
import { GPT } from "../model.ts";

await main(async () => {
  const [folder, ...prompts] = process.argv.slice(2);
  if (!folder || prompts.length === 0) throw new UserError("give a folder and prompts: out-shakespeare-char 'ROMEO:'");

  // 1) once: load the weights, in a quarter of their size
  const opened = await openModel(folder, folder, { log: console.error });
  const tokenizer = await opened.tokenizer();
  const model = new GPT(opened.modelArgs);
  const engine = await createEngine({ compile: true });
  const decoder = await createCachedDecoder(engine, model, opened.frozen("int8"));
  opened.close();

  // 2) for each request
  for (const [request, prompt] of prompts.entries()) {
    const random = (sample: number, step: number) => uniform(keyOf(request, sample), step);
    const options = { max_new_tokens: 80, temperature: 0.8, top_k: 50, stop: ["\n\n"], random };
    let samples: readonly Sample[] = [];
    for await (samples of generateTexts(decoder, tokenizer, tokenizer.encode(prompt), [0, 1], options)) {
      // a server would send the new text here
    }
    for (const { text, finish } of samples) console.log(JSON.stringify({ prompt, text, finish }));
  }
  await decoder.dispose();
});
