// MLflow, over its REST API (2.0, which every server since 1.0 has): settings as parameters, facts as tags, metrics, and
// texts as artifacts if the server accepts them, else as truncated tags.
//
// Sent in the background: an unreachable server delays no step, and loses points only if it stays away for long. Steps repeated after
// a resume or rollback are added with their later time, since MLflow can't delete points.

import { UserError } from "../common/errors.ts";
import { z } from "../common/zod.ts";
import type { Callback, EndReason, Metrics, Run } from "./callback.ts";
import { MlflowServer, Refusal, Silence } from "./mlflow_server.ts";

const SEND_EVERY = 5000; // ms
const MOST_POINTS = 100_000; // waiting for a server
const MOST_TEXTS = 100;
const PATIENCE = 10_000; // ms for an answer, and for sending the rest at the end
const LONGEST_PAUSE = 60_000; // ms between two tries
const METRICS_A_REQUEST = 1000; // MLflow's limits; the lowest of all its versions
const PARAMS_A_REQUEST = 100;
const PARAM_LENGTH = 500;
const TAG_LENGTH = 5000;
const STATUS = {
  finished: "FINISHED",
  stopped: "FINISHED",
  interrupted: "KILLED",
  failed: "FAILED",
} satisfies Record<EndReason, string>;

const State = z.object({ run_id: z.string() });
const Experiment = z.object({ experiment: z.object({ experiment_id: z.string() }) });
const Created = z.object({ experiment_id: z.string() });
const Param = z.object({ key: z.string(), value: z._default(z.string(), "") });
const RunAnswer = z.object({
  run: z.object({
    info: z.object({ run_id: z.string(), artifact_uri: z.string(), lifecycle_stage: z.optional(z.string()) }),
    data: z.optional(z.object({ params: z.optional(z.array(Param)) })),
  }),
});
type RunAnswer = z.infer<typeof RunAnswer>["run"];

interface Point {
  readonly key: string;
  readonly value: number | string; // text for values that JSON can't represent
  readonly timestamp: number;
  readonly step: number;
}

/**
 * Check that there is an MLflow server that accepts the login.
 * @throws UserError if not
 */
export async function checkMlflow(uri: string): Promise<void> {
  const server = new MlflowServer(uri, PATIENCE);
  try {
    const answer = await server.get("mlflow/experiments/get-by-name", { experiment_name: "Default" });
    if (!Experiment.safeParse(answer).success) throw new Refusal(200, "", "something else");
  } catch (error) {
    if (error instanceof Silence) {
      throw new UserError(
        `no answer from MLflow at ${server.shown} (${error.message}); start it with \`mlflow server\`, ` +
          'correct mlflow_uri, or leave it ""',
      );
    }
    if (!(error instanceof Refusal)) throw error;
    if (error.code === "RESOURCE_DOES_NOT_EXIST") return; // MLflow, without that experiment
    if (error.status === 401 || error.status === 403) {
      throw new UserError(
        `MLflow at ${server.shown} wants a login (HTTP ${error.status}: ${error.message}); set ` +
          "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
      );
    }
    throw new UserError(`no MLflow at ${server.shown}, which answers ${error.message}; correct mlflow_uri`);
  }
}

export interface MlflowOptions {
  readonly uri: string;
  readonly experiment: string;
  readonly patience?: number; // ms for an answer, and for sending the rest at the end
}

/** Logs to a new run in an experiment, created if need be. */
export function mlflow({ uri, experiment, patience = PATIENCE }: MlflowOptions): Callback {
  const server = new MlflowServer(uri, patience);
  let run: Run;
  let runId: string | undefined;
  let artifacts: string | undefined; // the address for texts; undefined if they become tags
  const points: Point[] = [];
  const texts: { name: string; iter: number; text: string }[] = [];
  const dropped = { points: 0, texts: 0 };
  let failure: unknown; // that ended logging
  let away = false; // no answer the last time?
  let pause = 0; // ms until the next try
  let tried = performance.now(); // when the last sending started or failed
  let sending: Promise<void> | undefined;

  // ---- start -----------------------------------------------------------------------------------------------------

  /** The run to continue, or a new one. */
  async function open(): Promise<RunAnswer> {
    if (runId !== undefined) {
      const earlier = await findRun(runId);
      if (earlier) {
        await server.post("mlflow/runs/update", { run_id: runId, status: "RUNNING" });
        return earlier;
      }
      run.log(`mlflow: ${server.shown} no longer has run ${runId}; starting a new one`);
    }
    const made = await server.post("mlflow/runs/create", {
      experiment_id: await findExperiment(),
      run_name: run.name,
      start_time: Date.now(),
      tags: [
        { key: "mlflow.runName", value: run.name }, // for servers that don't know run_name
        { key: "mlflow.source.name", value: "train.ts" },
        { key: "mlflow.source.type", value: "LOCAL" },
      ],
    });
    return RunAnswer.parse(made).run;
  }

  async function findRun(id: string): Promise<RunAnswer | undefined> {
    try {
      const { run } = RunAnswer.parse(await server.get("mlflow/runs/get", { run_id: id }));
      return run.info.lifecycle_stage === "deleted" ? undefined : run;
    } catch (error) {
      if (error instanceof Refusal && error.code === "RESOURCE_DOES_NOT_EXIST") return undefined;
      throw error;
    }
  }

  async function findExperiment(): Promise<string> {
    const find = async () =>
      Experiment.parse(await server.get("mlflow/experiments/get-by-name", { experiment_name: experiment })).experiment;
    try {
      return (await find()).experiment_id;
    } catch (error) {
      if (!(error instanceof Refusal) || error.code !== "RESOURCE_DOES_NOT_EXIST") throw error;
    }
    try {
      return Created.parse(await server.post("mlflow/experiments/create", { name: experiment })).experiment_id;
    } catch (error) {
      if (!(error instanceof Refusal) || error.code !== "RESOURCE_ALREADY_EXISTS") throw error;
      return (await find()).experiment_id; // another run was quicker
    }
  }

  function shown(setting: unknown): string {
    if (setting === uri) return server.shown; // no password
    return typeof setting === "string" ? setting : JSON.stringify(setting);
  }

  /** Settings as parameters. Those can't change, so changed settings of a resumed run become tags. */
  async function describe(known: readonly z.infer<typeof Param>[]): Promise<void> {
    const tags = Object.entries(run.facts).map(([key, value]) => ({ key, value: String(value) }));
    const params: { key: string; value: string }[] = [];
    for (const [key, setting] of Object.entries(run.config)) {
      const value = shown(setting).slice(0, PARAM_LENGTH);
      const before = known.find((param) => param.key === key);
      if (!before) params.push({ key, value });
      else if (before.value !== value) tags.push({ key: `config/${key}`, value });
    }
    for (let i = 0; i < Math.max(params.length, 1); i += PARAMS_A_REQUEST) {
      const some = { params: params.slice(i, i + PARAMS_A_REQUEST), tags: i === 0 ? tags : [] };
      await server.post("mlflow/runs/log-batch", { run_id: runId, ...some });
    }
  }

  // ---- points ----------------------------------------------------------------------------------------------------

  function add(metrics: Metrics, step: number): void {
    const timestamp = Date.now();
    for (const name in metrics) {
      const value = metrics[name]!;
      points.push({ key: name, value: Number.isFinite(value) ? value : String(value), timestamp, step });
    }
    if (points.length > MOST_POINTS) {
      const excess = points.length - Math.floor(0.9 * MOST_POINTS); // the oldest tenth at once: cheaper than one by one
      points.splice(0, excess);
      dropped.points += excess;
    }
  }

  /** Send what is waiting, unless it is being sent. */
  function send(): void {
    if (sending) return;
    tried = performance.now();
    sending = sendAll().finally(() => {
      sending = undefined;
    });
  }

  /** Send everything; what could not be sent keeps waiting. Never throws: `failure` holds a fatal error. */
  async function sendAll(): Promise<void> {
    try {
      while (points.length > 0) {
        const batch = points.splice(0, METRICS_A_REQUEST);
        try {
          const metrics = batch.map((point) => ({ ...point, key: allowed(point.key) }));
          // sent twice after a lost answer, it is stored once: the points are equal to the millisecond
          await server.post("mlflow/runs/log-batch", { run_id: runId, metrics });
        } catch (error) {
          points.unshift(...batch);
          throw error;
        }
      }
      for (let first = texts[0]; first; first = texts[0]) {
        await sendText(first);
        if (texts[0] === first) texts.shift(); // else it was dropped meanwhile
      }
      if (away) run.log(`mlflow: ${server.shown} answers again`);
      [away, pause] = [false, 0];
    } catch (error) {
      if (!(error instanceof Silence) && (!(error instanceof Refusal) || error.final)) {
        failure = error;
        return;
      }
      if (!away)
        run.log(`mlflow: ${server.shown} is unreachable (${error.message}); the points are kept and sent later`);
      [away, pause] = [true, Math.min(LONGEST_PAUSE, Math.max(1000, 2 * pause))];
      tried = performance.now();
    }
  }

  async function sendText({ name, iter, text }: (typeof texts)[number]): Promise<void> {
    const path = `${allowed(name)}/${String(iter).padStart(8, "0")}.txt`;
    if (artifacts !== undefined) {
      try {
        await server.put(artifacts + encodeURI(path), text);
        return;
      } catch (error) {
        if (!(error instanceof Refusal) || !(error.final || error.status === 501 || error.status === 503)) throw error;
        run.log(`mlflow: ${server.shown} accepts no artifacts (${error.message}); texts become truncated tags`);
        artifacts = undefined;
      }
    }
    await server.post("mlflow/runs/set-tag", { run_id: runId, key: path, value: text.slice(0, TAG_LENGTH) });
  }

  function hear(): void {
    if (failure) throw failure;
  }

  return {
    name: "mlflow",
    onError: "continue",
    async onTrainStart(started) {
      run = started;
      const { info, data } = await open();
      runId = info.run_id;
      const proxied = /^mlflow-artifacts:(?:\/\/[^/]*)?\/(.*)$/.exec(info.artifact_uri);
      artifacts = proxied ? `mlflow-artifacts/artifacts/${proxied[1]}/` : undefined;
      await describe(data?.params ?? []);
    },
    onStep({ iter, metrics }) {
      hear();
      add(metrics, iter);
      if (performance.now() - tried >= (away ? pause : SEND_EVERY)) send();
    },
    onEvaluate({ iter, metrics, texts: more }) {
      hear();
      add(metrics, iter);
      for (const [name, text] of more) texts.push({ name, iter, text });
      while (texts.length > MOST_TEXTS) {
        texts.shift();
        dropped.texts++;
      }
      if (!away) send();
    },
    async onTrainEnd({ reason }) {
      hear();
      server.end = AbortSignal.timeout(patience);
      await sending;
      await sendAll(); // even if the server was unreachable a moment ago
      hear();
      try {
        const update = { run_id: runId, status: STATUS[reason], end_time: Date.now() };
        if (!away) await server.post("mlflow/runs/update", update);
      } catch (error) {
        if (!(error instanceof Silence)) throw error;
        away = true;
      }
      if (away) run.log(`mlflow: ${server.shown} didn't learn that the run ended`);
      const lost = { points: points.length + dropped.points, texts: texts.length + dropped.texts };
      if (lost.points + lost.texts > 0) {
        run.log(`mlflow: ${lost.points} points and ${lost.texts} texts are missing there; metrics.jsonl has them all`);
      }
    },
    state: () => ({ run_id: runId }),
    restore(state) {
      runId ??= State.parse(state).run_id; // after a rollback it is the same run
    },
  };
}

/** A name without anything that MLflow refuses. */
function allowed(name: string): string {
  const clean = name.replaceAll(/[^\w\-. :/]/g, "_").split("/");
  return (
    clean
      .filter((part) => !/^\.*$/.test(part))
      .join("/")
      .slice(0, 250) || "_"
  );
}
