// What the scripts may be told, for programs that start them. A script runs when it is imported, so its block of defaults
// is read as text, as --help does it.

import { join } from "node:path";
import { runInNewContext } from "node:vm";

import { transformSync } from "esbuild";
import { ROOT } from "../common/scripts.ts";
import { defaultsBlock } from "./help.ts";
import type { Settings } from "./rules.ts";

const known = new Map<string, Settings>();

/** Every key of train.ts with its default. */
export const trainDefaults = () => scriptDefaults("train.ts");

/** Every key of a script of the repository, such as "train.ts", with its default. */
export function scriptDefaults(script: string): Readonly<Settings> {
  let defaults = known.get(script);
  if (defaults) return defaults;
  const block = defaultsBlock(join(ROOT, script));
  if (!block) throw new Error(`internal: no block \`const defaults = {\` in ${script}`);
  const { code } = transformSync(`result = {\n${block}}`, { loader: "ts" }); // takes the types out
  defaults = structuredClone<Settings>(runInNewContext(code));
  known.set(script, defaults);
  return defaults;
}
