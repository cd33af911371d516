// The legal values of each key, for all scripts: a key means the same thing everywhere. configurator.ts applies the rules of a
// script's own keys, and takes this table as the list of all known keys, so that `NANOGPT_N_LAYER=4` or a config file made for
// train.ts does not break sample.ts.
// A key of a single script may be missing here: then only its type is checked, and other scripts reject it.
// Add it once two scripts share it or people will put it in a config file or in their environment.
// Left out: what only the data or the machine can tell (a block_size beyond the data), which the scripts check.

import { z } from "../common/zod.ts";

import {
  ARCHITECTURES,
  ATTENTIONS,
  FEED_FORWARDS,
  NORM_POSITIONS,
  NORMS,
  POSITIONS,
  STRIDES_FROM,
} from "../nn/choices.ts";
import { OPTIMIZERS, SCHEDULES } from "../training/choices.ts";
import { choice } from "./show.ts";

/** What a key can hold: its default decides which. */
export type Value = number | string | boolean | readonly (number | string | boolean)[];
export type Settings = Record<string, Value>;

/** A rule's message completes "<key> must be ..."; one wording for a wrong type and a wrong range. */
export type Rule = z.ZodMiniType<Value>;

const flag = z.boolean("true or false");
const anyText = z.string("text"); // of a prompt
const NO_NUL = z.refine((value) => !String(value).includes("\0"), "text without the character NUL"); // no path has it
const text = z.string("text").check(NO_NUL);
const NOT_EMPTY = "text that is not empty";
const name = z.string(NOT_EMPTY).check(z.minLength(1, NOT_EMPTY), NO_NUL);
const FROM_ZERO = "a number of at least 0";
const amount = z.number(FROM_ZERO).check(z.gte(0, FROM_ZERO));
const ABOVE_ZERO = "a number above 0";
const positive = z.number(ABOVE_ZERO).check(z.gt(0, ABOVE_ZERO));
const BELOW_ONE = "a number from 0 to below 1";
const fraction = z.number(BELOW_ONE).check(z.gte(0, BELOW_ONE), z.lt(1, BELOW_ONE));

function integer(min: number, max = Number.MAX_SAFE_INTEGER) {
  const words = max < Number.MAX_SAFE_INTEGER ? `an integer from ${min} to ${max}` : `an integer of at least ${min}`;
  return z.int(words).check(z.gte(min, words), z.lte(max, words));
}

// Upper bounds: far above anything useful, and low enough that nothing huge is counted or allocated before
// lib/formats/model_memory.ts says whether a model fits into this machine.
const WIDTH = 2 ** 20; // channels, heads
const LENGTH = 2 ** 24; // tokens in a sequence, hidden units
const LAYERS = 10_000;
const MANY = 2 ** 16; // experts, buckets
const ROWS = 2 ** 20; // sequences in a batch
const THREADS = 1024;

/** An integer with an upper bound that no sensible value reaches: only the message for a larger one names it. */
function count(min: number, max: number) {
  const words = `an integer of at least ${min}`;
  return z.int(words).check(z.gte(min, words), z.lte(max, `an integer of at most ${max}`));
}

function oneOf<T extends string>(...choices: readonly T[]) {
  return z.enum(choices, choice(choices));
}

/** The benchmarks, in the order in which bench.ts runs them. */
export const BENCHMARKS = [
  "training_throughput", // first: its memory and its start are those of the process
  "sampling",
  "startup",
  "data_loading",
  "checkpoint",
  "memory",
  "watching",
  "scaling",
  "layers", // only if named
] as const;
export type BenchmarkName = (typeof BENCHMARKS)[number];

const FACTORS = "a list of numbers above 0";
const LENGTHS = `a list of integers from 0 to ${LENGTH}`;
const MEGABYTES = "a number above 0, up to 100000";
const UP_TO_ONE = "a number above 0, up to 1";
const FACTOR = "a number above 0, below 1";
const ZERO_TO_ONE = "a number from 0 to 1";
/** How attention is computed; people also look here for what is computed. */
const ATTENTION = `${choice(ATTENTIONS)} (n_kv_head makes it grouped or multi-query, window with attn_global and attn_stride sparse)`;
const TEXTS = "a list of texts that are not empty";

export const rules = {
  // I/O
  out_dir: name,
  eval_interval: integer(1),
  log_interval: integer(1),
  eval_iters: integer(1),
  eval_only: flag,
  always_save_checkpoint: flag,
  init_from: name,
  callbacks: z.array(z.string(TEXTS).check(z.minLength(1, TEXTS), NO_NUL), TEXTS),
  stats_interval: integer(0),
  sample_interval: integer(0),
  tensorboard: flag,
  histogram_interval: integer(0),
  mlflow_uri: text,
  early_stop_patience: integer(0),
  lr_patience: integer(0),
  lr_factor: z.number(FACTOR).check(z.gt(0, FACTOR), z.lt(1, FACTOR)),
  spike_threshold: amount,
  rollback: flag,
  wandb_log: flag,
  wandb_project: text,
  wandb_run_name: text,
  // data
  dataset: name,
  vocab: oneOf("same", "extend"),
  input: name,
  field: name,
  separator: text,
  skip_bad: flag,
  keep_crlf: flag,
  workers: count(0, 256),
  val_fraction: fraction,
  gradient_accumulation_steps: count(1, ROWS),
  batch_size: count(1, ROWS),
  micro_batch_size: count(0, ROWS),
  block_size: count(1, LENGTH),
  mask_fraction: z.number(UP_TO_ONE).check(z.gt(0, UP_TO_ONE), z.lte(1, UP_TO_ONE)),
  // model
  architecture: oneOf(...ARCHITECTURES),
  n_layer: count(1, LAYERS),
  n_head: count(1, WIDTH),
  n_embd: count(1, WIDTH),
  dropout: fraction,
  bias: flag,
  ffn: oneOf(...FEED_FORWARDS),
  pos: oneOf(...POSITIONS),
  rope_theta: positive,
  rope_fraction: z.number(UP_TO_ONE).check(z.gt(0, UP_TO_ONE), z.lte(1, UP_TO_ONE)),
  relative_buckets: count(2, MANY),
  relative_max_distance: count(2, LENGTH),
  attention: z.enum(ATTENTIONS, ATTENTION),
  attn_chunk: count(0, LENGTH),
  n_kv_head: count(0, WIDTH),
  window: count(0, LENGTH),
  attn_global: count(0, LENGTH),
  attn_stride: count(0, LENGTH),
  attn_stride_from: oneOf(...STRIDES_FROM),
  attn_softcap: amount,
  qk_norm: flag,
  n_hidden: count(0, LENGTH),
  n_expert: count(2, MANY),
  n_expert_active: count(1, MANY),
  n_shared_hidden: count(0, LENGTH),
  expert_capacity_factor: amount,
  router_aux_coef: amount,
  router_z_coef: amount,
  norm: oneOf(...NORMS),
  norm_position: oneOf(...NORM_POSITIONS),
  norm_eps: positive,
  parallel_block: flag,
  parallel_norms: integer(1, 2),
  stochastic_depth: fraction,
  tie_weights: flag,
  logit_softcap: amount,
  vocab_size: integer(1, 65536), // token files are uint16
  // optimizer
  optimizer: oneOf(...OPTIMIZERS),
  learning_rate: amount,
  max_iters: integer(0),
  weight_decay: amount,
  beta1: fraction,
  beta2: fraction,
  momentum: fraction,
  grad_clip: amount,
  ema: fraction,
  schedule: oneOf(...SCHEDULES),
  cooldown_fraction: fraction,
  decay_lr: flag,
  warmup_iters: integer(0),
  lr_decay_iters: integer(0),
  min_lr: amount,
  // system
  backend: oneOf("mpi"),
  device: oneOf("auto", "cpu"),
  dtype: oneOf("float32", "float16", "int8"),
  compile: flag,
  grad_checkpoint: flag,
  seed: integer(0, 2 ** 32 - 1),
  threads: count(0, THREADS),
  // sampling
  start: anyText,
  num_samples: count(1, 1_000_000),
  max_new_tokens: integer(1),
  temperature: amount,
  top_k: integer(0),
  top_p: z.number(UP_TO_ONE).check(z.gt(0, UP_TO_ONE), z.lte(1, UP_TO_ONE)),
  min_p: z.number(ZERO_TO_ONE).check(z.gte(0, ZERO_TO_ONE), z.lte(1, ZERO_TO_ONE)),
  repetition_penalty: positive,
  stop: z.array(z.string(TEXTS).check(z.minLength(1, TEXTS)), TEXTS),
  interactive: flag,
  evaluate: text,
  context: count(0, LENGTH),
  stride: count(0, LENGTH),
  // benchmark
  steps: integer(1),
  warmup: integer(0),
  profile: flag,
  json: flag,
  benchmark: oneOf("", "all", ...BENCHMARKS),
  rounds: integer(0),
  data_mb: z.number(MEGABYTES).check(z.gt(0, MEGABYTES), z.lte(100_000, MEGABYTES)),
  choices: z.array(z.string(TEXTS).check(z.minLength(1, TEXTS)), TEXTS),
  lengths: z.array(z.int(LENGTHS).check(z.gte(0, LENGTHS), z.lte(LENGTH, LENGTHS)), LENGTHS),
  factors: z.array(z.number(FACTORS).check(z.gt(0, FACTORS)), FACTORS).check(z.minLength(1, FACTORS)),
  // tools
  to: name,
  format: oneOf("hf", "nanogpt", "onnx"),
  port: integer(0, 65535),
} satisfies Record<string, Rule>;

type Values = { [K in keyof typeof rules]: z.infer<(typeof rules)[K]> };
type Combination = { keys: (keyof Values)[]; problem: (config: Values) => string | undefined };

// Checked once all sources are merged, in scripts with all of the keys.
const combinations = [
  together(["n_embd", "n_head"], ({ n_embd, n_head }) => {
    if (n_embd % n_head === 0) return undefined;
    return `n_embd ${n_embd} does not divide by n_head ${n_head}; try n_head ${nearDivisors(n_embd, n_head).join(" or ")}`;
  }),
  together(["n_head", "n_kv_head"], ({ n_head, n_kv_head }) => {
    if (n_kv_head === 0 || n_head % n_kv_head === 0) return undefined;
    return `n_head ${n_head} does not divide by n_kv_head ${n_kv_head}; try n_kv_head ${nearDivisors(n_head, Math.min(n_kv_head, n_head)).join(" or ")}`;
  }),
  together(["pos", "n_embd", "n_head", "rope_fraction"], ({ pos, n_embd, n_head, rope_fraction }) => {
    if (pos === "sinusoidal" && n_embd % 2 === 1) return `pos sinusoidal needs an even n_embd, not ${n_embd}`;
    if (pos !== "rotary" || n_embd % n_head !== 0) return undefined;
    const turned = (rope_fraction * n_embd) / n_head;
    if (turned % 2 === 0) return undefined;
    return `pos rotary turns pairs of channels, and rope_fraction ${rope_fraction} of a head's ${n_embd / n_head} is ${turned}`;
  }),
  together(["n_expert", "n_expert_active"], ({ n_expert, n_expert_active }) => {
    if (n_expert_active <= n_expert) return undefined;
    return `n_expert_active ${n_expert_active} is more than n_expert ${n_expert}; lower it, or raise n_expert`;
  }),
  together(["attention", "attn_chunk"], ({ attention, attn_chunk }) => {
    if (attention !== "dense" || attn_chunk === 0) return undefined;
    return `attention "dense" has no chunks, so no attn_chunk ${attn_chunk}; leave one of them out`;
  }),
  together(["window", "attn_global", "attn_stride"], ({ window, attn_global, attn_stride }) => {
    if (window > 0 || attn_global + attn_stride === 0) return undefined;
    return "attn_global and attn_stride widen a window; set window, or leave them 0";
  }),
  together(["architecture", "parallel_block"], ({ architecture, parallel_block }) => {
    if (!parallel_block || architecture !== "encoder_decoder") return undefined;
    return "parallel_block has no place for an encoder_decoder's attention to the source; leave one of them out";
  }),
  together(["architecture", "sample_interval"], ({ architecture, sample_interval }) => {
    if (architecture !== "encoder" || sample_interval === 0) return undefined;
    return "an encoder predicts masked tokens and writes no text; set sample_interval to 0";
  }),
  together(["parallel_block", "norm_position"], ({ parallel_block, norm_position }) => {
    if (!parallel_block || norm_position === "pre") return undefined;
    return `parallel_block has its norms before both: norm_position must be "pre"`;
  }),
  together(["relative_buckets", "relative_max_distance"], ({ relative_buckets, relative_max_distance }) => {
    if (relative_max_distance > relative_buckets / 2) return undefined;
    return `relative_max_distance ${relative_max_distance} must be beyond half of relative_buckets ${relative_buckets}`;
  }),
  together(["batch_size", "micro_batch_size"], ({ batch_size, micro_batch_size }) => {
    if (micro_batch_size === 0 || batch_size % micro_batch_size === 0) return undefined;
    return `batch_size ${batch_size} does not divide by micro_batch_size ${micro_batch_size}; 0 chooses one that fits`;
  }),
  together(["decay_lr", "schedule"], ({ decay_lr, schedule }) => {
    if (decay_lr || schedule === "cosine" || schedule === "constant") return undefined; // cosine: nanoGPT knows no other
    return `decay_lr false keeps the learning rate constant, schedule ${schedule} lowers it; leave one of them out`;
  }),
  together(["schedule", "decay_lr", "warmup_iters", "lr_decay_iters", "cooldown_fraction"], (config) => {
    const { schedule, warmup_iters, lr_decay_iters, cooldown_fraction } = config;
    if (schedule !== "wsd" || warmup_iters <= lr_decay_iters * (1 - cooldown_fraction)) return undefined;
    const start = Math.round(lr_decay_iters * (1 - cooldown_fraction));
    return `warmup_iters ${warmup_iters} is beyond step ${start}, where wsd's cooldown begins; lower it or cooldown_fraction`;
  }),
  together(["decay_lr", "schedule", "warmup_iters", "lr_decay_iters"], (config) => {
    const { decay_lr, schedule, warmup_iters, lr_decay_iters } = config;
    if (!decay_lr || schedule === "constant" || warmup_iters <= lr_decay_iters) return undefined;
    return `warmup_iters ${warmup_iters} is beyond lr_decay_iters ${lr_decay_iters}; lower it, or set decay_lr to false`;
  }),
  together(["vocab", "init_from"], ({ vocab, init_from }) => {
    if (vocab === "same" || init_from !== "scratch") return undefined;
    return "vocab extend is for the tokens of other weights; name them with init_from, or leave it out";
  }),
  together(["dtype", "compile"], ({ dtype, compile }) => {
    if (dtype !== "int8" || compile) return undefined;
    return `dtype ${dtype} needs compile true; the uncompiled model computes in float32`;
  }),
  together(["interactive", "evaluate"], ({ interactive, evaluate }) => {
    if (!interactive || evaluate === "") return undefined;
    return "interactive and evaluate exclude each other; give one of them";
  }),
  together(["histogram_interval", "tensorboard"], ({ histogram_interval, tensorboard }) => {
    if (histogram_interval === 0 || tensorboard) return undefined;
    return `histogram_interval ${histogram_interval} is for TensorBoard; set tensorboard to true`;
  }),
];

/** The rule of `key`, for each item if the default is a list of them; without one in the table, the default's type. */
export function ruleFor(key: string, fallback: Value): Rule {
  const known: Record<string, Rule> = rules;
  const rule = Object.hasOwn(known, key) ? known[key] : undefined;
  const takesSeveral = typeof fallback === "object" && !((rule as unknown) instanceof z.ZodMiniArray);
  if (rule) return takesSeveral ? (z.array(rule, "a list") as Rule) : rule;
  if (typeof fallback === "boolean") return flag;
  if (typeof fallback === "string") return text;
  if (typeof fallback === "number") return z.number("a number");
  const [first] = fallback;
  if (typeof first === "number") return z.array(z.number("a list of numbers"), "a list of numbers");
  if (typeof first === "boolean") return z.array(z.boolean("a list of true or false"), "a list of true or false");
  return z.array(z.string("a list of texts"), "a list of texts");
}

/** The first combination of values that cannot work: what is wrong, and the keys involved. */
export function findConflict(config: Record<string, Value>): { problem: string; keys: string[] } | undefined {
  for (const { keys, problem } of combinations) {
    if (!keys.every((key) => Object.hasOwn(config, key))) continue;
    const found = problem(config as Values);
    if (found) return { problem: found, keys };
  }
  return undefined;
}

function together<K extends keyof Values>(
  keys: K[],
  problem: (config: Pick<Values, K>) => string | undefined,
): Combination {
  return { keys, problem };
}

/** The divisors of `n` closest to `near`, below and above. */
function nearDivisors(n: number, near: number): number[] {
  let below = near;
  while (n % below !== 0) below--;
  let above = near;
  while (above <= n && n % above !== 0) above++;
  return above <= n ? [below, above] : [below];
}
