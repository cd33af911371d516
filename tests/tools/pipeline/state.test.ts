// A stage runs again exactly when something that matters is no longer what it was.

import assert from "node:assert/strict";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { UserError } from "../../../lib/common/errors.ts";
import {
  marksOf,
  readState,
  type StageRecord,
  type State,
  whyOther,
  whyRun,
  writeState,
} from "../../../tools/pipeline/state.ts";
import { temporaryFolder } from "../../scripts.ts";

const FOLDER = temporaryFolder();
const INPUT = join(FOLDER, "in.txt");
const OUTPUT = join(FOLDER, "out.bin");

async function finished(): Promise<{ record: StageRecord; inputs: StageRecord["inputs"] }> {
  writeFileSync(INPUT, "some text");
  writeFileSync(OUTPUT, "what it made");
  const inputs = { settings: { n_layer: 2, start: "\n" }, files: await marksOf({ text: INPUT }) };
  const outputs = await marksOf({ "out.bin": OUTPUT });
  const times = { started: "2026-01-01T00:00:00.000Z", ended: "2026-01-01T00:00:01.000Z", seconds: 1 };
  return { record: { state: "done", why: "", ...times, commands: [], inputs, outputs, error: null }, inputs };
}

test("a file's mark is its size and SHA-256", async () => {
  writeFileSync(INPUT, "abc");
  const sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; // FIPS 180-2, example B.1
  assert.deepEqual(await marksOf({ a: INPUT, b: join(FOLDER, "missing") }), { a: { bytes: 3, sha256 }, b: null });
});

test("a file of several reads has the checksum of its whole", async () => {
  const path = join(FOLDER, "large");
  writeFileSync(path, "a".repeat(1_000_000) + "b".repeat(1_000_000));
  const before = (await marksOf({ path })).path;
  assert.equal(before?.bytes, 2_000_000);
  writeFileSync(path, `${"a".repeat(1_000_000) + "b".repeat(999_999)}c`);
  assert.notEqual((await marksOf({ path })).path?.sha256, before?.sha256);
});

test("a finished stage stays finished, and a date alone is no change", async () => {
  const { record, inputs } = await finished();
  writeFileSync(OUTPUT, "what it made");
  assert.equal(await whyRun(record, inputs, FOLDER), undefined);
});

test("a changed setting, input or output is named", async () => {
  const { record, inputs } = await finished();
  const other = { ...inputs, settings: { n_layer: 3, start: "\n" } };
  assert.equal(await whyRun(record, other, FOLDER), "n_layer was 2 and is 3");
  assert.equal(
    whyOther(inputs, { ...inputs, settings: { n_layer: 2, start: "\n", bias: true } }),
    "bias was its default and is true",
  );

  writeFileSync(INPUT, "some texT");
  assert.equal(await whyRun(record, { ...inputs, files: await marksOf({ text: INPUT }) }, FOLDER), "text has changed");
  rmSync(INPUT);
  assert.equal(await whyRun(record, { ...inputs, files: await marksOf({ text: INPUT }) }, FOLDER), "text is gone");

  writeFileSync(OUTPUT, "what it mad3");
  assert.equal(await whyRun(record, inputs, FOLDER), "out.bin has changed");
  rmSync(OUTPUT);
  assert.equal(await whyRun(record, inputs, FOLDER), "out.bin is gone");
});

test("a stage that never ran, was killed, stopped or failed runs", async () => {
  const { record, inputs } = await finished();
  assert.equal(await whyRun(undefined, inputs, FOLDER), "it has not run yet");
  for (const [state, why] of [
    ["running", /killed/],
    ["stopped", /stopped/],
    ["failed", /failed/],
  ] as const) {
    assert.match((await whyRun({ ...record, state }, inputs, FOLDER))!, why);
  }
});

test("the state comes back as it was written; a damaged file is refused in a line", async () => {
  assert.equal(readState(join(FOLDER, "nowhere")), undefined);
  const { record } = await finished();
  const given: State["given"] = { n_layer: { value: 2, from: "flag" } };
  const state: State = { format_version: 1, given, config_file: null, stages: { train: record } };
  writeState(FOLDER, state);
  assert.deepEqual(readState(FOLDER), state);
  for (const text of ['{"format_version": 1, "given"', '{"format_version": 2}']) {
    writeFileSync(join(FOLDER, "pipeline.json"), text);
    assert.throws(
      () => readState(FOLDER),
      (error) =>
        error instanceof UserError &&
        /pipeline\.json is not a pipeline's state/.test(error.message) &&
        !error.message.includes("\n"),
    );
  }
});
