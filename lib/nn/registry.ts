// Settings of a model that fit each other, and what its stacks are.

import { type Architecture, type ModelConfig, NAMES } from "./choices.ts";

/** What a stack's blocks do: see those before them, see all, or see those before them and a source. */
export type BlockRole = "decoder" | "encoder" | "crossing";

/** What the last stack of a model does, by `architecture`. */
export const roles: Readonly<Record<Architecture, BlockRole>> = {
  decoder: "decoder",
  encoder: "encoder",
  encoder_decoder: "crossing", // behind an encoder
};

/** @throws Error where a name is none, or numbers don't fit each other. For people, lib/settings/rules.ts says it better, and earlier. */
export function checkChoices(config: ModelConfig): void {
  const { n_embd, n_head, n_kv_head, ffn, n_expert, n_expert_active } = config;
  for (const [key, known] of Object.entries(NAMES)) {
    const name = config[key as keyof typeof NAMES];
    if (!(known as readonly string[]).includes(name)) throw new Error(`no ${key} ${name}`);
  }
  if (n_embd % n_head !== 0) throw new Error(`n_embd ${n_embd} can't be split among ${n_head} heads`);
  if (n_head % (n_kv_head || 1) !== 0) throw new Error("n_kv_head doesn't divide n_head");
  if (ffn === "moe" && n_expert_active > n_expert) throw new Error("n_expert_active > n_expert");
}
