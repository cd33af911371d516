// What sampling begins with where no prompt was given.

import type { Tokenizer } from "../data/tokenizer.ts";

/** After these anything may come: ends of lines, then of words. */
const BREAKS = ["\n", "\r", " ", "\t"];

/** A text that the vocabulary has: a line break; where it has none, what else ends a line or a word, or its first token. */
export function defaultStart({ meta, decode }: Tokenizer): string {
  if (meta.kind === "gpt2") return "\n";
  const characters = meta.kind === "char" ? meta.itos : [];
  return BREAKS.find((character) => characters.includes(character)) ?? decode([0]);
}

/** To be said where samples begin with something else than the usual line break. */
export function startNotice(start: string): string {
  return `the vocabulary has no line break: starting with ${JSON.stringify(start)} (--start gives another text)`;
}
