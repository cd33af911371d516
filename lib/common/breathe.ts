// Long work on the main thread yields to the event loop now and then, so that signals are handled, pages served and progress
// shown. tsx' command line kills a script that doesn't answer a signal within 60 ms, so 10 ms is long.

const TURN = 10; // ms
const PIECE = 1 << 20; // numbers; some 5 ms of AdamW

let last = performance.now();

/** Yield to the event loop if it had no turn for a while. */
export async function breathe(): Promise<void> {
  if (performance.now() - last < TURN) return;
  await new Promise<void>((resolve) => setImmediate(resolve));
  last = performance.now();
}

/** Work on the numbers [from, to) of `length`, piece by piece. Pieces begin at multiples of a large power of 2. */
export async function inPieces(length: number, work: (from: number, to: number) => void): Promise<void> {
  for (let from = 0; from < length; from += PIECE) {
    await breathe();
    work(from, Math.min(length, from + PIECE));
  }
}
