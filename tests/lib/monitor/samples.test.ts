// lib/monitor/samples.ts: what is drawn is what the model of that moment would write, compiled or not.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import type { EvaluateEvent } from "../../../lib/monitor/callback.ts";
import { samples } from "../../../lib/monitor/samples.ts";
import { temporaryFolder } from "../../scripts.ts";
import { characterMeta } from "../text/support.ts";
import { fakeRun } from "./support.ts";

const CHARACTERS = "\nabcdefghij";
const evaluation = (iter: number): EvaluateEvent => ({ iter, metrics: {}, best: true, texts: new Map() });

test("every second evaluation has a text, of the weights of that moment; compiled and plain agree", async () => {
  const texts = new Map<boolean, string[]>();
  for (const compile of [true, false]) {
    const outDir = temporaryFolder();
    const { run } = await fakeRun({ outDir, config: { seed: 1, compile }, tokenizer: characterMeta(CHARACTERS) });
    const callback = samples({ interval: 2 });
    callback.onTrainStart!(run);
    const drawn: string[] = [];
    for (let i = 0; i < 4; i++) {
      const event = evaluation(10 * i);
      await callback.onEvaluate!(event);
      assert.equal(event.texts.has("sample"), i % 2 === 0);
      if (i % 2 === 0) drawn.push(event.texts.get("sample")!);
      run.model.transformer.wte.data.set(run.model.transformer.wte.data.toReversed()); // another model
    }
    run.model.transformer.wte.data.reverse();
    assert.equal(drawn[0]!.length, 200);
    assert.ok([...drawn[0]!].every((character) => CHARACTERS.includes(character)));
    texts.set(compile, drawn);
    const names = readdirSync(join(outDir, "samples"));
    assert.match(names[0]!, /^sample_\d{8}_\d{6}\.txt$/);
    const kept = names.map((name) => readFileSync(join(outDir, "samples", name), "utf8"));
    assert.equal(kept.join(""), `after 0 steps:\n${drawn[0]}\nafter 20 steps:\n${drawn[1]}\n`);
  }
  assert.deepEqual(texts.get(true), texts.get(false));
});

test("a resumed run goes on counting, and doesn't count the evaluation that it repeats", async () => {
  const { run } = await fakeRun({ outDir: temporaryFolder(), tokenizer: characterMeta(CHARACTERS) });
  const first = samples({ interval: 2 });
  first.onTrainStart!(run);
  await first.onEvaluate!(evaluation(0));
  await first.onEvaluate!(evaluation(10));
  const second = samples({ interval: 2 });
  second.restore!(JSON.parse(JSON.stringify(first.state!())));
  second.onTrainStart!(run);
  const drawn: boolean[] = [];
  for (const iter of [10, 20, 30]) {
    const event = evaluation(iter);
    await second.onEvaluate!(event);
    drawn.push(event.texts.has("sample"));
  }
  assert.deepEqual(drawn, [false, true, false]);
});

test("where the dataset has no line's end the text begins with a token that it has", async () => {
  const { run } = await fakeRun({ outDir: temporaryFolder(), tokenizer: characterMeta("abcdefghijk") });
  const callback = samples({ interval: 1 });
  callback.onTrainStart!(run);
  const event = evaluation(0);
  await callback.onEvaluate!(event);
  assert.equal(event.texts.get("sample")!.length, 200);
});
