// Tokenizes pieces of files on worker threads. The threads read the files themselves, so this one only distributes positions; results are
// returned in the order of the pieces, with a bounded number in flight, so that memory does not grow with the input.

import { Worker } from "node:worker_threads";

import { UserError } from "../common/errors.ts";
import type { Piece, Reading, Tally } from "./documents.ts";

/** The tokens of a piece. */
export interface Tokenized {
  tokens: Uint16Array<ArrayBuffer>;
  ends: Uint32Array<ArrayBuffer>; // the end of every document that ends in the piece, with its <|endoftext|>
  tally: Tally;
}
/** A request to a worker. */
export interface Question {
  piece: Piece;
  reading: Reading;
}
/** A worker's answer: the tokens, or a UserError's message. */
export type Answer = Tokenized | { problem: string };

const AHEAD = 3; // pieces in flight for each worker: one in work, one waiting, one waiting to be written

/** The tokens of all `pieces`, each with its piece. `workers` is the number of threads, at least 1. */
export async function* tokenizePieces<P extends Piece>(
  pieces: AsyncIterable<P>,
  reading: Reading,
  workers: number,
): AsyncGenerator<Tokenized & { piece: P }> {
  const pool = new Pool(workers);
  const underWay: { piece: P; result: Promise<Tokenized> }[] = [];
  const oldest = async () => {
    const { piece, result } = underWay.shift()!;
    return { piece, ...(await result) };
  };
  try {
    for await (const piece of pieces) {
      underWay.push({ piece, result: pool.run({ piece, reading }) });
      if (underWay.length >= workers * AHEAD) yield await oldest();
    }
    while (underWay.length > 0) yield await oldest();
  } finally {
    await pool.end();
  }
}

// A thread doesn't read TypeScript by itself, on Node 20 not even if its process was started with tsx.
const BOOT = new URL(
  `data:text/javascript,${encodeURIComponent(`
    import { register } from ${JSON.stringify(import.meta.resolve("tsx/esm/api"))};
    register();
    await import(${JSON.stringify(import.meta.resolve("./tokenize_worker.ts"))});
  `)}`,
);

interface Task {
  question: Question;
  resolve(result: Tokenized): void;
  reject(error: Error): void;
}

class Pool {
  readonly #workers: Worker[];
  readonly #idle: Worker[];
  readonly #waiting: Task[] = [];
  readonly #working = new Map<Worker, Task>();
  #failure: Error | undefined;

  constructor(workers: number) {
    this.#workers = Array.from({ length: workers }, () => new Worker(BOOT));
    this.#idle = [...this.#workers];
    for (const worker of this.#workers) {
      worker.on("message", (answer: Answer) => this.#finish(worker, answer));
      worker.on("error", (error) => this.#fail(error));
      worker.on("exit", () => this.#fail(new Error("internal: a thread ended")));
    }
  }

  run(question: Question): Promise<Tokenized> {
    const result = new Promise<Tokenized>((resolve, reject) => {
      if (this.#failure) reject(this.#failure);
      else this.#waiting.push({ question, resolve, reject });
    });
    result.catch(() => {}); // it is awaited later, after those before it
    this.#next();
    return result;
  }

  async end(): Promise<void> {
    for (const worker of this.#workers) worker.removeAllListeners();
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }

  #next(): void {
    while (this.#idle.length > 0 && this.#waiting.length > 0) {
      const worker = this.#idle.pop()!;
      const task = this.#waiting.shift()!;
      this.#working.set(worker, task);
      worker.postMessage(task.question);
    }
  }

  #finish(worker: Worker, answer: Answer): void {
    const task = this.#working.get(worker);
    this.#working.delete(worker);
    this.#idle.push(worker);
    if ("problem" in answer) task?.reject(new UserError(answer.problem));
    else task?.resolve(answer);
    this.#next();
  }

  /** After a failure of a thread, nothing in flight can be relied on to end. */
  #fail(error: Error): void {
    this.#failure ??= error;
    for (const { reject } of [...this.#working.values(), ...this.#waiting]) reject(error);
  }
}
