// Every layer choice that a benchmark can change in the settings, one at a time.

import { UserError } from "../common/errors.ts";
import { ARCHITECTURES, ATTENTIONS, FEED_FORWARDS, NORM_POSITIONS, NORMS, POSITIONS } from "../nn/choices.ts";
import { OPTIMIZERS } from "../training/choices.ts";
import type { BenchSettings } from "./settings.ts";

/** The name of the settings as they are. */
export const SAME = "as given";

/**
 * One for each value of each choice that differs from the settings.
 * @throws UserError for a name in settings.choices that isn't a layer choice
 */
export function choicesFor(settings: BenchSettings): Partial<BenchSettings>[] {
  const { block_size: T, choices: names } = settings;
  const window = Math.ceil(T / 4);
  const pattern = { window, attn_global: Math.ceil(T / 16), attn_stride: Math.ceil(T / 8) };
  const moe = (more: Partial<BenchSettings>) => ({ ffn: "moe" as const, ...more });
  const choices: Record<string, Partial<BenchSettings>[]> = {
    architecture: ARCHITECTURES.map((architecture) => ({ architecture })),
    pos: POSITIONS.map((pos) => ({ pos })),
    rope_fraction: [
      { pos: settings.pos, rope_fraction: 1 },
      { pos: "rotary", rope_fraction: 0.5 },
    ],
    n_kv_head: [0, 1, 2].map((n_kv_head) => ({ n_kv_head })),
    window: [{ window: 0, attn_global: 0, attn_stride: 0 }, { window, attn_global: 0, attn_stride: 0 }, pattern],
    attn_softcap: [0, 20].map((attn_softcap) => ({ attn_softcap })),
    attention: ATTENTIONS.map((attention) => ({ attention })),
    attn_chunk: [0, Math.ceil(T / 4)].map((attn_chunk) => ({ attn_chunk })),
    qk_norm: [false, true].map((qk_norm) => ({ qk_norm })),
    ffn: FEED_FORWARDS.map((ffn) => ({ ffn })),
    n_shared_hidden: [{ ffn: settings.ffn, n_shared_hidden: 0 }, moe({ n_shared_hidden: settings.n_embd })],
    expert_capacity_factor: [{ ffn: settings.ffn, expert_capacity_factor: 0 }, moe({ expert_capacity_factor: 1.25 })],
    norm: NORMS.map((norm) => ({ norm })),
    norm_position: NORM_POSITIONS.map((norm_position) => ({ norm_position })),
    parallel_block: [{ parallel_block: false }, { parallel_block: true }, { parallel_block: true, parallel_norms: 2 }],
    stochastic_depth: [0, 0.2].map((stochastic_depth) => ({ stochastic_depth })),
    logit_softcap: [0, 15].map((logit_softcap) => ({ logit_softcap })),
    tie_weights: [true, false].map((tie_weights) => ({ tie_weights })),
    grad_checkpoint: [false, true].map((grad_checkpoint) => ({ grad_checkpoint })),
    dtype: ["float32", "float16"].map((dtype) => ({ dtype })),
    optimizer: OPTIMIZERS.map((optimizer) => ({ optimizer })),
  };
  const differs = (changes: Partial<BenchSettings>) =>
    Object.entries(changes).some(([key, value]) => settings[key as keyof BenchSettings] !== value);
  const known = Object.keys(choices);
  return (names.length > 0 ? names : known).flatMap((name) => {
    const values = Object.hasOwn(choices, name) ? choices[name] : undefined;
    if (values) return values.filter(differs);
    throw new UserError(`choices: no layer choice ${JSON.stringify(name)}; there are ${known.join(", ")}`);
  });
}

/** Such as "window=16 attn_global=4"; further settings that are 0 are left out. */
export function nameOf(changes: Partial<BenchSettings>): string {
  const said = Object.entries(changes).filter(([, value], i) => i === 0 || value !== 0);
  return said.map(([key, value]) => `${key}=${value}`).join(" ");
}
