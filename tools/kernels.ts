// Assembles engine/kernels.wat into engine/kernels.wasm:  npm run kernels

import { readFileSync } from "node:fs";

import { writeFileAtomic } from "../engine/atomic.ts";
import { main } from "../engine/errors.ts";
import { assemble } from "./wat.ts";

await main(async () => {
  const path = (extension: string) => new URL(`../engine/kernels.${extension}`, import.meta.url).pathname;
  const binary = await assemble(readFileSync(path("wat"), "utf8"));
  writeFileAtomic(path("wasm"), binary);
  console.log(`engine/kernels.wasm: ${binary.length} bytes`);
});
