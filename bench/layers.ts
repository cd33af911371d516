// What each layer choice costs: a training step's speed, its peak memory and the speed of drawing, against the settings as
// they are. One choice at a time is made, in processes of its own, each right beside those of the settings: a ratio is of
// such two, so that whatever else the machine does slows both, and of training it is of the fastest steps, which that
// slows least. What noise makes of a ratio is measured too, by the settings beside themselves. How well a choice learns is
// left out: config/experiments/layers.ts.
//
//   tsx bench.ts --benchmark=layers --choices=pos,window --block_size=256
//   tsx bench.ts --benchmark=layers --choices=attention --lengths=1024,2048,4096 --batch_size=1 --steps=1   # memory alone

import type { BenchSettings } from "../bench.ts";
import { findConflict, OPTIMIZERS } from "../config/rules.ts";
import { UserError } from "../engine/errors.ts";
import { whole } from "../monitor/format.ts";
import { type Benchmark, type Metric, metric, type Result } from "./benchmark.ts";
import { runDrawing, runStep } from "./child.ts";
import { median } from "./statistics.ts";

const SAME = "as given";
const AGAIN = "as given, again";
const FIGURES = ["tokens_per_s", "peak_rss_mb", "drawn_tokens_per_s"] as const;

type Sample = Record<(typeof FIGURES)[number], number>;

interface Row {
  name: string;
  changes: Partial<BenchSettings>;
  params: number;
  samples: Sample[]; // one a round
  beside: Sample[]; // of the settings as they are
}

export const layers: Benchmark = async (settings, progress) => {
  const lengths = settings.lengths.filter((length) => length > 0);
  if (lengths.length > 0) return await memoryByLength(settings, lengths, progress);

  // 1) the choices that are others than the settings', and can be made with them
  const wanted = choicesFor(settings);
  const conflicts = wanted.filter((changes) => findConflict({ ...settings, ...changes }));
  const possible = wanted.filter((changes) => !conflicts.includes(changes));
  const all = [{ name: AGAIN, changes: {} }, ...possible.map((changes) => ({ name: nameOf(changes), changes }))];
  const rows: Row[] = all.map((row) => ({ ...row, params: 0, samples: [], beside: [] }));

  // 2) measure
  const { batch_size, gradient_accumulation_steps, block_size, rounds } = settings;
  const tokens = batch_size * gradient_accumulation_steps * block_size;
  let device = "";
  let params = 0;
  async function measure(changes: Partial<BenchSettings>, draws: boolean): Promise<Sample> {
    const step = await runStep(settings, changes);
    const drawn_tokens_per_s = draws ? await runDrawing(settings, changes) : Number.NaN;
    ({ device, params } = step);
    return { tokens_per_s: (1000 * tokens) / step.ms_min, peak_rss_mb: step.peak_rss_mb, drawn_tokens_per_s };
  }
  for (let round = 1; round <= rounds; round++) {
    for (const [i, row] of rows.entries()) {
      // each is the first in every other pair
      const draws = { ...settings, ...row.changes }.architecture !== "encoder" && !isOfTraining(row.changes);
      if ((round + i) % 2 === 0) row.beside.push(await measure({}, draws));
      row.samples.push(await measure(row.changes, draws));
      row.params = params;
      if ((round + i) % 2 === 1) row.beside.push(await measure({}, draws));
      const shares = FIGURES.map((figure) => (isMeasured(row, figure) ? ratios(row, figure).at(-1)!.toFixed(2) : "-"));
      progress(`layers ${round}/${rounds}: ${row.name}: times ${shares.join(", ")} (training, memory, drawing)`);
    }
  }
  const given = rows.flatMap(({ beside }) => beside);
  const base: Row = { name: SAME, changes: {}, params: rows[0]!.params, samples: given, beside: given };

  // 3) report
  const metrics: Metric[] = [base, ...rows].flatMap((row) =>
    FIGURES.filter((figure) => isMeasured(row, figure)).flatMap((figure) => {
      const better = figure === "peak_rss_mb" ? "lower" : "higher";
      const of = (name: string, samples: Sample[]) =>
        metric(`${name}[${row.name}]`, better === "lower" ? "MB" : "tokens/s", better, column(samples, figure));
      if (row === base) return [of(figure, row.samples)];
      const ratio = metric(`${figure}_ratio[${row.name}]`, "", better, ratios(row, figure));
      return [of(figure, row.samples), of(`${figure}_beside`, row.beside), ratio];
    }),
  );
  const left = conflicts.map(nameOf);
  const { n_layer, n_head, n_embd, vocab_size, steps } = settings;
  return {
    metrics,
    facts: { device, n_layer, n_head, n_embd, block_size, batch_size, vocab_size, steps, rounds },
    summary: [
      `device:      ${device}`,
      `model:       ${n_layer}/${n_head}/${n_embd}, block ${block_size}; batch ${batch_size} x ${gradient_accumulation_steps}`,
      ...table([base, ...rows]),
      `Medians of ${rounds} rounds; x is the ratio to "${SAME}" measured beside it, and "again" what noise makes of it.`,
      ...(left.length > 0 ? [`left out, since these settings can't have them: ${left.join("; ")}`] : []),
    ],
  };
};

/** What a training step holds at its peak beyond Node and the libraries, for texts of several lengths. */
async function memoryByLength(
  settings: BenchSettings,
  lengths: readonly number[],
  progress: (line: string) => void,
): Promise<Result> {
  const { rounds, n_layer, n_head, n_embd, batch_size, vocab_size } = settings;
  const wanted = choicesFor({ ...settings, block_size: Math.min(...lengths) });
  const possible = [{}, ...wanted.filter((changes) => !findConflict({ ...settings, ...changes }))];
  const rows = possible.map((changes, i) => ({ name: i === 0 ? SAME : nameOf(changes), changes }));
  const samples = new Map<string, number[]>();
  let device = "";
  for (let round = 1; round <= rounds; round++) {
    for (const { name, changes } of rows) {
      for (const block_size of lengths) {
        const step = await runStep(settings, { ...changes, block_size });
        const held = step.peak_rss_mb - step.rss_import_mb;
        const key = `held_mb[${name}, ${block_size}]`;
        samples.set(key, [...(samples.get(key) ?? []), held]);
        ({ device } = step);
        progress(`layers ${round}/${rounds}: ${name}, ${whole(block_size)} tokens: ${held.toFixed(0)} MB`);
      }
    }
  }
  const cell = (name: string, T: number) => whole(median(samples.get(`held_mb[${name}, ${T}]`)!));
  const lines = rows.map(({ name }) => [name, ...lengths.map((T) => cell(name, T))]);
  return {
    metrics: [...samples].map(([name, values]) => metric(name, "MB", "lower", values)),
    facts: { device, n_layer, n_head, n_embd, batch_size, vocab_size, rounds },
    summary: [
      `device:      ${device}`,
      `model:       ${n_layer}/${n_head}/${n_embd}; batch ${batch_size}`,
      ...draw(["MB, at tokens", ...lengths.map(whole)], lines),
    ],
  };
}

/**
 * One for each value of each setting that the settings don't have.
 * @throws UserError for a name in settings.choices that is no such setting
 */
function choicesFor(settings: BenchSettings): Partial<BenchSettings>[] {
  const { block_size: T, choices: names } = settings;
  const window = Math.ceil(T / 4);
  const pattern = { window, attn_global: Math.ceil(T / 16), attn_stride: Math.ceil(T / 8) };
  const moe = (more: Partial<BenchSettings>) => ({ ffn: "moe", ...more });
  const choices: Record<string, Partial<BenchSettings>[]> = {
    architecture: ["decoder", "encoder", "encoder_decoder"].map((architecture) => ({ architecture })),
    pos: ["learned", "sinusoidal", "rotary", "alibi", "relative", "none"].map((pos) => ({ pos })),
    rope_fraction: [
      { pos: settings.pos, rope_fraction: 1 },
      { pos: "rotary", rope_fraction: 0.5 },
    ],
    n_kv_head: [0, 1, 2].map((n_kv_head) => ({ n_kv_head })),
    window: [{ window: 0, attn_global: 0, attn_stride: 0 }, { window, attn_global: 0, attn_stride: 0 }, pattern],
    attn_softcap: [0, 20].map((attn_softcap) => ({ attn_softcap })),
    attention: ["auto", "flash", "dense"].map((attention) => ({ attention })),
    attn_block_size: [0, Math.ceil(T / 4)].map((attn_block_size) => ({ attn_block_size })),
    qk_norm: [false, true].map((qk_norm) => ({ qk_norm })),
    ffn: ["gelu", "gelu_tanh", "relu", "relu2", "silu", "swiglu", "geglu", "geglu_tanh", "moe"].map((ffn) => ({ ffn })),
    n_shared_hidden: [{ ffn: settings.ffn, n_shared_hidden: 0 }, moe({ n_shared_hidden: settings.n_embd })],
    expert_capacity: [{ ffn: settings.ffn, expert_capacity: 0 }, moe({ expert_capacity: 1.25 })],
    norm: ["layernorm", "rmsnorm"].map((norm) => ({ norm })),
    norm_position: ["pre", "post", "sandwich"].map((norm_position) => ({ norm_position })),
    parallel_block: [{ parallel_block: false }, { parallel_block: true }, { parallel_block: true, parallel_norms: 2 }],
    stochastic_depth: [0, 0.2].map((stochastic_depth) => ({ stochastic_depth })),
    logit_softcap: [0, 15].map((logit_softcap) => ({ logit_softcap })),
    tie_weights: [true, false].map((tie_weights) => ({ tie_weights })),
    grad_checkpoint: [false, true].map((grad_checkpoint) => ({ grad_checkpoint })),
    dtype: ["float32", "float16"].map((dtype) => ({ dtype })),
    optimizer: OPTIMIZERS.map((optimizer) => ({ optimizer })),
  };
  const unknown = names.find((name) => !Object.hasOwn(choices, name));
  if (unknown !== undefined) {
    throw new UserError(
      `choices: no layer choice ${JSON.stringify(unknown)}; there are ${Object.keys(choices).join(", ")}`,
    );
  }
  const keys = names.length > 0 ? names : Object.keys(choices);
  const differs = (changes: Partial<BenchSettings>) =>
    Object.entries(changes).some(([key, value]) => settings[key as keyof BenchSettings] !== value);
  return keys.flatMap((key) => choices[key]!.filter(differs));
}

/** Such as "window=16 attn_global=4"; what is 0 besides goes unsaid. */
function nameOf(changes: Partial<BenchSettings>): string {
  const said = Object.entries(changes).filter(([, value], i) => i === 0 || value !== 0);
  return said.map(([key, value]) => `${key}=${value}`).join(" ");
}

/** Does it change training alone? */
const isOfTraining = (changes: Partial<BenchSettings>) =>
  Object.keys(changes).some((key) =>
    ["optimizer", "dtype", "grad_checkpoint", "stochastic_depth", "expert_capacity"].includes(key),
  );

/** An encoder draws nothing, and what changes training alone isn't drawn with. */
const isMeasured = ({ samples }: Row, figure: keyof Sample) => column(samples, figure).length > 0;

const column = (samples: readonly Sample[], figure: keyof Sample) =>
  samples.map((sample) => sample[figure]).filter(Number.isFinite);
const ratios = ({ samples, beside }: Row, figure: keyof Sample) =>
  samples.map((sample, i) => sample[figure] / beside[i]![figure]).filter(Number.isFinite);

function table(rows: readonly Row[]): string[] {
  const heading = ["choice", "parameters", "training, tokens/s", "x", "peak, MB", "x", "drawing, tokens/s", "x"];
  const lines = rows.map((row) => [
    row.name,
    whole(row.params),
    ...FIGURES.flatMap((figure) => {
      if (!isMeasured(row, figure)) return ["-", "-"];
      return [whole(median(column(row.samples, figure))), median(ratios(row, figure)).toFixed(2)];
    }),
  ]);
  return draw(heading, lines);
}

/** Markdown that is readable as it is. */
function draw(heading: string[], lines: string[][]): string[] {
  const widths = heading.map((head, i) => Math.max(...[heading, ...lines].map((line) => line[i]!.length), head.length));
  const row = (cells: string[]) =>
    `| ${cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join(" | ")} |`;
  const rule = `|${widths.map((width, i) => (i === 0 ? "-".repeat(width + 2) : `${"-".repeat(width + 1)}:`)).join("|")}|`;
  return [row(heading), rule, ...lines.map(row)];
}
