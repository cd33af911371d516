// A run's use of the machine: processor, memory, tokens/s, and where the time goes.

import { execFile } from "node:child_process";
import type { Clock } from "../common/clock.ts";
import type { Callback, Metrics } from "./callback.ts";

const INTERVAL = 1000; // ms between measurements
const GPU_INTERVAL = 10_000; // each query starts a process
const MB = 2 ** 20;

/**
 * Adds to a step, once a second: cpu_percent (100 for a whole core), rss_mb, and gpu_memory_mb if nvidia-smi reports it;
 * to an evaluation, over the time since the last one: time/<lap> in seconds, tokens_per_s/mean, /p50 and /p95.
 */
export function resources(clock: Clock): Callback {
  let looked = performance.now();
  let usage = process.cpuUsage();
  let askedGpu = Number.NEGATIVE_INFINITY;
  let gpuMemory: number | undefined; // MB; undefined if unknown
  let hasGpu = true; // until queried
  const speeds: number[] = [];
  let [tokens, ms] = [0, 0];

  function askGpu(now: number): void {
    if (!hasGpu || now - askedGpu < GPU_INTERVAL) return;
    askedGpu = now;
    gpuMemoryMb(process.pid).then((mb) => {
      hasGpu = mb !== null;
      gpuMemory = mb || undefined;
    });
  }

  return {
    name: "resources",
    onError: "continue",
    onStep({ metrics }) {
      speeds.push(metrics.tokens_per_s!);
      tokens += (metrics.tokens_per_s! * metrics.step_ms!) / 1000;
      ms += metrics.step_ms!;
      const now = performance.now();
      if (now - looked < INTERVAL) return;
      const { user, system } = process.cpuUsage(usage);
      metrics.cpu_percent = (100 * (user + system)) / 1000 / (now - looked);
      metrics.rss_mb = process.memoryUsage.rss() / MB;
      askGpu(now);
      if (gpuMemory !== undefined) metrics.gpu_memory_mb = gpuMemory;
      [looked, usage] = [now, process.cpuUsage()];
    },
    onEvaluate({ metrics }) {
      for (const [name, seconds] of Object.entries(clock.take())) metrics[`time/${name}`] = seconds;
      if (speeds.length === 0) return;
      Object.assign(metrics, { "tokens_per_s/mean": tokens / (ms / 1000) }, percentiles(speeds.splice(0)));
      [tokens, ms] = [0, 0];
    },
  };
}

/** The speed that half of the steps reach, and that 95 % of them reach. */
function percentiles(speeds: number[]): Metrics {
  const sorted = Float64Array.from(speeds).sort();
  const reachedBy = (share: number) => sorted[Math.floor((1 - share) * (sorted.length - 1))]!;
  return { "tokens_per_s/p50": reachedBy(0.5), "tokens_per_s/p95": reachedBy(0.95) };
}

/** Memory that the process `pid` has on NVIDIA's GPUs, in MB; null without nvidia-smi. */
export function gpuMemoryMb(pid: number, command = "nvidia-smi"): Promise<number | null> {
  const args = ["--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"];
  return new Promise((resolve) => {
    execFile(command, args, { timeout: 5000 }, (error, stdout) => {
      if (error) return resolve(null);
      const rows = stdout.split("\n").map((line) => line.split(",").map(Number));
      resolve(rows.reduce((sum, [process, mb]) => (process === pid && mb ? sum + mb : sum), 0));
    });
  });
}
