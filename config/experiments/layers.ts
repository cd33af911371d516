// What does each layer choice gain, alone and at equal steps? docs/concepts/layers.md explains them. A small model, so that a run takes
// seconds; gains on long texts or in large models don't show here.
// Run: npx tsx tools/experiment.ts run config/experiments/layers.ts

import type { ExperimentSettings } from "../../tools/experiment/experiment_config.ts";
import small from "../train_shakespeare_char_cpu.ts";

const tiny = { n_layer: 4, n_head: 4, n_embd: 64, learning_rate: 3e-3, min_lr: 3e-4 };
const short = { max_iters: 600, lr_decay_iters: 600, eval_interval: 200 };

export default {
  name: "layers",
  base: { ...small, ...tiny, ...short, threads: 1 }, // one thread each, since two run at a time
  search: "list",
  list: [
    {}, // GPT-2's
    { pos: "sinusoidal" },
    { pos: "rotary" },
    { pos: "rotary", rope_fraction: 0.5 },
    { pos: "alibi" },
    { pos: "relative" },
    { pos: "none" },
    { n_kv_head: 1 },
    { n_kv_head: 2 },
    { window: 16 },
    { window: 16, attn_global: 4 },
    { window: 16, attn_global: 4, attn_stride: 8 },
    { window: 8, attn_stride: 8, attn_stride_from: "query" },
    { attention: "recompute", attn_chunk: 16 }, // computed differently, with the same result; so are the next three
    { attention: "dense" },
    { grad_checkpoint: true },
    { dtype: "float16" }, // up to rounding
    { attn_softcap: 20 },
    { qk_norm: true },
    { ffn: "gelu_tanh" },
    { ffn: "relu" },
    { ffn: "relu2" },
    { ffn: "silu" },
    { ffn: "swiglu" },
    { ffn: "geglu" },
    { ffn: "geglu_tanh" },
    { ffn: "moe", n_hidden: 88 }, // per expert: two, with three matrices each, are as large as GPT-2's MLP
    { ffn: "moe", n_hidden: 88, expert_capacity_factor: 1.25 },
    { ffn: "moe", n_hidden: 88, n_expert_active: 1, n_shared_hidden: 88 }, // one of two for every token
    { norm: "rmsnorm" },
    { norm_position: "post" },
    { norm_position: "sandwich" },
    { parallel_block: true },
    { parallel_block: true, parallel_norms: 2 },
    { stochastic_depth: 0.1 },
    { logit_softcap: 15 },
    { tie_weights: false },
    { pos: "rotary", norm: "rmsnorm", ffn: "swiglu", n_kv_head: 2 }, // combined: a Llama
  ],
  seeds: [1337, 1338, 1339],
  jobs: 2,
} satisfies ExperimentSettings;
