// The repository's scripts: where they are, how Node runs them, and what a person would type.

import { createRequire } from "node:module";
import { fileURLToPath, pathToFileURL } from "node:url";

/** The repository. */
export const ROOT = fileURLToPath(new URL("../..", import.meta.url)).replace(/[\\/]$/, "");

/** Node's arguments that run a TypeScript file, from any working directory. */
export const TSX = ["--import", pathToFileURL(createRequire(import.meta.url).resolve("tsx")).href];

/** A script's command as a person would type it. */
export function commandOf(script: string, args: readonly string[]): string {
  return shellWords(["npx", "tsx", script, ...args]);
}

/** Words to be pasted into a shell. */
export function shellWords(words: readonly string[]): string {
  const quoted = (word: string) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);
  return words.map(quoted).join(" ");
}
