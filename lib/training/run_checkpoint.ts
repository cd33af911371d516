// The checkpoint of a training run: which states are saved, where, and rolling back. A run's folder holds one checkpoint: the last evaluated
// state, or under always_save_checkpoint=false the best. An interrupted run under the latter also saves its last state, in a subfolder:
// a resumed run continues from that.

import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "../common/clock.ts";
import { explain, UserError } from "../common/errors.ts";
import type { FolderLock } from "../common/lock.ts";
import { loadCheckpoint, type Metadata, readMetadata, rewriteMetadata, saveCheckpoint } from "./checkpoint.ts";
import type { TrainingState } from "./training_state.ts";

const LAST = "last";
const CKPT = "ckpt.json";

/** Of an evaluation, nats a token: of both splits, and of the EMA of the weights on the validation split, if there is one. */
export interface Losses {
  train: number;
  val: number;
  ema?: number;
}

/** The validation loss of the weights that sample.ts takes. */
export const lossOf = ({ val, ema }: Losses) => ema ?? val;

/** A state of a run. */
export interface Moment {
  iter: number; // the step that comes next
  losses?: Losses | undefined; // if it was evaluated
}

/** The folder from which the run in `outDir` is resumed: that of its last state, if newer than its checkpoint. */
export function resumeFolder(outDir: string): string {
  const last = join(outDir, LAST);
  if (!existsSync(join(last, CKPT))) return outDir;
  if (!existsSync(join(outDir, CKPT))) return last;
  return readMetadata(last).beside === readMetadata(outDir).weights.sha256 ? last : outDir;
}

/** For configure(): the settings of the run that is resumed, apart from those that say which run and what to do with it. */
export function settingsOfRun({ init_from, out_dir }: { init_from: unknown; out_dir: unknown }) {
  if (init_from !== "resume" || typeof out_dir !== "string") return undefined; // the latter is refused in a moment
  const folder = resumeFolder(out_dir);
  const { init_from: _, out_dir: __, eval_only: ___, ...settings } = readMetadata(folder).config;
  return { source: join(folder, CKPT), settings };
}

/** The step that a run had come to: beyond its checkpoint's, where it found nothing better after that. */
export function reachedBy({ iter_num, ended }: Metadata): number {
  return Math.max(iter_num, ended ?? 0);
}

export interface RunCheckpointOptions {
  folder: string;
  always: boolean; // keep every evaluated state, not only the best
  held: FolderLock | undefined; // on the folder; a run without it keeps nothing
  state: TrainingState;
  resumed: Metadata | undefined; // of the checkpoint that the run resumes from
  seed: number;
  clock: Clock;
  /** What a checkpoint says of the run besides. */
  describe(): Pick<Metadata, "model_args" | "config" | "callbacks" | "tokenizer">;
  /** A line for the user. */
  log(line: string): void;
  /** A checkpoint was written: the step that comes next, the path of its ckpt.json, and how long it took. */
  onSave(saved: { iter: number; path: string; seconds: number }): Promise<void>;
}

export class RunCheckpoint {
  readonly folder: string;
  /** Is the present state worth saving if the run is interrupted? Not before its first step, nor after one whose loss or gradient isn't finite:
   * set after each. */
  sound = false;
  #bestValLoss: number;
  readonly #options: RunCheckpointOptions;
  #saved: Moment | undefined;
  #last: Moment | undefined;

  constructor(options: RunCheckpointOptions) {
    this.#options = options;
    const { folder, resumed, held, log } = options;
    this.folder = folder;
    this.#bestValLoss = resumed?.best_val_loss ?? Number.POSITIVE_INFINITY;
    if (!resumed) {
      if (held && existsSync(join(folder, CKPT))) log(`the checkpoint in ${folder} will be replaced`);
      return;
    }
    const has = (folder: string) => (existsSync(join(folder, CKPT)) ? momentOf(readMetadata(folder)) : undefined);
    this.#saved = has(this.folder);
    if (resumeFolder(this.folder) !== this.folder) this.#last = has(join(this.folder, LAST));
  }

  /** What the folder holds of this run; undefined for nothing. */
  get saved(): Moment | undefined {
    return this.#saved;
  }

  /** The state that a resumed run would continue from. */
  get newest(): Moment | undefined {
    return this.#last ?? this.#saved;
  }

  /**
   * Make sure that the folder is still this run's; if it was moved or removed it is created again, with a line.
   * @throws InUseError if another process uses it now
   */
  check(): void {
    if (this.#options.held?.renew() === false) {
      this.#options.log(`${this.folder} was moved, removed or replaced meanwhile: the run continues in a new one`);
    }
    if (this.#saved && !existsSync(join(this.folder, CKPT))) this.#saved = undefined;
  }

  /** Record an evaluation of the present state. @returns is its validation loss the lowest so far? */
  evaluated(losses: Losses): boolean {
    const loss = lossOf(losses);
    this.sound &&= Number.isFinite(loss);
    const best = loss < this.#bestValLoss;
    if (best) this.#bestValLoss = loss;
    return best;
  }

  /**
   * Save an evaluated state if it qualifies; the last one of a run also if there is no other.
   * @throws UserError with the code "diverged" where a run ends with a loss that is NaN, and where the files can't be written
   */
  async offer(now: Moment & { losses: Losses }, isEnd: boolean): Promise<void> {
    this.check();
    const loss = lossOf(now.losses);
    if (!Number.isFinite(loss)) {
      if (isEnd) {
        const message = `the validation loss is NaN at step ${now.iter}; lower --learning_rate`;
        throw new UserError(message, { code: "diverged" });
      }
      return; // not worth keeping; the next step reports the NaN
    }
    const known = this.#saved?.losses;
    const better = known === undefined || loss < lossOf(known);
    const worth = now.iter > 0 && (this.#options.always || better);
    if (worth || (isEnd && !this.#saved)) await this.#save(this.folder, now);
  }

  /** Keep the last state of a run that is cut short before step `iter`, if it is sound; beside the best one, where only that is asked for. */
  async cutShort(iter: number): Promise<void> {
    if (!this.sound) return;
    this.check();
    if (iter === this.newest?.iter) return;
    await this.#save(this.#options.always || !this.#saved ? this.folder : join(this.folder, LAST), { iter });
  }

  /** The run has come to its end. @param made its steps, if it has made them all: a checkpoint of an earlier one will say so */
  async end(made?: number): Promise<void> {
    this.#dropLast();
    if (made === undefined || !this.#saved || this.#saved.iter === made) return;
    await this.#write(this.folder, () => rewriteMetadata(this.folder, { ended: made }));
  }

  /**
   * Go back to the folder's checkpoint.
   * @returns the step that comes next
   * @throws UserError if it is gone or damaged
   */
  async rollBack(): Promise<number> {
    const { state } = this.#options;
    const { metadata, tensors } = await loadCheckpoint(this.folder);
    await state.readWeights(tensors);
    await state.readRest(tensors, metadata);
    tensors.close();
    this.#dropLast(); // else a resumed run would continue from the abandoned state
    this.#bestValLoss = metadata.best_val_loss ?? Number.POSITIVE_INFINITY;
    return metadata.iter_num;
  }

  async #save(folder: string, now: Moment): Promise<void> {
    const { state, seed, clock, describe, log, onSave } = this.#options;
    const { iter, losses } = now;
    const { sound } = this;
    this.sound = false; // what fails now isn't tried again when the run ends
    clock.lap("other");
    log(`saving checkpoint to ${folder}`);
    const { model_args, config, ...others } = describe();
    const best_val_loss = Number.isFinite(this.#bestValLoss) ? this.#bestValLoss : null;
    const metadata: Omit<Metadata, "format_version" | "weights"> = {
      ...{ model_args, config, iter_num: iter, best_val_loss, rng: { seed, iteration: iter } },
      ...{ ...others, ...state.metadata(), ...(losses && { losses }) },
    };
    const beside = folder !== this.folder;
    if (beside) metadata.beside = readMetadata(this.folder).weights.sha256;
    await this.#write(folder, () => saveCheckpoint(folder, metadata, state.tensors()));
    if (beside) this.#last = now;
    else {
      this.#saved = now;
      this.#dropLast();
    }
    this.sound = sound;
    await onSave({ iter, path: join(folder, CKPT), seconds: clock.lap("checkpoint") });
  }

  /** Remove the last state: the folder's own checkpoint is the one to resume from. */
  #dropLast(): void {
    rmSync(join(this.folder, LAST), { recursive: true, force: true });
    this.#last = undefined;
  }

  async #write(folder: string, write: () => void | Promise<void>): Promise<void> {
    try {
      await write();
    } catch (error) {
      throw explain(error, `can't write the checkpoint to ${folder}`);
    }
  }
}

/** Checkpoints of earlier versions don't say their losses: the validation loss of the best is known. */
function momentOf({ iter_num: iter, losses, best_val_loss }: Metadata): Moment {
  const { train, val, ema } = losses ?? { train: null, val: best_val_loss };
  if (val === null) return { iter };
  return { iter, losses: { train: train ?? Number.NaN, val, ...(typeof ema === "number" && { ema }) } };
}
