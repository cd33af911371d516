// koffi, which calls native libraries, set up once for all its users: its settings are fixed when it loads the first library.

import { createRequire } from "node:module";

let ready: typeof import("koffi") | undefined;

/** @throws if koffi is not installed, or has no binary for this system */
export function nativeCalls(): typeof import("koffi") {
  if (!ready) {
    const koffi: typeof import("koffi") = createRequire(import.meta.url)("koffi");
    // a step's products go deeper than the 128 KiB that a call on a thread would get
    koffi.config({ ...koffi.config(), async_stack_size: 8 << 20, async_heap_size: 1 << 20, resident_async_pools: 2 });
    ready = koffi;
  }
  return ready;
}
