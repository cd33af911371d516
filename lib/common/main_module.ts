// Is a module the one that Node was started with? Scripts start only then, so that others can import their defaults and run().

import { realpathSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** True in the main module. `url` is the caller's import.meta.url; the command line may name a symbolic link to it. */
export function isMain(url: string): boolean {
  const [, started] = process.argv;
  if (started === undefined) return false; // node --eval
  const real = realpathSync(fileURLToPath(url));
  return [started, `${started}.ts`].some((path) => realPath(path) === real); // tsx finds train.ts by the name train
}

function realPath(path: string): string | undefined {
  try {
    return realpathSync(path);
  } catch {
    return undefined; // "-", or no file of this name
  }
}
