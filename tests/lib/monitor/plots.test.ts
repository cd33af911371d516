// The pictures: that they are whole, say what they must, stay small, and become PNGs with text in them.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";

import { createCanvas, GlobalFonts, loadImage } from "@napi-rs/canvas";

import { drawSvg, svgToPng, textWidth, writePlot } from "../../../lib/monitor/draw.ts";
import { History, type MetricsEvent } from "../../../lib/monitor/metrics_file.ts";
import {
  type NamedRun,
  plotAttention,
  plotComparison,
  plotLearningRate,
  plotThroughput,
  plotTimeSplit,
  plotTrainingCurves,
  visible,
} from "../../../lib/monitor/plots.ts";
import { ROOT, TSX, temporaryFolder } from "../../scripts.ts";

const FOLDER = temporaryFolder();

/** A run whose loss falls, with an evaluation each 10 steps. */
function runOf(name: string, steps: number, lossAt = (iter: number) => 4 / (1 + iter / 10)): NamedRun {
  const events: MetricsEvent[] = [
    { event: "start", time: 0, iter: 0, resumed: false, name, pid: 1, config: {}, facts: {} },
  ];
  for (let iter = 0; iter < steps; iter++) {
    const loss = lossAt(iter);
    const common = { time: iter, iter };
    if (iter % 10 === 0) {
      const losses = { "train/loss": loss, "val/loss": loss + 0.1 };
      events.push({ event: "evaluate", ...common, ...losses, "time/compute": 3, "time/data": 1 });
    }
    events.push({
      event: "step",
      ...common,
      loss,
      lr: 1e-3 * (1 - iter / steps),
      tokens_per_s: 1000 + (iter % 2) * 1000,
    });
  }
  return { name, history: new History().add(events) };
}

const a = runOf("run-a", 100);
const b = runOf("run <b> & co", 50);

/** Every tag closed in its turn, nothing that XML doesn't know, no NaN where a number must be. */
function assertWellFormed(svg: string): void {
  const open: string[] = [];
  const rest = svg.replaceAll(/<(\/?)([a-z]\w*)((?:\s+[\w:-]+="[^"<]*")*)\s*(\/?)>/gi, (_, end, name, __, self) => {
    if (end) assert.equal(open.pop(), name);
    else if (!self) open.push(name);
    return "";
  });
  assert.deepEqual(open, []);
  assert.doesNotMatch(rest, /[<>]|&(?!(amp|lt|gt|quot|#\d+);)/);
  assert.doesNotMatch(svg, /NaN|undefined|Infinity/);
  assert.match(svg, /^<svg /);
}

const textsOf = (svg: string) => [...svg.matchAll(/<text[^>]*>([^<]*)<\/text>/g)].map(([, text]) => text!);

function assertShows(svg: string, ...texts: string[]): void {
  assertWellFormed(svg);
  for (const text of texts) assert.ok(textsOf(svg).includes(text), `no "${text}" among: ${textsOf(svg).join(" | ")}`);
}

/** How many colours there are in a picture's pixels, and how many pixels are dark. */
async function look(png: Buffer) {
  const image = await loadImage(png);
  const { width, height } = image;
  const context = createCanvas(width, height).getContext("2d");
  context.drawImage(image, 0, 0);
  const pixels = new Uint32Array(context.getImageData(0, 0, width, height).data.buffer);
  const dark = pixels.filter((pixel) => (pixel & 0xff) < 120).length;
  return { width, height, colors: new Set(pixels).size, dark };
}

test("training curves: of one run its steps and estimates, of several a colour each", () => {
  assertShows(
    plotTrainingCurves([a]),
    ...["Training of run-a", "step", "loss (nats per token)", "each step", "train, estimated", "validation"],
  );
  const svg = plotTrainingCurves([a, b], { title: "Heads" });
  assertShows(svg, "Heads", "run-a", "run &lt;b&gt; &amp; co", "train", "validation");
  for (const color of ["#0072b2", "#d55e00"]) assert.match(svg, new RegExp(`stroke="${color}"`));
});

test("a run without evaluations, one without steps, one of one step, none", () => {
  const { history } = runOf("bare", 30);
  for (const name of ["train/loss", "val/loss"]) history.series.delete(name);
  assertShows(plotTrainingCurves([{ name: "bare", history }]), "each step");
  for (const runs of [[], [runOf("empty", 0)], [runOf("one", 1)], [runOf("one", 1), runOf("empty", 0)]]) {
    for (const plot of [plotTrainingCurves, plotLearningRate, plotThroughput, plotTimeSplit])
      assertWellFormed(plot(runs));
  }
});

test("a loss that is no number is a gap; a huge one doesn't make the others a flat line", () => {
  assertWellFormed(plotTrainingCurves([runOf("gap", 50, (iter) => (iter === 20 ? Number.NaN : 3))]));
  const svg = plotTrainingCurves([runOf("spike", 200, (iter) => (iter === 150 ? 1e6 : 3))]);
  const ticks = textsOf(svg).map(Number).filter(Number.isFinite);
  assert.ok(!ticks.some((tick) => tick > 200), `axes have ${ticks.join(" ")}`); // 200: the last step
});

test("learning rate, throughput, where the time went", () => {
  assertShows(plotLearningRate([a]), "Learning rate of run-a", "learning rate", "step", "1e-3");
  // as many tokens at 1000 a second as at 2000: 1333; half of the steps reach 1500, in between; 95 % of them 1000
  assertShows(plotThroughput([a]), "Throughput of run-a", "tokens/s", "mean 1.33k", "p50 1.5k", "p95 1k");
  assertShows(plotThroughput([a, b]), "run-a: mean 1.33k, p50 1.5k, p95 1k");
  assertShows(plotTimeSplit([a, b]), "share of the time (%)", "compute", "75 %", "25 %", "40 s", "20 s");
});

test("a comparison: bars from 0, points where all are close, the best marked, the spread to its digits", () => {
  const speeds = [
    { label: "two layers", mean: 41_210, spread: 900 },
    { label: "four layers", mean: 22_400 },
    { label: "broken", mean: Number.NaN },
  ];
  const bars = plotComparison(speeds, { unit: "tokens/s", better: "higher" });
  assertShows(bars, "two layers", "41,210 ± 900 (best)", "22,400", "0", "broken (not a number)");
  assertShows(bars, "tokens/s, higher is better");
  const losses = [
    { label: "a", mean: 1.7, spread: 0.01 },
    { label: "b", mean: 1.68, spread: 0.0092 },
  ];
  const points = plotComparison(losses, { unit: "loss", better: "lower", title: "Seeds" });
  assertShows(points, "Seeds", "1.700 ± 0.010", "1.6800 ± 0.0092 (best)");
  assert.ok(!textsOf(points).includes("0"));
});

test("attention: a map a head, tokens beside it, newline and space with a sign", () => {
  const weights = Float32Array.of(1, 0, 0.25, 0.75, 1, 0, 0.5, 0.5); // [2, 2, 2]
  const svg = plotAttention({ tokens: ["\n", " the"], weights, layer: 3 });
  assertShows(svg, "Attention in layer 3", "head 0", "head 1", "⏎", "·the");
  assert.ok(!textsOf(svg).includes("head 2"));
  const dark = svg.match(/<path d="M[^"]*" fill="(rgb\(8,48,107\)|#08306b)"/g) ?? [];
  assert.equal(dark.length, 2); // the weights of 1
  const both = plotAttention({ tokens: ["a", "b"], weights: Float32Array.of(0, 1, 1, 0), layer: 0 }); // an encoder's
  const ahead = both.match(/<path d="M[^"]*" fill="(rgb\(8,48,107\)|#08306b)"/g) ?? [];
  assert.equal(ahead.length, 2);
  assert.equal(visible("a\tb\r\n\u0000"), "a⇥b␍⏎\uFFFD");
});

test("30,000 steps: less than 300 kB, and the highest of them is still there", () => {
  const run = runOf("long", 30_000, (iter) => 2 + (iter === 17_777 ? 1.5 : 0.1 * Math.sin(iter)));
  for (const plot of [plotTrainingCurves, plotLearningRate, plotThroughput]) {
    for (const runs of [[run], [run, run, run]]) {
      const svg = plot(runs);
      assertWellFormed(svg);
      assert.ok(svg.length < 300_000, `${svg.length} characters`);
    }
  }
  const without = runOf("long", 30_000, (iter) => 2 + 0.1 * Math.sin(iter));
  assert.notEqual(plotTrainingCurves([run]), plotTrainingCurves([without]));
  const ticks = textsOf(plotTrainingCurves([run])).map(Number);
  assert.ok(
    ticks.some((tick) => tick >= 3.5 && tick < 5),
    `axes have ${ticks.join(" ")}`,
  );
});

test("a PNG has the SVG's size times the scale, and a picture in it", async () => {
  const svg = plotTrainingCurves([a]);
  const { width, height, colors } = await look(await svgToPng(svg, { scale: 1.5 }));
  assert.deepEqual([width, height], [1260, 660]);
  assert.ok(colors > 50, `${colors} colours`); // lines of four colours and text, with their soft edges
  await assert.rejects(svgToPng(svg, { scale: 100 }), /84000 x 44000 pixels is too large/);
});

test("nothing has a frame: no stroke of width 0, which a PNG would have as a hair line", async () => {
  const attention = { tokens: ["a", "b"], weights: Float32Array.of(1, 0, 0.5, 0.5), layer: 0 };
  const compared = [{ label: "a", mean: 1 }, ...[2, 3].map((mean) => ({ label: `${mean}`, mean, spread: 0.1 }))];
  const svgs = [
    ...[plotTrainingCurves, plotLearningRate, plotThroughput, plotTimeSplit].map((plot) => plot([a, b])),
    plotComparison(compared, { unit: "s", better: "lower" }),
    plotAttention(attention),
  ];
  for (const svg of svgs) assert.doesNotMatch(svg, /stroke-width="0(\.0*)?"/);

  // dots in title and legend: what is longer than a dot is a frame
  const legend = { top: 40, left: "center", icon: "none", data: ["."] };
  const option = { title: { text: ". . . .", left: "center" }, legend, xAxis: { show: false }, yAxis: { show: false } };
  const series = [{ name: ".", type: "line" as const, data: [] }];
  const image = await loadImage(await svgToPng(drawSvg({ ...option, series }, { width: 200, height: 100 })));
  const context = createCanvas(image.width, image.height).getContext("2d");
  context.drawImage(image, 0, 0);
  let [longest, drawn] = [0, 0];
  for (let y = 0; y < image.height; y++) {
    const row = new Uint32Array(context.getImageData(0, y, image.width, 1).data.buffer);
    for (let x = 0, length = 0; x < row.length; x++) {
      length = row[x] === 0xffffffff ? 0 : length + 1;
      [longest, drawn] = [Math.max(longest, length), drawn + Math.min(1, length)];
    }
  }
  assert.ok(drawn > 40, `${drawn} pixels of five dots`);
  assert.ok(longest < 16, `a line of ${longest} pixels`);
});

test("text is drawn on a machine without fonts", async () => {
  const svg = drawSvg({ title: { text: "Loß ⏎ 123" } }, { width: 300, height: 60 });
  const file = join(FOLDER, "text.svg");
  writeFileSync(file, svg);
  const script = `
    import { readFileSync } from "node:fs";
    import { GlobalFonts } from "@napi-rs/canvas";
    import { svgToPng } from "./lib/monitor/draw.ts";
    if (GlobalFonts.families.length > 0) throw new Error("the machine's fonts are there");
    process.stdout.write((await svgToPng(readFileSync(${JSON.stringify(file)}, "utf8"))).toString("base64"));`;
  const env = { ...process.env, DISABLE_SYSTEM_FONTS_LOAD: "1" };
  const child = spawnSync(process.execPath, [...TSX, "--input-type=module", "-e", script], { cwd: ROOT, env });
  assert.equal(child.status, 0, String(child.stderr));
  const bare = await look(Buffer.from(String(child.stdout), "base64"));
  const empty = await look(await svgToPng(drawSvg({}, { width: 300, height: 60 })));
  assert.equal(empty.dark, 0);
  assert.ok(bare.dark > 500, `${bare.dark} dark pixels`); // nine bold characters, 30 pixels high
});

test("a text is as wide as it is taken for", async () => {
  await svgToPng(drawSvg({}, { width: 10, height: 10 })); // registers the font
  assert.ok(GlobalFonts.has("DejaVu Sans"));
  const context = createCanvas(10, 10).getContext("2d");
  context.font = "100px DejaVu Sans";
  for (const text of ["validation loss", "WWW", "iiii", "0123456789 (±%)", "out-heads_4~"]) {
    const [expected, actual] = [context.measureText(text).width, textWidth(text, 100)];
    assert.ok(Math.abs(actual - expected) <= 0.03 * expected, `${text}: ${actual}, drawn ${expected}`); // 32nds, rounded
  }
});

test("files: kind, run, date and time; only the formats that were asked for; a folder that can't be", async () => {
  const folder = join(FOLDER, "out-x");
  const svg = plotLearningRate([a]);
  const date = new Date("2026-11-23T17:48:18.123Z");
  const paths = await writePlot(folder, "learning_rate", svg, { date });
  const name = "learning_rate_out-x_20261123_174818";
  assert.deepEqual(
    paths,
    ["svg", "png"].map((format) => join(folder, "visualizations", `${name}.${format}`)),
  );
  assert.equal(readFileSync(paths[0]!, "utf8"), `${svg}\n`);
  assert.equal((await look(readFileSync(paths[1]!))).width, 2 * 840);
  await writePlot(folder, "loss", svg, { formats: ["svg"], date });
  assert.deepEqual(readdirSync(join(folder, "visualizations")).sort(), [
    `${name}.png`,
    `${name}.svg`,
    "loss_out-x_20261123_174818.svg",
  ]);
  mkdirSync(join(FOLDER, "taken"));
  writeFileSync(join(FOLDER, "taken", "visualizations"), "a file");
  await assert.rejects(writePlot(join(FOLDER, "taken"), "loss", svg), {
    name: "UserError",
    message: /^can't write a picture to .*visualizations: /,
  });
});

test("native code is loaded for a PNG, not for an SVG", () => {
  const script = `
    import { plotComparison } from "./lib/monitor/plots.ts";
    import { svgToPng } from "./lib/monitor/draw.ts";
    const loaded = () => process.report.getReport().sharedObjects.filter((path) => /skia|napi-rs/.test(path)).length;
    const svg = plotComparison([{ label: "a", mean: 1 }], { unit: "s", better: "lower" });
    console.log(loaded());
    await svgToPng(svg);
    console.log(loaded());`;
  const child = spawnSync(process.execPath, [...TSX, "--input-type=module", "-e", script], { cwd: ROOT });
  assert.equal(String(child.stdout), "0\n1\n", String(child.stderr));
});
