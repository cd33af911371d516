import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { fileURLToPath } from "node:url";

import { datasetFolder } from "../../../lib/text/dataset.ts";
import { temporaryFolder, userError } from "./support.ts";

const DATA = fileURLToPath(new URL("../../../data", import.meta.url));

test("a name is a folder under data/ wherever the program runs, anything else a path", (t) => {
  const folder = temporaryFolder(t);
  mkdirSync(join(folder, "mine"));
  const before = process.cwd();
  process.chdir(folder);
  t.after(() => process.chdir(before));
  assert.equal(datasetFolder("shakespeare_char"), join(DATA, "shakespeare_char"));
  assert.equal(datasetFolder("mine"), join(process.cwd(), "mine"));
  assert.equal(datasetFolder("./mine"), join(process.cwd(), "mine"));
  assert.equal(datasetFolder(join(folder, "mine")), join(folder, "mine"));
  assert.equal(datasetFolder("."), process.cwd());
});

test("an unknown dataset is told which there are and how to make them", () => {
  for (const name of ["wikitext", "", "./shakespeare_char", "token_file.ts", "no/such"]) {
    assert.throws(() => datasetFolder(name), userError(/no dataset/, /shakespeare_char \(npx tsx .*prepare\.ts\)/));
  }
  assert.throws(() => datasetFolder("shakespear_char"), userError(/no dataset .*; did you mean shakespeare_char\?$/));
});
