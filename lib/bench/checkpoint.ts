// How fast a run's state, optimizer included, is saved and loaded, with checksums, flushing to disk and renaming. Loading reads from
// the system's cache, since the file has just been written.

import { statSync } from "node:fs";
import { join } from "node:path";

import { breathe } from "../common/breathe.ts";
import { whole } from "../common/format.ts";
import { withTemporaryFolder } from "../common/temporary_folder.ts";
import { loadCheckpoint, saveCheckpoint } from "../training/checkpoint.ts";
import { createOptimizer } from "../training/optimizers/create.ts";
import { optimizerState } from "../training/update.ts";
import { type Benchmark, describeModel, exact, MB, randomModel, rate } from "./benchmark.ts";

export const checkpoint: Benchmark = (settings, progress) =>
  withTemporaryFolder("bench", async (folder) => {
    const model = randomModel(settings);
    const optimizer = createOptimizer(settings.optimizer, settings);
    const state = model.parameters.flatMap((weight) => optimizerState(optimizer, weight));
    const tensors = [...model.parameters, ...state];
    const saveTimes: number[] = []; // ms
    const loadTimes: number[] = []; // ms
    let bytes = 0;
    const samples = 3 * settings.rounds;
    for (let sample = 0; sample <= samples; sample++) {
      // 1) save: other weights each time, as in a run, so that the file has another name than the one it replaces
      model.parameters[0]!.data[0] = sample;
      const saveStart = performance.now();
      await saveCheckpoint(
        folder,
        {
          model_args: { ...model.config },
          config: { ...settings },
          iter_num: sample,
          best_val_loss: null,
          rng: { seed: settings.seed, iteration: sample },
          optimizer_steps: sample,
          tokenizer: null,
        },
        tensors,
      );
      const saveMs = performance.now() - saveStart;
      await breathe();

      // 2) load, into the same arrays
      const loadStart = performance.now();
      const { metadata, tensors: file } = await loadCheckpoint(folder);
      for (const { name, shape, data } of tensors) file.read(name, shape, data);
      file.close();
      const loadMs = performance.now() - loadStart;
      await breathe();
      bytes = metadata.weights.bytes + statSync(join(folder, "ckpt.json")).size;
      if (sample === 0) continue; // warm-up
      saveTimes.push(saveMs);
      loadTimes.push(loadMs);
      progress(`checkpoint ${sample}/${samples}: saved in ${saveMs.toFixed(0)} ms`);
    }

    const save = rate("save_mb_per_s", "MB/s", saveTimes, bytes / MB);
    const load = rate("load_mb_per_s", "MB/s", loadTimes, bytes / MB);
    const weights = model.numParams(false);
    return {
      metrics: [save, load, exact("bytes", "bytes", "lower", bytes)],
      facts: { ...model.config, params: weights },
      summary: [
        `model:       ${describeModel(model)}`,
        `size:        ${whole(bytes)} bytes, ${(bytes / weights).toFixed(2)} a weight (with adamw 12: its number and its two averages)`,
        `saving:      ${whole(save.value)} MB/s, with checksum and flush to the disk`,
        `loading:     ${whole(load.value)} MB/s, with checksum, from the system's cache`,
      ],
    };
  });
