// What the files of a run are called.

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";

import { evaluationPath, fileNamePart, runName, samplePath, stamp } from "../../../lib/common/file_names.ts";

const DATE = new Date("2026-11-23T17:48:05.678Z");

test("a run's files lie in its folder, and are called by their kind and moment, in UTC", () => {
  assert.equal(stamp(DATE), "20261123_174805");
  assert.equal(runName("a/out-my/"), "out-my");
  assert.equal(samplePath("out-my", DATE), join("out-my", "samples", "sample_20261123_174805.txt"));
  const evaluation = join("out-my", "evaluation", "eval_out-my_owt_20261123_174805.json");
  assert.equal(evaluationPath("out-my", "owt", DATE), evaluation);
  assert.ok(stamp(DATE) < stamp(new Date(DATE.getTime() + 1000)), "names sort as the files came");
});

test("a name is fit for a part of a file's name", () => {
  assert.equal(fileNamePart("Über uns/2: a?"), "Über-uns-2-a-");
});
