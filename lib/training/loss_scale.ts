// Loss scaling (Micikevicius et al. 2018, section 3.2): the gradients of a loss that is multiplied by a large number are as
// much larger, so that fewer of them vanish between the numbers of float16. What number is found as training goes, with the
// constants of torch.amp.GradScaler.

const START = 65_536;
const GROWTH = 2;
const GROWTH_INTERVAL = 2000; // good steps in a row
const BACKOFF = 0.5;
const LEAST = 1; // below it the gradients are larger than float16 holds without any scale

/** What a checkpoint keeps of it. */
export interface LossScale {
  scale: number;
  good_steps: number;
  skipped_steps: number;
}

export class LossScaler {
  /** What the next step's loss is to be multiplied by: a power of 2, so that nothing is rounded by it. */
  scale = START;
  /** Steps in a row since the scale changed. */
  goodSteps = 0;
  /** Steps of the run that were skipped. */
  skipped = 0;

  /**
   * Learn from a step's `loss` and `grad_norm`. The norm is not finite where a gradient isn't, and then the optimizer has changed
   * nothing: the step was skipped, which is no harm as long as it is the scale's fault. Adds loss_scale (the next step's)
   * and skipped_steps to the metrics, and takes the norm out of those of a skipped step. A loss that is NaN, and a
   * scale below 1, are nothing that another scale could mend: there the norm stays, for whoever ends the run because of it.
   * @returns a line to report, if there is something to
   */
  update(metrics: Record<string, number>): string | undefined {
    const line = Number.isFinite(metrics.loss) ? this.#judge(metrics) : undefined;
    metrics.loss_scale = this.scale;
    metrics.skipped_steps = this.skipped;
    return line;
  }

  #judge(metrics: Record<string, number>): string | undefined {
    if (Number.isFinite(metrics.grad_norm)) {
      if (++this.goodSteps === GROWTH_INTERVAL) {
        if (Number.isFinite(Math.fround(this.scale * GROWTH))) this.scale *= GROWTH; // it is a float32 in the graph
        this.goodSteps = 0;
      }
      return undefined;
    }
    const before = this.scale;
    this.scale *= BACKOFF;
    this.goodSteps = 0;
    this.skipped++;
    if (this.scale < LEAST) return `the gradient is too large for float16 even with a loss scale of ${before}`;
    delete metrics.grad_norm;
    return `the gradient is too large for float16; the step is skipped, and the loss scale is ${this.scale} now`;
  }

  state(): LossScale {
    return { scale: this.scale, good_steps: this.goodSteps, skipped_steps: this.skipped };
  }

  /** Go on from a checkpoint; from the start where it has no scale. */
  restore({ scale, good_steps, skipped_steps }: LossScale = new LossScaler().state()): void {
    this.scale = scale;
    this.goodSteps = good_steps;
    this.skipped = skipped_steps;
  }
}
