// WebAssembly's text form to its binary form, by the WebAssembly project's own assembler.

import wabt from "wabt";

/** @throws Error with the assembler's messages if the text is invalid */
export async function assemble(wat: string): Promise<Uint8Array> {
  const parsed = (await wabt()).parseWat("kernels.wat", wat, { simd: true });
  parsed.validate();
  return parsed.toBinary({}).buffer;
}
