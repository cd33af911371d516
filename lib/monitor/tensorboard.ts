// A run's metrics for TensorBoard, in an event file under out_dir/tensorboard; view them with `tensorboard --logdir=out_dir`. A
// resumed run adds a file. Scalars, texts and histograms; no graph, no images. metrics.jsonl is the record that survives a
// kill: here a kill loses the last second.
//
// Field numbers: event.proto, summary.proto and tensor.proto of TensorFlow. A scalar is a `simpleValue`: 9 bytes and its
// name, where the newer form, a tensor and the name of a plugin, is 31 and its name; TensorBoard makes the latter of the
// former as it reads, and Python's EventAccumulator.Scalars() knows only the former.

import { appendFileSync, existsSync, mkdirSync } from "node:fs";
import { hostname } from "node:os";
import { dirname, join } from "node:path";

import { explain } from "../common/errors.ts";
import { encoderOf, type Messages } from "../common/protobuf.ts";
import type { Callback, Metrics } from "./callback.ts";
import { frame } from "./tfrecord.ts";

const WRITE_MS = 1000; // events are buffered: the file is written once a second, not once a step
const BUCKETS = 30; // of a histogram

const FLOAT64 = 2; // DT_DOUBLE
const STRING = 7; // DT_STRING
const TENSOR = 2; // DATA_CLASS_TENSOR
const START = 1; // SessionLog: earlier events of this step and later ones are void

interface Value {
  tag: string;
  metadata?: { pluginData: { pluginName: string }; dataClass: number };
  simpleValue?: number;
  tensor?: {
    dtype: number;
    tensorShape: { dim: { size: number }[] };
    tensorContent?: Uint8Array;
    stringVal?: Buffer[];
  };
}

interface Event {
  wallTime: number; // seconds since 1970
  step?: number;
  fileVersion?: string;
  summary?: { value: Value[] };
  sessionLog?: { status: number };
}

/**
 * Writes the event file. A StepEvent's histograms are those that a callback before this one put there.
 * @param options.histogramInterval steps between the histograms that are written; 0 for all
 */
export function tensorboard({ histogramInterval }: { histogramInterval: number }): Callback {
  let path: string;
  let waiting: Buffer[] = [];
  let written = 0; // time of the last write, in ms
  let next = 0; // the next step

  const framed = (event: Omit<Event, "wallTime">) => frame(encode({ wallTime: Date.now() / 1000, ...event }));
  const add = (event: Omit<Event, "wallTime">) => waiting.push(framed(event));

  function write(): void {
    try {
      mkdirSync(dirname(path), { recursive: true });
      // a new file: at the start, and if the folder was moved or removed since
      if (!existsSync(path)) waiting.unshift(framed({ fileVersion: "brain.Event:2" }));
      appendFileSync(path, Buffer.concat(waiting));
    } catch (error) {
      throw explain(error, `can't write ${path}`);
    }
    waiting = [];
    written = Date.now();
  }

  function startAt(step: number): void {
    add({ step, sessionLog: { status: START } });
    next = step;
  }

  return {
    name: "tensorboard",
    onError: "continue",
    onTrainStart({ outDir, startIter }) {
      const folder = join(outDir, "tensorboard");
      const seconds = Math.floor(Date.now() / 1000);
      path = join(folder, `events.out.tfevents.${seconds}.${hostname()}.${process.pid}.v2`);
      startAt(startIter); // for a run from scratch too: the folder may hold an earlier one
      write();
    },
    onStep({ iter, metrics, histograms }) {
      if (iter < next) startAt(iter); // rolled back
      const value = scalars(metrics);
      if (histogramInterval === 0 || iter % histogramInterval === 0) {
        for (const [tag, numbers] of histograms) value.push(histogramValue(tag, numbers));
      }
      add({ step: iter, summary: { value } });
      next = iter + 1;
      if (Date.now() - written >= WRITE_MS) write();
    },
    onEvaluate({ iter, metrics, texts }) {
      if (iter < next) startAt(iter);
      const value = scalars(metrics);
      for (const [tag, text] of texts) value.push(textValue(tag, text));
      add({ step: iter, summary: { value } });
      write();
    },
    onCheckpoint: write,
    onTrainEnd: write,
  };
}

function scalars(metrics: Metrics): Value[] {
  return Object.entries(metrics).map(([tag, simpleValue]) => ({ tag, simpleValue }));
}

/** TensorBoard renders texts as Markdown: a fence that the text doesn't contain keeps its lines and spaces. */
function textValue(tag: string, text: string): Value {
  const longest = Math.max(2, ...Array.from(text.matchAll(/~+/g), ([run]) => run.length));
  const fence = "~".repeat(longest + 1);
  const stringVal = [Buffer.from(`${fence}\n${text}\n${fence}`)];
  return { tag, metadata: plugin("text"), tensor: { dtype: STRING, tensorShape: { dim: [] }, stringVal } };
}

function histogramValue(tag: string, numbers: Float32Array): Value {
  const buckets = histogram(numbers);
  const tensorShape = { dim: [{ size: BUCKETS }, { size: 3 }] };
  const tensorContent = new Uint8Array(buckets.buffer); // little-endian, as on all of Node's platforms but s390x
  return { tag, metadata: plugin("histograms"), tensor: { dtype: FLOAT64, tensorShape, tensorContent } };
}

function plugin(pluginName: string): NonNullable<Value["metadata"]> {
  return { pluginData: { pluginName }, dataClass: TENSOR };
}

/**
 * A histogram [BUCKETS, 3]: each row is a bucket's left edge, right edge and count. The last one includes its right edge. Numbers that
 * aren't finite aren't counted; if all are equal, they are in the last bucket.
 */
export function histogram(numbers: Float32Array): Float64Array {
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (let i = 0; i < numbers.length; i++) {
    const number = numbers[i]!;
    if (!Number.isFinite(number)) continue;
    if (number < low) low = number;
    if (number > high) high = number;
  }
  const rows = new Float64Array(BUCKETS * 3);
  if (low > high) return rows; // no finite number
  const width = (high - low) / BUCKETS;
  for (let bucket = 0; bucket < BUCKETS; bucket++) {
    rows[bucket * 3] = low + bucket * width;
    rows[bucket * 3 + 1] = bucket < BUCKETS - 1 ? low + (bucket + 1) * width : high;
  }
  for (let i = 0; i < numbers.length; i++) {
    const number = numbers[i]!;
    if (!Number.isFinite(number)) continue;
    const bucket = width > 0 ? Math.min(BUCKETS - 1, Math.floor((number - low) / width)) : BUCKETS - 1;
    rows[bucket * 3 + 2]!++;
  }
  return rows;
}

// ---- the format --------------------------------------------------------------------------------------------------

const MESSAGES: Messages = {
  Event: {
    wallTime: [1, "double"],
    step: [2, "int64"],
    fileVersion: [3, "string"],
    summary: [5, "Summary"],
    sessionLog: [7, "SessionLog"],
  },
  SessionLog: { status: [1, "int32"] },
  Summary: { value: [1, "Value", "repeated"] },
  Value: { tag: [1, "string"], simpleValue: [2, "float"], tensor: [8, "Tensor"], metadata: [9, "Metadata"] },
  Metadata: { pluginData: [1, "PluginData"], dataClass: [4, "int32"] },
  PluginData: { pluginName: [1, "string"] },
  Tensor: {
    dtype: [1, "int32"],
    tensorShape: [2, "TensorShape"],
    tensorContent: [4, "bytes"],
    stringVal: [8, "bytes", "repeated"],
  },
  TensorShape: { dim: [2, "Dimension", "repeated"] },
  Dimension: { size: [1, "int64"] },
};

const encode: (event: Event) => Uint8Array = encoderOf(MESSAGES, "Event");
