// What a setting may name, for each of them: a choice more is one more entry of a table here or of one that is named here.

import type { Choices } from "./choices.ts";
import { feedForwards } from "./feed_forward.ts";
import { norms } from "./norm.ts";
import { positions } from "./position.ts";
import { attentions } from "./query_blocks.ts";
import { normPositions } from "./residual.ts";

/** What a stack's blocks do: see those before them, see all, or see those before them and a source. */
export type Role = "decoder" | "encoder" | "crossing";

/** What the last stack of a model does, by `architecture`. */
export const roles: Readonly<Record<string, Role>> = {
  decoder: "decoder",
  encoder: "encoder",
  encoder_decoder: "crossing", // behind an encoder
};

/** The names, by the setting. */
export const registry = {
  architecture: Object.keys(roles),
  attention: Object.keys(attentions),
  ffn: Object.keys(feedForwards),
  norm: Object.keys(norms),
  norm_position: normPositions,
  pos: Object.keys(positions),
} as const;

/** @throws Error where a name is none, or numbers don't fit each other. For people, lib/settings/rules.ts says it better, and earlier. */
export function checkChoices(config: Choices & { ffn: string; n_embd: number; n_head: number }): void {
  const { n_embd, n_head, n_kv_head, ffn, n_expert, n_expert_active } = config;
  for (const [key, known] of Object.entries(registry)) {
    const name = config[key as keyof typeof registry];
    if (!(known as readonly string[]).includes(name)) throw new Error(`no ${key} ${name}`);
  }
  if (n_embd % n_head !== 0) throw new Error(`n_embd ${n_embd} can't be split among ${n_head} heads`);
  if (n_head % (n_kv_head || 1) !== 0) throw new Error("n_kv_head doesn't divide n_head");
  if (ffn === "moe" && n_expert_active > n_expert) throw new Error("n_expert_active > n_expert");
}
