// The prompt that sampling begins with: from --start, or a default that the vocabulary has.

import { buffer } from "node:stream/consumers";
import { UserError } from "../common/errors.ts";
import { readInput, readText, type TextOptions, unixLineEnds } from "../text/text.ts";
import type { Tokenizer } from "../text/tokenizer.ts";

/** The prompt itself, the text of the file after FILE:, or standard input for "-". */
export async function readStart(start: string, options: TextOptions): Promise<string> {
  if (start.startsWith("FILE:")) return readText(readInput(start.slice(5)), start.slice(5), options);
  if (start !== "-") return options.keep_crlf ? start : unixLineEnds(start).text;
  if (process.stdin.isTTY)
    throw new UserError("--start=- reads a pipe or a file, and standard input is a terminal; see --interactive");
  return readText(await buffer(process.stdin), "standard input", options);
}

/** Tokens after which anything may come: ends of lines, then of words. */
const BREAKS = ["\n", "\r", " ", "\t"];

/** A prompt that the vocabulary has: a line break, else another end of a line or a word, else its first token. */
export function defaultStart({ meta, decode }: Tokenizer): string {
  if (meta.kind === "gpt2") return "\n";
  const characters = meta.kind === "char" ? meta.itos : [];
  return BREAKS.find((character) => characters.includes(character)) ?? decode([0]);
}

/** The line for samples that don't begin with the usual line break. */
export function startNotice(start: string): string {
  return `the vocabulary has no line break: starting with ${JSON.stringify(start)} (--start gives another text)`;
}
