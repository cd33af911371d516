// koffi, which calls libraries of the system, set up once for all who use it: its settings are fixed with the first
// library that it loads.

import { createRequire } from "node:module";

let ready: typeof import("koffi") | undefined;

/** @throws where koffi is not installed, or has no binary for this system */
export function nativeCalls(): typeof import("koffi") {
  if (!ready) {
    const koffi: typeof import("koffi") = createRequire(import.meta.url)("koffi");
    // a step's products go deeper than the 128 KiB that a call on a thread would get
    koffi.config({ ...koffi.config(), async_stack_size: 8 << 20, async_heap_size: 1 << 20, resident_async_pools: 2 });
    ready = koffi;
  }
  return ready;
}
