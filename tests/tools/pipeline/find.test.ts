// --resume alone goes on with the one pipeline here that hasn't finished.

import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { UserError } from "../../../lib/common/errors.ts";
import { findPipeline } from "../../../tools/pipeline/find.ts";
import { STAGES, type StageRecord, writeState } from "../../../tools/pipeline/state.ts";
import { temporaryFolder } from "../../scripts.ts";

const HERE = temporaryFolder();

function pipeline(name: string, last: StageRecord["state"]): void {
  mkdirSync(join(HERE, name), { recursive: true });
  const some = { why: "", started: "", ended: null, seconds: null, commands: [], outputs: {}, error: null };
  const record = { ...some, inputs: { settings: {}, files: {} } };
  const stages = STAGES.map((stage, i) => [stage, { ...record, state: i < 4 ? "done" : last }]);
  writeState(join(HERE, name), {
    format_version: 1,
    given: {},
    config_file: null,
    stages: Object.fromEntries(stages),
  });
}

const refused = (message: RegExp) => (error: unknown) =>
  error instanceof UserError && message.test(error.message) && !error.message.includes("\n");

test("none, one, the unfinished one among several, and several of a kind", () => {
  mkdirSync(join(HERE, "data"));
  writeFileSync(join(HERE, "my.txt"), "");
  assert.throws(
    () => findPipeline(HERE),
    refused(/^no pipeline in the folders here; start one with --input_file=my\.txt$/),
  );

  pipeline("out-a", "done");
  assert.equal(findPipeline(HERE), "out-a");
  pipeline("out-b", "done");
  assert.throws(() => findPipeline(HERE), refused(/all have finished: out-a, out-b; name one with --out_dir=out-a$/));
  for (const state of ["running", "stopped", "failed"] as const) {
    pipeline("out-c", state);
    assert.equal(findPipeline(HERE), "out-c");
  }
  pipeline("out-b", "stopped");
  assert.throws(() => findPipeline(HERE), refused(/several unfinished pipelines: out-b, out-c; name one with/));

  writeFileSync(join(HERE, "out-c", "pipeline.json"), "{");
  assert.throws(() => findPipeline(HERE), refused(/out-c.pipeline\.json is not a pipeline's state/));
});
