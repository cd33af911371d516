// Opens a dataset for training: the meaning of its tokens and both token files, all from one dataset, even if another one replaces it
// meanwhile. Left out: batches (objective.ts).

import { UserError } from "../common/errors.ts";
import { statOf } from "../common/read_file.ts";
import { type DatasetFile, datasetFile, prepareHint, shownPath } from "./dataset.ts";
import { type Meta, readMeta } from "./meta.ts";
import { SPLITS, type Split } from "./replace.ts";
import { checkBlockSize, TokenFile } from "./token_file.ts";

export interface Dataset {
  meta: Meta | undefined; // undefined without a meta.json
  splits: Record<Split, TokenFile>;
}

/** Open the dataset in `folder`.
 * @throws UserError if a file is missing or broken, or its number of tokens isn't meta.json's */
export function openDataset(folder: string): Dataset {
  for (let attempt = 0; ; attempt++) {
    const before = stateOf(folder);
    let opened: Dataset | undefined;
    try {
      opened = openFiles(folder);
    } catch (error) {
      if (attempt > 9 || stateOf(folder) === before) throw error;
    }
    if (opened && stateOf(folder) === before) return opened;
    for (const file of Object.values(opened?.splits ?? {})) file.close();
    if (attempt > 9) throw new UserError(`${shownPath(folder)} is being replaced again and again; start again`);
  }
}

/** @throws UserError if a split is too short for rows of `spans` times T tokens, or has a token that isn't below `vocabSize`: checked now or,
 * for files beyond 256 MiB, when it is read */
export function checkSplits({ splits }: Dataset, T: number, spans: number, vocabSize: number): void {
  for (const split of Object.values(splits)) {
    checkBlockSize(split, T, spans);
    split.vocabSize = vocabSize;
    split.scan();
  }
}

function openFiles(folder: string): Dataset {
  const meta = readMeta(folder);
  const files: TokenFile[] = [];
  try {
    for (const split of SPLITS) {
      const file = new TokenFile(datasetFile(folder, `${split}.bin`));
      files.push(file);
      const count = meta?.[`${split}_tokens`];
      if (count === undefined || count === file.length) continue;
      const counts = `${file.length} tokens, and ${count} in meta.json`;
      throw new UserError(`${shownPath(file.path)} has ${counts}: of two datasets; ${prepareHint(file.path)}`);
    }
  } catch (error) {
    for (const file of files) file.close();
    throw error;
  }
  return { meta, splits: { train: files[0]!, val: files[1]! } };
}

const FILES: readonly DatasetFile[] = ["train.bin", "val.bin", "meta.json"];

/** Identifies the valid files: a renamed one is the same file. */
function stateOf(folder: string): string {
  return FILES.map((name) => {
    const stat = statOf(datasetFile(folder, name));
    return stat && [stat.ino, stat.size, stat.mtimeMs].join(":");
  }).join();
}
