// configurator.ts and lib/settings/rules.ts: every syntax, the order of the sources, and the line that each mistake gets.
// Run: npm test -- tests/configurator.test.ts

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { after, test } from "node:test";
import { pathToFileURL } from "node:url";
import { configure, type Options, pick, sourceKind, sourceOf } from "../configurator.ts";
import { UserError } from "../lib/common/errors.ts";
import { ROOT } from "../lib/common/scripts.ts";
import { joinList } from "../lib/settings/lists.ts";
import { rules, type Settings } from "../lib/settings/rules.ts";

const FOLDER = mkdtempSync(join(tmpdir(), "configurator-"));
after(() => rmSync(FOLDER, { recursive: true }));

const DEFAULTS = {
  out_dir: "out",
  eval_only: false,
  bias: true,
  n_layer: 12,
  n_head: 12,
  n_embd: 768,
  dropout: 0,
  learning_rate: 6e-4,
  start: "\n",
  // no rule: only their types are checked
  offset: 0,
  label: "",
  sizes: [8, 16],
  names: ["a"],
};

let files = 0;
/** Write a config file with a new name (modules are cached by name) and return its path. */
function write(extension: string, text: string): string {
  const path = join(FOLDER, `config_${files++}${extension}`);
  writeFileSync(path, text);
  return path;
}

async function read(argv: string[], options: Options = {}) {
  return configure(import.meta.url, DEFAULTS, { env: {}, log: () => {}, ...options, argv });
}

/** `argv` must be refused by one line that matches all `parts`, with nothing printed before it. */
async function refused(argv: string[], parts: (string | RegExp)[], options: Options = {}): Promise<void> {
  const printed: string[] = [];
  await assert.rejects(read(argv, { log: (line) => printed.push(line), ...options }), (error) => {
    assert.ok(error instanceof UserError, String(error));
    assert.doesNotMatch(error.message, /\n/);
    for (const part of parts) {
      const found = typeof part === "string" ? error.message.includes(part) : part.test(error.message);
      assert.ok(found, `no ${part} in: ${error.message}`);
    }
    return true;
  });
  assert.deepEqual(printed, []);
}

// ---- sources ----

test("defaults come back as they are, frozen and apart from the original", async () => {
  const config = await read([]);
  assert.deepEqual(config, DEFAULTS);
  assert.notEqual(config.sizes, DEFAULTS.sizes);
  assert.ok(Object.isFrozen(config) && Object.isFrozen(config.sizes));
  assert.ok(!Object.isFrozen(DEFAULTS) && !Object.isFrozen(DEFAULTS.sizes));
  assert.throws(() => config.sizes.push(1), TypeError);
});

test("defaults < config file < environment < flags, and each key knows its source", async () => {
  const file = write(".ts", "export default { n_layer: 1, dropout: 0.1, bias: false } satisfies object;");
  const env = { NANOGPT_N_LAYER: "2", NANOGPT_DROPOUT: "0.2" };
  const config = await read([file, "--n_layer=3"], { env });
  assert.deepEqual([config.n_layer, config.dropout, config.bias, config.n_head], [3, 0.2, false, 12]);
  assert.equal(sourceOf(config, "n_layer"), "--n_layer");
  assert.equal(sourceOf(config, "dropout"), "NANOGPT_DROPOUT");
  assert.equal(sourceOf(config, "bias"), file);
  assert.equal(sourceOf(config, "n_head"), undefined);
});

test("a value equal to the default still counts as set", async () => {
  assert.equal(sourceOf(await read(["--n_layer=12"]), "n_layer"), "--n_layer");
});

test("config files in TypeScript, JavaScript, YAML and JSON say the same", async () => {
  const contents: [string, string][] = [
    [".ts", "const n: number = 4;\nexport default { n_layer: n, out_dir: 'x', sizes: [1, 2] };"],
    [".mjs", "export default { n_layer: 4, out_dir: 'x', sizes: [1, 2] };"],
    [".yaml", "n_layer: 4 # four\nout_dir: x\nsizes: [1, 2]\n"],
    [".yml", "n_layer: 4\nout_dir: x\nsizes:\n  - 1\n  - 2\n"],
    [".json", '{\n\t"n_layer": 4,\n\t"out_dir": "x",\n\t"sizes": [1, 2]\n}'],
  ];
  for (const [extension, text] of contents) {
    const config = await read([write(extension, text)]);
    assert.deepEqual(config, { ...DEFAULTS, n_layer: 4, out_dir: "x", sizes: [1, 2] }, extension);
  }
});

test("a config file's path is relative to the current folder", async () => {
  const path = relative(process.cwd(), write(".json", '{ "n_layer": 4 }'));
  assert.equal((await read([path])).n_layer, 4);
});

test("what is overridden is printed once, by source", async () => {
  const file = write(".json", '{ "n_layer": 1, "dropout": 0.1, "out_dir": "a b" }');
  const lines: string[] = [];
  const env = { NANOGPT_BIAS: "false" };
  await read([file, "--n_layer", "3"], { env, log: (line) => lines.push(line) });
  const expected = [
    "overriding with flags: n_layer=3",
    `overriding with ${file}: dropout=0.1, out_dir="a b"`,
    "overriding with the environment: bias=false",
  ];
  assert.deepEqual(lines.map((line) => line.replaceAll(/\n +/g, " ")).sort(), expected.sort());

  const silent: string[] = [];
  await read([], { log: (line) => silent.push(line) });
  assert.deepEqual(silent, []);
});

test("keys that another script knows are named from a config file and ignored in the environment", async () => {
  const file = write(".yaml", "n_layer: 2\nbatch_size: 8\nmax_iters: 5\n");
  const lines: string[] = [];
  const env = { NANOGPT_TEMPERATURE: "0.5" };
  const config = await read([file], { env, log: (line) => lines.push(line) });
  assert.deepEqual(Object.keys(config), Object.keys(DEFAULTS));
  const said = lines.map((line) => line.replaceAll(/\n +/g, " "));
  assert.deepEqual(said.slice(1), [`not used here, from ${file}: batch_size, max_iters`]);
  await refused(["--batch_size=8"], ["unknown key", "batch_size"]);
});

test("what a file extends is printed and named by the file that says it", async () => {
  const base = write(".yaml", "n_layer: 1\ndropout: 0.5\nbatch_size: 8\nmax_iters: 5\n");
  const file = write(".json", JSON.stringify({ extends: base, dropout: 0.1, max_iters: 6 }));
  const lines: string[] = [];
  const config = await read([file], { log: (line) => lines.push(line.replaceAll(/\n +/g, " ")) });
  assert.deepEqual(lines, [
    `overriding with ${base}: n_layer=1`,
    `overriding with ${file}: dropout=0.1`,
    `not used here, from ${file} and what it extends: batch_size, max_iters`,
  ]);
  assert.deepEqual([sourceOf(config, "n_layer"), sourceOf(config, "dropout")], [base, file]);

  const wrong = write(".yaml", "n_layer: four\n");
  await refused([write(".json", JSON.stringify({ extends: wrong }))], ["n_layer must be", `(${wrong})`]);
  const wide = write(".yaml", "n_embd: 100\n");
  const parts = ["n_embd 100", `n_embd: ${wide}`, "n_head: default"];
  await refused([write(".json", JSON.stringify({ extends: wide }))], parts);
});

// ---- NANOGPT_ENV ----

const LEARNING = { eval_iters: 200, threads: 0, n_layer: 12, n_head: 12 };
const environment = async (env: Record<string, string>, argv: string[] = [], log: Options["log"] = () => {}) =>
  configure(import.meta.url, LEARNING, { env, argv, log });

test("defaults < NANOGPT_ENV's file < config file < NANOGPT_<KEY> < flags", async () => {
  const testing = join("config", "environments", "testing.yaml");
  const threads = write(".yaml", "threads: 5\n");
  const cases: [env: Record<string, string>, argv: string[], threads: number, kind: string | undefined][] = [
    [{}, [], 0, undefined],
    [{ NANOGPT_ENV: "" }, [], 0, undefined],
    [{ NANOGPT_ENV: "testing" }, [], 1, "environment"],
    [{ NANOGPT_ENV: "testing" }, [threads], 5, "file"],
    [{ NANOGPT_ENV: "testing", NANOGPT_THREADS: "6" }, [threads], 6, "variable"],
    [{ NANOGPT_ENV: "testing", NANOGPT_THREADS: "6" }, [threads, "--threads=7"], 7, "flag"],
  ];
  for (const [env, argv, expected, kind] of cases) {
    const config = await environment(env, argv);
    assert.equal(config.threads, expected, JSON.stringify([env, argv]));
    assert.equal(sourceKind(config, "threads"), kind);
  }
  const config = await environment({ NANOGPT_ENV: "testing" });
  assert.equal(relative(ROOT, sourceOf(config, "threads") ?? ""), testing);
});

test("NANOGPT_ENV's file is named where it overrides; keys of other scripts are passed over in silence", async () => {
  const lines: string[] = [];
  await configure(
    import.meta.url,
    { eval_iters: 200 },
    { env: { NANOGPT_ENV: "testing" }, argv: [], log: (line) => lines.push(line) },
  );
  const path = relative("", join(ROOT, "config/environments/testing.yaml"));
  assert.deepEqual(lines, [`overriding with ${path}: eval_iters=2`]); // it has threads, too
});

test("settings under the others: above the defaults, told where they differ, checked where they count", async () => {
  const printed: string[] = [];
  const file = write(".json", '{"n_head": 2, "dropout": 0.1}');
  const settings = { n_layer: 3, n_head: 4, dropout: 0.1, bias: true, elsewhere: 1 };
  const asked: unknown[] = [];
  const under = (given: Settings) => {
    asked.push([given.n_layer, given.label]);
    return { source: "out/ckpt.json", settings };
  };
  const config = await read([file, "--label=mine"], { under, log: (line) => printed.push(line) });
  assert.deepEqual(asked, [[DEFAULTS.n_layer, "mine"]]);
  assert.deepEqual([config.n_layer, config.n_head, config.dropout, config.bias], [3, 2, 0.1, true]);
  assert.equal(sourceOf(config, "n_layer"), undefined); // nobody has set it now
  assert.equal(sourceOf(config, "n_head"), file);
  assert.equal(printed.at(-1), "settings as in out/ckpt.json, but n_head=2 (was 4); not used: elsewhere");

  const odd = { under: () => ({ source: "out/ckpt.json", settings: { n_layer: 0 } }) };
  await refused([], [/^n_layer must be .*, got 0 \(out\/ckpt\.json\)/], odd);
  assert.equal((await read(["--n_layer=2"], odd)).n_layer, 2);
});

test("an unknown NANOGPT_ENV is refused with those that there are", async () => {
  for (const name of ["prod", "Testing", "../models/gpt2", "testing.yaml", "__proto__"]) {
    const parts = ["NANOGPT_ENV must be development, production, testing or not set", `got ${JSON.stringify(name)}`];
    await refused([], parts, { env: { NANOGPT_ENV: name } });
  }
});

// ---- spelling ----

test("flags: every spelling", async () => {
  const cases: [string[], Partial<typeof DEFAULTS>][] = [
    [["--n_layer=4"], { n_layer: 4 }],
    [["--n_layer", "4"], { n_layer: 4 }],
    [["--n_layer=1_000"], { n_layer: 1000 }],
    [["--learning_rate=1e-3"], { learning_rate: 1e-3 }],
    [["--dropout", ".5"], { dropout: 0.5 }],
    [["--offset=-5"], { offset: -5 }],
    [["--offset", "-5"], { offset: -5 }],
    [["--offset", "-.5E+1"], { offset: -5 }],
    [["--eval_only"], { eval_only: true }],
    [["--eval_only=true"], { eval_only: true }],
    [["--bias=False"], { bias: false }], // as in nanoGPT's commands
    [["--no-bias"], { bias: false }],
    [["--label=007"], { label: "007" }],
    [["--label", "1e3"], { label: "1e3" }],
    [["--label=a=b==c"], { label: "a=b==c" }],
    [["--label="], { label: "" }],
    [["--start=--- hello"], { start: "--- hello" }],
    [["--start", "--- hello"], { start: "--- hello" }],
    [["--start=--n_layer"], { start: "--n_layer" }],
    [["--start=two\nlines=2"], { start: "two\nlines=2" }],
    [["--sizes=1,2e1,-3"], { sizes: [1, 20, -3] }],
    [["--sizes="], { sizes: [] }],
    [["--names=x, 7,y=z"], { names: ["x", "7", "y=z"] }],
    [["--n_layer=4", "--n_layer=4.0"], { n_layer: 4 }],
    [["--bias", "--bias=true"], { bias: true }],
  ];
  for (const [argv, expected] of cases) {
    assert.deepEqual(await read(argv), { ...DEFAULTS, ...expected }, argv.join(" "));
  }
});

test("a boolean flag leaves the config file behind it alone", async () => {
  const config = await read(["--eval_only", write(".json", '{ "n_layer": 4 }'), "--no-bias"]);
  assert.deepEqual([config.eval_only, config.n_layer, config.bias], [true, 4, false]);
});

test("any value survives the way through its text", async () => {
  const random = lcg(1337);
  const below = (n: number) => Math.floor(random() * n);
  const number = () => (random() - 0.5) * 10 ** (below(600) - 300);
  const letters = "aZ09 =-_,.\"'\\$#é漢😀\n\t";
  const text = () => Array.from({ length: below(12) }, () => letters[below(letters.length)]).join("");
  const word = () => `w${text().replaceAll(/\s/g, "")}`;
  for (let i = 0; i < 60; i++) {
    const value = {
      offset: [number(), below(2 ** 31) - 2 ** 30, -0.5][i % 3] ?? 0,
      n_layer: 1 + below(10_000),
      label: text(),
      eval_only: random() < 0.5,
      sizes: Array.from({ length: below(4) }, number),
      names: Array.from({ length: 1 + below(3) }, word),
    };
    const texts = Object.entries(value).map(([key, one]): [string, string] => [
      key,
      Array.isArray(one) ? joinList(one) : String(one),
    ]);
    const defaults = { ...value, offset: 1, n_layer: 1, label: "", eval_only: true, sizes: [1], names: ["a"] };
    const silent = { log: () => {} };
    const argv = texts.map(([key, one]) => `--${key}=${one}`);
    assert.deepEqual(await configure(import.meta.url, defaults, { ...silent, env: {}, argv }), value);
    const env = Object.fromEntries(texts.map(([key, one]) => [`NANOGPT_${key.toUpperCase()}`, one]));
    assert.deepEqual(await configure(import.meta.url, defaults, { ...silent, env, argv: [] }), value);
  }
});

/** Numbers in [0, 1) that are the same every run. */
function lcg(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

// ---- mistakes ----

test("an unknown key names the nearest one, if one is near", async () => {
  await refused(["--n_layr=4"], ["n_layr", "--n_layr", "did you mean n_layer?"]);
  await refused(["--n-layer", "4"], ["did you mean n_layer?"]);
  await refused(["--N_LAYER=4"], ["did you mean n_layer?"]);
  await refused(["--no-biass"], ["no-biass"]);
  await refused(["--zzz=1"], ["zzz", /--help/]);
  await refused([], ["NANOGPT_N_LAYR", "did you mean n_layer?"], { env: { NANOGPT_N_LAYR: "1" } });
  await refused([], ["NANOGPT_", "--help"], { env: { NANOGPT_: "1" } });
  const file = write(".yaml", "batch_sise: 1\n"); // near to a key of another script
  await refused([file], ["batch_sise", file, "did you mean batch_size?"]);
});

test("names of the prototype are unknown keys like any other", async () => {
  for (const key of ["__proto__", "constructor", "toString", "hasOwnProperty", "a.b", "_"]) {
    await refused([`--${key}=1`], ["unknown key", key]);
    await refused([`--${key}`], ["unknown key", key]);
    await refused([write(".json", `{ "${key}": 1 }`)], ["unknown key", key]);
    await refused([], ["unknown key", key.toLowerCase()], { env: { [`NANOGPT_${key}`]: "1" } });
  }
  await refused(["--no-constructor"], ["unknown key", "no-constructor"]);
});

test("flags and variables of the wrong type or out of range", async () => {
  const cases: [key: keyof typeof DEFAULTS, text: string, wanted: string, got: string][] = [
    ["n_layer", "0", "an integer of at least 1", "got 0"],
    ["n_layer", "-1", "an integer of at least 1", "got -1"],
    ["n_layer", "1.5", "an integer of at least 1", "got 1.5"],
    ["n_layer", "1e999", "an integer of at least 1", "got Infinity"],
    ["offset", "NaN", "a number", 'got "NaN"'],
    ["offset", "1e999", "a number", "got Infinity"],
    ["dropout", "1", "from 0 to below 1", "got 1"],
    ["learning_rate", "-1e-3", "at least 0", "got -0.001"],
    ["out_dir", "", "not empty", 'got ""'],
    ["bias", "maybe", "true or false", 'got "maybe"'],
    ["bias", "1", "true or false", 'got "1"'],
    ["bias", "", "true or false", 'got ""'],
    ["sizes", "1,x", "a list of numbers", 'got [1, "x"]'],
    ...["four", "", " ", "0x10", "1__0", "_1", "1_", "Infinity", "1e", ".", "4 layers"].map(
      (text): ["n_layer", string, string, string] => ["n_layer", text, "an integer", `got ${JSON.stringify(text)}`],
    ),
  ];
  for (const [key, text, wanted, got] of cases) {
    const name = `NANOGPT_${key.toUpperCase()}`;
    await refused([`--${key}=${text}`], [`${key} must be`, wanted, got, `(--${key})`]);
    await refused([], [`${key} must be`, wanted, got, `(${name})`], { env: { [name]: text } });
  }
});

test("config file values of the wrong type or out of range", async () => {
  const cases: [key: string, code: string, wanted: string, got: string][] = [
    ["n_layer", "'4'", "an integer", 'got "4"'],
    ["n_layer", "1.5", "an integer", "got 1.5"],
    ["n_layer", "null", "an integer", "got null"],
    ["n_layer", "undefined", "an integer", "got undefined"],
    ["n_layer", "{ a: 1 }", "an integer", "got an object"],
    ["n_layer", "[4]", "an integer", "got [4]"],
    ["dropout", "NaN", "a number from 0", "got NaN"],
    ["offset", "-Infinity", "a number", "got -Infinity"],
    ["bias", "1", "true or false", "got 1"],
    ["out_dir", "5", "text", "got 5"],
    ["sizes", "['1']", "a list of numbers", 'got ["1"]'],
    ["names", "[1]", "a list of texts", "got [1]"],
    ["label", "() => 1", "text", "got a function"],
  ];
  for (const [key, code, wanted, got] of cases) {
    const file = write(".mjs", `export default { ${key}: ${code} };`);
    await refused([file], [`${key} must be`, wanted, got, file]);
  }
  await refused([write(".yaml", "n_layer: 1_000\n")], ["n_layer must be an integer", 'got "1_000"']);
  await refused([write(".yaml", "dropout: .nan\n")], ["dropout must be", "got NaN"]);
});

test("a mistake in the config file counts even where a flag overrides the key", async () => {
  await refused([write(".json", '{ "n_layer": 0 }'), "--n_layer=2"], ["n_layer must be", "got 0"]);
});

test("flags without a value, twice, or not readable", async () => {
  await refused(["--n_layer"], ["--n_layer needs a value"]);
  await refused(["--n_layer", "--bias"], ["--n_layer needs a value"]);
  await refused(["--start", "-x"], ["--start needs a value", "--start=..."]);
  await refused(["--no-n_layer"], ["--no-n_layer", "true/false"]);
  await refused(["--no-bias=true"], ["no-bias"]);
  await refused(["--n_layer=4", "--n_layer", "5"], ["--n_layer", "twice", "4", "5"]);
  await refused(["--bias", "--no-bias"], ["--bias", "twice", "true", "false"]);
  await refused(["--sizes=1,2", "--sizes=1"], ["--sizes", "twice", "[1, 2]", "[1]"]);
  await refused(["-n", "4"], ['"-n"', "--key=value"]);
  await refused(["--=4"], ['"--=4"', "--key=value"]);
  await refused(["--"], ['"--"']);
  await refused(["n_layer=4"], ["n_layer=4", "--key=value"]);
  await refused(["--bias", "false"], ["false", "--key=value"]);
});

test("config files that cannot be used", async () => {
  const good = write(".json", "{}");
  const other = write(".yaml", "bias: true");
  await refused([good, other], ["two config files", good, other]);
  await refused(["config/none.ts"], ["no config file config/none.ts"]);
  await refused([FOLDER], [FOLDER, "folder"]);
  await refused([write(".py", "n_layer = 4")], [".py", ".yaml"]);
  await refused([write(".ts", "export const n_layer = 4, bias = true;")], ["no default export", "bias, n_layer"]);
  await refused([write(".mjs", "")], ["no default export", "nothing"]);
  await refused([write(".ts", "export default () => ({});")], ["object of settings", "a function"]);
  await refused([write(".ts", "export default 4;")], ["object of settings", "got 4"]);
  await refused([write(".yaml", "- 1\n- 2\n")], ["object of settings", "[1, 2]"]);
  await refused([write(".yaml", "")], ["object of settings", "null"]);
  await refused([write(".ts", "export default { n_layer: ")], [/config_\d+\.ts/, "Unexpected end of file"]);
  await refused([write(".ts", "throw new Error('first\\nsecond');")], [/config_\d+\.ts: first second$/]);
  await refused([write(".ts", "throw 'plain';")], [/config_\d+\.ts: plain$/]);
  await refused([write(".ts", "import x from './none.ts';\nexport default x;")], ["none.ts"]);
  await refused([write(".json", '{ "n_layer": }x')], [/config_\d+\.json/]);
  await refused([write(".yaml", "a: [1\n")], [/line 2/]);
  await refused([write(".yaml", "n_layer: *x\n")], ["alias"]);
  await refused([write(".yaml", "n_layer: 1\nbias: true\nn_layer: 2\n")], ["unique", "line 3"]);
  await refused([write(".json", '{ "n_layer": 1,\n"n_layer": 2 }')], ["unique", "line 2"]);
});

test("combinations that cannot work name their values and sources", async () => {
  const file = write(".json", '{ "n_embd": 128 }');
  const parts = ["n_embd 128", "n_head 12", "8 or 16", `n_embd: ${file}`, "n_head: default"];
  await refused([file], parts);
  await refused(["--n_embd=4", "--n_head=9"], ["try n_head 4 ("]);
  assert.equal((await read([file, "--n_head=4"])).n_embd, 128);

  const schedule = { schedule: "cosine", decay_lr: true, warmup_iters: 100, lr_decay_iters: 1000 };
  const check = (...argv: string[]) => configure(import.meta.url, schedule, { env: {}, log: () => {}, argv });
  await check("--lr_decay_iters=100");
  await check("--lr_decay_iters=99", "--no-decay_lr");
  await assert.rejects(check("--lr_decay_iters=99"), /warmup_iters 100 .*lr_decay_iters 99.*--lr_decay_iters\)$/);
});

test("int8 is for drawing text, compiled; one run does one thing", async () => {
  const check = (defaults: Record<string, string | number | boolean>, ...argv: string[]) =>
    configure(import.meta.url, defaults, { env: {}, log: () => {}, argv });
  const sample = { dtype: "float32", compile: true, interactive: false, evaluate: "" };
  await check(sample, "--dtype=int8", "--interactive");
  await assert.rejects(check(sample, "--dtype=int8", "--no-compile"), /dtype int8 needs compile true/);
  await assert.rejects(check(sample, "--interactive", "--evaluate=x"), /interactive and evaluate exclude each other/);
  const train = { dtype: "float32", compile: true, gradient_accumulation_steps: 1 };
  await assert.rejects(
    check(train, "--dtype=int8"),
    /dtype must be "float32" or "float16", got "int8" \(--dtype\); .*npx tsx sample\.ts/,
  );
  await check(train, "--dtype=float16", "--no-compile");
  await assert.rejects(
    check(sample, "--dtype=float16"),
    /dtype must be "float32" or "int8", got "float16" \(--dtype\); float16 is for training/,
  );
});

test("a flag can switch a config file's off; histograms are for TensorBoard", async () => {
  const file = write(".json", '{ "tensorboard": true, "histogram_interval": 100 }');
  const defaults = { tensorboard: false, histogram_interval: 0 };
  const check = (...argv: string[]) => configure(import.meta.url, defaults, { env: {}, log: () => {}, argv });
  await assert.rejects(
    check(file, "--no-tensorboard"),
    (error) => error instanceof UserError && /histogram_interval 100 is for TensorBoard/.test(error.message),
  );
  assert.deepEqual(await check(file, "--no-tensorboard", "--histogram_interval=0"), defaults);
});

test("the rules' limits", () => {
  const limits: Record<string, { good: unknown[]; bad: unknown[] }> = {
    eval_interval: { good: [1], bad: [0] },
    lr_factor: { good: [0.1, 0.999], bad: [0, 1] },
    spike_threshold: { good: [0, 8.5], bad: [-1] },
    dropout: { good: [0, 0.999], bad: [1, -0.1] },
    beta2: { good: [0, 0.99], bad: [1] },
    ffn: { good: ["gelu", "gelu_tanh", "relu", "silu"], bad: ["tanh", ""] },
    max_iters: { good: [0], bad: [-1, 0.5] },
    learning_rate: { good: [0], bad: [-1e-9] },
    backend: { good: ["mpi"], bad: ["nccl"] },
    device: { good: ["auto", "cpu"], bad: ["cuda"] },
    dtype: { good: ["float32", "float16", "int8"], bad: ["bfloat16"] },
    seed: { good: [0, 2 ** 32 - 1], bad: [-1, 2 ** 32, 0.5] },
    threads: { good: [0, 8], bad: [-1] },
    vocab_size: { good: [1, 65536], bad: [0, 65537] },
    temperature: { good: [0, 1e-9], bad: [-1e-9] },
    top_k: { good: [0], bad: [-1] },
    top_p: { good: [1e-9, 1], bad: [0, 1.001] },
    min_p: { good: [0, 1], bad: [-0.1, 1.001] },
    repetition_penalty: { good: [0.5, 1, 1.2], bad: [0, -1] },
    stop: { good: [[], ["a", "\\n"]], bad: ["a", [""], ["a", ""], [1]] },
    interactive: { good: [true], bad: ["yes"] },
    evaluate: { good: ["", "text.txt"], bad: [true] },
    stride: { good: [0, 1], bad: [-1, 0.5] },
    start: { good: [""], bad: [1] },
    dataset: { good: ["x"], bad: [""] },
  };
  const table: Record<string, { safeParse(value: unknown): { success: boolean } }> = rules;
  for (const [key, { good, bad }] of Object.entries(limits)) {
    for (const value of good) assert.equal(table[key]?.safeParse(value).success, true, `${key} = ${value}`);
    for (const value of bad) assert.equal(table[key]?.safeParse(value).success, false, `${key} = ${value}`);
  }
});

test("every config file of the repository holds known keys with allowed values", async () => {
  const names = readdirSync(join(ROOT, "config")).filter((name) => /^(train|finetune|eval)_/.test(name));
  assert.ok(names.length >= 2);
  for (const name of names) {
    const path = join(ROOT, "config", name);
    const { default: settings } = await import(pathToFileURL(path).href);
    assert.deepEqual(await configure(import.meta.url, settings, { env: {}, log: () => {}, argv: [path] }), settings);
    for (const key of Object.keys(settings)) assert.ok(Object.hasOwn(rules, key), `${name}: ${key}`);
  }
});

// ---- as a program ----

const importPath = (name: string) => relative(join(FOLDER, "tools"), join(ROOT, name)).replaceAll("\\", "/");
const SCRIPT = `// Does a thing.
//
//   npx tsx tools/thing.ts --start="O Romeo, Romeo, wherefore art thou Romeo"    # says it
//   npx tsx tools/thing.ts --out_dir=out-shakespeare-char-of-a-long-name --start="and still a space"

import { configure } from "${importPath("configurator.ts")}";
import { main } from "${importPath("lib/common/errors.ts")}";

const defaults = {
  // I/O
  out_dir: "out", // folder of the checkpoint
  start: "a // b", // the prompt; see https://example.org
  eval_only: false, // ${"a".repeat(29)} ${"b".repeat(29)}
  // model
  // of the smallest size
  batch_size: 5 * 8, // ${"a".repeat(29)} ${"b".repeat(30)}
};

main(async () => {
  const config = await configure(import.meta.url, defaults, { usage: "Do a thing." });
  console.log(JSON.stringify(config));
});
`;

function runScript(...argv: string[]): Promise<{ stdout: string; stderr: string; status: unknown }> {
  mkdirSync(join(FOLDER, "tools"), { recursive: true });
  writeFileSync(join(FOLDER, "tools/thing.ts"), SCRIPT);
  const args = ["--import", import.meta.resolve("tsx"), "tools/thing.ts", ...argv];
  return new Promise((resolve) => {
    execFile(process.execPath, args, { cwd: FOLDER }, (error, stdout, stderr) => {
      resolve({ stdout, stderr, status: error?.code ?? 0 });
    });
  });
}

test("a script: --help has its usage, examples, and every key under the headings of its source", async () => {
  const expected = `usage: npx tsx tools/thing.ts [config file] [--key=value ...]
Do a thing.

examples:
  npx tsx tools/thing.ts --start="O Romeo, Romeo, wherefore art thou Romeo"
  npx tsx tools/thing.ts --out_dir=out-shakespeare-char-of-a-long-name \\
    --start="and still a space"

I/O
  --out_dir="out"    folder of the checkpoint
  --start="a // b"   the prompt; see https://example.org
  --eval_only=false  ${"a".repeat(29)} ${"b".repeat(29)}

model of the smallest size
  --batch_size=40    ${"a".repeat(29)}
                     ${"b".repeat(30)}

A flag wins over the environment (NANOGPT_<KEY>=value), that over the config
file, that over config/environments/<name>.yaml where NANOGPT_ENV=<name> is set
(docs/guides/configuration.md).
`;
  const [long, short] = await Promise.all([runScript("--bogus", "--help=all"), runScript("--help=all")]);
  assert.deepEqual(long, { stdout: expected, stderr: "", status: 0 });
  assert.deepEqual(short, long);
});

test("a script: settings arrive; a mistake is one line on stderr and exit code 1", async () => {
  writeFileSync(join(FOLDER, "small.ts"), "export default { batch_size: 2, n_layer: 3 } satisfies object;");
  const [good, bad] = await Promise.all([
    runScript("small.ts", "--eval_only"),
    runScript("small.ts", "--batch_size=0"),
  ]);
  assert.equal(good.stderr, "");
  assert.deepEqual(good.stdout.trim().split("\n"), [
    "overriding with small.ts: batch_size=2",
    "overriding with flags: eval_only=true",
    "not used here, from small.ts: n_layer",
    '{"out_dir":"out","start":"a // b","eval_only":true,"batch_size":2}',
  ]);

  const line = "error: batch_size must be an integer of at least 1, got 0 (--batch_size)\n";
  assert.deepEqual(bad, { stdout: "", stderr: line, status: 1 });
});

test("settings that are picked keep the keys' order, and what isn't there stays away", () => {
  const some: { a: number; b: string; c?: boolean } = { a: 1, b: "x" };
  assert.deepEqual(Object.entries(pick(some, ["c", "b", "a"])), [
    ["b", "x"],
    ["a", 1],
  ]);
});
