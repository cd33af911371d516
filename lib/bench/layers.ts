// The cost of each layer choice: a training step's speed, its peak memory and the sampling speed, relative to the given settings. One
// choice at a time is changed, in separate processes, each next to one with the given settings: a ratio is of such a pair, so that
// a temporary slowdown of the machine affects both. Speeds are the fastest of all rounds, and for training the fastest steps, as
// other load can only slow one down. The noise of a ratio is measured too, by comparing the settings with themselves. Left out: how
// well a choice learns (config/experiments/layers.ts).
//
//   npx tsx bench.ts --benchmark=layers --choices=pos,window --block_size=256
//
// With --lengths it runs memory_by_length.ts.

import { markdownTable, whole } from "../common/format.ts";
import { median } from "../common/statistics.ts";
import { findConflict } from "../settings/rules.ts";
import { type Benchmark, type Metric, metric } from "./benchmark.ts";
import { runSampling, runStep } from "./child.ts";
import { choicesFor, nameOf, SAME } from "./layer_choices.ts";
import { memoryByLength } from "./memory_by_length.ts";
import type { BenchSettings } from "./settings.ts";

const AGAIN = "as given, again";
const FIGURES = ["tokens_per_s", "peak_rss_mb", "sampled_tokens_per_s"] as const;

type Sample = Record<(typeof FIGURES)[number], number>;

interface Row {
  name: string;
  changes: Partial<BenchSettings>;
  params: number;
  samples: Sample[]; // one per round
  beside: Sample[]; // of the settings as they are
}

export const layers: Benchmark = async (settings, progress) => {
  const lengths = settings.lengths.filter((length) => length > 0);
  if (lengths.length > 0) return await memoryByLength(settings, lengths, progress);

  // 1) the choices that differ from the settings and are compatible with them
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
  async function measure(changes: Partial<BenchSettings>, isSampled: boolean): Promise<Sample> {
    const step = await runStep(settings, changes);
    const sampled_tokens_per_s = isSampled ? await runSampling(settings, changes) : Number.NaN;
    ({ device, params } = step);
    return { tokens_per_s: (1000 * tokens) / step.ms_min, peak_rss_mb: step.peak_rss_mb, sampled_tokens_per_s };
  }
  for (let round = 1; round <= rounds; round++) {
    for (const [i, row] of rows.entries()) {
      // each goes first in every other pair
      const isSampled = { ...settings, ...row.changes }.architecture !== "encoder" && !isOfTraining(row.changes);
      if ((round + i) % 2 === 0) row.beside.push(await measure({}, isSampled));
      row.samples.push(await measure(row.changes, isSampled));
      row.params = params;
      if ((round + i) % 2 === 1) row.beside.push(await measure({}, isSampled));
      const shares = FIGURES.map((figure) => (isMeasured(row, figure) ? ratios(row, figure).at(-1)!.toFixed(2) : "-"));
      progress(`layers ${round}/${rounds}: ${row.name}: times ${shares.join(", ")} (training, memory, sampling)`);
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
      `Speeds are the fastest of ${rounds} rounds, memory is the median; x is the ratio to "${SAME}" measured beside it, and ` +
        '"again" what noise makes of it.',
      ...(left.length > 0 ? [`left out, as they conflict with the settings: ${left.join("; ")}`] : []),
    ],
  };
};

/** Does it affect training only? */
const isOfTraining = (changes: Partial<BenchSettings>) =>
  Object.keys(changes).some((key) =>
    ["optimizer", "dtype", "grad_checkpoint", "stochastic_depth", "expert_capacity_factor"].includes(key),
  );

/** An encoder doesn't sample, and what changes training alone isn't measured in sampling. */
const isMeasured = ({ samples }: Row, figure: keyof Sample) => column(samples, figure).length > 0;

const column = (samples: readonly Sample[], figure: keyof Sample) =>
  samples.map((sample) => sample[figure]).filter(Number.isFinite);
const ratios = ({ samples, beside }: Row, figure: keyof Sample) =>
  samples.map((sample, i) => sample[figure] / beside[i]![figure]).filter(Number.isFinite);

/** The reported value of a figure that was measured in each round. */
const reported = (samples: readonly Sample[], figure: keyof Sample) =>
  figure === "peak_rss_mb" ? median(column(samples, figure)) : Math.max(...column(samples, figure));

function table(rows: readonly Row[]): string[] {
  const heading = ["choice", "parameters", "training, tokens/s", "x", "peak, MB", "x", "sampling, tokens/s", "x"];
  const lines = rows.map((row) => [
    row.name,
    whole(row.params),
    ...FIGURES.flatMap((figure) => {
      if (!isMeasured(row, figure)) return ["-", "-"];
      const [own, beside] = [row.samples, row.beside].map((samples) => reported(samples, figure));
      return [whole(own!), (own! / beside!).toFixed(2)];
    }),
  ]);
  return markdownTable([heading, ...lines]);
}
