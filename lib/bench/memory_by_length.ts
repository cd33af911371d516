// Peak memory of a training step for several sequence lengths, with one layer choice at a time: does memory grow linearly or
// quadratically? Left out: time, as long sequences take minutes, and layers.ts compares times.
//
//   npx tsx bench.ts --benchmark=layers --choices=attention --lengths=1024,2048,4096 --batch_size=1 --steps=1

import { writeResult } from "../common/atomic.ts";
import { markdownTable, whole } from "../common/format.ts";
import { fitExponent, median } from "../common/statistics.ts";
import type { Option } from "../monitor/draw.ts";
import { findConflict } from "../settings/rules.ts";
import { metric, type Result } from "./benchmark.ts";
import { runStep } from "./child.ts";
import { choicesFor, nameOf, SAME } from "./layer_choices.ts";
import { prepareTo } from "./report.ts";
import type { BenchSettings } from "./settings.ts";

/** A choice, its memory at each length (MB beyond Node and the libraries), and the best-fitting exponent of the length. */
interface Line {
  name: string;
  points: (readonly [T: number, mb: number])[];
  exponent: number;
}

/** @param lengths tokens in a sequence, in place of block_size */
export async function memoryByLength(
  settings: BenchSettings,
  lengths: readonly number[],
  progress: (line: string) => void,
): Promise<Result> {
  const { rounds, n_layer, n_head, n_embd, batch_size, vocab_size, to } = settings;
  if (to !== "") prepareTo(to);
  const wanted = choicesFor({ ...settings, block_size: Math.min(...lengths) });
  const possible = [{}, ...wanted.filter((changes) => !findConflict({ ...settings, ...changes }))];
  const rows = possible.map((changes, i) => ({ name: i === 0 ? SAME : nameOf(changes), changes }));
  const samples = new Map<string, number[]>();
  const keyOf = (name: string, T: number) => `held_mb[${name}, ${T}]`;
  let device = "";
  for (let round = 1; round <= rounds; round++) {
    for (const { name, changes } of rows) {
      for (const block_size of lengths) {
        const step = await runStep(settings, { ...changes, block_size });
        const held = step.peak_rss_mb - step.rss_import_mb;
        const key = keyOf(name, block_size);
        samples.set(key, [...(samples.get(key) ?? []), held]);
        ({ device } = step);
        progress(`layers ${round}/${rounds}: ${name}, ${whole(block_size)} tokens: ${held.toFixed(0)} MB`);
      }
    }
  }
  const lines = rows.map(({ name }): Line => {
    const points = lengths.map((T) => [T, median(samples.get(keyOf(name, T))!)] as const);
    return { name, points, exponent: fitExponent(points) };
  });
  const cells = lines.map((line) => [line.name, ...line.points.map(([, mb]) => whole(mb)), exponentOf(line)]);
  if (to !== "") await writePicture(to, lines);
  return {
    metrics: [
      ...[...samples].map(([name, values]) => metric(name, "MB", "lower", values)),
      ...lines.map(({ name, exponent }) => metric(`exponent[${name}]`, "", "lower", [exponent])),
    ],
    facts: { device, n_layer, n_head, n_embd, batch_size, vocab_size, rounds },
    summary: [
      `device:      ${device}`,
      `model:       ${n_layer}/${n_head}/${n_embd}; batch ${batch_size}`,
      ...markdownTable([["MB, at tokens", ...lengths.map(whole), "exponent"], ...cells]),
      ...(to === "" ? [] : [`picture:     ${to}.svg`]),
    ],
  };
}

const exponentOf = ({ exponent }: Line) => (Number.isFinite(exponent) ? exponent.toFixed(2) : "-");

/** Memory against length on logarithmic axes: slope 1 is linear, 2 quadratic. */
async function writePicture(to: string, lines: readonly Line[]): Promise<void> {
  const { colorOf, drawSvg } = await import("../monitor/draw.ts");
  const title = (line: Line) => `${line.name}: length ^${exponentOf(line)}`;
  const lengths = lines[0]!.points.map(([T]) => T);
  const option: Option = {
    title: { text: "memory of a training step beyond Node and the libraries (MB)", left: "center", top: 8 },
    legend: { bottom: 6, left: "center", width: 700, itemGap: 14, data: lines.map(title) },
    grid: { left: 64, right: 24, top: 44, bottom: 76 + 22 * Math.ceil(lines.length / 3) },
    xAxis: {
      ...{ type: "log", logBase: 2, min: Math.min(...lengths), max: Math.max(...lengths) },
      ...{ name: "tokens in a sequence", nameLocation: "middle", nameGap: 28 },
    },
    yAxis: { type: "log", logBase: 2 },
    series: lines.map((line, i) => ({
      ...{ name: title(line), type: "line" as const, symbolSize: 6, data: line.points.map((point) => [...point]) },
      ...{ itemStyle: { color: colorOf(i) }, lineStyle: { width: 2, color: colorOf(i) } },
    })),
  };
  writeResult(`${to}.svg`, drawSvg(option, { width: 800, height: 420 + 22 * Math.ceil(lines.length / 3) }));
}
