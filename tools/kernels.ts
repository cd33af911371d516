// Assembles lib/common/kernels.wat into lib/common/kernels.wasm:  npm run kernels

import { readFileSync } from "node:fs";

import { writeFileAtomic } from "../lib/common/atomic.ts";
import { main } from "../lib/common/errors.ts";
import { isMain } from "../lib/common/main_module.ts";
import { assemble } from "./wat.ts";

/** Write the module beside its source. */
export async function run(): Promise<void> {
  const path = (extension: string) => new URL(`../lib/common/kernels.${extension}`, import.meta.url).pathname;
  const binary = await assemble(readFileSync(path("wat"), "utf8"));
  writeFileAtomic(path("wasm"), binary);
  console.log(`lib/common/kernels.wasm: ${binary.length} bytes`);
}

if (isMain(import.meta.url)) await main(run);
