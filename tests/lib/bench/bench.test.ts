// bench.ts as a person runs it, at tiny sizes: every benchmark, its file, the comparison, and the mistakes.
// Run: npm test -- tests/lib/bench/bench.test.ts

import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { fileName, readReport } from "../../../lib/bench/report.ts";
import { shapesAlong } from "../../../lib/bench/scaling.ts";
import { median } from "../../../lib/common/statistics.ts";
import { BENCHMARKS } from "../../../lib/settings/rules.ts";
import {
  assertRefused,
  assertSucceeded,
  flags,
  launch,
  once,
  oneProcess,
  succeed,
  temporaryFolder,
} from "../../scripts.ts";

const FOLDER = temporaryFolder();
const RESULTS = join(FOLDER, "out", "benchmarks");
const here = { cwd: FOLDER };
const SHAPE = { n_layer: 1, n_head: 2, n_embd: 8, block_size: 8, batch_size: 4, vocab_size: 16, threads: 1 };
const TINY = flags({ ...SHAPE, steps: 3, warmup: 1, rounds: 1, data_mb: 0.1, max_new_tokens: 5 });

const ALL = BENCHMARKS.filter((name) => name !== "layers"); // which takes minutes, and runs by its name only

/** The figures that each benchmark has to give; all of them are above 0. */
const FIGURES: Record<string, string[]> = {
  training_throughput: ["ms_median", "ms_min", "tokens_per_s", "gflops", "mfu", "peak_rss_mb", "compile_ms"],
  sampling: ["ms_per_token", "tokens_per_s", "first_token_ms"],
  startup: ["first_step_s", "compile_ms", "wall_s"],
  data_loading: ["batch_ms", "batch_tokens_per_s", "read_tokens_per_s", "encode_tokens_per_s"],
  checkpoint: ["save_mb_per_s", "load_mb_per_s", "bytes"],
  memory: ["peak_rss_mb", "runtime_mb", "weights_mb", "gradients_mb", "optimizer_mb"],
  watching: ["step_ms", "watched_step_ms"],
  scaling: ["ms_median[base]", "ms_median[n_embd=16]", "peak_rss_mb[batch_size=8]", "mfu[block_size=16]"],
};

const files = () => readdirSync(RESULTS).sort();
const fileOf = (name: string) => join(RESULTS, files().find((file) => file.startsWith(`benchmark_${name}_`))!);

const runHere = oneProcess();
const benchHere = async (args: string[]) => assertSucceeded(await runHere("bench.ts", args, FOLDER), args.join(" "));

const BEGAN = Date.now();
const strays = () => readdirSync(tmpdir()).filter((name) => name.startsWith("nanogpt-bench-"));
const FIRST_STRAYS = strays();

/** All of them, each with a file in RESULTS; gives what was printed. */
const all = once(() => succeed("bench.ts", [...TINY, "--factors=1,2", "--to=docs/scaling"], here));

test("without a name all run, each with a file that tells figures, machine and versions", async () => {
  const stdout = await all();
  assert.match(stdout, /^throughput: +[\d,]+ tokens\/s$/m);
  assert.deepEqual(
    [...stdout.matchAll(/^([a-z_]+)$/gm)].map((match) => match[1]),
    ALL,
  );
  assert.equal(files().length, ALL.length);
  for (const name of ALL) {
    assert.match(fileOf(name), /benchmark_[a-z_]+_[a-z0-9-]+_\d{8}_\d{6}\.json$/);
    const report = readReport(fileOf(name));
    assert.equal(report.name, name);
    assert.ok(Date.parse(report.date) >= BEGAN - 1000 && Date.parse(report.date) <= Date.now());
    assert.equal(report.versions.node, process.versions.node);
    assert.match(report.versions.onnxruntime!, /^\d+\.\d+/);
    assert.ok(report.hardware.cores >= 1 && report.hardware.cpu !== "");
    assert.equal(report.settings.n_embd, 8);
    for (const figure of FIGURES[name]!) {
      const found = report.metrics.find((metric) => metric.name === figure);
      assert.ok(found && found.value > 0, `${name}: ${figure} is ${found?.value}`);
    }
  }
  // what is known exactly: 12 n_embd^2 weights a layer, three norms, the tables of tokens and places
  const params = 12 * 8 ** 2 + 3 * 8 + (16 + 8) * 8;
  const figureOf = (name: string, figure: string) =>
    readReport(fileOf(name)).metrics.find((metric) => metric.name === figure)!.value;
  assert.equal(figureOf("memory", "weights_mb"), (4 * params) / 2 ** 20);
  assert.equal(figureOf("memory", "optimizer_mb"), (8 * params) / 2 ** 20);
  assert.ok(figureOf("checkpoint", "bytes") > 12 * params);
  assert.deepEqual(
    strays().filter((name) => !FIRST_STRAYS.includes(name)),
    [],
    "temporary folders are left",
  );

  const page = readFileSync(join(FOLDER, "docs", "scaling.md"), "utf8");
  assert.match(page, /!\[[^\]]+\]\(scaling\.svg\)/);
  assert.match(page, /^\| `n_embd` \| size\^-?[\d.]+ \| size\^-?[\d.]+ \|$/m);
  assert.match(page, /^\| batch_size 8 \|/m);
  assert.match(readFileSync(join(FOLDER, "docs", "scaling.svg"), "utf8"), /^<svg.*n_layer: time.*<\/svg>$/s);
});

test("--json alone measures the training step, prints its object last, and writes one file more", async () => {
  const stdout = await benchHere([...TINY, "--json=true", "--results=json"]);
  const result = JSON.parse(stdout.trimEnd().split("\n").at(-1)!);
  for (const key of [...FIGURES.training_throughput!, "loss", "params"]) assert.ok(result[key] > 0, key);
  for (const [key, value] of Object.entries({ ...SHAPE, steps: 3, warmup: 1 })) assert.equal(result[key], value, key);
  assert.match(result.device, /^cpu, compiled/);
  assert.equal(readdirSync(join(FOLDER, "json")).length, 1);
});

test("--compare runs the file's benchmark and prints ratios", async () => {
  await all();
  const before = files();
  const args = [...TINY, `--compare=${fileOf("sampling")}`, "--results="];
  const stdout = await benchHere(args);
  assert.match(stdout, /^compared with \d{4}-\d\d-\d\d /m);
  assert.match(stdout, /^ {2}ms_per_token +[\d.,]+ +[\d.,]+ +ms +\d+\.\d{3}/m);
  assert.match(stdout, /^(worse by more|nothing got worse)/m);
  assert.deepEqual(files(), before, "--results= writes no file");
});

test("another optimizer is measured with its own state, in processes of their own too", async () => {
  const args = [...TINY, "--benchmark=memory", "--optimizer=sgd", "--json=true", "--results="];
  const figures = JSON.parse((await benchHere(args)).trimEnd().split("\n").at(-1)!);
  assert.equal(figures.optimizer_mb, (4 * figures.params) / 2 ** 20); // one number a weight, its velocity
});

test("an encoder-decoder's step is timed as it is trained; an encoder draws nothing", async () => {
  const changed = flags({ ...SHAPE, steps: 1, warmup: 1 });
  const figures = async (...more: string[]) =>
    JSON.parse((await benchHere([...changed, ...more, "--json"])).trim().split("\n").at(-1)!);
  const { params, loss } = await figures("--architecture=encoder_decoder");
  const plain = await figures();
  assert.ok(params > 2 * plain.params - 2 * SHAPE.n_embd * 64, `${params} and ${plain.params}`); // one more stack
  assert.ok(Number.isFinite(loss));
  const drawn = await runHere("bench.ts", [...changed, "--architecture=encoder", "--benchmark=sampling"], FOLDER);
  assert.match(drawn.stderr, /^error: an encoder writes no text.*\n$/m);
  assert.equal(drawn.code, 1);
});

test("layer choices: a row for each that differs and can be made, ratios to the settings beside it", async () => {
  const shape = { ...SHAPE, n_head: 3, n_embd: 9, ffn: "relu2" };
  const changed = flags({ ...shape, steps: 2, warmup: 1, rounds: 1, max_new_tokens: 3 });
  const args = [...changed, "--benchmark=layers", "--choices=n_kv_head,dtype", "--results=layers"];
  const stdout = await succeed("bench.ts", args, here);
  assert.match(stdout, /^left out, .*: n_kv_head=2$/m); // they can't serve 3
  const table = [
    ...stdout.matchAll(/^\| ([^|-]+?) +\| +([\d,]+) ((?:\| +[\d.,]+ ){4})\| +([\d,]+|-) \| +([\d.]+|-) \|$/gm),
  ];
  assert.deepEqual(
    table.map(([, name, , , drawn, ratio]) => [name, drawn !== "-", ratio !== "-"]),
    [
      ["as given", true, true],
      ["as given, again", true, true],
      ["n_kv_head=1", true, true],
      ["dtype=float16", false, false], // of training alone: it isn't drawn with
    ],
  );
  const params = Object.fromEntries(table.map(([, name, count]) => [name, Number(count!.replaceAll(",", ""))]));
  assert.equal(params["as given"]! - params["n_kv_head=1"]!, 9 * (2 * 9 - 2 * 3)); // keys and values of two heads

  const folder = join(FOLDER, "layers");
  const { metrics, settings } = readReport(join(folder, readdirSync(folder)[0]!));
  assert.equal(settings.ffn, "relu2");
  for (const figure of ["tokens_per_s", "peak_rss_mb", "sampled_tokens_per_s"] as const) {
    const samples = (name: string) => metrics.find((metric) => metric.name === name)!.samples!;
    const [beside, fewer] = [samples(`${figure}_beside[n_kv_head=1]`), samples(`${figure}[n_kv_head=1]`)];
    const ratios = samples(`${figure}_ratio[n_kv_head=1]`);
    assert.equal(ratios.length, 1);
    ratios.forEach((ratio, round) => {
      assert.ok(Math.abs(ratio * beside[round]! - fewer[round]!) < 1e-4 * fewer[round]!, figure); // six digits are kept
    });
    const rows = figure === "sampled_tokens_per_s" ? 2 : 3; // that the settings ran beside
    const given = samples(`${figure}[as given]`);
    assert.equal(given.length, rows);

    // the table tells the fastest, or of memory the median
    const told = figure === "peak_rss_mb" ? median : (samples: number[]) => Math.max(...samples);
    const at = { tokens_per_s: 0, peak_rss_mb: 2, sampled_tokens_per_s: 4 }[figure];
    for (const [row, own, other] of [
      [0, given, given],
      [2, fewer, beside],
    ] as const) {
      const [, , , training, drawn, ratio] = table[row]!;
      const cells = [...training!.split("|").slice(1), drawn!, ratio!].map((cell) => Number(cell.replaceAll(",", "")));
      // of whole numbers, and of two digits
      assert.ok(Math.abs(cells[at]! - told(own)) <= 0.51, `${figure}: ${cells[at]}, of ${own}`);
      const expected = told(own) / told(other);
      assert.ok(Math.abs(cells[at + 1]! - expected) <= 0.0051, `${figure}: ${cells[at + 1]}, not ${expected}`);
    }
  }
});

test("memory by length: a row a choice, a column a length", async () => {
  const shape = flags({ ...SHAPE, steps: 1, warmup: 0, rounds: 1, lengths: "8,64" });
  const args = [...shape, "--benchmark=layers", "--choices=tie_weights", "--results=lengths", "--to=pictures/memory"];
  const stdout = await succeed("bench.ts", args, here);
  assert.match(stdout, /^\| MB, at tokens +\| +8 \| +64 \| exponent \|$/m);
  const rows = [...stdout.matchAll(/^\| ([^|-]+?) +\| +(\d+) \| +(\d+) \| +(-?\d\.\d\d) \|$/gm)];
  const names = ["as given", "tie_weights=false"];
  assert.deepEqual(
    rows.map(([, name]) => name),
    names,
  );
  for (const [, , short, long, exponent] of rows) {
    // of whole MB, some tens
    assert.ok(Math.abs(Number(exponent) - Math.log(Number(long) / Number(short)) / Math.log(8)) < 0.05);
  }
  const folder = join(FOLDER, "lengths");
  const { metrics } = readReport(join(folder, readdirSync(folder)[0]!));
  const held = metrics.filter(({ unit }) => unit === "MB");
  assert.deepEqual([held.length, metrics.length], [2 * 2, 2 * 3]);
  assert.ok(held.every(({ value }) => value > 0));
  const picture = readFileSync(join(FOLDER, "pictures", "memory.svg"), "utf8");
  for (const [, name, , , exponent] of rows) assert.ok(picture.includes(`${name}: length ^${exponent}`), name);
});

test("mistakes are one line, before any work", async () => {
  writeFileSync(join(FOLDER, "text.json"), "no JSON");
  writeFileSync(join(FOLDER, "other.json"), '{"name": "sampling"}');
  await all();
  const startup = fileOf("startup");
  const mistakes: [string[], RegExp][] = [
    [["--benchmark=sleeping"], /benchmark must be .*"layers", got "sleeping" \(--benchmark\)/],
    [["--compare=none.json"], /no file none\.json; --compare wants one that bench\.ts wrote/],
    [["--compare=text.json"], /text\.json isn't a result of bench\.ts \(it is not JSON/],
    [["--compare=other.json"], /other\.json isn't a result of bench\.ts/],
    [["--benchmark=sampling", `--compare=${startup}`], /is of benchmark startup, not of sampling/],
    [["--benchmark=startup", "--profile=true"], /--profile is about the training step, not about startup/],
    [["--json=true", "--to=docs/x"], /--to is for scaling, and for layers with --lengths, not for training_throughput/],
    [
      ["--benchmark=layers", "--choices=dropout"],
      /choices: no layer choice "dropout"; there are architecture, pos, rope_fraction, n_kv_head/,
    ],
    [["--benchmark=sampling", "--dtype=float16"], /--dtype=float16 is for training steps, not for sampling/],
    [["--benchmark=memory", "--choices=pos"], /--choices is for the layers benchmark, not for memory/],
    [["--benchmark=memory", "--lengths=8"], /--lengths is for the layers benchmark, not for memory/],
    [["--lengths=8,-1"], /lengths must be a list of integers from 0 to \d+/],
    [["--factors=1,0"], /factors must be a list of numbers above 0/],
    [["--results=text.json"], /can't create the folder of --results/],
    [["--benchmark=scaling", "--to=text.json/x"], /can't create the folder of --to=text\.json\/x/],
    [["--benchmark=startup", "--dataset=nowhere"], /no dataset "nowhere"/], // found out by the child process
  ];
  for (const [args, message] of mistakes) assertRefused(await runHere("bench.ts", args, FOLDER), message);
});

test("an interrupted run leaves no temporary folder and no file", { skip: process.platform === "win32" }, async () => {
  const before = strays();
  const args = [...flags(SHAPE), "--benchmark=checkpoint", "--rounds=100000", "--results=interrupted"];
  const { child, ended } = launch("bench.ts", args, here);
  await new Promise<void>((resolve) => child.stderr!.once("data", () => resolve())); // its first progress line
  child.kill("SIGINT");
  assert.equal((await ended).code, 130);
  assert.deepEqual(
    strays().filter((name) => !before.includes(name)),
    [],
  );
  assert.deepEqual(readdirSync(join(FOLDER, "interrupted")), []);
});

test("file names hold the machine and the moment, and nothing that a file system minds", () => {
  const hardware = { cpu: "Intel(R) Core(TM) i7-8700 @ 3.20GHz", cores: 6, memory_gb: 8, platform: "linux x64" };
  assert.equal(
    fileName({ name: "startup", hardware, date: "2026-11-25T17:30:05.123Z" }),
    "benchmark_startup_intel-r-core-tm-i7-8700-3-20ghz-6-cores_20261125_173005.json",
  );
});

test("a size is changed by factors, smallest first, the width by whole heads", () => {
  const base = { n_layer: 4, n_head: 4, n_embd: 128, block_size: 64, batch_size: 12 };
  const along = (axis: "n_layer" | "n_embd", factors: number[]) => shapesAlong(base, axis, factors);
  assert.deepEqual(along("n_embd", [2, 0.5]), [
    { ...base, n_embd: 64, n_head: 2 },
    { ...base, n_embd: 256, n_head: 8 },
  ]);
  assert.deepEqual(along("n_layer", [0.1, 0.25, 1, 1.01]), [{ ...base, n_layer: 1 }, base]);
});
