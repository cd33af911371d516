// GPT-2's tokens by lib/text/gpt2_tokenizer.ts against tiktoken's, on the same documents in one sitting:
//
//   npx tsx tools/compare/compare_tiktoken.ts --text=PATH --python=PATH --rounds=5
//
// The contenders take turns and the medians count. Both warm up on all documents first. With all threads, ours reads
// and parses a .jsonl file, too; tiktoken has its documents in memory. Ends with an error where a single token differs.
// The text is repeated to the size asked for, which helps our store of words: take a long one.

import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { availableParallelism, cpus } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import bytePairs from "gpt-tokenizer/bpeRanks/r50k_base";
import { runScript } from "../../configurator.ts";
import { UserError } from "../../lib/common/errors.ts";
import { median } from "../../lib/common/statistics.ts";
import { withTemporaryFolder } from "../../lib/common/temporary_folder.ts";
import { z } from "../../lib/common/zod.ts";
import { piecesOf, READING } from "../../lib/text/documents.ts";
import { listFiles } from "../../lib/text/input_files.ts";
import { GPT2_META } from "../../lib/text/meta.ts";
import { decodeText, readInput } from "../../lib/text/text.ts";
import { tokenBytes } from "../../lib/text/token_file.ts";
import { tokenizePieces } from "../../lib/text/tokenize_pool.ts";
import { createTokenizer, type Tokenizer } from "../../lib/text/tokenizer.ts";

const RIVAL = join(dirname(fileURLToPath(import.meta.url)), "rival_tiktoken.py");

const DOCUMENT = 5000; // characters

export const defaults = {
  text: "", // a text file in UTF-8
  data_mb: 30, // how much of it, repeated where it is shorter
  python: "python3", // a Python that has tiktoken
  workers: 0, // threads of either; 0: one a core
  rounds: 5,
};

const rivalSchema = z.object({
  tokens: z.int(),
  one: z.number(), // seconds
  all: z.number(),
  sha256: z.string(),
  version: z.string(),
});

/** Print the table of speeds. @throws UserError where the opponent or the text is missing */
export async function run(config: Readonly<typeof defaults>): Promise<void> {
  if (config.text === "") throw new UserError("--text=FILE is missing: a text in UTF-8, the longer the better");
  if (config.rounds < 1) throw new UserError("--rounds must be at least 1");
  const text = decodeText(readInput(config.text), config.text);
  if (text === "") throw new UserError(`${config.text} is empty`);
  const characters = config.data_mb * 1e6;
  const threads = config.workers || availableParallelism();
  await withTemporaryFolder("compare", async (folder) => {
    // 1) the same documents for both
    const repeated = text.repeat(Math.ceil(characters / text.length)).slice(0, characters);
    const documents: string[] = [];
    for (let at = 0; at < repeated.length; at += DOCUMENT) {
      documents.push(Buffer.from(repeated.slice(at, at + DOCUMENT)).toString()); // no half characters
    }
    const [json, jsonl] = [join(folder, "documents.json"), join(folder, "documents.jsonl")];
    writeFileSync(json, JSON.stringify(documents));
    writeFileSync(jsonl, documents.map((document) => JSON.stringify({ text: document })).join("\n"));

    // 2) in turns
    const rival = startRival(config.python, { file: json, threads });
    const tokenizer = await createTokenizer(GPT2_META);
    const rates: Record<"ours1" | "rival1" | "oursAll" | "rivalAll", number[]> = {
      ours1: [],
      rival1: [],
      oursAll: [],
      rivalAll: [],
    };
    let version = "";
    for (let round = 0; round <= config.rounds; round++) {
      const theirs = await rival.measure();
      const ours = await measure(tokenizer, documents);
      if (ours.sha256 !== theirs.sha256) throw new Error(`internal: ${ours.tokens} and ${theirs.tokens} tokens differ`);
      const all = await measureAll(jsonl, threads);
      if (all.tokens !== theirs.tokens + documents.length) throw new Error("internal: the threads lost tokens");
      version = theirs.version;
      if (round === 0) continue; // warms up
      rates.ours1.push(ours.tokens / ours.seconds);
      rates.rival1.push(theirs.tokens / theirs.one);
      rates.oursAll.push(all.rate);
      rates.rivalAll.push(theirs.tokens / theirs.all);
    }
    rival.end();

    // 3) the verdict
    const million = (values: number[]) =>
      `${(median(values) / 1e6).toFixed(2)} (${(Math.min(...values) / 1e6).toFixed(2)}-${(Math.max(...values) / 1e6).toFixed(2)})`;
    console.log(`${cpus()[0]?.model ?? process.arch}, Node ${process.versions.node}, tiktoken ${version}`);
    console.log(
      `${documents.length} documents, the same tokens from both; M tokens/s, medians of ${config.rounds} rounds`,
    );
    for (const [name, a, b] of [
      ["1 thread", "ours1", "rival1"],
      [`${threads} threads`, "oursAll", "rivalAll"],
    ] as const) {
      const ratio = median(rates[a]) / median(rates[b]);
      console.log(
        `${name}: ours ${million(rates[a])}, tiktoken ${million(rates[b])}: ours / tiktoken = ${ratio.toFixed(2)}`,
      );
    }
  });
}

async function measure({ encode }: Tokenizer, documents: readonly string[]) {
  const start = performance.now();
  const encoded = documents.map((document) => encode(document));
  const seconds = (performance.now() - start) / 1000;
  const checksum = createHash("sha256");
  for (const tokens of encoded) checksum.update(tokenBytes(Uint16Array.from(tokens)));
  return { seconds, tokens: encoded.reduce((sum, { length }) => sum + length, 0), sha256: checksum.digest("hex") };
}

/** With the clock started once every thread is at work: after as many answers as there are threads. */
async function measureAll(path: string, threads: number) {
  const reading = { ...READING, keep_crlf: true }; // the other program replaces none
  const counts: number[] = [];
  let start = 0;
  for await (const { tokens } of tokenizePieces(piecesOf(listFiles([path])[0]!, reading), reading, threads)) {
    if (counts.push(tokens.length) === threads) start = performance.now();
  }
  const seconds = (performance.now() - start) / 1000;
  const sum = (numbers: number[]) => numbers.reduce((total, count) => total + count, 0);
  if (counts.length < 4 * threads)
    throw new UserError(`too little text for ${threads} threads; use a larger --data_mb`);
  return { tokens: sum(counts), rate: sum(counts.slice(threads)) / seconds };
}

function startRival(python: string, task: { file: string; threads: number }) {
  const child = spawn(python, [RIVAL], { stdio: ["pipe", "pipe", "pipe"] });
  let printed = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    printed += text;
  });
  const failed = new Promise<never>((_, reject) => {
    child.on("error", (error) => reject(new UserError(`--python=${python} does not start (${error.message})`)));
    child.on("close", () => {
      reject(new UserError(`tiktoken did not run with --python=${python}: ${printed.trimEnd().split("\n").at(-1)}`));
    });
  });
  failed.catch(() => {}); // it also ends when all is measured
  child.stdin.on("error", () => {}); // of a process that has ended: `failed` says why
  const lines = createInterface(child.stdout);
  const ranks = bytePairs.map((pair) => Buffer.from(typeof pair === "string" ? pair : Uint8Array.from(pair)));
  child.stdin.write(`${JSON.stringify({ ...task, ranks: ranks.map((pair) => pair.toString("base64")) })}\n`);
  return {
    async measure() {
      child.stdin.write("\n");
      const [line] = await Promise.race([once(lines, "line"), failed]);
      return rivalSchema.parse(JSON.parse(String(line)));
    },
    end: () => child.stdin.end(),
  };
}

await runScript(import.meta.url, defaults, run);
