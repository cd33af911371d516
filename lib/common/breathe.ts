// Long work on the main thread gives the event loop a turn now and then: signals are heard, pages are answered, progress is
// shown. tsx' command line ends a script that doesn't answer a signal within 60 ms, so 10 ms are long.

const TURN = 10; // ms
const PIECE = 1 << 20; // numbers; some 5 ms of AdamW

let last = performance.now();

/** Give the event loop a turn if it had none for a while. */
export async function breathe(): Promise<void> {
  if (performance.now() - last < TURN) return;
  await new Promise<void>((resolve) => setImmediate(resolve));
  last = performance.now();
}

/** Work on the numbers [from, to) of `length`, a piece after the other. Pieces begin at multiples of a large power of 2. */
export async function inPieces(length: number, work: (from: number, to: number) => void): Promise<void> {
  for (let from = 0; from < length; from += PIECE) {
    await breathe();
    work(from, Math.min(length, from + PIECE));
  }
}
