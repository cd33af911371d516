// Without the packages that only pages and plots need, as after `npm ci --omit=peer`: everything else runs, and what needs one
// says in a line which, and what to type.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { copyHouse } from "../../house_copy.ts";
import { assertRefused, flags, once, ROOT, tinyDataset } from "../../scripts.ts";

const EXTRAS = ["@napi-rs/canvas", "dejavu-fonts-ttf", "echarts", "onnxruntime-web"];
const TINY = { n_layer: 1, n_head: 1, n_embd: 8, block_size: 8, batch_size: 2, gradient_accumulation_steps: 1 };

const house = copyHouse(EXTRAS);
const trained = once(async () => {
  const settings = { ...TINY, dataset: tinyDataset(house.folder), max_iters: 2, eval_iters: 1, threads: 1 };
  const { code, stderr } = await house.run("train.ts", flags(settings));
  assert.equal(code, 0, stderr);
});

test("they are package.json's peer dependencies", () => {
  const { peerDependencies } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
  assert.deepEqual(Object.keys(peerDependencies), EXTRAS);
});

test("a model trains and samples without them", async () => {
  await trained();
  const { code, stderr } = await house.run("sample.ts", ["--max_new_tokens=4"]);
  assert.equal(code, 0, stderr);
});

test("a plot, a page, a report and a measured curve each name what they lack", async () => {
  await trained();
  mkdirSync(join(house.folder, "out", "some-experiment"));
  const refused = async (script: string, args: string[], message: RegExp) =>
    assertRefused(await house.run(script, args), message);
  const lacks = (name: string) => new RegExp(`: not installed: ${name}; run: npm ci --include=peer$`, "m");
  await refused("tools/plot.ts", [], lacks("echarts"));
  await refused("tools/monitor.ts", ["--web=true", "--open=false"], lacks("echarts"));
  await refused("tools/experiment.ts", ["report", "out/some-experiment"], lacks("echarts"));
  await refused("bench.ts", ["--benchmark=scaling", "--to=curve.md"], lacks("echarts"));
  await refused("tools/serve.ts", ["--open=false"], lacks("onnxruntime-web"));
});

const withoutCanvas = copyHouse(["@napi-rs/canvas", "dejavu-fonts-ttf"]);
test("a PNG lacks the canvas and the fonts where echarts alone is there", async () => {
  const program =
    'import("./lib/monitor/draw.ts").then(({ svgToPng }) => svgToPng("<svg/>")).catch((e) => console.log(e.name, e.message))';
  writeFileSync(join(withoutCanvas.folder, "png.ts"), program);
  const { stdout } = await withoutCanvas.launch("png.ts", []).ended;
  assert.match(stdout, /^UserError can't draw a PNG: not installed: @napi-rs\/canvas, dejavu-fonts-ttf; run: npm ci/);
});

test("the doctor lists them, and says that training runs", async () => {
  const { stdout } = await house.run("tools/doctor.ts", []);
  assert.match(stdout, /@napi-rs\/canvas, dejavu-fonts-ttf, echarts, onnxruntime-web\): npm ci --include=peer/);
  assert.doesNotMatch(stdout, /training can't run here/);
});
