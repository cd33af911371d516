// Exchanges two folders atomically, so that a reader always finds one: a system call that Node doesn't offer. Left out: Windows,
// which has none.

import { nativeCalls } from "./native.ts";

const HERE = -100; // AT_FDCWD: paths are relative to the working directory
const SWAP = 2; // RENAME_EXCHANGE of Linux, RENAME_SWAP of macOS

let swap: ((a: string, b: string) => number) | undefined;

/** False, with nothing changed, if the system or the disk can't do it. Both folders must exist. */
export function exchange(a: string, b: string): boolean {
  swap ??= load();
  return swap(a, b) === 0;
}

function load(): (a: string, b: string) => number {
  const { platform } = process;
  try {
    const system = nativeCalls().load(null);
    if (platform === "linux") {
      const call = system.func("int renameat2(int, const char *, int, const char *, unsigned int)");
      return (a, b) => call(HERE, a, HERE, b, SWAP);
    }
    if (platform === "darwin") {
      const call = system.func("int renamex_np(const char *, const char *, unsigned int)");
      return (a, b) => call(a, b, SWAP);
    }
  } catch {
    // no koffi here, or a C library without the call
  }
  return () => -1;
}
