// How fast tokens are read into batches, and characters encoded. The files have just been written and are in the system's cache: this
// measures the program, not the disk.

import { join } from "node:path";
import { breathe } from "../common/breathe.ts";
import { whole } from "../common/format.ts";
import { keyOf, uniform } from "../common/rng.ts";
import { withTemporaryFolder } from "../common/temporary_folder.ts";
import { prepareCharacters } from "../text/characters.ts";
import { sampleBatch, TokenFile, writeTokens } from "../text/token_file.ts";
import { type Benchmark, MB, metric, rate } from "./benchmark.ts";

const ENOUGH = 20; // least ms for a sample
const CHARACTERS = 2 ** 20; // characters of the encoded text
const LETTERS = " abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,;:!?'-&3$\n";

export const dataLoading: Benchmark = (settings, progress) =>
  withTemporaryFolder("bench", async (folder) => {
    const { batch_size: B, block_size: T, seed, data_mb } = settings;
    const samples = 4 * settings.rounds;

    // 1) a token file of the given size; the tokens' values don't matter
    const path = join(folder, "train.bin");
    const tokens = new Uint16Array(Math.max(T + 2, Math.round((data_mb * MB) / 2)));
    for (let i = 0; i < tokens.length; i++) tokens[i] = Math.imul(i, 0x9e3779b1) >>> 16;
    writeTokens(path, tokens);
    progress(`data_loading: wrote ${data_mb} MB of tokens`);
    const file = new TokenFile(path);

    // 2) batches from random positions
    const x = new Int32Array(B * T);
    const y = new Int32Array(B * T);
    const batchTimes: number[] = []; // ms a batch
    let sampled = 0;
    for (let sample = -1; sample < samples; sample++) {
      const start = performance.now();
      let batches = 0;
      while (performance.now() - start < ENOUGH || batches === 0) {
        const key = keyOf(seed, "data_loading", sampled++);
        sampleBatch(file, { B, T }, (row) => uniform(key, row), x, y);
        batches++;
      }
      if (sample >= 0) batchTimes.push((performance.now() - start) / batches); // the first one is warm-up
      await breathe();
    }

    // 3) the file sequentially
    const part = new Int32Array(2 ** 20);
    const readTimes: number[] = []; // ms
    for (let round = 0; round <= settings.rounds; round++) {
      const start = performance.now();
      for (let at = 0; at < file.length; at += part.length)
        file.read(at, Math.min(part.length, file.length - at), part);
      if (round > 0) readTimes.push(performance.now() - start);
      await breathe();
    }
    file.close();
    progress(`data_loading: sampled ${whole(sampled)} batches`);

    // 4) a prepare script's work on characters: vocabulary, encoding, writing
    const key = keyOf(seed, "text");
    const characters = Array.from(
      { length: CHARACTERS },
      (_, i) => LETTERS[Math.floor(uniform(key, i) * LETTERS.length)],
    );
    const text = characters.join("");
    const source = { name: "made up", sha256: "0".repeat(64) };
    const encodeTimes: number[] = []; // ms
    for (let round = 0; round <= settings.rounds; round++) {
      const start = performance.now();
      prepareCharacters({ text, source, directory: join(folder, "prepared") });
      if (round > 0) encodeTimes.push(performance.now() - start);
      await breathe();
    }

    const perBatch = metric("batch_ms", "ms", "lower", batchTimes);
    const batchRate = rate("batch_tokens_per_s", "tokens/s", batchTimes, B * T);
    const readRate = rate("read_tokens_per_s", "tokens/s", readTimes, file.length);
    const encodeRate = rate("encode_tokens_per_s", "tokens/s", encodeTimes, CHARACTERS);
    return {
      metrics: [perBatch, batchRate, readRate, encodeRate],
      facts: { batch_size: B, block_size: T, data_mb },
      summary: [
        `batches:     ${whole(batchRate.value)} tokens/s from a file of ${data_mb} MB; ${perBatch.value.toFixed(3)} ms for one of ${B} x ${T}`,
        `reading:     ${whole(readRate.value)} tokens/s from front to end`,
        `preparing:   ${whole(encodeRate.value)} characters/s into tokens, with writing the files`,
      ],
    };
  });
