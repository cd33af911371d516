// tools/export.ts as a person runs it: what is written is a model again, and nothing else is written over.

import assert from "node:assert/strict";
import { cpSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import { openModel } from "../../lib/formats/pretrained.ts";
import { GPT } from "../../model.ts";
import { assertSameModel, editJson, fixture, shakenGPT } from "../lib/formats/support.ts";
import { characterMeta } from "../lib/text/support.ts";
import { assertRefused, contentsOf, oneProcess, succeed, temporaryFolder } from "../scripts.ts";
import { saveModel } from "../support.ts";

const FOLDER = temporaryFolder();
const META = characterMeta("abcdefghijk");
const trained = shakenGPT({ bias: false, dropout: 0.2 });

const place = (name: string) => join(FOLDER, name);
const runHere = oneProcess();
const exported = (...flags: string[]) => runHere("tools/export.ts", flags, FOLDER);

before(async () => {
  await saveModel(place("out"), trained, { tokenizer: META });
});

async function readModel(folder: string): Promise<GPT> {
  const opened = await openModel(folder, "nowhere");
  const model = new GPT(opened.modelArgs);
  await opened.read(model);
  opened.close();
  assert.deepEqual(opened.tokenizerMeta, META);
  return model;
}

for (const [format, files] of [
  ["hf", ["config.json", "export.json", "meta.json", "model.safetensors"]],
  ["nanogpt", ["export.json", "meta.json", "model.safetensors", "model_args.json"]],
] as const) {
  test(`${format}: the checkpoint's model and its characters; once more over itself`, async () => {
    for (let time = 0; time < 2; time++) {
      const { code, stdout, stderr } = await exported(`--format=${format}`, `--to=${format}`);
      assert.equal(code, 0, stderr);
      assert.match(stdout, new RegExp(`^wrote out to ${format} as ${format}: .*model\\.safetensors`, "m"));
      assert.deepEqual(readdirSync(place(format)).sort(), files);
      assertSameModel(await readModel(place(format)), trained);
    }
  });
}

test("a folder of another program's model is exported as well, into a folder that is made", async () => {
  await succeed("tools/export.ts", [`--init_from=${fixture("nanogpt")}`, "--format=nanogpt", "--to=a/b"], {
    cwd: FOLDER,
  });
  assert.deepEqual(readdirSync(place("a/b")).sort(), ["export.json", "model.safetensors", "model_args.json"]);
});

for (const [what, make, flags, message] of [
  [
    "a folder with other files",
    (folder) => writeFileSync(join(folder, "notes.txt"), "x"),
    [],
    /holds other files; name another folder with --to, or write over it with --overwrite/,
  ],
  [
    "a downloaded model",
    (folder) => cpSync(fixture("hf_gelu_new"), folder, { recursive: true }),
    [],
    /holds other files/,
  ],
  [
    "an export in another format",
    (folder) => writeFileSync(join(folder, "export.json"), '{"format":"nanogpt"}'),
    [],
    /holds an export as nanogpt; name/,
  ],
  ["an unknown format", () => {}, ["--format=gguf"], /format must be "hf", "nanogpt" or "onnx", got "gguf"/],
  ["no checkpoint", () => {}, ["--out_dir=nowhere"], /no checkpoint in nowhere/],
  [
    "an activation that nanoGPT lacks",
    () => {},
    [`--init_from=${fixture("hf_gelu_new")}`, "--format=nanogpt"],
    /gelu_tanh/,
  ],
] as [string, (folder: string) => void, string[], RegExp][]) {
  test(`one line, and nothing is written: ${what}`, async () => {
    const folder = place(what.replaceAll(" ", "_"));
    mkdirSync(folder);
    make(folder);
    const before = contentsOf(folder);
    assertRefused(await exported(`--to=${folder}`, ...flags), message);
    assert.deepEqual(contentsOf(folder), before);
  });
}

test("a file where the folder shall be is one line", async () => {
  writeFileSync(place("file"), "x");
  assertRefused(await exported("--to=file"), /can't write the export to file: ENOTDIR/);
});

test("--overwrite writes into a folder with other files, and leaves them", async () => {
  cpSync(fixture("hf_gelu_new"), place("mixed"), { recursive: true });
  editJson(place("mixed"), "config.json", { n_layer: 7 });
  writeFileSync(join(place("mixed"), "notes.txt"), "x");
  await succeed("tools/export.ts", ["--to=mixed", "--overwrite"], { cwd: FOLDER });
  assert.ok(readdirSync(place("mixed")).includes("notes.txt"));
  assertSameModel(await readModel(place("mixed")), trained);
});
