// The repository's scripts: paths, Node's arguments that run them, and the commands to type.

import { createRequire } from "node:module";
import { fileURLToPath, pathToFileURL } from "node:url";

/** The repository. */
export const ROOT = fileURLToPath(new URL("../..", import.meta.url)).replace(/[\\/]$/, "");

/** Node's arguments that run a TypeScript file, from any working directory: tsx, unless this process runs under another loader. */
export const TSX = [
  "--import",
  otherLoader(process.execArgv) ?? pathToFileURL(createRequire(import.meta.url).resolve("tsx")).href,
];

/** The loader of a process without tsx, such as tests/loader.mjs; a name, not an address, would depend on the working directory. */
export function otherLoader(execArgv: readonly string[]): string | undefined {
  const imported = execArgv.filter((_, i) => execArgv[i - 1] === "--import");
  if (imported.some((name) => /\btsx\b/.test(name))) return undefined;
  return imported.findLast((name) => name.startsWith("file:"));
}

/** The command to type for a script. */
export function commandOf(script: string, args: readonly string[]): string {
  return shellWords(["npx", "tsx", script, ...args]);
}

/** Words quoted for pasting into a shell. */
export function shellWords(words: readonly string[]): string {
  const quoted = (word: string) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);
  return words.map(quoted).join(" ");
}
