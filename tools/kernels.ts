// Assembles lib/common/kernels.wat into lib/common/kernels.wasm:  npm run kernels

import { readFileSync } from "node:fs";

import { writeFileAtomic } from "../lib/common/atomic.ts";
import { main } from "../lib/common/errors.ts";
import { assemble } from "./wat.ts";

await main(async () => {
  const path = (extension: string) => new URL(`../lib/common/kernels.${extension}`, import.meta.url).pathname;
  const binary = await assemble(readFileSync(path("wat"), "utf8"));
  writeFileAtomic(path("wasm"), binary);
  console.log(`lib/common/kernels.wasm: ${binary.length} bytes`);
});
