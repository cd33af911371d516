// The repository's scripts: paths, Node's arguments that run them, and the commands to type.

import { createRequire } from "node:module";
import { fileURLToPath, pathToFileURL } from "node:url";

/** The repository. */
export const ROOT = fileURLToPath(new URL("../..", import.meta.url)).replace(/[\\/]$/, "");

/** Node's arguments that run a TypeScript file, from any working directory: the loader that runs this one, or tsx. */
export const TSX = ["--import", ownLoader() ?? pathToFileURL(createRequire(import.meta.url).resolve("tsx")).href];

function ownLoader(): string | undefined {
  const loader = process.execArgv[process.execArgv.indexOf("--import") + 1];
  return loader?.startsWith("file:") ? loader : undefined; // a name is looked for in the working directory
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
