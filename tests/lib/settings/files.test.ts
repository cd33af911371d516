// lib/settings/files.ts: what `extends:` composes and how its mistakes are told; and the presets, environments and composed
// files of the repository.

import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { test } from "node:test";
import baby from "../../../config/train_shakespeare_char.ts";
import cpu from "../../../config/train_shakespeare_char_cpu.ts";
import { configure } from "../../../configurator.ts";
import { UserError } from "../../../lib/common/errors.ts";
import { readConfigFile } from "../../../lib/settings/files.ts";
import type { Settings } from "../../../lib/settings/rules.ts";
import { GPT } from "../../../model.ts";
import { type TrainConfig, defaults as trainDefaults } from "../../../train.ts";
import { ROOT, temporaryFolder } from "../../scripts.ts";

const FOLDER = temporaryFolder();
const CONFIG = join(ROOT, "config");

let folders = 0;
/** Write files into a new folder and return the path of the first one. */
function write(files: Record<string, string>): string {
  const folder = join(FOLDER, `${folders++}`);
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
  return join(folder, Object.keys(files)[0]!);
}

/** What counts in the end, and the file that says it, without its folder. */
async function merged(path: string): Promise<Record<string, [unknown, string]>> {
  const settings = await readConfigFile(path);
  return Object.fromEntries(
    settings.map(({ key, value, source }) => [key, [value, source.slice(dirname(path).length + 1)]]),
  );
}

/** Must be refused by one line that ends with the chain of files, as short names. */
async function refused(path: string, message: string): Promise<void> {
  await assert.rejects(readConfigFile(path), (error) => {
    assert.ok(error instanceof UserError, String(error));
    assert.equal(error.message.replaceAll(`${dirname(path)}/`, ""), message);
    return true;
  });
}

// ---- extends ----

test("files are merged in order, own keys win, wherever `extends` stands", async () => {
  const path = write({
    "a.yaml": "n_head: 3\nextends: [b.yaml, c.json]\n",
    "b.yaml": "n_layer: 1\nn_head: 1\nn_embd: 1\ndropout: 0.1\n",
    "c.json": '{ "n_head": 2, "n_embd": 2 }',
  });
  assert.deepEqual(await merged(path), {
    n_layer: [1, "b.yaml"],
    n_head: [3, "a.yaml"],
    n_embd: [2, "c.json"],
    dropout: [0.1, "b.yaml"],
  });
});

test("paths are relative to the file that names them; modules and documents extend each other", async () => {
  const path = write({
    "runs/a.ts": 'export default { extends: "../models/b.yaml", n_layer: 1 } satisfies object;',
    "models/b.yaml": "extends: deep/c.mjs\nn_layer: 2\nn_head: 2\n",
    "models/deep/c.mjs": 'export default { extends: ["../../d.json"], n_layer: 3, n_head: 3, n_embd: 3 };',
    "d.json": '{ "n_layer": 4, "n_head": 4, "n_embd": 4, "dropout": 0.4, "extends": [] }',
  });
  const values = Object.entries(await merged(path)).map(([key, [value]]) => [key, value]);
  assert.deepEqual(Object.fromEntries(values), { n_layer: 1, n_head: 2, n_embd: 3, dropout: 0.4 });
});

test("a mistyped file gets the one that may be meant, of its folder or of the repository's config/", async () => {
  const path = write({ "tiny_words.yaml": "n_layer: 1", "a.yaml": "extends: tiny_wrods.yaml", "b.yaml": "x: 1" });
  const near = async (name: string, suggestion: string) => {
    const message = await readConfigFile(name).then(
      () => assert.fail(name),
      (error: UserError) => error.message,
    );
    assert.ok(message.includes(`; did you mean ${suggestion}?`), message);
  };
  await near(join(dirname(path), "tiny_word.yaml"), path);
  await near(join(dirname(path), "a.yaml"), path);
  const ours = (name: string) => relative("", join(CONFIG, name));
  await near("config/train_shakespear_char.ts", ours("train_shakespeare_char.ts"));
  await near("config/train_shakespeare_char.py", ours("train_shakespeare_char.ts")); // nanoGPT's name of it
  await near("train_shakespeare_char", ours("train_shakespeare_char.ts"));
  await near("tiny.yaml", ours("models/tiny.yaml"));
  await assert.rejects(readConfigFile("qqqqqqqq.yaml"), { message: /^no config file [^;]*$/ });
});

test("an absolute path will do, and a file that two others extend is no cycle", async () => {
  const base = write({ "base.yaml": "n_layer: 1\nn_head: 1\n" });
  const path = write({
    "a.yaml": "extends: [left.yaml, right.yaml]\n",
    "left.yaml": `extends: ${base}\nn_layer: 2\n`,
    "right.yaml": `extends: ${base}\nn_head: 2\n`,
  });
  const last = Object.fromEntries((await readConfigFile(path)).map(({ key, value }) => [key, value]));
  assert.deepEqual(last, { n_layer: 1, n_head: 2 }); // what right.yaml extends counts as right.yaml's, and comes last
});

test("a chain of 300 files", async () => {
  const depth = 300;
  const files = Array.from({ length: depth }, (_, i): [string, string] => [
    `${i}.json`,
    JSON.stringify({ [`key_${i}`]: i, last: i, ...(i + 1 < depth && { extends: `${i + 1}.json` }) }),
  ]);
  const found = await merged(write(Object.fromEntries(files)));
  assert.equal(Object.keys(found).length, depth + 1);
  assert.deepEqual(
    [found.last, found.key_299],
    [
      [0, "0.json"],
      [299, "299.json"],
    ],
  );
});

test("values that are overridden are there too, so that their mistakes count", async () => {
  const path = write({ "a.yaml": "extends: b.yaml\nn_layer: 1\n", "b.yaml": "n_layer: 0\n" });
  await assert.rejects(
    configure(import.meta.url, { n_layer: 2 }, { argv: [path], env: {}, log() {} }),
    (error) => error instanceof UserError && /n_layer must be .*, got 0 \(.*b\.yaml\)$/.test(error.message),
  );
});

test("a cycle is told with its files", async () => {
  await refused(
    write({ "a.yaml": "extends: a.yaml\n" }),
    "a.yaml extends itself; take one of these extends out (a.yaml extends a.yaml)",
  );
  await refused(
    write({
      "a.yaml": "extends: b.mjs",
      "b.mjs": 'export default { extends: "c.json" };',
      "c.json": '{"extends": "b.mjs"}',
    }),
    "b.mjs extends itself; take one of these extends out (a.yaml extends b.mjs extends c.json extends b.mjs)",
  );
  const path = write({ "a.yaml": "extends: link.yaml" });
  symlinkSync(path, join(dirname(path), "link.yaml"));
  await refused(path, "link.yaml extends itself; take one of these extends out (a.yaml extends link.yaml)");
});

test("each mistake in a file that is extended is one line with the chain", async () => {
  const chain = { "a.yaml": "extends: b.yaml", "b.yaml": "n_layer: 1\nextends: [c.yaml]" };
  const ends = " (a.yaml extends b.yaml extends c.yaml)";
  const path = write(chain);
  await refused(path, `no config file c.yaml (looked for c.yaml)${ends}`);
  await refused(write({ ...chain, "c.yaml": "4" }), `c.yaml must hold an object of settings, got 4${ends}`);
  await refused(
    write({ ...chain, "c.yaml": "n: 1\nn: 2" }),
    `c.yaml: Map keys must be unique at line 2, column 1${ends}`,
  );
  await refused(write({ ...chain, "c.yaml/d.yaml": "" }), `c.yaml is a folder; name one config file${ends}`);
  await refused(
    write({ "a.yaml": "extends: b.py" }),
    "b.py is no config file (.ts, .mts, .js, .mjs, .yaml, .yml, .json) (a.yaml extends b.py)",
  );
  await refused(
    write({ "a.yaml": "extends: b.mjs", "b.mjs": "export const n_layer = 1;" }),
    "b.mjs: no default export (it exports n_layer); write: export default { ... } (a.yaml extends b.mjs)",
  );
});

test("extends of another type", async () => {
  const says = (got: string) => `a.yaml: extends must be the path of a file, or a list of them, got ${got}`;
  for (const [text, got] of [
    ["4", "4"],
    ["", "null"],
    ['""', '""'],
    ["{ a: b.yaml }", "an object"],
    ["[b.yaml, 4]", '["b.yaml", 4]'],
    ["[[b.yaml]]", '[["b.yaml"]]'],
  ] as const) {
    await refused(write({ "a.yaml": `extends: ${text}\n`, "b.yaml": "n_layer: 1\n" }), says(got));
  }
  const path = write({ "a.yaml": "extends: b.yaml", "b.yaml": "extends: true" });
  await refused(
    path,
    "b.yaml: extends must be the path of a file, or a list of them, got true (a.yaml extends b.yaml)",
  );
});

// ---- the repository's files ----

const yamlsOf = (folder: string) =>
  readdirSync(join(CONFIG, folder))
    .filter((name) => name.endsWith(".yaml"))
    .map((name) => join(CONFIG, folder, name));

/** Complete settings of train.ts from a file; every key of it must be one of train.ts. */
async function complete(path: string): Promise<Settings & TrainConfig> {
  const log = (line: string) => assert.doesNotMatch(line, /^not used here/);
  return configure(import.meta.url, trainDefaults as Settings & TrainConfig, { argv: [path], env: {}, log });
}

const keysOf = async (path: string) => new Set((await readConfigFile(path)).map(({ key }) => key));

/** What differs between models of one kind; other keys are in a preset where they aren't GPT-2's. */
const MODEL = ["n_layer", "n_head", "n_embd", "block_size", "bias", "ffn"];

test("every model preset has the number of parameters that it claims", async () => {
  const paths = yamlsOf("models");
  assert.ok(paths.length >= 4);
  for (const path of paths) {
    const number = (pattern: RegExp) => Number(pattern.exec(readFileSync(path, "utf8"))?.[1]?.replaceAll(",", ""));
    const claimed = number(/^# ([\d,]+) parameters at vocab_size/m);
    const vocab_size = number(/^# .* at vocab_size ([\d,]+)/m);
    const model = new GPT({ ...(await complete(path)), vocab_size });
    assert.equal(model.numParams(false), claimed, path);
  }
});

test("model presets say all of a model's shape, data and training presets nothing that a model preset says", async () => {
  const taken = new Set(MODEL);
  for (const path of yamlsOf("models")) {
    const keys = await keysOf(path);
    for (const key of MODEL) assert.ok(keys.has(key), `${path}: no ${key}`);
    for (const key of keys) taken.add(key);
  }
  for (const path of [...yamlsOf("data"), ...yamlsOf("training")]) {
    await complete(path);
    for (const key of await keysOf(path)) assert.ok(!taken.has(key), `${path}: ${key}`);
  }
});

test("the composed file in YAML is the one in TypeScript", async () => {
  const tiny = await complete(join(CONFIG, "tiny_shakespeare.yaml"));
  assert.deepEqual(tiny, { ...trainDefaults, ...cpu, wandb_project: baby.wandb_project });
});

test("environments say how to run: known keys, no default again, nothing of the model, the data or the steps", async () => {
  const paths = yamlsOf("environments");
  for (const name of ["development", "production", "testing"]) {
    assert.ok(paths.includes(join(CONFIG, "environments", `${name}.yaml`)), name);
  }
  const learned = ["models", "data", "training"].flatMap(yamlsOf).map(keysOf);
  const taken = new Set((await Promise.all(learned)).flatMap((keys) => [...keys]));
  for (const path of paths) {
    const config = await complete(path);
    for (const { key } of await readConfigFile(path)) {
      assert.notDeepEqual(config[key], (trainDefaults as Settings)[key], `${path}: ${key}`);
      assert.ok(!taken.has(key), `${path}: ${key}`);
    }
  }
});
